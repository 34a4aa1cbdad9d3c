//! SIGHUP: another look at the configuration while the server runs.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::timeout;
use tracing::{error, info, warn};
use tracing_subscriber::{EnvFilter, Registry};

use super::Common;
use super::run::tell_systemd;
use crate::core::chain;
use crate::core::config::Layers;
use crate::core::metrics::Reloads;
use crate::core::plan::{self, Plan};
use crate::core::reload::Reloader;
use crate::plugins;

/// How long it may take to read the configuration and the files that it names.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// What decides on what is logged.
pub(super) type Filter = tracing_subscriber::reload::Handle<EnvFilter, Registry>;

/// A filter that can be changed, and how.
pub(super) fn layer(
    filter: EnvFilter,
) -> (tracing_subscriber::reload::Layer<EnvFilter, Registry>, Filter) {
    tracing_subscriber::reload::Layer::new(filter)
}

/// Reads file and environment again and puts in force what it can. With any fault everything
/// stays as it is, and the log says what is wrong. Either is counted. Returns what the next
/// reload has to be given.
pub(super) async fn reload(
    mut common: Common,
    reloader: &Reloader,
    filter: &Filter,
    reloads: &Reloads,
) -> Common {
    info!("Reloading the configuration");
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell_systemd(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "Cannot read the clock"),
    }
    if let Some((layers, plan)) = read(common.clone()).await {
        if put_in_force(&layers, plan, reloader, filter, reloads).await {
            common = common.with_file_of(&layers);
        }
    } else {
        reloads.rejected();
        warn!("The configuration has faults: the one before stays in force");
    }
    tell_systemd(&[NotifyState::Ready]);
    common
}

/// The configuration as it stands by now; none when it has faults.
async fn read(common: Common) -> Option<(Layers, Plan)> {
    // Files may be on another machine, which does not answer: the next reload finds out.
    let read = tokio::task::spawn_blocking(move || {
        let layers = common.layers(None);
        let plan = plan::check(&layers, plugins::ALL).plan();
        (layers, plan)
    });
    match timeout(READ_TIMEOUT, read).await {
        Ok(Ok((layers, Ok(plan)))) => Some((layers, plan)),
        Ok(Ok((_, Err(faults)))) => {
            faults.0.iter().for_each(|fault| error!("{fault}"));
            None
        }
        Err(_) => {
            error!(
                "Cannot read the configuration, or a file that it names, within {READ_TIMEOUT:?}"
            );
            None
        }
        Ok(Err(error)) => {
            error!(%error, "Cannot read the configuration");
            None
        }
    }
}

/// Whether it could be.
async fn put_in_force(
    layers: &Layers,
    plan: Plan,
    reloader: &Reloader,
    filter: &Filter,
    reloads: &Reloads,
) -> bool {
    for note in layers.notes.iter().chain(&layers.shadowed()) {
        warn!("{note}");
    }
    let level = plan.log.filter();
    match reloader.reload(plan).await {
        Ok(kept) => {
            reloads.applied();
            for key in &kept {
                warn!(key, "Needs a restart: what it was before stays in force");
            }
            // It was checked, and the log goes on as long as this does.
            if let Ok(level) = level {
                let _ = filter.reload(level);
            }
            info!(need_a_restart = kept.len(), "The configuration is in force");
            true
        }
        Err(error) => {
            reloads.rejected();
            error!(
                error = chain(&error),
                "Cannot put the configuration in force: the one before stays"
            );
            false
        }
    }
}
