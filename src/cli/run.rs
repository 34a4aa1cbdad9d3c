//! `pushmux run`: log, signals, the run time, the exit code.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::{Common, Failure, chain, print};
use crate::core::config::{Log, LogFormat};
use crate::core::plan::{self, Plan};
use crate::core::server::{Server, StartError};
use crate::plugins;

/// How long blocking work may hold up the end after everything else has ended.
const LAST_WAIT: Duration = Duration::from_millis(500);

pub(super) fn run(common: &Common) -> Result<(), Failure> {
    let layers = common.layers(None);
    let plan = plan::check(&layers, plugins::ALL).plan()?;
    start_log(&plan.log).map_err(Failure::misused)?;
    for note in &layers.notes {
        warn!("{note}");
    }
    let profile = layers.profile.as_ref().map(|(name, _)| name.as_str());
    info!(version = env!("CARGO_PKG_VERSION"), profile, file = layers.file_name(), "Starting");
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime
        .worker_threads(plan.server.workers)
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let done = runtime.block_on(serve(plan));
    runtime.shutdown_timeout(LAST_WAIT);
    done
}

async fn serve(plan: Plan) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    let server = Server::build(plan).await.map_err(|error| match error {
        StartError::Plugin { .. } => Failure::misused(chain(&error)),
        StartError::Listen { .. } => Failure::failed(chain(&error)),
    })?;
    info!(address = %server.address(), "Listening");
    for greeting in server.greetings() {
        print(&greeting)?;
    }
    // The server's future holds the streams of signals until the first one came; the
    // second one is for us.
    let (first, mut came) = tokio::sync::oneshot::channel();
    let second = async move {
        next(&mut terminate, &mut interrupt).await;
        let _ = first.send(());
        next(&mut terminate, &mut interrupt).await;
    };
    let stop = async {
        let _ = (&mut came).await;
    };
    tokio::select! {
        ended = server.run(stop) => {
            info!(in_time = ended, "Stopped");
            Ok(())
        }
        () = second => Err(Failure::failed("stopped at once by a second signal")),
    }
}

async fn next(
    terminate: &mut tokio::signal::unix::Signal,
    interrupt: &mut tokio::signal::unix::Signal,
) {
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    info!(signal = name, "Signal received");
}

fn start_log(log: &Log) -> Result<(), String> {
    let registry = tracing_subscriber::registry().with(log.filter()?);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match log.format {
        LogFormat::Text => {
            // Colour codes belong on a terminal, not into a file or journal.
            let layer = layer.with_ansi(io::stderr().is_terminal());
            registry.with(layer).try_init().map_err(|error| error.to_string())
        }
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true);
            registry.with(layer).try_init().map_err(|error| error.to_string())
        }
    }
}
