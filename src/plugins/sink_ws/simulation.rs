//! Hub, lane, fan-out and queues together, on one thread and with sockets in memory: what
//! happens follows from a seed, and is the same each time. `model` tries every interleaving
//! of two threads at one place; this tells long stories of all places.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use proptest::prelude::RngExt as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::config::{Config, WhenFull};
use super::fanout::{self, Hub};
use super::outbox::Outbox;
use super::queue::{Flush, Socket, State};
use super::Shared;
use crate::core::admission::Admission;
use crate::core::hub::Seat;
use crate::core::message::{Audience, Frame, Message, Topic};
use crate::core::plugin::Jobs;
use crate::core::session::Ending;
use crate::core::sink::Delivery;

const SEEDS: u64 = 300;

/// A socket that takes as much as it is given room for.
#[derive(Default)]
struct Memory(Mutex<Wire>);

#[derive(Default)]
struct Wire {
    room: usize,
    bytes: Vec<u8>,
    broken: bool,
}

impl Socket for Memory {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.lock();
        if wire.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = wire.room.min(bytes.len());
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        wire.room -= taken;
        wire.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.try_write(&bytes)
    }
}

/// A subscription: what had been published when it began, and what of it had arrived with
/// everybody when it ended.
#[derive(Clone, Copy, Debug)]
struct Stay {
    published: usize,
    settled: Option<usize>,
}

/// A connection and what its task knows.
struct Client {
    outbox: Arc<Outbox<Memory>>,
    seat: Option<Seat<Arc<Outbox<Memory>>>>,
    stay: Option<Stay>,
    /// The socket had no room when it was last written to.
    stuck: bool,
    over: bool,
}

struct Story {
    dice: TestRng,
    shared: Arc<Shared<Memory>>,
    jobs: Jobs,
    topic: Topic,
    clients: Vec<Client>,
    receipts: Vec<Option<Pin<Box<dyn Future<Output = Delivery>>>>>,
    deliveries: Vec<Option<Delivery>>,
    /// Whether sockets break.
    breaks: bool,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut dice = TestRng::from_seed(
            RngAlgorithm::ChaCha,
            &[seed.to_le_bytes(), [0; 8], [0; 8], [0; 8]].concat(),
        );
        let when_full = [WhenFull::Disconnect, WhenFull::DropNewest][dice.random_range(0..2)];
        let queue_messages = [2, 10, 256][dice.random_range(0..3)];
        let queue_bytes = [1024, 1 << 20][dice.random_range(0..2)];
        let config = Config { queue_messages, queue_bytes, when_full, ..Config::default() };
        let shared = Arc::new(Shared::new(config));
        // Few members, a segment and some, and more than a carrier visits in one turn.
        let count = [2, 20, 70, 300][dice.random_range(0..4)];
        let clients = (0..count).map(|id| {
            let wire = Wire { room: dice.random_range(0..2_000), ..Wire::default() };
            let socket = Memory(Mutex::new(wire));
            let outbox = Outbox::new(id, socket, &shared.config, Ending::CloseFrame);
            let outbox = Arc::new(outbox);
            Client { outbox, seat: None, stay: None, stuck: false, over: false }
        });
        let clients = clients.collect();
        Self {
            shared,
            jobs: Jobs::default(),
            topic: Topic::new("t", "t"),
            clients,
            receipts: Vec::new(),
            deliveries: Vec::new(),
            breaks: dice.random_range(0..3) == 0,
            dice,
        }
    }

    async fn tell(&mut self) {
        for _ in 0..self.dice.random_range(100..600) {
            let index = self.dice.random_range(0..self.clients.len());
            match self.dice.random_range(0..20) {
                0..6 => self.publish(),
                6..10 => self.join(index),
                10 => self.leave(index),
                11..14 => {
                    let room = self.dice.random_range(1..3_000);
                    self.clients[index].outbox.stream.0.lock().room += room;
                    self.look(index);
                }
                14 if self.breaks => self.clients[index].outbox.stream.0.lock().broken = true,
                14..17 => self.look(index),
                _ => tokio::task::yield_now().await,
            }
            self.settle();
        }
    }

    fn publish(&mut self) {
        let number = self.receipts.len();
        let text = format!("{number:06}{}", "m".repeat(self.dice.random_range(0..300)));
        let message = Message {
            id: number as u64,
            topic: self.topic.clone(),
            audience: Audience::Everyone,
            frame: Frame::from(text),
            data: serde_json::Value::Null,
        };
        let receipt = fanout::deliver(&self.shared, &self.jobs, &message, &Admission::default());
        self.receipts.push(Some(Box::pin(receipt.settled())));
        self.deliveries.push(None);
    }

    /// Each client once: its wire then shows one subscription alone.
    fn join(&mut self, index: usize) {
        let published = self.receipts.len();
        let client = &mut self.clients[index];
        if client.stay.is_none() && !client.over {
            let outbox = client.outbox.clone();
            client.seat = Some(self.shared.hub.join(&self.topic, outbox.id, outbox));
            client.stay = Some(Stay { published, settled: None });
        }
    }

    fn leave(&mut self, index: usize) {
        let settled = self.settled();
        let client = &mut self.clients[index];
        if let Some(seat) = client.seat.take() {
            self.shared.hub.leave(&self.topic, client.outbox.id, &seat);
            if let Some(stay) = &mut client.stay {
                stay.settled = Some(settled);
            }
        }
    }

    /// What a connection's task does, if it has been told or waits for room.
    fn look(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if !client.stuck && client.outbox.wake.notified().now_or_never().is_none() {
            return;
        }
        let flushed = client.outbox.flush();
        client.stuck = flushed.as_ref().is_ok_and(|flush| *flush != Flush::All);
        if flushed.is_err() || client.outbox.state() != State::Open {
            client.over = true;
            if let Some(seat) = client.seat.take() {
                self.shared.hub.leave(&self.topic, client.outbox.id, &seat);
            }
        }
    }

    /// Notes what became of messages by now.
    fn settle(&mut self) {
        for (receipt, delivery) in self.receipts.iter_mut().zip(&mut self.deliveries) {
            if let Some(waiting) = receipt
                && let Some(settled) = waiting.now_or_never()
            {
                (*receipt, *delivery) = (None, Some(settled));
            }
        }
    }

    /// How many messages, from the first, have arrived with everybody.
    fn settled(&self) -> usize {
        self.deliveries.iter().take_while(|delivery| delivery.is_some()).count()
    }

    /// Everybody reads to the end.
    async fn end(&mut self) {
        while self.settled() < self.receipts.len() {
            tokio::task::yield_now().await;
            self.settle();
        }
        for index in 0..self.clients.len() {
            self.clients[index].outbox.stream.0.lock().room = usize::MAX / 2;
            self.look(index);
        }
    }

    fn check(&self) {
        let (mut came, mut told) = (0, Delivery::default());
        for delivery in &self.deliveries {
            told += delivery.expect("all are settled");
        }
        for client in &self.clients {
            let wire = client.outbox.stream.0.lock();
            let (seen, closed) = numbers(&wire.bytes);
            came += seen.len();
            let lost = wire.broken || closed;
            check_one(&seen, client.stay, lost, self.shared.config.when_full);
        }
        let counted = self.shared.dropped.counts();
        assert_eq!(told.dropped as u64, counted.0 + counted.1, "dropped, told and counted");
        if self.breaks {
            assert!(told.accepted >= came, "{told:?}, {came} came");
        } else {
            assert_eq!(told.accepted, came, "accepted, and on the wire");
        }
    }
}

