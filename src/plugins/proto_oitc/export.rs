//! Tells every connection, every few seconds, whether openITCOCKPIT is exporting its
//! configuration: the front end shows a spinner meanwhile.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::{Shared, wire};
use crate::core::chain;
use crate::core::message::{Frame, Publication};
use crate::core::plugin::Jobs;

/// What was said last, and when.
#[derive(Default)]
pub(super) struct LastExport(Mutex<Option<(bool, Instant)>>);

impl LastExport {
    /// What a new connection is told at once, if it is not older than one interval.
    pub(super) fn fresh(&self, shared: &Shared) -> Option<Frame> {
        let (running, when) = (*self.0.lock())?;
        (when.elapsed() <= shared.config.export_interval).then(|| wire::export_status(running))
    }
}

/// Runs until the server stops, which waits for no data base.
pub(super) async fn watch(shared: Arc<Shared>, jobs: Jobs) {
    tokio::select! {
        () = jobs.stopping() => {}
        () = tell(shared) => {}
    }
}

async fn tell(shared: Arc<Shared>) {
    let mut ticks = interval(shared.config.export_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        ticks.tick().await;
        if shared.users.is_empty() {
            continue;
        }
        let status = shared.store.export_running().await;
        if let (Err(error), false) = (&status, failed) {
            warn!(error = chain(error), "Cannot read the export status");
        }
        if status.is_ok() && failed {
            info!("The export status can be read again");
        }
        failed = status.is_err();
        let running = status.ok().flatten();
        *shared.last_export.0.lock() = running.map(|running| (running, Instant::now()));
        if let Some(running) = running {
            // The next look finds out again.
            let Ok(admission) = shared.router.admit(0).await else { continue };
            let publication = Publication::new(shared.exports(), wire::export_status(running));
            let _ = shared.router.publish(publication, &admission).settled().await;
        }
    }
}
