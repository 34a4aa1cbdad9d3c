//! The real binary, some clients, and a network between them that does its worst: what
//! happens follows from a seed, and what the clients saw is compared with what was promised.
//!
//! A seed settles the load, the network and the faults, and after how many publishes each
//! of them happens. It does not settle how the threads of the server take turns, so a
//! seed that failed may pass the next time; its schedule is what there is to look at.

mod schedule;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;

use super::dice::Dice;
use super::ledger::{Checked, Ledger, Stamp, Stay};
use super::notiflux::{Listener, Pause, STRICT, Speaker, Topic};
use super::peer::within;
use super::proxy::Proxy;
use super::server::{Builder, Server};
use super::{DEADLINE, quiet_port};

pub use schedule::{Fault, Schedule};

/// How long a client waits before it comes again.
const PAUSE: Duration = Duration::from_millis(5);

/// Plays the schedule of a seed.
///
/// # Errors
/// A sentence about the first promise that was broken, and the schedule.
pub fn play(seed: u64) -> Result<Checked, String> {
    let schedule = Schedule::new(seed);
    let run_time = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // One task for all clients, without the bounds of one, so that readers do not fall behind.
    let played = async { World::start(seed, &schedule).await.play().await };
    let played = run_time.block_on(tokio::task::unconstrained(played));
    played.map_err(|fault| format!("seed {seed}: {fault}\n{schedule:?}"))
}

/// Everything in one simulation.
struct World<'a> {
    schedule: &'a Schedule,
    seed: u64,
    ledger: Ledger,
    topics: Vec<Topic>,
    address: SocketAddr,
    server: RefCell<Server>,
    subscribers: Vec<Proxy>,
    publishers: Vec<Proxy>,
    /// How many publishes were begun.
    published: Cell<usize>,
    /// Whether clients reach the server.
    up: watch::Sender<bool>,
    /// How many servers there were. Observers and everybody else wait for the next one.
    lives: watch::Sender<usize>,
    /// How many observers have subscribed with the last of them.
    observing: watch::Sender<usize>,
    /// Whether everything was published, and subscribers may end.
    over: watch::Sender<bool>,
}

impl<'a> World<'a> {
    async fn start(seed: u64, schedule: &'a Schedule) -> Self {
        let port = quiet_port();
        let server = serve(schedule, port);
        let address = server.address;
        let links = schedule.subscribers.iter().chain(&schedule.publishers);
        let mut proxies = Vec::new();
        for (index, link) in links.enumerate() {
            let dice = Dice::new(seed, 1_000 + index);
            proxies.push(Proxy::start(address, *link, dice).await.expect("a port for a proxy"));
        }
        let publishers = proxies.split_off(schedule.subscribers.len());
        Self {
            schedule,
            seed,
            ledger: Ledger::default(),
            topics: (0..schedule.topics).map(|n| Topic::new(&format!("t{n}"))).collect(),
            address,
            server: server.into(),
            subscribers: proxies,
            publishers,
            published: Cell::new(0),
            up: watch::Sender::new(false),
            lives: watch::Sender::new(1),
            observing: watch::Sender::new(0),
            over: watch::Sender::new(false),
        }
    }

    async fn play(&self) -> Result<Checked, String> {
        self.set_down(true);
        let observers = join_all(self.topics.iter().map(|topic| self.observe(topic)));
        let subscribers = join_all((0..self.subscribers.len()).map(|index| self.visit(index)));
        let direct = async {
            self.open_up().await;
            let publishers = join_all((0..self.publishers.len()).map(|index| self.speak(index)));
            tokio::join!(self.do_harm(), publishers);
            self.subscribers.iter().for_each(|proxy| proxy.hold(false, false));
            self.over.send_replace(true);
        };
        let all = async { tokio::join!(observers, subscribers, direct) };
        match tokio::time::timeout(3 * DEADLINE, all).await {
            Ok((observed, stays, ())) => self.check(&observed, &stays),
            Err(_) => Err(format!("not every subscriber was served within {:?}", 3 * DEADLINE)),
        }
    }

    fn check(&self, observed: &[Vec<Vec<Stamp>>], stays: &[Vec<Stay>]) -> Result<Checked, String> {
        let mut checked = Checked::default();
        for (topic, observed) in observed.iter().enumerate() {
            let of_topic = (0..stays.len()).filter(|index| index % self.topics.len() == topic);
            let stays: Vec<_> = of_topic.flat_map(|index| stays[index].iter().cloned()).collect();
            checked += self.ledger.check(observed, &stays)?;
        }
        let all = observed.concat();
        match self.ledger.unseen(&all) {
            Some(stamp) if !self.schedule.crashes() => {
                Err(format!("{stamp} was answered, and the observer of its topic did not get it"))
            }
            _ => Ok(checked),
        }
    }

    /// Sees everything that is published to a topic, without a network in between. One list
    /// for each life of the server.
    async fn observe(&self, topic: &Topic) -> Vec<Vec<Stamp>> {
        let (mut lives, mut over) = (self.lives.subscribe(), self.over.subscribe());
        let mut seen = Vec::new();
        loop {
            let life = *lives.borrow_and_update();
            let mut stay = Stay::new("the observer");
            let mut listener = Listener::connect(&self.ledger, topic, self.address)
                .await
                .expect("the observer connects to a server that listens");
            assert!(listener.subscribe(&mut stay).await, "the observer is disconnected");
            self.observing.send_modify(|observing| *observing += 1);
            let pause = listener.listen(&mut stay, usize::MAX, &mut over).await;
            if pause == Pause::Over {
                assert!(listener.finish(&mut stay).await, "the observer is disconnected");
            }
            seen.push(stay.seen);
            if pause == Pause::Over {
                return seen;
            }
            // Nothing but the end of a server ends this connection.
            let next = async { _ = lives.wait_for(|now| *now > life).await };
            within("another server follows the one that left the observer", next).await;
        }
    }

