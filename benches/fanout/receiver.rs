//! The subscribers' ends: they count, check and answer pings, as cheaply as they can.
//!
//! One task per connection on the one thread of the benchmark, one `read()` per wake-up into
//! a buffer of its own. The receiver is the same for server and floor, and its CPU time is in
//! neither number; but it takes its share of the machine, so it must not be wasteful.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;

use super::frames::{self, Frame};

/// The most messages one lane may have in flight.
pub(crate) const MAX_WINDOW: u64 = 128;

/// Room for more than all messages that can be under way to one subscriber.
const BUFFER: usize = 32 * 1024;

/// What one publisher's messages have come to. All of it is used by one thread; the atomics
/// are here because tasks must be `Send`.
pub(crate) struct Lane {
    /// How many subscribers have message `n`, at `n % MAX_WINDOW`.
    received: Vec<AtomicUsize>,
    /// Messages that every subscriber has. They complete in order, because each subscriber
    /// gets them in order.
    completed: AtomicU64,
    pub(crate) changed: Notify,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            received: (0..MAX_WINDOW).map(|_| AtomicUsize::new(0)).collect(),
            completed: AtomicU64::new(0),
            changed: Notify::new(),
        }
    }
}

impl Lane {
    pub(crate) fn completed(&self) -> u64 {
        self.completed.load(Relaxed)
    }
}

/// What all subscribers of one server have received so far.
pub(crate) struct Progress {
    subscribers: usize,
    pub(crate) lanes: Vec<Lane>,
    pongs: AtomicUsize,
    settled: Notify,
}

impl Progress {
    pub(crate) fn new(subscribers: usize, lanes: u8) -> Self {
        let lanes = (0..lanes).map(|_| Lane::default()).collect();
        Self { subscribers, lanes, pongs: AtomicUsize::new(0), settled: Notify::new() }
    }

    /// One subscriber has got one message. The slot is free again when all have it: its next
    /// user is published only then.
    fn received(&self, lane: u8, sequence: u64) {
        let lane = &self.lanes[usize::from(lane)];
        let slot = &lane.received[(sequence % MAX_WINDOW) as usize];
        if count(slot, self.subscribers) {
            lane.completed.store(sequence + 1, Relaxed);
            lane.changed.notify_one();
        }
    }

    fn pong(&self) {
        if count(&self.pongs, self.subscribers) {
            self.settled.notify_one();
        }
    }

    /// How far the lanes have come, for the message when it goes no further.
    pub(crate) fn describe(&self) -> String {
        let lane = |(number, lane): (usize, &Lane)| {
            let completed = lane.completed();
            let received = lane.received[(completed % MAX_WINDOW) as usize].load(Relaxed);
            format!("lane {number}: {completed} with everybody, the next with {received}")
        };
        self.lanes.iter().enumerate().map(lane).collect::<Vec<_>>().join("; ")
    }

    /// Returns when every subscriber has got a pong since the last time.
    pub(crate) async fn settled(&self) {
        self.settled.notified().await;
    }
}

/// Counts one; whether that made it complete, in which case it starts again at zero.
fn count(slot: &AtomicUsize, complete: usize) -> bool {
    let counted = slot.load(Relaxed) + 1;
    let done = counted == complete;
    slot.store(if done { 0 } else { counted }, Relaxed);
    done
}

/// One subscriber's connection.
pub(crate) struct Subscriber {
    pub(crate) number: usize,
    pub(crate) read: OwnedReadHalf,
    /// For pongs; the rig sends its pings over it.
    pub(crate) write: Arc<OwnedWriteHalf>,
    pub(crate) progress: Arc<Progress>,
}

impl Subscriber {
    /// Receives for ever. Whatever ends it is a fault; the first one is enough.
    pub(crate) async fn run(mut self, faults: Sender<String>) {
        let fault = self.receive().await;
        let _ = faults.try_send(format!("subscriber {}: {fault}", self.number));
    }

    async fn receive(&mut self) -> String {
        let mut next = vec![0; self.progress.lanes.len()];
        let mut buffer = vec![0; BUFFER];
        let mut filled = 0;
        loop {
            match self.read.read(&mut buffer[filled..]).await {
                Ok(0) => return "the connection was closed".into(),
                Ok(read) => filled += read,
                Err(error) => return error.to_string(),
            }
            match self.take(&buffer[..filled], &mut next) {
                Ok(used) => {
                    buffer.copy_within(used..filled, 0);
                    filled -= used;
                }
                Err(fault) => return fault,
            }
        }
    }

    /// Takes all whole frames; returns how many bytes they were.
    fn take(&self, bytes: &[u8], next: &mut [u64]) -> Result<usize, String> {
        let mut used = 0;
        while let Some((frame, length)) = frames::first(&bytes[used..])? {
            used += length;
            match frame {
                Frame::Text(payload) => self.text(payload, next)?,
                Frame::Ping(payload) => send(&self.write, &frames::client_frame(0xA, payload))?,
                Frame::Pong => self.progress.pong(),
            }
        }
        Ok(used)
    }

    /// Exactly once and in order: the number is the one that this lane has next.
    fn text(&self, payload: &[u8], next: &mut [u64]) -> Result<(), String> {
        let (lane, sequence) = frames::stamped(payload)
            .ok_or_else(|| format!("not what was published: {}", payload.escape_ascii()))?;
        let expected = next.get_mut(usize::from(lane)).ok_or("a message of nobody")?;
        if sequence != *expected {
            let fault = if sequence > *expected { "lost or overtaken" } else { "duplicated" };
            return Err(format!("{fault}: lane {lane}, {sequence} came, {expected} was next"));
        }
        *expected += 1;
        self.progress.received(lane, sequence);
        Ok(())
    }
}

/// Sends a small frame at once: nothing else is under way in this direction.
pub(crate) fn send(stream: &OwnedWriteHalf, frame: &[u8]) -> Result<(), String> {
    match stream.try_write(frame) {
        Ok(written) if written == frame.len() => Ok(()),
        Ok(_) => Err("a control frame was cut short".into()),
        Err(error) => Err(error.to_string()),
    }
}
