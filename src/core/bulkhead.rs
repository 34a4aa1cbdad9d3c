//! A plugin's fault costs the event in which it happened, and nothing else.
//!
//! A panic is caught where the core calls into a plugin; what takes too long is given up
//! where it can be, and counted where it cannot. What a panic says is not logged: it may
//! quote a message or a key. The place in the source is, by the hook that
//! [`tell_panics`] installs.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use tokio::time::Instant;
use tracing::{error, info};

use super::metrics::Faults;
use super::throttle::Throttle;

/// How long a call into a plugin may take that must not wait for anything.
const SLOW: Duration = Duration::from_secs(1);

/// More faults than this within [`Bulkhead::OFF`] switch a plugin off.
const MOST_FAULTS: usize = 3;

/// What separates one plugin from everything else.
#[derive(Debug)]
pub struct Bulkhead {
    /// The plugin's table, such as `sink.log`.
    section: String,
    faults: Faults,
    /// Whether it was late once. Not read from the counter, which goes on from whatever had
    /// the table before.
    was_late: AtomicBool,
    told: Throttle,
    is_off: AtomicBool,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// When the last faults happened, at most [`MOST_FAULTS`] of them.
    faults: VecDeque<Instant>,
    /// Until when a plugin that is off is left alone.
    off_until: Option<Instant>,
}

/// Why a plugin did not do what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PluginFault {
    /// It panicked.
    #[error("the plugin failed")]
    Panicked,
    /// It did not come to an end.
    #[error("the plugin did not answer within {0:?}")]
    Late(Duration),
}

impl Bulkhead {
    /// How far back faults count, and how long a plugin is left alone that had too many.
    pub const OFF: Duration = Duration::from_mins(1);

    /// For the plugin that is configured in `section`, such as `sink.log`.
    #[must_use]
    pub fn new(section: String, faults: Faults) -> Self {
        Self {
            section,
            faults,
            was_late: AtomicBool::new(false),
            told: Throttle::default(),
            is_off: AtomicBool::new(false),
            recent: Mutex::default(),
        }
    }

    /// The plugin's table, such as `sink.log`.
    #[must_use]
    pub fn section(&self) -> &str {
        &self.section
    }

    /// Whether the plugin is switched off at the moment.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }

    /// Whether the plugin is off and not yet to be tried again.
    #[must_use]
    pub fn is_left_alone(&self) -> bool {
        self.is_off() && self.recent.lock().off_until.is_some_and(|end| Instant::now() < end)
    }

    /// Whether the plugin is to be asked: it is on, or it was off for long enough to be
    /// tried once.
    pub fn lets_pass(&self) -> bool {
        if !self.is_off() {
            return true;
        }
        let (mut recent, now) = (self.recent.lock(), Instant::now());
        let is_over = recent.off_until.is_none_or(|end| now >= end);
        if is_over {
            // Whoever comes while this one tries does not.
            recent.off_until = Some(now + Self::OFF);
        }
        is_over
    }

    /// Runs a call that must not wait. Whatever takes more than a second is counted as a
    /// fault as well; it cannot be ended. Tasks that are due on the same thread may be held
    /// up by the first such call, and by no later one until there was none for a minute.
    ///
    /// # Errors
    /// When it panicked.
    pub fn call<T>(&self, work: impl FnOnce() -> T) -> Result<T, PluginFault> {
        let (start, was_off) = (Instant::now(), self.is_off());
        let done = catch_unwind(AssertUnwindSafe(|| {
            // Hands everything else that this thread has to do to another one, which costs
            // too much to do it for plugins that never hung.
            if self.was_late.load(Ordering::Relaxed) && is_movable() {
                block_in_place(work)
            } else {
                work()
            }
        }));
        if start.elapsed() > SLOW {
            self.was_late.store(true, Ordering::Relaxed);
            self.count(&self.faults.late, "took too long", start);
        } else if done.is_err() {
            self.count(&self.faults.panicked, "panicked", Instant::now());
        } else if was_off {
            // Not what was under way when it was switched off.
            self.switch_on();
        } else if self.was_late.load(Ordering::Relaxed) && self.is_long_ago() {
            self.was_late.store(false, Ordering::Relaxed);
        }
        done.map_err(|_| PluginFault::Panicked)
    }

    /// Waits for `work`, for `limit` at most.
    ///
    /// # Errors
    /// When it panicked, or did not end in time.
    pub async fn wait<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, PluginFault> {
        let work = AssertUnwindSafe(work).catch_unwind();
        match tokio::time::timeout(limit, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => {
                self.count(&self.faults.panicked, "panicked", Instant::now());
                Err(PluginFault::Panicked)
            }
            Err(_) => {
                self.count(&self.faults.late, "took too long", Instant::now());
                Err(PluginFault::Late(limit))
            }
        }
    }

    /// Counts a fault that began at `since`. Those that began before the last one was over
    /// have its cause, such as a machine that stood still while several calls were under way:
    /// they are counted, and not held against the plugin.
    fn count(&self, faults: &Counter, what: &'static str, since: Instant) {
        faults.inc();
        let plugin = &self.section;
        if let Some(more_before) = self.told.pass() {
            error!(plugin, more_before, "A plugin {what}");
        }
        let now = Instant::now();
        let mut recent = self.recent.lock();
        let Recent { faults, off_until } = &mut *recent;
        if faults.back().is_some_and(|last| since < *last) {
            return;
        }
        let first = if faults.len() < MOST_FAULTS { None } else { faults.pop_front() };
        faults.push_back(now);
        let is_too_much = first.is_some_and(|first| now - first < Self::OFF);
        if self.is_off() || is_too_much {
            *off_until = Some(now + Self::OFF);
            if !self.is_off.swap(true, Ordering::Relaxed) {
                error!(plugin, "Too many faults: switched off for {:?}", Self::OFF);
            }
        }
    }

