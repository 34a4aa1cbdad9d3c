//! What the server counts, for `/metrics`.
//!
//! Every name stands in [`families`], once. Who counts asks for a handle when it is built and
//! keeps it, so that counting is one relaxed atomic and no look-up. Labels are names of
//! tables, reasons and classes, which are few and known beforehand: never a topic, a user or
//! an address. A handle made by `default()` counts for nobody, which is what unit tests want.

mod families;
mod live;
mod process;
mod refusals;
mod reloads;
mod sink;
mod verdicts;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::StatusCode;
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

pub use self::families::Level;
use self::families::{Families, label, labels};
pub use self::live::{Connections, End, LiveSink, Open};
pub use self::refusals::{Refusals, Refused};
pub use self::reloads::Reloads;
pub use self::sink::{Lost, Sink};
pub(super) use self::verdicts::Counted;
pub use self::verdicts::Verdicts;

/// OpenMetrics 1.0, which is what [`Metrics::text`] is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is counted; a clone is a reference count.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    families: Families,
    refresh: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let families = Families::register(&mut registry);
        Reloads::new(&families).started();
        let metrics = Self(Arc::new(Inner { registry, families, refresh: Mutex::default() }));
        let process = metrics.0.families.process.clone();
        metrics.before_reading(move || process.refresh());
        metrics
    }
}

impl Metrics {
    /// Every metric that has a value, in the text format of OpenMetrics.
    #[must_use]
    pub fn text(&self) -> String {
        for refresh in &*self.0.refresh.lock() {
            refresh();
        }
        let mut text = String::new();
        // Only writing can fail, and a `String` takes everything.
        let _ = encode(&mut text, &self.0.registry);
        text
    }

    /// Has `refresh` called before each reading: for numbers that somebody else keeps. It
    /// must not block.
    pub fn before_reading(&self, refresh: impl Fn() + Send + Sync + 'static) {
        self.0.refresh.lock().push(Box::new(refresh));
    }

    /// Messages that the protocol of this table gave to the router.
    #[must_use]
    pub fn published(&self, protocol: &str) -> Counter {
        self.0.families.published.get_or_create_owned(&label("protocol", protocol))
    }

    /// Answers of the protocol of this table.
    #[must_use]
    pub fn answers(&self, protocol: &str) -> Answers {
        let class = |number: usize| {
            let class = format!("{}xx", number + 1);
            let labels = labels(["protocol", "class"], [protocol, &class]);
            self.0.families.answers.get_or_create_owned(&labels)
        };
        Answers(std::array::from_fn(class))
    }

