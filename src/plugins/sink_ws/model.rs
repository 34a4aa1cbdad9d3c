//! Every interleaving of the threads that meet at a lane and at a queue, tried by loom.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::batch::Batch;
use super::queue::{Bounds, Flush, Left, Queue, Socket};
use lane::{Brought, Lane};

/// loom's lock with the manners of the one that is used outside.
mod sync {
    #[derive(Debug)]
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }
}

// A second time on purpose: with loom's lock.
#[allow(clippy::duplicate_mod)]
#[path = "lane.rs"]
mod lane;

/// What was done, in the order in which it was done, and a watch that only one does it.
#[derive(Default)]
struct Work {
    done: Mutex<Vec<u8>>,
    at_it: AtomicBool,
}

impl Work {
    fn on(&self, items: &[u8]) {
        assert!(!self.at_it.swap(true, Ordering::SeqCst), "two at work at a time");
        self.done.lock().unwrap().extend_from_slice(items);
        self.at_it.store(false, Ordering::SeqCst);
    }
}

/// Brings one item after the other; carries where it has to.
fn bring(lane: &Lane<u8>, work: &Work, items: &[u8], at_once: bool) {
    for item in items {
        let now = || at_once.then(|| work.on(&[*item]));
        if matches!(lane.bring(now, || *item), Brought::NeedsCarrier) {
            let mut batch = Vec::new();
            let carrier = lane.carrier();
            while carrier.take(&mut batch, |_| true) {
                work.on(&batch);
                batch.clear();
            }
        }
    }
}

#[test]
fn what_is_brought_to_a_lane_is_done_once_in_order_and_never_twice_at_a_time() {
    // Whether each of the two does short work at once or leaves it to a carrier.
    for at_once in [[false, false], [true, false], [true, true]] {
        loom::model(move || {
            let (lane, work) = (Arc::new(Lane::default()), Arc::new(Work::default()));
            let other = thread::spawn({
                let (lane, work) = (lane.clone(), work.clone());
                move || bring(&lane, &work, &[1, 2], at_once[0])
            });
            bring(&lane, &work, &[11, 12], at_once[1]);
            other.join().unwrap();
            let done = work.done.lock().unwrap();
            assert_eq!(done.iter().collect::<BTreeSet<_>>().len(), 4, "{done:?}");
            assert_eq!(done.len(), 4, "{done:?}");
            for pair in [[1, 2], [11, 12]] {
                let position = |item| done.iter().position(|other| *other == item);
                assert!(position(pair[0]) < position(pair[1]), "{done:?}");
            }
        });
    }
}

/// A connection: its queue, its socket, and the permit by which its task is told.
struct Connection {
    queue: Mutex<Queue>,
    told: Mutex<Told>,
    changed: Condvar,
    /// Bytes that the socket has room for.
    room: AtomicUsize,
    /// What the client gets. Only written to under the lock of the queue.
    wire: Mutex<Vec<u8>>,
}

#[derive(Default)]
struct Told {
    permit: bool,
    over: bool,
}

impl Socket for &Connection {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room.load(Ordering::SeqCst).min(bytes.len());
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room.fetch_sub(room, Ordering::SeqCst);
        self.wire.lock().unwrap().extend_from_slice(&bytes[..room]);
        Ok(room)
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.try_write(&bytes)
    }
}

impl Connection {
    fn new(room: usize) -> Self {
        Self {
            queue: Mutex::new(Queue::default()),
            told: Mutex::new(Told::default()),
            changed: Condvar::new(),
            room: AtomicUsize::new(room),
            wire: Mutex::new(Vec::new()),
        }
    }