/// Compares what one client saw with what it was promised.
fn check_one(seen: &[usize], stay: Option<Stay>, lost: bool, when_full: WhenFull) {
    let Some(Stay { published, settled }) = stay else {
        return assert_eq!(seen, [0; 0], "who never subscribed got something");
    };
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?} is not in order");
    if when_full == WhenFull::DropNewest {
        return;
    }
    assert!(seen.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seen:?} has gaps");
    assert!(seen.first().is_none_or(|first| *first <= published), "{seen:?} from {published}");
    // One that left as it should has all that had arrived by then.
    if let (Some(settled), false) = (settled, lost)
        && settled > published
    {
        assert!(seen.last().is_some_and(|last| last + 1 >= settled), "{seen:?} up to {settled}");
    }
}

/// The messages in these bytes, and whether a Close frame ends them. A message of which only
/// a part was taken does not count.
fn numbers(mut bytes: &[u8]) -> (Vec<usize>, bool) {
    let mut numbers = Vec::new();
    loop {
        let (length, start) = match *bytes {
            [0x88, ..] => return (numbers, true),
            [0x81, 126, high, low, ..] => (usize::from(u16::from_be_bytes([high, low])), 4),
            [0x81, short @ 0..126, ..] => (usize::from(short), 2),
            _ => return (numbers, false),
        };
        let Some(payload) = bytes.get(start..start + length) else { return (numbers, false) };
        numbers.push(std::str::from_utf8(&payload[..6]).unwrap().parse().unwrap());
        bytes = &bytes[start + length..];
    }
}

#[test]
fn whatever_happens_in_whatever_order_what_was_promised_comes() {
    let mut messages = 0;
    for seed in 0..SEEDS {
        let run_time = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let told = std::panic::catch_unwind(|| {
            run_time.block_on(async {
                let mut story = Story::new(seed);
                story.tell().await;
                story.end().await;
                story.check();
                story.receipts.len()
            })
        });
        messages += told.unwrap_or_else(|_| panic!("seed {seed}"));
    }
    assert!(messages > 10_000, "{messages}");
}
