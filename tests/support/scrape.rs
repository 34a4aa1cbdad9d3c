//! `/metrics`, read strictly: whatever the text format of OpenMetrics 1.0 does not allow, or
//! this server has no use for, is a failure.

// Values are not negative: the parser sees to it.
#![allow(clippy::cast_sign_loss)]

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use super::http::request;

/// Everything that was told at one time.
#[derive(Debug)]
pub struct Scrape {
    pub families: BTreeMap<String, Family>,
    samples: BTreeMap<(String, Labels), f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    pub kind: String,
    pub unit: String,
    pub help: String,
    /// Names of labels, those of the format (`le`) left out, in the order in which they came.
    pub labels: Vec<String>,
}

type Labels = Vec<(String, String)>;

impl Scrape {
    /// What the server counts that answers operators there.
    pub fn of(address: SocketAddr) -> Self {
        Self::parse(&request(address, "GET", "/metrics", &[], b"").text())
    }

    pub fn parse(text: &str) -> Self {
        let mut scrape = Self { families: BTreeMap::new(), samples: BTreeMap::new() };
        let body = text.strip_suffix("# EOF\n").expect("an end");
        let (mut name, mut family) = (String::new(), Family::default());
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                let (word, rest) = rest.split_once(' ').unwrap();
                let (of, text) = rest.split_once(' ').unwrap();
                if word == "HELP" {
                    scrape.close(&name, &family);
                    (name, family) = (of.to_owned(), Family::default());
                    assert!(text.ends_with('.') && text.len() > 1, "{line}");
                    text.clone_into(&mut family.help);
                    continue;
                }
                assert_eq!(of, name, "{line}");
                let to = match word {
                    "TYPE" => &mut family.kind,
                    "UNIT" => &mut family.unit,
                    _ => panic!("{line}"),
                };
                assert_eq!(to, "", "{line} again");
                text.clone_into(to);
                continue;
            }
            let (of, labels, value) = sample(line);
            let suffix = of.strip_prefix(&name).unwrap_or_else(|| panic!("{line} below {name}"));
            let suffixes: &[&str] = match family.kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_sum", "_count"],
                "info" => &["_info"],
                other => panic!("the type {other} of {name}"),
            };
            assert!(suffixes.contains(&suffix), "{line}");
            assert!(value.is_finite() && value >= 0.0, "{line}");
            if suffix == "_info" {
                assert!((value - 1.0).abs() < f64::EPSILON, "{line}");
            }
            let names = labels.iter().map(|(name, _)| name.clone()).filter(|name| name != "le");
            let names: Vec<_> = names.collect();
            if family.labels.is_empty() {
                family.labels.clone_from(&names);
            }
            assert_eq!(names, family.labels, "{line}");
            let again = scrape.samples.insert((of, labels), value);
            assert_eq!(again, None, "{line} again");
        }
        scrape.close(&name, &family);
        scrape
    }

    /// A family is complete.
    fn close(&mut self, name: &str, family: &Family) {
        if name.is_empty() {
            return;
        }
        assert!(is_name(name), "{name}");
        assert!(name.ends_with(&family.unit), "{name} is in {}", family.unit);
        let samples = || self.samples.iter().filter(|((of, _), _)| of.starts_with(name));
        assert!(samples().next().is_some(), "{name} has no value");
        if family.kind == "histogram" {
            for ((_, labels), count) in samples().filter(|((of, _), _)| of.ends_with("_count")) {
                self.check_buckets(name, labels, *count);
            }
        }
        assert_eq!(self.families.insert(name.to_owned(), family.clone()), None, "{name} again");
    }

    fn check_buckets(&self, name: &str, labels: &Labels, count: f64) {
        let bound = |labels: &Labels| {
            let (_, bound) = labels.iter().find(|(name, _)| name == "le").expect("a bound");
            bound.replace("+Inf", "inf").parse::<f64>().unwrap()
        };
        let mut buckets: Vec<_> = self
            .samples
            .iter()
            .filter(|((of, own), _)| {
                *of == format!("{name}_bucket") && labels.iter().all(|label| own.contains(label))
            })
            .map(|((_, labels), value)| (bound(labels), *value))
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{name} is not cumulative");
        assert_eq!(buckets.last().copied(), Some((f64::INFINITY, count)), "{name}");
    }

    /// The value of one sample.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let key = (name.to_owned(), labels.collect());
        *self.samples.get(&key).unwrap_or_else(|| panic!("no {key:?} in {:#?}", self.samples))
    }

    /// A counter or gauge of whole numbers.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.get(name, labels) as u64
    }

    /// All samples of this name whose labels have these among them.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let has = |own: &Labels| {
            labels.iter().all(|(name, value)| own.iter().any(|(n, v)| n == name && v == value))
        };
        let samples = self.samples.iter().filter(|((of, own), _)| of == name && has(own));
        samples.map(|(_, value)| *value as u64).sum()
    }

    /// Names of samples.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.samples.keys().map(|(name, _)| name.as_str())
    }

    /// The books of a sink.
    pub fn books(&self, sink: &str) -> Books {
        let own = [("sink", sink)];
        Books {
            matched: self.count("pushmux_sink_matched_total", &own),
            delivered: self.count("pushmux_sink_delivered_total", &own),
            dropped: self.sum("pushmux_sink_dropped_total", &own),
            waiting: self.count("pushmux_sink_waiting_messages", &own),
            waiting_bytes: self.count("pushmux_sink_waiting_bytes", &own),
        }
    }

    /// What the sink dropped for this reason.
    pub fn dropped(&self, sink: &str, reason: &str) -> u64 {
        self.count("pushmux_sink_dropped_total", &[("sink", sink), ("reason", reason)])
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Books {
    pub matched: u64,
    pub delivered: u64,
    pub dropped: u64,
    pub waiting: u64,
    pub waiting_bytes: u64,
}

impl Books {
    /// Of a sink that has brought so many messages to their receivers, and nothing else.
    pub fn of_delivered(messages: u64) -> Self {
        Self { matched: messages, delivered: messages, dropped: 0, waiting: 0, waiting_bytes: 0 }
    }

    pub fn balance(self) -> bool {
        self.matched == self.delivered + self.dropped + self.waiting
            && (self.waiting == 0) == (self.waiting_bytes == 0)
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { matched, delivered, dropped, waiting, .. } = self;
        write!(
            f,
            "{matched} matched = {delivered} delivered + {dropped} dropped + {waiting} waiting"
        )
    }
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(plain)
}

fn sample(line: &str) -> (String, Labels, f64) {
    let (head, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
    let (name, labels) = match head.split_once('{') {
        None => (head, Labels::new()),
        Some((name, rest)) => {
            let mut rest = rest.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
            let mut labels = Labels::new();
            while !rest.is_empty() {
                let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
                assert!(is_name(name), "{line}");
                // No value of ours has a quotation mark, a backslash or a line break.
                let (value, after) = after.split_once('"').unwrap_or_else(|| panic!("{line}"));
                assert!(!value.contains('\\'), "{line}");
                labels.push((name.to_owned(), value.to_owned()));
                rest = match after.strip_prefix(',') {
                    Some(more) if !more.is_empty() => more,
                    _ => {
                        assert_eq!(after, "", "{line}");
                        after
                    }
                };
            }
            (name, labels)
        }
    };
    assert!(is_name(name), "{line}");
    (name.to_owned(), labels, value.parse().unwrap_or_else(|_| panic!("{line}")))
}
