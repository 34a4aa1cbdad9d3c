//! Which messages each subscriber has: loss, duplicates, order.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// What a message is to the subscriber that got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next one, or one that leaves a gap behind it.
    New,
    /// One that was missing, after later ones.
    Late,
    /// One it has already.
    Duplicate,
    /// From before its subscription was in force: it may come or not.
    Early,
}

/// Numbers that were published without success: nobody need have them.
pub(super) type Failed = HashMap<usize, BTreeSet<u32>>;

/// The floor of a subscriber that is not back yet.
const AWAY: u32 = u32::MAX;

/// The numbers each subscriber has got from each lane. A subscriber has one topic.
#[derive(Debug)]
pub(super) struct Ledger {
    lanes: usize,
    /// The number that should come next, for each subscriber and lane.
    next: Vec<u32>,
    /// Numbers that were jumped over, which are rare.
    gaps: HashMap<usize, Vec<Range<u32>>>,
    /// For those who came back: the first number after their subscription.
    floors: HashMap<usize, u32>,
    /// Gaps from before a subscriber left, by stream.
    left: Vec<(usize, Range<u32>)>,
}

impl Ledger {
    pub(super) fn new(subscribers: usize, lanes: usize) -> Self {
        Self {
            lanes,
            next: vec![0; subscribers * lanes],
            gaps: HashMap::new(),
            floors: HashMap::new(),
            left: Vec::new(),
        }
    }

    /// Takes note of a message.
    pub(super) fn arrived(&mut self, subscriber: usize, lane: usize, sequence: u32) -> Arrival {
        let at = subscriber * self.lanes + lane;
        let next = &mut self.next[at];
        if sequence >= *next {
            if sequence > *next && self.floors.get(&at) != Some(&AWAY) {
                self.gaps.entry(at).or_default().push(*next..sequence);
            }
            *next = sequence + 1;
            return Arrival::New;
        }
        if self.floors.get(&at).is_some_and(|floor| sequence < *floor) {
            return Arrival::Early;
        }
        if self.fill(at, sequence) { Arrival::Late } else { Arrival::Duplicate }
    }

    /// Takes a number out of the gaps, if it is in one.
    fn fill(&mut self, at: usize, sequence: u32) -> bool {
        let Some(gaps) = self.gaps.get_mut(&at) else { return false };
        let Some(index) = gaps.iter().position(|gap| gap.contains(&sequence)) else {
            return false;
        };
        let gap = gaps.swap_remove(index);
        let parts = [gap.start..sequence, sequence + 1..gap.end];
        gaps.extend(parts.into_iter().filter(|part| !part.is_empty()));
        true
    }

    /// A subscriber leaves. What it has missed so far stays missed; what comes until it has
    /// [rejoined](Self::rejoined) may come or not.
    pub(super) fn left(&mut self, subscriber: usize, stream: impl Fn(usize) -> usize) {
        for lane in 0..self.lanes {
            let at = subscriber * self.lanes + lane;
            let gaps = self.gaps.remove(&at).unwrap_or_default();
            self.left.extend(gaps.into_iter().map(|gap| (stream(lane), gap)));
            self.floors.insert(at, AWAY);
        }
    }

    /// A subscriber is back: it must have what is sent from now on, that is from `sent` on,
    /// given by lane.
    pub(super) fn rejoined(&mut self, subscriber: usize, sent: impl Fn(usize) -> u32) {
        for lane in 0..self.lanes {
            let at = subscriber * self.lanes + lane;
            let floor = sent(lane).max(self.next[at]);
            self.next[at] = floor;
            self.floors.insert(at, floor);
        }
    }

    /// How many messages a subscriber has not got of those that were `sent`, by lane.
    pub(super) fn missing(
        &self,
        subscriber: usize,
        stream: impl Fn(usize) -> usize,
        sent: impl Fn(usize) -> u32,
        failed: &Failed,
    ) -> u64 {
        let mut missing = 0;
        for lane in 0..self.lanes {
            let at = subscriber * self.lanes + lane;
            let tail = self.next[at]..sent(lane);
            let gaps = self.gaps.get(&at).into_iter().flatten().chain([&tail]);
            missing += gaps.map(|gap| count(gap, stream(lane), failed)).sum::<u64>();
        }
        missing
    }

    /// What those who left had missed before.
    pub(super) fn missing_of_those_who_left(&self, failed: &Failed) -> u64 {
        self.left.iter().map(|(stream, gap)| count(gap, *stream, failed)).sum()
    }
}

/// How many of these numbers were published with success.
fn count(gap: &Range<u32>, stream: usize, failed: &Failed) -> u64 {
    if gap.is_empty() {
        return 0;
    }
    let without = failed.get(&stream).map_or(0, |failed| failed.range(gap.clone()).count());
    u64::from(gap.end - gap.start) - without as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(ledger: &Ledger, sent: u32, failed: &Failed) -> u64 {
        ledger.missing(0, |lane| lane, |_| sent, failed)
    }

    #[test]
    fn loss_duplicates_and_order_are_told_apart() {
        let mut ledger = Ledger::new(1, 1);
        let none = Failed::new();
        for (sequence, arrival, lost) in [
            (0, Arrival::New, 9),
            (4, Arrival::New, 8),
            (2, Arrival::Late, 7),
            (2, Arrival::Duplicate, 7),
            (0, Arrival::Duplicate, 7),
            (1, Arrival::Late, 6),
            (3, Arrival::Late, 5),
            (3, Arrival::Duplicate, 5),
            (9, Arrival::New, 4),
        ] {
            assert_eq!(ledger.arrived(0, 0, sequence), arrival, "{sequence}");
            assert_eq!(missing(&ledger, 10, &none), lost, "{sequence}");
        }
        let failed = Failed::from([(0, BTreeSet::from([5, 7, 9])), (1, BTreeSet::from([6]))]);
        assert_eq!(missing(&ledger, 10, &failed), 2, "nobody need have what was refused");
        assert_eq!(missing(&ledger, 12, &none), 6);
    }

    #[test]
    fn lanes_and_subscribers_have_numbers_of_their_own() {
        let mut ledger = Ledger::new(2, 2);
        for (subscriber, lane) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            assert_eq!(ledger.arrived(subscriber, lane, 0), Arrival::New);
            assert_eq!(ledger.arrived(subscriber, lane, 0), Arrival::Duplicate);
        }
    }

    #[test]
    fn who_comes_back_must_have_what_was_sent_since() {
        let mut ledger = Ledger::new(1, 1);
        ledger.arrived(0, 0, 0);
        ledger.arrived(0, 0, 2);
        ledger.left(0, |lane| lane);
        assert_eq!(ledger.arrived(0, 0, 8), Arrival::New, "it need not have 3 to 7");
        ledger.rejoined(0, |_| 10);
        assert_eq!(ledger.arrived(0, 0, 9), Arrival::Early);
        assert_eq!(ledger.arrived(0, 0, 11), Arrival::New);
        assert_eq!(missing(&ledger, 12, &Failed::new()), 1, "10 is lost");
        assert_eq!(ledger.missing_of_those_who_left(&Failed::new()), 1, "and so is 1");
        assert_eq!(ledger.arrived(0, 0, 10), Arrival::Late);
    }
}
