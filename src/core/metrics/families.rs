//! Every metric with its name, and what it means in a line.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry, Unit};

use super::process::Process;

/// Bounds of fan-outs in seconds: a write to a socket takes some 10 µs, and one to 10,000
/// sockets some 100 ms.
const FAN_OUT: [f64; 12] =
    [0.000_01, 0.000_025, 0.0001, 0.000_25, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5];

/// Label and value, in the order in which they are written.
pub(super) type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];
pub(super) type Counters<const N: usize> = Family<Labels<N>, Counter>;
pub(super) type Levels = Family<Labels<1>, Level>;

pub(super) fn labels<const N: usize>(names: [&'static str; N], values: [&str; N]) -> Labels<N> {
    std::array::from_fn(|index| (names[index], values[index].to_owned().into()))
}

pub(super) fn label(name: &'static str, value: &str) -> Labels<1> {
    labels([name], [value])
}

/// How many there are now. Two who add and take away may be seen in the wrong order: what is
/// below zero then is shown as zero.
#[derive(Clone, Debug, Default)]
pub struct Level(Arc<AtomicI64>);

impl Level {
    /// So many more.
    pub fn add(&self, more: usize) {
        self.0.fetch_add(number(more), Ordering::Relaxed);
    }

    /// So many fewer.
    pub fn sub(&self, fewer: usize) {
        self.0.fetch_sub(number(fewer), Ordering::Relaxed);
    }

    /// So many, whatever was before.
    pub fn set(&self, value: usize) {
        self.0.store(number(value), Ordering::Relaxed);
    }

    /// How many.
    #[must_use]
    pub fn get(&self) -> usize {
        usize::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

fn number(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl TypedMetric for Level {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Level {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_gauge(&number(self.get()))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// See the module. `docs/metrics.md` has the same list for operators, and a test holds the
/// two against each other.
#[derive(Debug)]
pub(super) struct Families {
    pub published: Counters<1>,
    pub publishing: Level,
    pub publishing_limit: Level,
    pub matched: Counters<1>,
    pub delivered: Counters<1>,
    pub dropped: Counters<2>,
    pub waiting: Levels,
    pub waiting_bytes: Levels,
    pub fan_out: Family<Labels<1>, Histogram>,
    pub replies_dropped: Counters<1>,
    pub subscriptions: Levels,
    pub topics: Levels,
    pub connections: Levels,
    pub opened: Counters<1>,
    pub ended: Counters<2>,
    pub http_connections: Level,
    pub answers: Counters<2>,
    pub refused: Counters<1>,
    pub verdicts: Counters<3>,
    pub webhook_requests: Counters<2>,
    pub statements: Counters<2>,
    pub plugin_faults: Counters<2>,
    pub panics: Counter,
    pub reloads: Counters<1>,
    pub last_reload_successful: Level,
    pub last_reload_success: Gauge<f64, AtomicU64>,
    pub log_lines_lost: Counter,
    pub process: Process,
}

impl Families {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let process = Process::register(registry.sub_registry_with_prefix("process"));
        let registry = registry.sub_registry_with_prefix("pushmux");
        let version = label("version", env!("CARGO_PKG_VERSION"));
        registry.register("build", "The version that is running", Info::new(version));
        let mut of = Names(registry);
        let (messages, bytes) = ("messages", "bytes");
        Self {
            process,
            published: of.all("published", messages, "Messages that protocols gave to the router"),
            publishing: of.all("publishing", bytes, "Messages on their way to the sinks"),
            publishing_limit: of.all("publishing_limit", bytes, "server.max_publishing_bytes"),
            matched: of.one("sink_matched", "Receivers that messages were for"),
            delivered: of.one("sink_delivered", "Receivers that got a message whole"),
            dropped: of.one("sink_dropped", "Receivers that did not get a message"),
            waiting: of.all("sink_waiting", messages, "Messages in the queues of receivers"),
            waiting_bytes: of.all("sink_waiting", bytes, "The same in bytes"),
            fan_out: of.add(
                "sink_fanout",
                Some("seconds"),
                "Time until the last receiver's socket or queue had a message, or the first of those that left together",
                Family::new_with_constructor(|| Histogram::new(FAN_OUT)),
            ),
            replies_dropped: of.one("sink_replies_dropped", "Answers to one client that found its queue full"),
            subscriptions: of.one("subscriptions", "Topics of each client, added up"),
            topics: of.one("topics", "Topics with at least one subscriber"),
            connections: of.one("connections", "WebSocket connections"),
            opened: of.one("connections_opened", "WebSocket connections that began"),
            ended: of.one("connections_ended", "WebSocket connections that ended"),
            http_connections: of.one("http_connections", "Connections that speak HTTP so far"),
            answers: of.one("http_answers", "Answers to HTTP requests"),
            refused: of.one("refused", "Connections, requests and more that a limit refused"),
            verdicts: of.one("auth_verdicts", "Credentials that were judged"),
            webhook_requests: of.one("webhook_requests", "HTTP requests to receivers of webhooks"),
            statements: of.one("database_statements", "Statements"),
            plugin_faults: of.one("plugin_faults", "Calls into plugins that failed"),
            panics: of.one("panics", "Panics of anything, caught or not"),
            reloads: of.one("config_reloads", "Reloads of the configuration"),
            last_reload_successful: of.one("config_last_reload_successful", "Whether the last reload was applied"),
            last_reload_success: of.all(
                "config_last_reload_success_timestamp",
                "seconds",
                "When the configuration in force was put in force, since 1970",
            ),
            log_lines_lost: of.one("log_lines_lost", "Lines that nobody read from stderr in time"),
        }
    }
}

/// Where names go.
struct Names<'a>(&'a mut Registry);

impl Names<'_> {
    fn one<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.add(name, None, help, M::default())
    }

    /// With a unit, which becomes a part of the name.
    fn all<M: Metric + Clone + Default>(&mut self, name: &str, unit: &str, help: &str) -> M {
        self.add(name, Some(unit), help, M::default())
    }

    fn add<M: Metric + Clone>(
        &mut self,
        name: &str,
        unit: Option<&str>,
        help: &str,
        metric: M,
    ) -> M {
        match unit {
            Some(unit) => {
                let unit = Unit::Other(unit.to_owned());
                self.0.register_with_unit(name, help, unit, metric.clone());
            }
            None => self.0.register(name, help, metric.clone()),
        }
        metric
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_never_below_zero_and_forgets_nothing() {
        let level = Level::default();
        level.sub(3);
        assert_eq!(level.get(), 0);
        level.add(5);
        assert_eq!(level.get(), 2);
    }
}
