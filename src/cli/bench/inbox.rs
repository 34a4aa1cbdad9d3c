//! What becomes of a message when it comes.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use super::connection::Connection;
use super::ledger::{Arrival, Ledger};
use super::progress::Progress;
use super::stamp::{self, FILLER, Stamp};
use super::tally::{Tally, note};

/// The lane of messages that only ask whether subscriptions are in force.
pub(super) const PROBE: u8 = u8::MAX;

/// Messages of one receiver: checked, counted, measured.
pub(super) struct Inbox {
    progress: Arc<Progress>,
    ledger: Ledger,
    pub(super) tally: Tally,
    bare: bool,
    /// Where the stamp was in the last frame that had it elsewhere than at its start.
    at: usize,
    /// The last whole frame: the same one goes to every subscriber, and comparing is
    /// cheaper than reading it again.
    last: Vec<u8>,
    last_stamp: Stamp,
}

impl Inbox {
    pub(super) fn new(progress: Arc<Progress>, ledger: Ledger, tally: Tally) -> Self {
        let bare = progress.settings.dialect.is_bare();
        let (last, last_stamp) = (Vec::new(), Stamp::default());
        Self { progress, ledger, tally, bare, at: 0, last, last_stamp }
    }

    /// A message has come, at `now`.
    pub(super) fn message(
        &mut self,
        index: usize,
        connection: &mut Connection,
        message: &[u8],
        now: u64,
    ) {
        if self.last != message {
            let Some(stamp) = self.read(message) else { return };
            self.last_stamp = stamp;
            self.last.clear();
            self.last.extend_from_slice(message);
        }
        let stamp = self.last_stamp;
        if usize::from(stamp.topic) != connection.topic {
            self.tally.misrouted += 1;
            return;
        }
        if stamp.lane == PROBE {
            if !connection.probed {
                connection.probed = true;
                self.progress.probed.fetch_add(1, AcqRel);
            }
            return;
        }
        match self.ledger.arrived(index, usize::from(stamp.lane), stamp.sequence) {
            Arrival::Duplicate => {
                self.tally.duplicated += 1;
                return;
            }
            Arrival::Late => self.tally.reordered += 1,
            Arrival::New | Arrival::Early => {}
        }
        self.tally.delivered += 1;
        let spread = self.progress.received(connection.topic, stamp.id, now);
        let measured_from = self.progress.measured_from.load(Relaxed);
        let measured_until = self.progress.measured_until.load(Relaxed);
        if !(measured_from..measured_until).contains(&stamp.sent) {
            return;
        }
        let latency = now.saturating_sub(stamp.sent);
        self.tally.measured += 1;
        self.tally.last = now;
        note(&mut self.tally.latency, latency);
        if let Some(spread) = spread {
            note(&mut self.tally.spread, spread);
        }
        if let Some(timeline) = &mut self.tally.timeline {
            timeline.note(stamp.sent - measured_from, latency);
        }
    }

    /// The stamp of a message that is one of ours and whole.
    fn read(&mut self, message: &[u8]) -> Option<Stamp> {
        let at_last = message.get(self.at..).and_then(Stamp::read);
        let stamp = at_last.or_else(|| {
            self.at = stamp::find(message)?;
            Stamp::read(&message[self.at..])
        });
        let Some(stamp) = stamp else {
            self.tally.other += 1;
            return None;
        };
        let Ok(stamp) = stamp else {
            self.tally.corrupted += 1;
            return None;
        };
        if stamp.run != self.progress.run {
            self.tally.foreign += 1;
            return None;
        }
        let settings = &self.progress.settings;
        let lanes = settings.lanes;
        let known = usize::from(stamp.topic) < settings.topics
            && (usize::from(stamp.lane) < lanes || stamp.lane == PROBE);
        let end = self.at + settings.payload;
        let filler = message.get(self.at + stamp::LENGTH..end);
        let whole = filler.is_some_and(|filler| filler.iter().all(|byte| *byte == FILLER))
            && (!self.bare || (self.at == 0 && message.len() == end));
        if !known || !whole {
            self.tally.corrupted += 1;
            return None;
        }
        Some(stamp)
    }

    /// A subscriber has gone and will be back.
    pub(super) fn left(&mut self, index: usize, topic: usize) {
        let progress = &self.progress;
        self.ledger.left(index, |lane| progress.stream(topic, lane));
    }

    /// A subscriber is back.
    pub(super) fn rejoined(&mut self, index: usize, topic: usize) {
        let progress = &self.progress;
        self.ledger.rejoined(index, |lane| progress.sent(topic, lane));
    }

    /// How many messages these subscribers, each with its topic, have not got.
    pub(super) fn lost(&self, subscribers: impl Iterator<Item = (usize, usize)>) -> u64 {
        let progress = &self.progress;
        let failed = progress.failed.lock();
        let missing = |(index, topic)| {
            let stream = |lane| progress.stream(topic, lane);
            self.ledger.missing(index, stream, |lane| progress.sent(topic, lane), &failed)
        };
        let left = self.ledger.missing_of_those_who_left(&failed);
        subscribers.map(missing).sum::<u64>() + left
    }
}
