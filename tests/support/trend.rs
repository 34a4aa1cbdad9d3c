//! Whether figures grow over time, or only wander.

/// A straight line through figures, by least squares, and how sure its slope is.
///
/// Figures that follow each other closely, such as a process's memory, know each other: their
/// noise is not fresh each time, and taken one by one they would promise far more than they
/// know. So the means of [`BLOCKS`] equal stretches of time are taken instead, which know each
/// other much less.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// Units of the figures in a unit of time.
    pub slope: f64,
    /// The slope is not below `slope - margin` nor above `slope + margin`: each of the two is
    /// wrong in one case of a hundred.
    pub margin: f64,
}

/// Stretches of time whose means are taken.
pub const BLOCKS: usize = 30;

/// Student's t for `BLOCKS - 2` degrees of freedom and 99 % on one side.
const T: f64 = 2.467;

impl Trend {
    /// The trend of pairs of time and figure, in the order of time. None for fewer than two
    /// pairs for each block.
    pub fn of(figures: &[(f64, f64)]) -> Option<Self> {
        if figures.len() < 2 * BLOCKS {
            return None;
        }
        let mean = |pairs: &[(f64, f64)]| {
            let count = pairs.len() as f64;
            let sum = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
            (sum.0 / count, sum.1 / count)
        };
        let edge = |block: usize| block * figures.len() / BLOCKS;
        let blocks: Vec<_> =
            (0..BLOCKS).map(|block| mean(&figures[edge(block)..edge(block + 1)])).collect();
        let (time, figure) = mean(&blocks);
        let spread: f64 = blocks.iter().map(|(t, _)| (t - time).powi(2)).sum();
        let together: f64 = blocks.iter().map(|(t, f)| (t - time) * (f - figure)).sum();
        let slope = together / spread;
        let rest: f64 = blocks.iter().map(|(t, f)| (f - figure - slope * (t - time)).powi(2)).sum();
        let margin = T * (rest / (BLOCKS - 2) as f64 / spread).sqrt();
        Some(Self { slope, margin })
    }

    /// Whether it grows by more than `limit` beyond doubt.
    pub fn exceeds(&self, limit: f64) -> bool {
        self.slope - self.margin > limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::dice::Dice;

    /// Figures that grow by `slope` in a unit of time and wander by as much as `noise`.
    fn figures(slope: f64, noise: f64) -> Vec<(f64, f64)> {
        let mut dice = Dice::new(1, 0);
        let mut wandering = move || (dice.below(2001) as f64 / 1000.0 - 1.0) * noise;
        (0..600).map(|n| (f64::from(n), 1000.0 + slope * f64::from(n) + wandering())).collect()
    }

    #[test]
    fn a_line_is_a_line() {
        let trend = Trend::of(&figures(0.5, 0.0)).unwrap();
        assert!((trend.slope - 0.5).abs() < 1e-9 && trend.margin < 1e-6, "{trend:?}");
        assert!(trend.exceeds(0.4) && !trend.exceeds(0.6));
        assert_eq!(Trend::of(&figures(0.5, 0.0)[..59]), None);
    }

    #[test]
    fn what_wanders_does_not_grow_and_what_grows_is_seen_through_it() {
        let still = Trend::of(&figures(0.0, 100.0)).unwrap();
        assert!(!still.exceeds(0.0) && still.margin < 0.2, "{still:?}");
        let growing = Trend::of(&figures(0.3, 100.0)).unwrap();
        assert!(growing.exceeds(0.0) && !growing.exceeds(0.3), "{growing:?}");
    }
}
