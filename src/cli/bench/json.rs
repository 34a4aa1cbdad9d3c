//! The report as JSON: what the text says, in base units.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::figures::{Figures, Server};
use super::process::Thread;
use super::settings::{Length, Settings, Wait};
use super::timeline::Slice;

/// Counters, times in nanoseconds, sizes in bytes, rates a second.
pub(super) fn value(figures: &Figures) -> Value {
    let (published, tally) = (&figures.published, &figures.tally);
    let seconds = figures.seconds();
    let rate = |count: u64| if seconds > 0.0 { json!(count as f64 / seconds) } else { Value::Null };
    let opening = tally.opened.saturating_sub(tally.dialled) as f64 / 1e9;
    let server = figures.server.as_ref().map(|server| server_value(figures, server));
    let thread = |thread: Thread| {
        json!({
            "busy": figures.share(thread.ran),
            "waiting_for_cpu": figures.share(thread.waited),
        })
    };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "machine": machine(),
        "settings": settings(&figures.progress.settings),
        "seconds": seconds,
        "handshakes": {
            "per_second": tally.handshakes.len() as f64 / opening.max(1e-9),
            "ns": percentiles(&tally.handshakes),
        },
        "reconnect_storm_ns": tally.storm,
        "churn": figures.churned.as_ref().map(|churned| json!({
            "seconds": churned.seconds,
            "failed": churned.failed,
            "first_failure": churned.first_failure,
            "ns": percentiles(&churned.times),
        })),
        "published": {
            "measured": published.measured,
            "unmeasured": published.unmeasured,
            "per_second": rate(published.measured),
            "refused": published.refused,
            "first_failure": published.first_failure,
            "given_up": published.given_up,
            "behind_schedule_ns": published.behind,
            "lost_connections": published.reconnects,
            "answer_ns": percentiles(&published.answers),
        },
        "received": {
            "delivered": tally.delivered,
            "expected": figures.expected(),
            "lost": figures.lost,
            "duplicated": tally.duplicated,
            "out_of_order": tally.reordered,
            "changed": tally.corrupted,
            "wrong_topic": tally.misrouted,
            "of_other_runs": tally.foreign,
            "others": tally.other,
            "disconnected": tally.disconnected,
            "slow_messages": tally.slow_frames,
            "slow_disconnected": tally.slow_ended,
            "measured": tally.measured,
            "per_second": rate(tally.measured),
            "latency_ns": percentiles(&tally.latency),
            "first_to_last_ns": percentiles(&tally.spread),
        },
        "server_says": published.counts,
        "over_time": tally.timeline.as_ref().map(|timeline| {
            timeline.slices().iter().map(slice).collect::<Vec<_>>()
        }),
        "server": server.as_ref().ok(),
        "server_unknown": server.as_ref().err(),
        "generator": {
            "receiver": thread(figures.receiver),
            "publisher": thread(published.thread),
        },
        "faults": figures.faults,
        "warnings": figures.warnings,
        "good": figures.faults.is_empty(),
    })
}

fn server_value(figures: &Figures, server: &Server) -> Value {
    let (memory, cpu) = (server.memory, server.cpu);
    let each =
        |now: u64| now.saturating_sub(memory.start) / figures.progress.settings.subscribers as u64;
    let by = |count: u64| {
        (count > 0).then(|| {
            json!({
                "cpu_ns": cpu.total as f64 / count as f64,
                "user_ns": cpu.user as f64 / count as f64,
            })
        })
    };
    json!({
        "pids": server.pids,
        "names": server.names,
        "cpu_ns": cpu.total,
        "user_ns": cpu.user,
        "each_delivery": by(figures.tally.measured),
        "each_publish": by(figures.published.measured),
        "rss_bytes": {
            "start": memory.start,
            "connected": memory.connected,
            "subscribed": memory.subscribed,
            "peak": memory.peak,
            "end": memory.end,
        },
        "bytes_for_each_connection": {
            "connected": each(memory.connected),
            "subscribed": each(memory.subscribed),
        },
    })
}

fn settings(settings: &Settings) -> Value {
    let (seconds, messages) = match settings.length {
        Length::Time(time) => (Some(time.as_secs_f64()), None),
        Length::Messages(count) => (None, Some(count)),
    };
    json!({
        "dialect": settings.dialect.name(),
        "server": settings.publish_to.to_string(),
        "subscribers": settings.subscribers,
        "topics": settings.topics,
        "payload": settings.payload,
        "rate": settings.rate,
        "in_flight": settings.lanes,
        "wait": match settings.wait {
            Wait::Delivered => "delivered",
            Wait::Answered => "answered",
        },
        "undelivered": settings.undelivered,
        "seconds": seconds,
        "messages": messages,
        "warm_up_seconds": settings.warm_up.as_secs_f64(),
        "slow": settings.slow,
        "churn": settings.churn,
        "reconnect_storm": settings.storm,
        "idle": settings.idle,
        "threads": settings.threads,
    })
}

fn percentiles(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    let at = |quantile| histogram.value_at_quantile(quantile);
    json!({
        "count": histogram.len(),
        "mean": histogram.mean(),
        "p50": at(0.5),
        "p90": at(0.9),
        "p99": at(0.99),
        "p99_9": at(0.999),
        "max": histogram.max(),
    })
}

fn slice(slice: &Slice) -> Value {
    json!({
        "at_ns": slice.at,
        "count": slice.count,
        "p50_ns": slice.p50,
        "p99_ns": slice.p99,
        "max_ns": slice.max,
    })
}

/// What a figure is worth depends on where it was measured.
fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = read("/proc/meminfo");
    let kib = memory.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok()
    });
    json!({
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "cpu": model.map(|(_, model)| model.trim()),
        "cores": std::thread::available_parallelism().map(usize::from).ok(),
        "memory_bytes": kib.map(|kib| kib * 1024),
        "load": read("/proc/loadavg").split_whitespace().next(),
    })
}
