//! What the threads of a run tell each other while it goes on.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::atomic::{
    Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::time::Instant;

use mio::Waker;
use parking_lot::Mutex;

use super::ledger::Failed;
use super::settings::{Settings, Wait};

/// How many messages can be under way and still have their spread measured.
const SLOTS: usize = 1 << 16;

/// How far the subscribers are told to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Stage {
    /// Connect, and no more.
    Connect,
    /// Subscribe and receive.
    Receive,
    /// Say when nothing is missing any more.
    Settle,
    /// End.
    Finish,
}

/// One message under way.
#[derive(Default)]
struct Slot {
    id: AtomicU32,
    /// How many subscribers have it.
    received: AtomicU32,
    /// When the first one had it; `u64::MAX` before.
    first: AtomicU64,
}

impl Slot {
    fn begin(&self, id: u32) {
        self.received.store(0, Relaxed);
        self.first.store(u64::MAX, Relaxed);
        self.id.store(id, Release);
    }

    /// One more has it. Returns how many do, and when the first one did.
    fn received(&self, now: u64) -> (u32, u64) {
        // Before it is counted: whoever is the last one reads a time that all have set.
        // Receivers may come here in another order than that of their times. Looking first
        // is cheaper, and nearly always enough.
        if self.first.load(Relaxed) > now {
            self.first.fetch_min(now, Relaxed);
        }
        (self.received.fetch_add(1, AcqRel) + 1, self.first.load(Relaxed))
    }
}

/// Shared by all threads of a run.
pub(super) struct Progress {
    pub(super) settings: Settings,
    /// Tells this run's messages from others.
    pub(super) run: u16,
    began: Instant,
    stage: AtomicU8,
    /// How often all subscribers were told to drop their connection.
    pub(super) storms: AtomicU32,
    slots: Box<[Slot]>,
    /// By topic: subscribers on the line that read.
    healthy: Box<[AtomicU32]>,
    /// By stream, that is topic and lane: how many messages were sent.
    sent: Box<[AtomicU32]>,
    pub(super) failed: Mutex<Failed>,
    /// Messages sent from here on are not measured any more.
    pub(super) measured_until: AtomicU64,
    /// Messages sent from here on are measured, in nanoseconds since the run began.
    pub(super) measured_from: AtomicU64,
    pub(super) connected: AtomicUsize,
    pub(super) subscribed: AtomicUsize,
    /// Healthy subscribers that have got a probe.
    pub(super) probed: AtomicUsize,
    /// Receivers all of whose subscribers are back after a storm.
    pub(super) back: AtomicUsize,
    /// When the last of them were, in nanoseconds since the run began.
    back_at: AtomicU64,
    /// Receivers that miss nothing any more.
    pub(super) settled: AtomicUsize,
    pub(super) stopped: AtomicBool,
    failure: Mutex<Option<String>>,
    /// Wakes the publishers when a message is with everybody.
    pub(super) publisher: Waker,
}

impl Progress {
    pub(super) fn new(settings: Settings, run: u16, publisher: Waker) -> Self {
        let streams = settings.topics * settings.lanes;
        let (topics, stage) = (settings.topics, AtomicU8::new(Stage::Connect as u8));
        Self {
            settings,
            run,
            began: Instant::now(),
            stage,
            storms: AtomicU32::new(0),
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
            healthy: (0..topics).map(|_| AtomicU32::new(0)).collect(),
            sent: (0..streams).map(|_| AtomicU32::new(0)).collect(),
            failed: Mutex::default(),
            measured_from: AtomicU64::new(u64::MAX),
            measured_until: AtomicU64::new(u64::MAX),
            back: AtomicUsize::new(0),
            back_at: AtomicU64::new(0),
            connected: AtomicUsize::new(0),
            subscribed: AtomicUsize::new(0),
            probed: AtomicUsize::new(0),
            settled: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            failure: Mutex::default(),
            publisher,
        }
    }

    /// Nanoseconds since the run began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Acquire) {
            0 => Stage::Connect,
            1 => Stage::Receive,
            2 => Stage::Settle,
            _ => Stage::Finish,
        }
    }

    pub(super) fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Release);
    }

    /// Ends the run; the first reason counts.
    pub(super) fn fail(&self, reason: impl Into<String>) {
        self.failure.lock().get_or_insert_with(|| reason.into());
        self.stopped.store(true, Release);
    }

    /// Why the run cannot go on, if so.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    pub(super) fn stream(&self, topic: usize, lane: usize) -> usize {
        topic * self.settings.lanes + lane
    }

    /// How many messages were sent to a topic by a lane.
    pub(super) fn sent(&self, topic: usize, lane: usize) -> u32 {
        self.sent[self.stream(topic, lane)].load(Acquire)
    }

    /// A message is about to be sent; returns its number within its stream.
    pub(super) fn send(&self, topic: usize, lane: usize, id: u32) -> u32 {
        self.slots[id as usize % SLOTS].begin(id);
        self.sent[self.stream(topic, lane)].fetch_add(1, AcqRel)
    }

    /// A subscriber has a message. Returns the time since the first one had it, if this is
    /// the last one.
    pub(super) fn received(&self, topic: usize, id: u32, now: u64) -> Option<u64> {
        let slot = &self.slots[id as usize % SLOTS];
        if slot.id.load(Acquire) != id {
            return None;
        }
        let (received, first) = slot.received(now);
        if received != self.healthy[topic].load(Relaxed) {
            return None;
        }
        if self.settings.wait == Wait::Delivered || self.settings.undelivered.is_some() {
            self.wake_publisher();
        }
        Some(now.saturating_sub(first))
    }

    /// Whether every healthy subscriber on the line has a message.
    pub(super) fn is_delivered(&self, topic: usize, id: u32) -> bool {
        let slot = &self.slots[id as usize % SLOTS];
        slot.received.load(Acquire) >= self.healthy[topic].load(Acquire)
    }

    /// All subscribers of a receiver are back.
    pub(super) fn all_are_back(&self) {
        self.back_at.fetch_max(self.now(), AcqRel);
        self.back.fetch_add(1, AcqRel);
    }

    /// Whether a message was sent when there was a storm, or before it: nobody can say who
    /// is to have it.
    pub(super) fn is_stormy(&self, sent: u64) -> bool {
        self.storms.load(Acquire) > 0
            && (self.back.load(Acquire) < self.settings.threads
                || sent < self.back_at.load(Acquire))
    }

    /// A healthy subscriber is on the line.
    pub(super) fn joined(&self, topic: usize) {
        self.healthy[topic].fetch_add(1, AcqRel);
    }

    /// A healthy subscriber has gone; nobody waits for it any more.
    pub(super) fn left(&self, topic: usize) {
        self.healthy[topic].fetch_sub(1, AcqRel);
        self.wake_publisher();
    }

    fn wake_publisher(&self) {
        if let Err(error) = self.publisher.wake() {
            self.fail(format!("cannot wake the publishers: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_is_known_before_anybody_is_counted() {
        let slot = Slot::default();
        slot.begin(7);
        // Two receivers: the one that comes later has read its message earlier.
        assert_eq!(slot.received(30), (1, 30));
        assert_eq!(slot.received(10), (2, 10));
        assert_eq!(slot.received(20), (3, 10));
        slot.begin(8);
        assert_eq!(slot.received(40), (1, 40), "of another message");
    }
}
