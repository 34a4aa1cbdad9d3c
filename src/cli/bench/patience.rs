//! When publishing on is of no use, because nothing comes of it.

use std::time::Duration;

/// How long an answer may take, and a connection. As long a time in which no publish had an
/// answer means that there is no server any more.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// And so do so many publishes without an answer.
const SILENT: u32 = 100;

/// So often in a row the time for a message to be with everybody is waited out.
const LATE: u32 = 3;

/// What has gone wrong since the last time that something went well. Times are nanoseconds
/// since the run began.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// When the last answer came.
    answered_at: u64,
    /// Publishes without an answer since then, and from when on.
    silent: u32,
    silent_since: u64,
    /// How often the time for a message to be with everybody was waited out, and when last.
    late: u32,
    late_at: u64,
}

impl Patience {
    /// A publish had an answer.
    pub(super) fn answered(&mut self, now: u64) {
        (self.answered_at, self.silent) = (now, 0);
    }

    /// A publish that was sent at `sent` has none. Returns why to end, if so.
    pub(super) fn unanswered(&mut self, sent: u64, now: u64, reason: &str) -> Option<String> {
        if self.silent == 0 {
            self.silent_since = sent.max(self.answered_at);
        }
        self.silent += 1;
        if self.silent >= SILENT {
            return Some(format!("{SILENT} publishes in a row had no answer: {reason}"));
        }
        (now.saturating_sub(self.silent_since) >= ANSWER.as_nanos() as u64).then(|| {
            let time = humantime::format_duration(ANSWER);
            format!("no publish had an answer for {time}: {reason}")
        })
    }

    /// A message is with everybody.
    pub(super) fn delivered(&mut self) {
        self.late = 0;
    }

    /// A message that was sent at `sent` is not with everybody within `settle`. Returns why to
    /// end, if so. Those that were waited for at the same time count as one: what is bounded
    /// is the time.
    pub(super) fn late(&mut self, sent: u64, now: u64, settle: Duration) -> Option<String> {
        if sent < self.late_at {
            return None;
        }
        (self.late, self.late_at) = (self.late + 1, now);
        (self.late >= LATE).then(|| {
            let time = humantime::format_duration(settle);
            format!("{LATE} times in a row a message was not with everybody within {time}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn silence_is_bounded_by_count_and_by_time() {
        let mut patience = Patience::default();
        for _ in 1..SILENT {
            assert_eq!(patience.unanswered(0, 1, "x"), None);
        }
        assert!(patience.unanswered(0, 1, "gone").unwrap().ends_with("no answer: gone"));
        let mut patience = Patience::default();
        patience.answered(5 * SECOND);
        assert_eq!(patience.unanswered(0, 12 * SECOND, "x"), None, "another had an answer");
        assert_eq!(patience.unanswered(13 * SECOND, 14 * SECOND, "x"), None);
        let reason = patience.unanswered(14 * SECOND, 15 * SECOND, "gone").unwrap();
        assert_eq!(reason, "no publish had an answer for 10s: gone");
        patience.answered(16 * SECOND);
        assert_eq!(patience.unanswered(30 * SECOND, 31 * SECOND, "x"), None, "a new row");
    }

    #[test]
    fn those_that_are_late_together_are_late_once() {
        let (mut patience, settle) = (Patience::default(), Duration::from_secs(1));
        for lane in 0..5 {
            assert_eq!(patience.late(lane, SECOND, settle), None);
        }
        assert_eq!(patience.late(2 * SECOND, 3 * SECOND, settle), None);
        patience.delivered();
        assert_eq!(patience.late(3 * SECOND, 4 * SECOND, settle), None);
        assert_eq!(patience.late(4 * SECOND, 5 * SECOND, settle), None);
        assert!(patience.late(5 * SECOND, 6 * SECOND, settle).unwrap().ends_with("within 1s"));
    }
}
