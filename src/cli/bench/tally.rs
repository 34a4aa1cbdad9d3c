//! What a receiver counts and measures.

use hdrhistogram::Histogram;

use super::timeline::Timeline;

/// The longest time that is told apart from longer ones, in nanoseconds.
pub(super) const LONGEST: u64 = 120_000_000_000;

/// Times in nanoseconds, three digits of each.
pub(super) fn times() -> Histogram<u64> {
    // The bounds are good and the digits are few: this cannot fail.
    Histogram::new_with_bounds(100, LONGEST, 3).unwrap_or_else(|_| unreachable!())
}

/// Takes note of a time.
pub(super) fn note(histogram: &mut Histogram<u64>, nanoseconds: u64) {
    histogram.saturating_record(nanoseconds.min(LONGEST));
}

/// What one receiver has seen.
pub(super) struct Tally {
    /// From dialling to the 101.
    pub(super) handshakes: Histogram<u64>,
    /// From sending to each receiver, measured messages only.
    pub(super) latency: Histogram<u64>,
    /// From the first subscriber of a message to the last.
    pub(super) spread: Histogram<u64>,
    pub(super) timeline: Option<Timeline>,
    /// All messages, each once for each subscriber.
    pub(super) delivered: u64,
    /// Those that are measured.
    pub(super) measured: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    /// Messages of this run whose stamp or filler is not as it was sent.
    pub(super) corrupted: u64,
    /// Messages on a connection that has another topic.
    pub(super) misrouted: u64,
    /// Messages of other runs.
    pub(super) foreign: u64,
    /// What the server says beside messages.
    pub(super) other: u64,
    /// Healthy connections that the server ended.
    pub(super) disconnected: u64,
    /// Why the first of them ended.
    pub(super) first_end: Option<String>,
    /// Frames for subscribers that had stopped reading.
    pub(super) slow_frames: u64,
    /// Subscribers that had stopped reading and were disconnected.
    pub(super) slow_ended: u64,
    /// When the first connection was dialled and the last one open.
    pub(super) dialled: u64,
    pub(super) opened: u64,
    /// When the last measured message came.
    pub(super) last: u64,
    /// Times from each storm to the last subscription.
    pub(super) storm: Option<u64>,
}

impl Tally {
    pub(super) fn new(timeline: Option<Timeline>) -> Self {
        Self {
            handshakes: times(),
            latency: times(),
            spread: times(),
            timeline,
            delivered: 0,
            measured: 0,
            duplicated: 0,
            reordered: 0,
            corrupted: 0,
            misrouted: 0,
            foreign: 0,
            other: 0,
            disconnected: 0,
            first_end: None,
            slow_frames: 0,
            slow_ended: 0,
            dialled: u64::MAX,
            opened: 0,
            last: 0,
            storm: None,
        }
    }

    /// Adds what another receiver has seen.
    pub(super) fn add(&mut self, other: &Self) {
        let sums = [
            (&mut self.handshakes, &other.handshakes),
            (&mut self.latency, &other.latency),
            (&mut self.spread, &other.spread),
        ];
        for (sum, part) in sums {
            // Same bounds.
            let _ = sum.add(part);
        }
        if let (Some(sum), Some(part)) = (&mut self.timeline, &other.timeline) {
            sum.add(part);
        }
        self.delivered += other.delivered;
        self.measured += other.measured;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
        self.misrouted += other.misrouted;
        self.foreign += other.foreign;
        self.other += other.other;
        self.disconnected += other.disconnected;
        self.slow_frames += other.slow_frames;
        self.slow_ended += other.slow_ended;
        if self.first_end.is_none() {
            self.first_end.clone_from(&other.first_end);
        }
        self.dialled = self.dialled.min(other.dialled);
        self.opened = self.opened.max(other.opened);
        self.last = self.last.max(other.last);
        self.storm = self.storm.max(other.storm);
    }
}
