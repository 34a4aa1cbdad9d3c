//! A storm of connections that are reset, at every stage they can be in.

use std::io;
use std::net::SocketAddr;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::churn::{attend, publish, subscribers};
use crate::run::{Run, block_on, thousands};
use crate::support::dice::Dice;
use crate::support::eventually;
use crate::support::http::upgrade;
use crate::support::ledger::{Ledger, Stamp};
use crate::support::notiflux::{PATH, STRICT, Topic};
use crate::support::peer::{Peer, reset, within, write};
use crate::support::server::Builder;

const RESETS: usize = 5_000;
const AT_A_TIME: usize = 64;
const STEADY: usize = 10;
const MESSAGES: usize = 1_500;

/// Where a connection is when it is reset.
const STAGES: usize = 9;

pub fn resets(run: &Run) -> String {
    let mut server = Builder::notiflux().file("config.toml", STRICT).start();
    let (ledger, topic, address) = (Ledger::default(), Topic::new("t"), server.address);
    let over = watch::Sender::new(false);
    let (stays, before) = block_on(async {
        let steady = subscribers(&ledger, &topic, address, STEADY).await;
        let before = server.descriptors();
        let steady = join_all(steady.into_iter().map(|it| attend(it, over.subscribe())));
        let storm = stream::iter(0..RESETS).map(|index| {
            let victim = Victim { ledger: &ledger, topic: &topic, address, index };
            victim.suffer(run.dice(index))
        });
        let storm = storm.buffer_unordered(AT_A_TIME).collect::<()>();
        let load = async {
            let messages = publish(&ledger, &topic, address, 0..2, MESSAGES / 2, 100);
            tokio::join!(within("the storm is over", storm), messages);
            over.send_replace(true);
        };
        let (stays, ()) = tokio::join!(steady, load);
        (stays, before)
    });
    // The steady ones have gone as well.
    eventually("every connection is closed", || server.descriptors() + STEADY <= before);
    let observed = [stays[0].seen.clone()];
    let checked = ledger.check(&observed, &stays).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(checked.messages >= MESSAGES, "messages that came at all");
    assert!(server.stop().success(), "the server ended badly");
    for left in ["connections", "topics"] {
        let count = server.reported("Closing WebSocket connections", left);
        assert_eq!(count, 0, "{left} are left of {RESETS} connections that were reset");
    }
    format!(
        "{} connections reset at {STAGES} stages: no file, connection or topic left; {} \
         deliveries to others meanwhile, each once",
        thousands(RESETS),
        thousands(checked.deliveries)
    )
}

struct Victim<'a> {
    ledger: &'a Ledger,
    topic: &'a Topic,
    address: SocketAddr,
    index: usize,
}

impl Victim<'_> {
    async fn suffer(self, mut dice: Dice) {
        let stage = dice.below(STAGES as u64);
        let stream = self.reach(stage).await;
        reset(stream.unwrap_or_else(|error| panic!("stage {stage}: {error}")));
    }

    async fn reach(&self, stage: u64) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await?;
        let handshake = upgrade(self.address, PATH, &[]);
        match stage {
            0 => {}
            1 => write(&stream, b"GET /ws HTTP/1.1\r\nHos").await?,
            // Before the answer.
            2 => write(&stream, handshake.as_bytes()).await?,
            // Half a body, and a whole one whose answer is not waited for.
            3 | 4 => {
                let stamp = Stamp { publisher: 1_000, number: self.index as u32 };
                let body = self.topic.body(&stamp.to_string());
                let whole = body.len();
                let sent = if stage == 3 { whole / 2 } else { whole };
                if stage == 4 {
                    self.ledger.begin(stamp);
                }
                let request = format!(
                    "POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                     Content-Length: {whole}\r\n\r\n{}",
                    &body[..sent]
                );
                write(&stream, request.as_bytes()).await?;
            }
            _ => {
                let (mut peer, _) = Peer::open_on(stream, PATH, &[]).await?;
                if stage > 5 {
                    peer.text(self.topic.subscribe()).await?;
                }
                if stage > 6 {
                    // Among messages that are on their way to it.
                    peer.next().await;
                }
                if stage > 7 {
                    write(&peer.stream, &[0x81, 0xFE, 0x10]).await?;
                }
                return Ok(peer.stream);
            }
        }
        Ok(stream)
    }
}
