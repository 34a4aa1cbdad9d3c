//! How often a client does something, in eight bytes for each thing it does.

use std::time::Duration;

use super::reader::{Event, Violation};
use crate::core::session::Rate;

const TOO_MANY_MESSAGES: Violation = Violation { code: 1008, reason: "too many messages" };
const TOO_MANY_CONTROLS: Violation = Violation { code: 1008, reason: "too many control frames" };

/// What a client sends.
#[derive(Debug, Default)]
pub(super) struct Meters {
    messages: Meter,
    controls: Meter,
}

impl Meters {
    /// Counts what came: `now` is the sink's clock, `messages` and `controls` are what is
    /// allowed. A Close is always welcome.
    pub(super) fn too_often(
        &mut self,
        event: &Event,
        (messages, controls): (Rate, Rate),
        now: Duration,
    ) -> Option<Violation> {
        // Five centuries.
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let (passes, violation) = match event {
            Event::Close(_) => return None,
            Event::Ping(_) | Event::Pong => (self.controls.pass(controls, now), TOO_MANY_CONTROLS),
            Event::Text(_) | Event::Binary(_) => {
                (self.messages.pass(messages, now), TOO_MANY_MESSAGES)
            }
        };
        (!passes).then_some(violation)
    }
}

/// A bucket that fills with each event and drains at the allowed rate, kept as the time at
/// which it is empty, in nanoseconds of the sink's clock ("generic cell rate algorithm"): a
/// counter with its time would be twice as large, for every idle connection.
#[derive(Debug, Default)]
struct Meter(u64);

impl Meter {
    /// Counts an event. False when it is one too many.
    fn pass(&mut self, rate: Rate, now: u64) -> bool {
        let Some(step) = 1_000_000_000_u64.checked_div(rate.per_second.into()) else {
            return true;
        };
        let empty = self.0.max(now);
        if empty - now > step * u64::from(rate.burst.saturating_sub(1)) {
            return false;
        }
        self.0 = empty + step;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn passed(meter: &mut Meter, rate: Rate, now: u64) -> usize {
        (0..1000).take_while(|_| meter.pass(rate, now)).count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let (mut meter, rate) = (Meter::default(), Rate { per_second: 10, burst: 50 });
        assert_eq!(passed(&mut meter, rate, 7 * SECOND), 50);
        assert_eq!(passed(&mut meter, rate, 7 * SECOND + SECOND / 11), 0);
        assert_eq!(passed(&mut meter, rate, 8 * SECOND), 10);
        assert_eq!(passed(&mut meter, rate, 100 * SECOND), 50);
        for tick in 0..1000 {
            assert!(meter.pass(rate, 200 * SECOND + tick * SECOND / 10), "at the rate for ever");
        }
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let rate = Rate { per_second: 0, burst: 1 };
        assert_eq!(passed(&mut Meter::default(), rate, 0), 1000);
        assert_eq!(size_of::<Meters>(), 16);
    }
}