    /// A subscriber who comes, goes, and comes again when the connection is lost.
    async fn visit(&self, index: usize) -> Vec<Stay> {
        let topic = &self.topics[index % self.topics.len()];
        let mut dice = Dice::new(self.seed, 2_000 + index);
        let mut over = self.over.subscribe();
        let mut stays = Vec::new();
        loop {
            let address = self.subscribers[index].address;
            let Ok(mut listener) = Listener::connect(&self.ledger, topic, address).await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            loop {
                let mut stay = Stay::new(&format!("subscriber {index}"));
                let ended = self.stay(&mut listener, &mut stay, &mut dice, &mut over).await;
                stays.push(stay);
                match ended {
                    Pause::Enough => {}
                    Pause::Over => return stays,
                    Pause::Lost => break,
                }
            }
        }
    }

    async fn stay(
        &self,
        listener: &mut Listener<'_>,
        stay: &mut Stay,
        dice: &mut Dice,
        over: &mut watch::Receiver<bool>,
    ) -> Pause {
        if !listener.subscribe(stay).await {
            return Pause::Lost;
        }
        // A few of them, or as many as it takes.
        let enough = [3, 20, usize::MAX][dice.below(3) as usize];
        let done = match listener.listen(stay, enough, over).await {
            Pause::Enough => (listener.unsubscribe(stay).await, Pause::Enough),
            Pause::Over => (listener.finish(stay).await, Pause::Over),
            Pause::Lost => (false, Pause::Lost),
        };
        if done.0 { done.1 } else { Pause::Lost }
    }

    /// Publishes to one topic after the other, whatever becomes of it.
    async fn speak(&self, index: usize) {
        let (address, padding) = (self.publishers[index].address, self.schedule.padding);
        let mut speaker = Speaker::new(&self.ledger, address, index as u16, padding);
        let mut up = self.up.subscribe();
        for number in 0..self.schedule.messages as usize {
            _ = up.wait_for(|up| *up).await;
            self.published.set(self.published.get() + 1);
            let said = speaker.say(&self.topics[(index + number) % self.topics.len()]).await;
            if said.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Has everything go wrong that the schedule says, when it says so.
    async fn do_harm(&self) {
        let mut held: Vec<(usize, usize)> = Vec::new();
        let mut faults = self.schedule.faults.iter().peekable();
        loop {
            let published = self.published.get();
            held.retain(|(until, subscriber)| {
                let holds = published < *until;
                if !holds {
                    self.subscribers[*subscriber].hold(false, false);
                }
                holds
            });
            while let Some((_, fault)) = faults.next_if(|(after, _)| *after < published) {
                if let Fault::Hold { subscriber, publishes, .. } = fault {
                    held.push((published + publishes, *subscriber));
                }
                self.harm(*fault).await;
            }
            if published == self.schedule.publishes() {
                return;
            }
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn harm(&self, fault: Fault) {
        match fault {
            Fault::Hold { subscriber, up, down, .. } => self.subscribers[subscriber].hold(up, down),
            Fault::Reset { subscriber } => self.subscribers[subscriber].reset(),
            Fault::Interrupt { publisher } => self.publishers[publisher].reset(),
            Fault::Wave => self.subscribers.iter().for_each(Proxy::reset),
            Fault::Restart => self.replace("TERM").await,
            Fault::Crash => self.replace("KILL").await,
        }
    }

    /// Ends the server, and starts another one in its place.
    async fn replace(&self, signal: &str) {
        self.set_down(true);
        self.server.borrow().signal(signal);
        // While clients still read and answer: a server that stops waits for them.
        let ended = async {
            while self.server.borrow_mut().ended().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        within("the server ends", ended).await;
        let status = self.server.borrow_mut().ended().expect("it has ended");
        assert!(signal == "KILL" || status.success(), "SIGTERM: {status}");
        *self.server.borrow_mut() = serve(self.schedule, self.address.port());
        self.observing.send_replace(0);
        self.lives.send_modify(|lives| *lives += 1);
        self.open_up().await;
    }

    /// Lets clients reach the server, once every topic is observed.
    async fn open_up(&self) {
        let mut observing = self.observing.subscribe();
        let all = observing.wait_for(|observing| *observing == self.topics.len());
        within("the observers subscribe", async { _ = all.await }).await;
        self.set_down(false);
    }

    fn set_down(&self, down: bool) {
        self.up.send_replace(!down);
        self.subscribers.iter().chain(&self.publishers).for_each(|proxy| proxy.set_down(down));
    }
}

fn serve(schedule: &Schedule, port: u16) -> Server {
    let keys = format!(
        "{STRICT}[server]\nworkers = {}\n[sink.ws]\nqueue_messages = {}\nclose_timeout = \"200ms\"\n",
        schedule.workers, schedule.queue_messages
    );
    Builder::notiflux().env("PORT", &port.to_string()).file("config.toml", &keys).start()
}
