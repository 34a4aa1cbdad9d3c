//! The report as text.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::figures::{Figures, Server};
use super::settings::{Length, Settings, Wait};

/// All lines. Units stand beside the numbers.
pub(super) fn text(figures: &Figures) -> String {
    let mut report = Report(String::new());
    report.head(figures);
    if !figures.progress.settings.idle {
        report.messages(figures);
        report.times(figures);
    }
    report.server(figures);
    report.end(figures);
    report.0
}

struct Report(String);

impl Report {
    fn line(&mut self, name: &str, value: &str) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "{name:<18}{value}");
    }

    fn head(&mut self, figures: &Figures) {
        let settings = &figures.progress.settings;
        self.line("run", &course(settings));
        let tally = &figures.tally;
        let seconds = tally.opened.saturating_sub(tally.dialled) as f64 / 1e9;
        let handshakes = tally.handshakes.len();
        self.line(
            "handshakes",
            &format!(
                "{handshakes}, {} /s, {}",
                number(handshakes as f64 / seconds.max(1e-9)),
                percentiles(&tally.handshakes, &[0.5, 0.99])
            ),
        );
        if let Some(storm) = tally.storm {
            self.line("reconnect storm", &format!("all were back within {}", time(storm)));
        }
    }

    fn messages(&mut self, figures: &Figures) {
        let (published, tally) = (&figures.published, &figures.tally);
        let seconds = figures.seconds();
        self.line(
            "published",
            &format!(
                "{} in {seconds:.2} s, {} /s (and {} unmeasured)",
                published.measured,
                number(published.measured as f64 / seconds.max(1e-9)),
                published.unmeasured
            ),
        );
        let refused = published.refused.iter().map(|(status, count)| match status {
            0 => format!("{count} without an answer"),
            _ => format!("{count} with {status}"),
        });
        let refused: Vec<_> = refused.collect();
        if !refused.is_empty() {
            self.line("refused", &refused.join(", "));
        }
        if let Some(reason) = &published.first_failure {
            self.line("", reason);
        }
        let expected = figures.expected().map_or("unknown".into(), |count| count.to_string());
        self.line(
            "delivered",
            &format!(
                "{} of {expected}; lost {}, twice {}, out of order {}, changed {}, wrong topic {}",
                tally.delivered,
                figures.lost,
                tally.duplicated,
                tally.reordered,
                tally.corrupted,
                tally.misrouted
            ),
        );
        if let Some(counts) = published.counts {
            let says = format!("delivered {}, dropped {}", counts.accepted, counts.dropped);
            self.line("the server says", &says);
        }
        if tally.disconnected > 0 {
            let reason = tally.first_end.as_deref().unwrap_or_default();
            self.line("disconnected", &format!("{}; the first: {reason}", tally.disconnected));
        }
        if let Some(churned) = &figures.churned {
            let count = churned.times.len();
            self.line(
                "came and went",
                &format!(
                    "{count}, {} /s, {} failed, {}",
                    number(count as f64 / churned.seconds.max(1e-9)),
                    churned.failed,
                    percentiles(&churned.times, &[0.5, 0.99])
                ),
            );
            if let Some(reason) = &churned.first_failure {
                self.line("", reason);
            }
        }
        if figures.progress.settings.slow > 0 {
            self.line(
                "slow subscribers",
                &format!(
                    "{}, {} messages lay before them, {} were disconnected",
                    figures.progress.settings.slow, tally.slow_frames, tally.slow_ended
                ),
            );
        }
        if tally.foreign + tally.other > 0 {
            let of = format!("{} of other runs, {} others", tally.foreign, tally.other);
            self.line("also received", &of);
        }
        self.line(
            "deliveries",
            &format!("{} /s", number(tally.measured as f64 / seconds.max(1e-9))),
        );
    }

    fn times(&mut self, figures: &Figures) {
        let most = [0.5, 0.9, 0.99, 0.999, 1.0];
        self.line("latency", &percentiles(&figures.tally.latency, &most));
        self.line("first to last", &percentiles(&figures.tally.spread, &[0.5, 0.99]));
        self.line("publish answer", &percentiles(&figures.published.answers, &[0.5, 0.99]));
        if figures.progress.settings.rate.is_some() {
            self.line("behind schedule", &format!("{} at most", time(figures.published.behind)));
        }
    }

    fn server(&mut self, figures: &Figures) {
        let server = match &figures.server {
            Ok(server) => server,
            Err(reason) => {
                self.line("server", &format!("CPU and memory unknown: {reason}"));
                return;
            }
        };
        let pids: Vec<_> = server.pids.iter().map(u32::to_string).collect();
        self.line("server", &format!("{} (process {})", server.names, pids.join(", ")));
        if figures.progress.settings.idle {
            self.idle(figures, server);
            return;
        }
        let million = figures.tally.measured as f64 / 1e6;
        let per_million = |nanoseconds: u64| nanoseconds as f64 / 1e9 / million.max(1e-9);
        self.line(
            "server CPU",
            &format!(
                "{:.3} s per million deliveries (user {:.3}), {:.1} µs per publish",
                per_million(server.cpu.total),
                per_million(server.cpu.user),
                server.cpu.total as f64 / 1e3 / (figures.published.measured.max(1)) as f64
            ),
        );
        let memory = server.memory;
        self.line(
            "server memory",
            &format!(
                "{} at the start, {} at most, {} at the end",
                bytes(memory.start),
                bytes(memory.peak),
                bytes(memory.end)
            ),
        );
    }

    fn idle(&mut self, figures: &Figures, server: &Server) {
        let (memory, count) = (server.memory, figures.progress.settings.subscribers as u64);
        let each = |now: u64| now.saturating_sub(memory.start) / count.max(1);
        for (name, now) in [("connected", memory.connected), ("subscribed", memory.subscribed)] {
            self.line(
                name,
                &format!(
                    "{} ({} before), {} bytes for each connection",
                    bytes(now),
                    bytes(memory.start),
                    each(now)
                ),
            );
        }
    }

    fn end(&mut self, figures: &Figures) {
        if !figures.progress.settings.idle {
            let part = |name, thread: super::process::Thread| {
                format!(
                    "{name} {:.0} % busy, {:.0} % waiting for a CPU",
                    figures.share(thread.ran) * 100.0,
                    figures.share(thread.waited) * 100.0
                )
            };
            let receiver = part("receiver", figures.receiver);
            let publisher = part("publisher", figures.published.thread);
            self.line("generator", &format!("{receiver}; {publisher}"));
        }
        for warning in &figures.warnings {
            self.line("warning", warning);
        }
        let verdict =
            if figures.faults.is_empty() { "good".into() } else { figures.faults.join("; ") };
        self.line("result", &verdict);
    }
}

