//! What became of each look at the configuration.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::families::{Families, Level, label};
use super::process::since_1970;

/// Reloads of the configuration. A start is none of them, but has put one in force.
#[derive(Clone, Debug)]
pub struct Reloads {
    applied: Counter,
    rejected: Counter,
    /// 1 or 0.
    last_successful: Level,
    last_success: Gauge<f64, AtomicU64>,
}

impl Reloads {
    pub(super) fn new(families: &Families) -> Self {
        let outcome = |outcome| families.reloads.get_or_create_owned(&label("outcome", outcome));
        Self {
            applied: outcome("applied"),
            rejected: outcome("rejected"),
            last_successful: families.last_reload_successful.clone(),
            last_success: families.last_reload_success.clone(),
        }
    }

    /// A configuration is in force from now on, by a start.
    pub(super) fn started(&self) {
        self.last_successful.set(1);
        self.last_success.set(since_1970());
    }

    /// A configuration is in force, but for what it may have that needs a restart.
    pub fn applied(&self) {
        self.applied.inc();
        self.started();
    }

    /// A configuration had a fault: the one before stays in force.
    pub fn rejected(&self) {
        self.rejected.inc();
        self.last_successful.set(0);
    }
}
