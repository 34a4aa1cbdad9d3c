//! Latency over time: slices of one length, each with its own percentiles.

use hdrhistogram::Histogram;

use super::tally;

/// How many slices there are at most. A run that goes on makes them twice as long.
const SLICES: usize = 128;

/// Slices of the measured part of a run.
#[derive(Clone)]
pub(super) struct Timeline {
    /// In nanoseconds.
    length: u64,
    slices: Vec<Histogram<u32>>,
}

/// A slice as it is reported; all in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) at: u64,
    pub(super) count: u64,
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

impl Timeline {
    /// With slices of at least this many nanoseconds.
    pub(super) fn new(length: u64) -> Self {
        Self { length: length.max(1), slices: Vec::new() }
    }

    /// A message that was sent so long after the beginning took so long.
    pub(super) fn note(&mut self, since: u64, latency: u64) {
        let mut index = (since / self.length) as usize;
        while index >= SLICES {
            self.halve();
            index /= 2;
        }
        while self.slices.len() <= index {
            self.slices.push(slice());
        }
        self.slices[index].saturating_record(latency);
    }

    /// Two slices become one.
    fn halve(&mut self) {
        self.length *= 2;
        let mut halved: Vec<_> = Vec::with_capacity(SLICES);
        for pair in self.slices.chunks(2) {
            let mut sum = pair[0].clone();
            if let Some(second) = pair.get(1) {
                // Same bounds.
                let _ = sum.add(second);
            }
            halved.push(sum);
        }
        self.slices = halved;
    }

    /// Adds the timeline of the same part of a run.
    pub(super) fn add(&mut self, other: &Self) {
        let mut other = other.clone();
        while other.length < self.length {
            other.halve();
        }
        while self.length < other.length {
            self.halve();
        }
        while self.slices.len() < other.slices.len() {
            self.slices.push(slice());
        }
        for (sum, part) in self.slices.iter_mut().zip(&other.slices) {
            let _ = sum.add(part);
        }
    }

    /// Slices in which something was sent.
    pub(super) fn slices(&self) -> Vec<Slice> {
        let slice = |(index, slice): (usize, &Histogram<u32>)| Slice {
            at: index as u64 * self.length,
            count: slice.len(),
            p50: slice.value_at_quantile(0.5),
            p99: slice.value_at_quantile(0.99),
            max: slice.max(),
        };
        self.slices.iter().enumerate().map(slice).filter(|slice| slice.count > 0).collect()
    }
}

/// Two digits: a plot shows no more, and each slice takes 20 KiB.
fn slice() -> Histogram<u32> {
    // The bounds are good and the digits are few: this cannot fail.
    Histogram::new_with_bounds(1000, tally::LONGEST, 2).unwrap_or_else(|_| unreachable!())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_grow_and_lose_nothing() {
        let mut timeline = Timeline::new(10);
        for since in 0..5000 {
            timeline.note(since, 1_000_000);
        }
        let slices = timeline.slices();
        assert!(slices.len() <= SLICES && slices.len() >= SLICES / 2, "{}", slices.len());
        assert_eq!(slices.iter().map(|slice| slice.count).sum::<u64>(), 5000);
        let mut other = Timeline::new(10);
        other.note(15, 5_000_000);
        other.add(&timeline);
        assert_eq!(other.slices().iter().map(|slice| slice.count).sum::<u64>(), 5001);
        assert!(other.slices()[0].max >= 5_000_000);
    }
}
