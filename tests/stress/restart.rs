//! SIGTERM while everybody is busy, and everybody comes back.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;

use crate::books::{ADMIN, delivered};
use crate::run::{Run, block_on, thousands};
use crate::support::ledger::{Ledger, Stay};
use crate::support::notiflux::{Listener, Pause, STRICT, Speaker, Topic};
use crate::support::peer::within;
use crate::support::quiet_port;
use crate::support::scrape::Books;
use crate::support::server::{Builder, Server};

const ROUNDS: u16 = 4;
const SUBSCRIBERS: usize = 300;
const PUBLISHERS: u16 = 4;

/// How long a client waits before it tries again.
const PAUSE: Duration = Duration::from_millis(10);

pub fn restart(run: &Run) -> String {
    let (ledger, topic) = (Ledger::default(), Topic::new("t"));
    let port = quiet_port();
    let mut dice = run.dice(0);
    let (mut observed, mut stays) = (Vec::new(), Vec::new());
    let (mut longest_stop, mut longest_return) = (Duration::ZERO, Duration::ZERO);
    let (mut answered, mut counted) = (0, 0);
    for round in 0..ROUNDS {
        let keys = format!("{STRICT}{ADMIN}[server]\nshutdown_timeout = \"10s\"\n");
        let mut server =
            Builder::notiflux().env("PORT", &port.to_string()).file("config.toml", &keys).start();
        let enough = 200 + dice.below(600) as usize;
        let one = Round { ledger: &ledger, topic: &topic, address: server.address, enough };
        let Ended { seen, stop, back, answers, books } = block_on(one.play(round, &mut server));
        let status = server.wait();
        assert_eq!(status.code(), Some(0), "SIGTERM: {status}, {}", server.log());
        assert!(server.log().contains("Stopped in_time=true"), "cut off: {}", server.log());
        // They all read until they were told to go, so there is one end for all.
        let short = seen.iter().find(|stay| stay.seen != seen[0].seen);
        assert!(short.is_none(), "{} has seen something else than others", short.unwrap().who);
        observed.push(seen[0].seen.clone());
        stays.extend(seen);
        answered += answers;
        counted += books.delivered;
        longest_stop = longest_stop.max(stop);
        longest_return = longest_return.max(back);
    }
    let checked = ledger.check(&observed, &stays).unwrap_or_else(|fault| panic!("{fault}"));
    let lost = ledger.unseen(&observed);
    assert!(lost.is_none(), "{} was answered with 200, and nobody got it", lost.unwrap());
    format!(
        "{ROUNDS} times SIGTERM with {SUBSCRIBERS} subscribers and {PUBLISHERS} publishers: {} \
         messages answered, all of them with everybody ({} deliveries), exit code 0 after {} ms \
         at most, all back within {} ms; \
         {counted} delivered as was counted before, 0 dropped",
        thousands(answered),
        thousands(checked.deliveries),
        longest_stop.as_millis(),
        longest_return.as_millis()
    )
}

/// One life of the server.
struct Round<'a> {
    ledger: &'a Ledger,
    topic: &'a Topic,
    address: SocketAddr,
    /// After how many answers it gets SIGTERM.
    enough: usize,
}

struct Ended {
    seen: Vec<Stay>,
    /// From SIGTERM to the end.
    stop: Duration,
    /// From the start of the first to the last subscription.
    back: Duration,
    answers: usize,
    /// What was counted while publishers paused.
    books: Books,
}

impl Round<'_> {
    async fn play(&self, round: u16, server: &mut Server) -> Ended {
        let start = Instant::now();
        let all = join_all((0..SUBSCRIBERS).map(|index| self.come(index)));
        let subscribers = within("all subscribers are back", all).await;
        let back = start.elapsed();
        // Nothing is published before: they are all to see the same.
        let never = watch::Sender::new(false);
        let listening = join_all(subscribers.into_iter().map(async |(mut listener, mut stay)| {
            let pause = listener.listen(&mut stay, usize::MAX, &mut never.subscribe()).await;
            assert_eq!(pause, Pause::Lost);
            let _ = listener.peer.close(1001).await;
            stay
        }));
        let answers = Cell::new(0);
        let (operators, pause) = (server.admin_address(), Pausing::default());
        let publishing = join_all(
            (0..PUBLISHERS).map(|index| self.speak(round * PUBLISHERS + index, &answers, &pause)),
        );
        let stopping = async {
            reached(&answers, self.enough / 2).await;
            pause.wanted.send_replace(true);
            while pause.pausing.get() < usize::from(PUBLISHERS) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let books = delivered(operators, "ws", answers.get() * SUBSCRIBERS).await;
            pause.wanted.send_replace(false);
            reached(&answers, self.enough).await;
            server.signal("TERM");
            (Instant::now(), books)
        };
        let all = async { tokio::join!(listening, publishing, stopping) };
        let (mut seen, _, (stopped, books)) = within("everybody has noticed", all).await;
        let left = self.ledger.now();
        seen.iter_mut().for_each(|stay| stay.left = Some(left));
        let ended = async {
            while server.ended().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within("the server ends", ended).await;
        Ended { seen, stop: stopped.elapsed(), back, answers: answers.get(), books }
    }

    async fn come(&self, index: usize) -> (Listener<'_>, Stay) {
        loop {
            let mut stay = Stay::new(&format!("subscriber {index}"));
            if let Ok(mut listener) = Listener::connect(self.ledger, self.topic, self.address).await
                && listener.subscribe(&mut stay).await
            {
                return (listener, stay);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Publishes until the server takes no more.
    async fn speak(&self, publisher: u16, answers: &Cell<usize>, pause: &Pausing) {
        let mut speaker = Speaker::new(self.ledger, self.address, publisher, 0);
        let mut wanted = pause.wanted.subscribe();
        while let Ok(told) = speaker.say(self.topic).await {
            answers.set(answers.get() + 1);
            assert_eq!((told.accepted, told.dropped), (SUBSCRIBERS as u64, 0), "what was told");
            if *wanted.borrow() {
                pause.pausing.set(pause.pausing.get() + 1);
                _ = wanted.wait_for(|wanted| !wanted).await;
            }
        }
    }
}

/// A pause in which nothing is on its way.
struct Pausing {
    wanted: watch::Sender<bool>,
    /// Publishers that have nothing on its way.
    pausing: Cell<usize>,
}

impl Default for Pausing {
    fn default() -> Self {
        Self { wanted: watch::Sender::new(false), pausing: Cell::new(0) }
    }
}

async fn reached(answers: &Cell<usize>, enough: usize) {
    while answers.get() < enough {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
