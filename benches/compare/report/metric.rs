//! The figures, and where they stand in what `pushmux bench` writes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A figure of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// CPU of the server.
    CpuPerDelivery,
    /// The part of it that is not the kernel's.
    UserPerDelivery,
    CpuPerPublish,
    DeliveriesPerSecond,
    PublishesPerSecond,
    PublishesPerCpuSecond,
    /// From the first subscriber that has a message to the last.
    SpreadP50,
    SpreadP99,
    /// From sending a message to each subscriber.
    LatencyP50,
    LatencyP99,
    /// Memory of a connection.
    BytesConnected,
    BytesSubscribed,
    /// Memory that the server came to have beside that of its connections.
    Growth,
    /// Stopped subscribers that were disconnected.
    CutOff,
}

/// How a metric comes from the JSON of a round: a place, a divisor.
const PLACES: [(Metric, &str, f64); 11] = [
    (Metric::CpuPerDelivery, "/server/each_delivery/cpu_ns", 1e3),
    (Metric::UserPerDelivery, "/server/each_delivery/user_ns", 1e3),
    (Metric::CpuPerPublish, "/server/each_publish/cpu_ns", 1e3),
    (Metric::DeliveriesPerSecond, "/received/per_second", 1.0),
    (Metric::PublishesPerSecond, "/published/per_second", 1.0),
    (Metric::SpreadP50, "/received/first_to_last_ns/p50", 1e6),
    (Metric::SpreadP99, "/received/first_to_last_ns/p99", 1e6),
    (Metric::LatencyP50, "/received/latency_ns/p50", 1e6),
    (Metric::LatencyP99, "/received/latency_ns/p99", 1e6),
    (Metric::BytesConnected, "/server/bytes_for_each_connection/connected", 1.0),
    (Metric::BytesSubscribed, "/server/bytes_for_each_connection/subscribed", 1.0),
];

impl Metric {
    /// What it is called, with its unit.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CpuPerDelivery => "CPU per delivery, µs",
            Self::UserPerDelivery => "user part, µs",
            Self::CpuPerPublish => "CPU per publish, µs",
            Self::DeliveriesPerSecond => "deliveries/s",
            Self::PublishesPerSecond => "publishes/s",
            Self::PublishesPerCpuSecond => "publishes per CPU second",
            Self::SpreadP50 => "first to last p50, ms",
            Self::SpreadP99 => "first to last p99, ms",
            Self::LatencyP50 => "latency p50, ms",
            Self::LatencyP99 => "latency p99, ms",
            Self::BytesConnected => "bytes per connection",
            Self::BytesSubscribed => "bytes per subscriber",
            Self::Growth => "memory growth, KiB",
            Self::CutOff => "disconnected",
        }
    }

    /// All that can be told from the JSON of a round.
    pub(crate) fn all(round: &Value) -> impl Iterator<Item = (Self, f64)> {
        let at = |place: &str| round.pointer(place).and_then(Value::as_f64);
        let placed = PLACES.into_iter().filter_map(move |(metric, place, divisor)| {
            at(place).map(|value| (metric, value / divisor))
        });
        let idle = round["settings"]["idle"] == true;
        let growth = || Some(at("/server/rss_bytes/peak")? - at("/server/rss_bytes/subscribed")?);
        let per_cpu = at("/server/each_publish/cpu_ns").map(|nanoseconds| 1e9 / nanoseconds);
        let stopped = at("/settings/slow").filter(|slow| *slow > 0.0);
        let computed = [
            (Self::PublishesPerCpuSecond, per_cpu),
            (Self::Growth, growth().filter(|_| !idle).map(|bytes| bytes / 1024.0)),
            (Self::CutOff, stopped.and_then(|_| at("/received/slow_disconnected"))),
        ];
        placed.chain(computed.into_iter().filter_map(|(metric, value)| Some((metric, value?))))
    }
}
