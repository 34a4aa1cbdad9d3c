//! What a run has come to, and whether that is good.

use std::sync::Arc;

use super::churn::Churned;
use super::dialect::Counts;
use super::process::{Cpu, Thread};
use super::progress::Progress;
use super::published::Published;
use super::tally::Tally;

/// A thread that was busy for more than this share of the time was what limited the run.
const SATURATED: f64 = 0.9;

/// A rate below this share of what was asked for was not reached.
const SHORT: f64 = 0.98;

/// A thread that waited for a CPU for more than this share of the time saw messages late.
const STARVED: f64 = 0.25;

/// The server's resident memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    pub(super) start: u64,
    /// With every connection open and nobody subscribed; with `--idle` alone.
    pub(super) connected: u64,
    /// With everybody subscribed.
    pub(super) subscribed: u64,
    pub(super) peak: u64,
    pub(super) end: u64,
}

/// The server, as far as it can be seen from here.
pub(super) struct Server {
    pub(super) pids: Vec<u32>,
    pub(super) names: String,
    /// While measuring.
    pub(super) cpu: Cpu,
    pub(super) memory: Memory,
}

/// Everything about a run.
pub(super) struct Figures {
    pub(super) progress: Arc<Progress>,
    pub(super) published: Published,
    pub(super) tally: Tally,
    pub(super) lost: u64,
    /// What the busiest receiver took while measuring.
    pub(super) receiver: Thread,
    pub(super) churned: Option<Churned>,
    /// Or why nothing is known of it.
    pub(super) server: Result<Server, String>,
    /// Why the run was not good.
    pub(super) faults: Vec<String>,
    /// Why its figures may not be the server's.
    pub(super) warnings: Vec<String>,
}

impl Figures {
    /// From the first measured publish to the last delivery, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        let end = self.tally.last.max(self.published.ended);
        end.saturating_sub(self.published.began) as f64 / 1e9
    }

    /// Messages that were taken by the server, warm-up included.
    pub(super) fn taken(&self) -> u64 {
        self.published.unmeasured + self.published.measured
    }

    /// Messages that healthy subscribers should have; none if who comes back need not have
    /// all.
    pub(super) fn expected(&self) -> Option<u64> {
        let settings = &self.progress.settings;
        if settings.storm {
            return None;
        }
        let mut healthy = vec![0_u64; settings.topics];
        for subscriber in settings.slow..settings.subscribers {
            healthy[settings.topic_of(subscriber)] += 1;
        }
        let failed = self.progress.failed.lock();
        let by_topic = healthy.into_iter().enumerate().map(|(topic, subscribers)| {
            let taken = (0..settings.lanes).map(|lane| {
                let failed = failed.get(&self.progress.stream(topic, lane));
                let failed = failed.map_or(0, std::collections::BTreeSet::len);
                u64::from(self.progress.sent(topic, lane)) - failed as u64
            });
            taken.sum::<u64>() * subscribers
        });
        Some(by_topic.sum())
    }

    /// What a thread had of the measured time, as a share.
    pub(super) fn share(&self, nanoseconds: u64) -> f64 {
        let seconds = self.seconds();
        if seconds > 0.0 { nanoseconds as f64 / 1e9 / seconds } else { 0.0 }
    }

    /// Finds what is wrong.
    pub(super) fn judge(&mut self) {
        let refused: u64 = self.published.refused.values().sum();
        for (count, one, many) in [
            (self.lost, "message was lost", "messages were lost"),
            (self.tally.duplicated, "message came twice", "messages came twice"),
            (self.tally.reordered, "message came out of order", "messages came out of order"),
            (
                self.tally.corrupted,
                "message was changed on its way",
                "messages were changed on their way",
            ),
            (
                self.tally.misrouted,
                "message came to the wrong topic",
                "messages came to the wrong topic",
            ),
            (
                self.tally.disconnected,
                "healthy subscriber was disconnected",
                "healthy subscribers were disconnected",
            ),
            (
                self.churned.as_ref().map_or(0, |churned| churned.failed),
                "subscriber that came and went failed",
                "subscribers that came and went failed",
            ),
            (refused, "publish was refused or failed", "publishes were refused or failed"),
        ] {
            match count {
                0 => {}
                1 => self.faults.push(format!("1 {one}")),
                count => self.faults.push(format!("{count} {many}")),
            }
        }
        if let Some(reason) = &self.published.ended_early {
            self.faults.push(format!("the run ended early: {reason}"));
        }
        if let Some(counts) = self.published.counts {
            self.faults.extend(self.judge_counts(counts));
        }
        if self.progress.settings.idle {
            return;
        }
        for (name, thread) in [("receiver", self.receiver), ("publisher", self.published.thread)] {
            let share = self.share(thread.ran);
            let waited = self.share(thread.waited);
            if waited > STARVED {
                self.warnings.push(format!(
                    "the {name} waited for a CPU for {:.0} % of the time: latencies have that in them",
                    waited * 100.0
                ));
            }
            if share > SATURATED {
                self.warnings.push(format!(
                    "the {name} was busy for {:.0} % of the time: these figures measure the generator",
                    share * 100.0
                ));
            }
        }
        let took = self.published.ended.saturating_sub(self.published.began) as f64 / 1e9;
        let reached = self.published.measured as f64 / took.max(1e-9);
        let short = |rate: &f64| reached < rate * SHORT;
        // What was refused was sent at that rate, and is a fault above.
        let whole = refused == 0 && self.published.ended_early.is_none();
        if let Some(rate) = self.progress.settings.rate.filter(short).filter(|_| whole) {
            self.warnings.push(format!(
                "{reached:.1} publishes a second were reached, not {rate}: one must be done before the next on each of {} connections (--in-flight)",
                self.progress.settings.lanes
            ));
        }
        if self.published.given_up > 0 {
            self.warnings.push(format!(
                "{} messages were not with everybody within the settle time before the next one was sent",
                self.published.given_up
            ));
        }
    }

    /// Compares what the server says with what has come.
    fn judge_counts(&self, counts: Counts) -> Option<String> {
        let settings = &self.progress.settings;
        let Counts { accepted, dropped } = counts;
        let delivered = self.tally.delivered;
        let plain = settings.slow == 0
            && settings.churn == 0
            && !settings.storm
            && self.tally.disconnected == 0;
        if !plain {
            // Receivers that nobody counts here may be among them.
            let wrong = accepted < delivered && settings.slow == 0 && !settings.storm;
            return wrong.then(|| {
                format!("the server says it has delivered {accepted}, but {delivered} have come")
            });
        }
        if self.published.counted != self.taken() {
            return Some(format!(
                "{} of {} answers say what was delivered",
                self.published.counted,
                self.taken()
            ));
        }
        let expected = self.expected()?;
        (accepted != delivered || accepted + dropped != expected).then(|| {
            format!(
                "the server says it has delivered {accepted} and dropped {dropped}, but {expected} were to come and {delivered} came"
            )
        })
    }
}