    /// Whether the last fault is too old to count.
    fn is_long_ago(&self) -> bool {
        let last = self.recent.lock().faults.back().copied();
        last.is_none_or(|last| last.elapsed() > Self::OFF)
    }

    fn switch_on(&self) {
        let mut recent = self.recent.lock();
        *recent = Recent::default();
        self.was_late.store(false, Ordering::Relaxed);
        self.is_off.store(false, Ordering::Relaxed);
        info!(plugin = self.section, "The plugin works again: switched on");
    }
}

/// Whether there are other threads that could take over.
fn is_movable() -> bool {
    Handle::try_current().is_ok_and(|it| it.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// How often anything panicked since [`tell_panics`] was called, whether or not somebody
/// caught it.
#[must_use]
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Has panics logged by their place in the source. The text of a panic is left out, since it
/// may quote what was being worked on, and the log does not wait for a reader of stderr.
pub fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        let place = panic.location().map(ToString::to_string);
        let thread = std::thread::current().name().map(ToOwned::to_owned);
        error!(place, thread, "Panicked");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulkhead(section: &str) -> Bulkhead {
        Bulkhead::new(section.into(), Faults::default())
    }

    fn counted(bulkhead: &Bulkhead) -> (u64, u64) {
        (bulkhead.faults.panicked.get(), bulkhead.faults.late.get())
    }

    fn fail(bulkhead: &Bulkhead) {
        assert_eq!(bulkhead.call(|| panic!("a test")), Err::<(), _>(PluginFault::Panicked));
    }

    /// With a clock that stands still: on a busy machine to panic can take longer than a call
    /// may.
    #[tokio::test(start_paused = true)]
    async fn the_fourth_panic_in_a_minute_switches_off_until_a_try_works() {
        let bulkhead = bulkhead("sink.x");
        for _ in 0..MOST_FAULTS {
            fail(&bulkhead);
            assert!(bulkhead.lets_pass() && !bulkhead.is_off());
        }
        fail(&bulkhead);
        assert!(bulkhead.is_off() && bulkhead.is_left_alone() && !bulkhead.lets_pass());
        tokio::time::advance(Bulkhead::OFF).await;
        // One tries, and when that fails nobody does for another while.
        assert!(bulkhead.is_off() && !bulkhead.is_left_alone());
        assert!(bulkhead.lets_pass() && !bulkhead.lets_pass() && bulkhead.is_left_alone());
        fail(&bulkhead);
        assert!(!bulkhead.lets_pass() && bulkhead.is_left_alone());
        tokio::time::advance(Bulkhead::OFF).await;
        assert!(bulkhead.lets_pass());
        assert_eq!(bulkhead.call(|| 1), Ok(1));
        assert!(bulkhead.lets_pass() && !bulkhead.is_off() && !bulkhead.is_left_alone());
        assert_eq!(counted(&bulkhead), (5, 0));
        // From here on it is counted anew.
        (0..MOST_FAULTS).for_each(|_| fail(&bulkhead));
        assert!(!bulkhead.is_off());
    }

    #[test]
    fn a_call_that_was_under_way_switches_nothing_on() {
        let bulkhead = bulkhead("sink.x");
        let others_fail = || (0..=MOST_FAULTS).for_each(|_| fail(&bulkhead));
        assert_eq!(bulkhead.call(others_fail), Ok(()));
        assert!(bulkhead.is_off() && bulkhead.is_left_alone());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_were_late_together_are_one_fault() {
        let bulkhead = bulkhead("sink.x");
        let late = |since| bulkhead.count(&bulkhead.faults.late, "took too long", since);
        for _ in 0..MOST_FAULTS {
            let since = Instant::now();
            tokio::time::advance(2 * SLOW).await;
            (0..10).for_each(|_| late(since));
            assert!(!bulkhead.is_off());
        }
        let since = Instant::now();
        tokio::time::advance(2 * SLOW).await;
        late(since);
        assert!(bulkhead.is_off());
        assert_eq!(counted(&bulkhead), (0, 31));
    }

    #[test]
    fn panics_far_apart_switch_nothing_off() {
        let bulkhead = bulkhead("sink.x");
        for _ in 0..10 {
            fail(&bulkhead);
            for fault in &mut bulkhead.recent.lock().faults {
                *fault = fault.checked_sub(Bulkhead::OFF / 3).unwrap();
            }
        }
        assert!(!bulkhead.is_off());
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_is_given_up() {
        let bulkhead = bulkhead("auth.x");
        let limit = Duration::from_secs(5);
        let hang = bulkhead.wait(limit, std::future::pending::<()>());
        assert_eq!(hang.await, Err(PluginFault::Late(limit)));
        let panic = async { panic!("a test") };
        assert_eq!(bulkhead.wait(limit, panic).await, Err::<(), _>(PluginFault::Panicked));
        assert_eq!(bulkhead.wait(limit, async { 1 }).await, Ok(1));
        assert_eq!(counted(&bulkhead), (1, 1));
    }
}
