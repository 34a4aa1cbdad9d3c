//! Clients that come, subscribe, get something and die, for as long as one likes; and what
//! stays behind.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::net::{TcpSocket, TcpStream};

use crate::run::{Run, block_on, thousands};
use crate::support::dice::Dice;
use crate::support::eventually;
use crate::support::frames::Frame;
use crate::support::notiflux::{PATH, STRICT};
use crate::support::peer::{Peer, Publisher, within, write};
use crate::support::server::{Builder, Server};
use crate::support::token::{Keys, claims, now};
use crate::support::trend::{BLOCKS, Trend};

/// Clients at a time.
const CLIENTS: usize = 64;

/// Topics that one token is good for. Each client has a topic of its own, with a name that
/// is never used again.
const TOPICS: usize = 100;

/// One in so many clients is sent a message before it dies.
const SENT: usize = 8;

/// Memory may not grow by more, in MiB an hour.
const MOST_GROWTH: f64 = 1.0;

/// A memory of verified tokens that is full before the warm-up is over, so that its growth
/// is not taken for a leak.
const KEYS: &str = "[auth.jwt]\ncache_bytes = 1048576\n";

pub fn soak(run: &Run, minutes: f64) -> String {
    let mut server = Builder::notiflux().file("config.toml", &format!("{STRICT}{KEYS}")).start();
    let length = Duration::from_secs_f64(minutes * 60.0);
    let warm_up = length.mul_f64(0.2).max(Duration::from_secs(10)).min(Duration::from_mins(5));
    let length = length.max(2 * warm_up);
    let before = server.descriptors();
    println!(
        "seed {}: {:.1} min, of which {:.1} are warm-up",
        run.seed,
        length.as_secs_f64() / 60.0,
        warm_up.as_secs_f64() / 60.0
    );
    let soak = Soak { address: server.address, end: Instant::now() + length, cycles: Cell::new(0) };
    let (samples, ()) = block_on(async {
        let clients = async {
            join_all((0..CLIENTS).map(|index| soak.cycle(index, run.dice(index)))).await;
        };
        tokio::join!(soak.watch(&server, length), clients)
    });
    let cycles = soak.cycles.get();
    eventually("every connection is closed", || server.descriptors() <= before);
    assert!(server.stop().success(), "the server ended badly");
    for left in ["connections", "topics"] {
        let count = server.reported("Closing WebSocket connections", left);
        assert_eq!(count, 0, "{left} are left of {cycles} clients");
    }
    let warm = warm_up.as_secs_f64() / 3600.0;
    let of = |figure: fn(&Sample) -> f64| {
        let pairs = samples.iter().filter(|sample| sample.hours >= warm);
        let pairs: Vec<_> = pairs.map(|sample| (sample.hours, figure(sample))).collect();
        Trend::of(&pairs).expect("enough samples")
    };
    let (memory, files) = (of(|sample| sample.resident_mib), of(|sample| sample.files));
    let (first, last) = (&samples[samples.len() / 5], &samples[samples.len() - 1]);
    let figures = format!(
        "{} clients came and died ({} a second); memory {:.1} MiB after the warm-up, {:.1} at the \
         end: {:+.2} ± {:.2} MiB/h, open files {:+.1} ± {:.1} /h (slopes of the means of {BLOCKS} \
         stretches of time, 99 % on each side); at the end no file, connection or topic was left",
        thousands(cycles),
        thousands((cycles as f64 / length.as_secs_f64()) as u64),
        first.resident_mib,
        last.resident_mib,
        memory.slope,
        memory.margin,
        files.slope,
        files.margin,
    );
    assert!(
        !memory.exceeds(MOST_GROWTH),
        "memory grows by more than {MOST_GROWTH} MiB an hour beyond doubt: {figures}"
    );
    figures
}

/// What the server takes at one moment.
struct Sample {
    hours: f64,
    resident_mib: f64,
    files: f64,
}

struct Soak {
    address: SocketAddr,
    end: Instant,
    cycles: Cell<u64>,
}

impl Soak {
    async fn watch(&self, server: &Server, length: Duration) -> Vec<Sample> {
        let start = Instant::now();
        let pause = (length / 600).max(Duration::from_millis(100));
        let (mut samples, mut told) = (Vec::new(), start);
        while Instant::now() < self.end {
            tokio::time::sleep(pause).await;
            let sample = Sample {
                hours: start.elapsed().as_secs_f64() / 3600.0,
                resident_mib: server.resident_kib() as f64 / 1024.0,
                files: server.descriptors() as f64,
            };
            if told.elapsed() > Duration::from_mins(1) {
                told = Instant::now();
                let (cycles, memory) = (thousands(self.cycles.get()), sample.resident_mib);
                println!("{:6.1} min  {cycles} clients, {memory:.1} MiB", sample.hours * 60.0);
            }
            samples.push(sample);
        }
        samples
    }

    /// One client after the other.
    async fn cycle(&self, index: usize, mut dice: Dice) {
        let mut publisher = Publisher::new(self.address);
        for batch in 0.. {
            let names: Vec<_> = (0..TOPICS).map(|n| format!("s{index}-{batch}-{n}")).collect();
            let token = |scope| {
                let mut claims = claims(scope, &[]);
                (claims["topics"], claims["exp"]) = (names.clone().into(), (now() + 86_400).into());
                Keys::server().token(&claims)
            };
            let (subscribe, broadcast) = (token("subscribe"), token("broadcast"));
            for (number, name) in names.iter().enumerate() {
                if Instant::now() > self.end {
                    return;
                }
                let client = Client { address: self.address, name, token: &subscribe, number };
                let sent = (number % SENT == 0).then_some((&mut publisher, &*broadcast));
                let lived = within("a client is served", client.live(sent, &mut dice)).await;
                lived.unwrap_or_else(|error| panic!("a client is not served: {error}"));
                self.cycles.set(self.cycles.get() + 1);
            }
        }
    }
}

struct Client<'a> {
    address: SocketAddr,
    name: &'a str,
    token: &'a str,
    number: usize,
}

impl Client<'_> {
    async fn live(self, sent: Option<(&mut Publisher, &str)>, dice: &mut Dice) -> io::Result<()> {
        let (mut peer, answer) = Peer::open_on(self.connect().await?, PATH, &[]).await?;
        assert_eq!(answer.status, 101, "the answer to a handshake");
        let name = self.name;
        peer.text(&format!("/subscribe {name} {}", self.token)).await?;
        assert_eq!(peer.next().await, Frame::Text(format!("/subscribed {name}")));
        if let Some((publisher, token)) = sent {
            let body = serde_json::json!({ "topic": name, "message": name, "token": token });
            let answer = publisher.post("/broadcast", &body.to_string()).await?;
            assert_eq!(answer.text(), r#"{"accepted":1,"dropped":0}"#);
            assert_eq!(peer.next().await, Frame::Text(name.to_owned()));
        }
        match dice.below(5) {
            0 => {
                peer.close(1000).await?;
                assert!(matches!(peer.next().await, Frame::Close(_)), "no answer to a Close");
            }
            1 => drop(peer),
            2 => {
                // In the middle of a frame.
                write(&peer.stream, &[0x81, 0xFE, 0x10]).await?;
                peer.reset();
            }
            3 => {
                peer.text(&format!("/unsubscribe {name}")).await?;
                peer.reset();
            }
            _ => peer.reset(),
        }
        Ok(())
    }

    /// From one of many addresses of this machine: each has its own ports, of which those that
    /// were used are not free again for a minute.
    async fn connect(&self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        let last = 2 + (self.number % 200) as u8;
        socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into())?;
        socket.connect(self.address).await
    }
}