    /// As the outbox does it; returns what was accepted.
    fn offer(&self, frames: &[&'static [u8]]) -> Vec<u8> {
        let bounds = Bounds { messages: 8, bytes: 100, oldest_goes: false };
        let (accepted, _) = self.offer_within(bounds, frames);
        accepted
    }

    /// The same; also how many messages were taken out again.
    fn offer_within(&self, bounds: Bounds, frames: &[&'static [u8]]) -> (Vec<u8>, usize) {
        let frames: Vec<_> = frames.iter().map(|frame| Bytes::from_static(frame)).collect();
        let batch = Batch::join(&frames.iter().collect::<Vec<_>>());
        let offer = self.queue.lock().unwrap().offer(&batch, &self, bounds);
        if offer.wake {
            self.told.lock().unwrap().permit = true;
            self.changed.notify_one();
        }
        (frames[..offer.accepted].concat(), offer.evicted)
    }

    /// The connection's task: flushes each time it is told, while the client reads.
    fn task(&self) {
        loop {
            let mut told = self.told.lock().unwrap();
            while !told.permit {
                if told.over {
                    return;
                }
                told = self.changed.wait(told).unwrap();
            }
            told.permit = false;
            drop(told);
            while self.queue.lock().unwrap().flush(&self, &mut Left::default()).unwrap()
                != Flush::All
            {
                self.room.fetch_add(4, Ordering::SeqCst);
            }
        }
    }

    fn over(&self) {
        self.told.lock().unwrap().over = true;
        self.changed.notify_one();
    }
}

#[test]
fn what_a_publisher_queues_the_task_is_told_of_and_writes_in_order() {
    for room in [0, 3, 5] {
        loom::model(move || {
            let connection = Arc::new(Connection::new(room));
            let task = thread::spawn({
                let connection = connection.clone();
                move || connection.task()
            });
            let mut accepted = connection.offer(&[b"aa", b"bb"]);
            accepted.extend(connection.offer(&[b"cc"]));
            connection.over();
            task.join().unwrap();
            assert_eq!(accepted, b"aabbcc");
            assert_eq!(*connection.wire.lock().unwrap(), accepted);
        });
    }
}

/// A publisher takes out what is old while the task writes it: each message is written
/// wholly or counted, and the newest is there.
#[test]
fn what_is_taken_out_for_newer_ones_is_whole_and_counted() {
    for room in [0, 3] {
        loom::model(move || {
            let connection = Arc::new(Connection::new(room));
            let task = thread::spawn({
                let connection = connection.clone();
                move || connection.task()
            });
            let bounds = Bounds { messages: 1, bytes: 100, oldest_goes: true };
            let mut evicted = 0;
            for frame in [b"aa", b"bb"] {
                let (accepted, gone) = connection.offer_within(bounds, &[frame.as_slice()]);
                // Where the first one is begun, one more has no room.
                evicted += gone + usize::from(accepted.is_empty());
            }
            connection.over();
            task.join().unwrap();
            let wire = connection.wire.lock().unwrap();
            let whole = wire.chunks(2).all(|frame| [b"aa", b"bb"].iter().any(|it| *it == frame));
            assert!(whole && wire.len() == 4 - 2 * evicted, "{wire:?} without {evicted}");
            assert!(wire.is_sorted());
        });
    }
}

#[test]
fn nothing_is_written_that_was_offered_after_the_close() {
    for room in [0, 3] {
        loom::model(move || {
            let connection = Arc::new(Connection::new(room));
            let closer = thread::spawn({
                let connection = connection.clone();
                move || {
                    connection.queue.lock().unwrap().end(Some(Bytes::from_static(b"<close>")));
                    // Closed is closed: what comes now is refused.
                    assert_eq!(connection.offer(&[b"zz"]), b"");
                }
            });
            let mut accepted = connection.offer(&[b"aa"]);
            accepted.extend(connection.offer(&[b"bb", b"cc"]));
            closer.join().unwrap();
            connection.room.store(100, Ordering::SeqCst);
            let mut left = Left::default();
            let flush = connection.queue.lock().unwrap().flush(&&*connection, &mut left);
            assert_eq!(flush.unwrap(), Flush::All);
            accepted.extend_from_slice(b"<close>");
            assert_eq!(*connection.wire.lock().unwrap(), accepted);
        });
    }
}

#[test]
fn a_lane_looks_around_now_and_then_and_stays_with_what_it_finds() {
    let lane = super::lane::Lane::default();
    let carry = |lane: &super::lane::Lane<i32>| {
        let (carrier, mut batch) = (lane.carrier(), Vec::new());
        assert!(carrier.take(&mut batch, |_| true) && !carrier.take(&mut Vec::new(), |_| true));
        batch.len()
    };
    let bring = |item| {
        use super::lane::Brought;
        matches!(lane.bring(|| Some(()), || item), Brought::<()>::Done(()))
    };
    let alone = (0..1000).take_while(|item| bring(*item)).count();
    assert!(alone > 4, "{alone}");
    // The carrier that was sent found nobody else: back to doing it at once.
    assert_eq!(carry(&lane), 1);
    assert_eq!((0..1000).take_while(|item| bring(*item)).count(), alone);
    // This one found company: again with a carrier.
    bring(100);
    assert_eq!(carry(&lane), 2);
    assert!(!bring(101));
}

#[test]
fn a_carrier_that_fails_loses_what_it_had_and_nothing_after() {
    use super::lane::Brought;
    let lane = super::lane::Lane::default();
    let bring = |item| lane.bring(|| None::<()>, || item);
    assert!(matches!(bring(1), Brought::NeedsCarrier));
    assert!(matches!(bring(2), Brought::Waits));
    drop(lane.carrier());
    assert!(matches!(bring(3), Brought::NeedsCarrier));
    let (carrier, mut batch) = (lane.carrier(), Vec::new());
    assert!(carrier.take(&mut batch, |_| true));
    assert_eq!(batch, [3]);
}