/// What was asked for.
pub(super) fn course(settings: &Settings) -> String {
    let mut text = format!("{}, {} subscribers", settings.dialect.name(), settings.subscribers);
    if settings.slow > 0 {
        let _ = write!(text, " ({} slow)", settings.slow);
    }
    let _ = match settings.topics {
        1 => write!(text, ", 1 topic"),
        topics => write!(text, ", {topics} topics"),
    };
    if settings.idle {
        return text + ", idle";
    }
    let rate = settings.rate.map_or("as fast as it goes".into(), |rate| format!("{rate} /s"));
    let wait = match settings.wait {
        Wait::Delivered => "delivered",
        Wait::Answered => "answered",
    };
    let length = match settings.length {
        Length::Time(time) => humantime::format_duration(time).to_string(),
        Length::Messages(count) => format!("{count} messages"),
    };
    let most = settings.undelivered.map(|most| format!(", at most {most} undelivered"));
    let _ = write!(
        text,
        ", {} bytes, {rate}, {} in flight until {wait}{}, {length}",
        settings.payload,
        settings.lanes,
        most.unwrap_or_default()
    );
    text
}

/// Named percentiles of times; 1 is the maximum.
fn percentiles(histogram: &Histogram<u64>, quantiles: &[f64]) -> String {
    if histogram.is_empty() {
        return "unknown".into();
    }
    let one = |quantile: &f64| {
        let value = time(histogram.value_at_quantile(*quantile));
        if *quantile >= 1.0 {
            format!("max {value}")
        } else {
            format!("p{} {value}", quantile * 100.0)
        }
    };
    quantiles.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Nanoseconds in a unit that leaves three digits or four.
pub(super) fn time(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds {
        0..10_000_000 => format!("{:.0} µs", value / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} ms", value / 1e6),
        _ => format!("{:.1} s", value / 1e9),
    }
}

fn bytes(count: u64) -> String {
    format!("{:.1} MiB", count as f64 / 1_048_576.0)
}

/// A number with as many digits as mean something.
fn number(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        10.0..1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