    /// What is refused for a limit.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        Refusals::new(&self.0.families)
    }

    /// WebSocket connections of the protocol of this table.
    #[must_use]
    pub fn connections(&self, protocol: &str) -> Arc<Connections> {
        Arc::new(Connections::new(&self.0.families, protocol))
    }

    /// What the sink of this table does with messages.
    #[must_use]
    pub fn sink(&self, name: &str) -> Sink {
        Sink::new(&self.0.families, name)
    }

    /// The same for a sink with clients on the line.
    #[must_use]
    pub fn live_sink(&self, name: &str) -> LiveSink {
        LiveSink::new(&self.0.families, name)
    }

    /// Requests of the webhook of this table.
    #[must_use]
    pub fn webhook(&self, sink: &str) -> Webhook {
        let outcome = |outcome| {
            let labels = labels(["sink", "outcome"], [sink, outcome]);
            self.0.families.webhook_requests.get_or_create_owned(&labels)
        };
        Webhook { sent: outcome("sent"), gone: outcome("gone"), failed: outcome("failed") }
    }

    /// What the provider of this table says of credentials.
    #[must_use]
    pub fn verdicts(&self, auth: &str) -> Verdicts {
        Verdicts::new(&self.0.families, auth)
    }

    /// Statements of the data base of this table.
    #[must_use]
    pub fn statements(&self, database: &str) -> Statements {
        let outcome = |outcome| {
            let labels = labels(["database", "outcome"], [database, outcome]);
            self.0.families.statements.get_or_create_owned(&labels)
        };
        Statements {
            done: outcome("done"),
            failed: outcome("failed"),
            timed_out: outcome("timed_out"),
        }
    }

    /// Faults of the plugin of this table, such as `sink.log`.
    #[must_use]
    pub fn faults(&self, plugin: &str) -> Faults {
        let fault = |fault| {
            let labels = labels(["plugin", "fault"], [plugin, fault]);
            self.0.families.plugin_faults.get_or_create_owned(&labels)
        };
        Faults { panicked: fault("panicked"), late: fault("late") }
    }

    /// Reloads of the configuration.
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        Reloads::new(&self.0.families)
    }

    /// How many topics a live sink has, whenever somebody wants to know.
    pub fn topics(&self, sink: &str, read: impl Fn() -> usize + Send + Sync + 'static) {
        let level = self.0.families.topics.get_or_create_owned(&label("sink", sink));
        self.before_reading(move || level.set(read()));
    }

    /// How many bytes of messages are on their way, and how many may be.
    pub(super) fn publishing(&self, limit: u32, read: impl Fn() -> usize + Send + Sync + 'static) {
        self.0.families.publishing_limit.set(limit as usize);
        let level = self.0.families.publishing.clone();
        self.before_reading(move || level.set(read()));
    }

    /// How many HTTP connections there are on all listeners.
    pub(super) fn http_connections(&self, read: impl Fn() -> usize + Send + Sync + 'static) {
        let level = self.0.families.http_connections.clone();
        self.before_reading(move || level.set(read()));
    }

    /// How many lines of the log are lost so far.
    pub fn log_lines_lost(&self, read: impl Fn() -> usize + Send + Sync + 'static) {
        self.kept_elsewhere(&self.0.families.log_lines_lost, move || read() as u64);
    }

    /// How often anything panicked so far.
    pub(super) fn panics(&self, read: impl Fn() -> u64 + Send + Sync + 'static) {
        self.kept_elsewhere(&self.0.families.panics, read);
    }

    fn kept_elsewhere(&self, counter: &Counter, read: impl Fn() -> u64 + Send + Sync + 'static) {
        let counter = counter.clone();
        self.before_reading(move || counter.inner().store(read(), Ordering::Relaxed));
    }
}

/// Answers by class of status.
#[derive(Clone, Debug, Default)]
pub struct Answers([Counter; 5]);

impl Answers {
    /// Counts an answer.
    pub fn add(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        // A status is 100 to 999; HTTP has no class above 5.
        self.0[class.clamp(1, 5) - 1].inc();
    }
}

/// Requests of a webhook by what became of them.
#[derive(Clone, Debug, Default)]
pub struct Webhook {
    /// Answered with success.
    pub sent: Counter,
    /// Answered with 410: the receiver is no more.
    pub gone: Counter,
    /// Answered otherwise, not at all, or never made.
    pub failed: Counter,
}

/// Statements by what became of them.
#[derive(Clone, Debug, Default)]
pub struct Statements {
    /// Answered.
    pub done: Counter,
    /// Refused, or no connection.
    pub failed: Counter,
    /// Not answered in time.
    pub timed_out: Counter,
}

/// Calls into a plugin that did not end as they should.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// It panicked.
    pub panicked: Counter,
    /// It took too long.
    pub late: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_counts_under_its_name() {
        let metrics = Metrics::default();
        metrics.published("notiflux").inc_by(3);
        metrics.answers("x").add(StatusCode::SWITCHING_PROTOCOLS);
        metrics.answers("x").add(StatusCode::GATEWAY_TIMEOUT);
        metrics.topics("ws", || 7);
        let text = metrics.text();
        for line in [
            "# TYPE pushmux_published_messages counter\n",
            "pushmux_published_messages_total{protocol=\"notiflux\"} 3\n",
            "pushmux_http_answers_total{protocol=\"x\",class=\"1xx\"} 1\n",
            "pushmux_http_answers_total{protocol=\"x\",class=\"4xx\"} 0\n",
            "pushmux_http_answers_total{protocol=\"x\",class=\"5xx\"} 1\n",
            "pushmux_topics{sink=\"ws\"} 7\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
