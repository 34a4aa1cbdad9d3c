//! `pushmux run`: log, signals, the run time, the exit code.

use std::future::pending;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::reload::{self, Filter};
use super::{Common, Failure, print};
use crate::core::config::{Log, LogFormat};
use crate::core::inherited::Inherited;
use crate::core::plan::{self, Plan};
use crate::core::server::{Server, StartError};
use crate::core::{bulkhead, chain};
use crate::plugins;

/// Most log lines that wait for a slow reader of stderr.
const LOG_LINES: usize = 8192;

/// How long blocking work may hold up the end after everything else has ended.
const LAST_WAIT: Duration = Duration::from_millis(500);

pub(super) fn run(common: &Common) -> Result<(), Failure> {
    // Changes the environment, so nothing else may be running yet.
    let inherited = Inherited::take();
    let layers = common.layers(None);
    let plan = plan::check(&layers, plugins::ALL).plan()?;
    let (_log, filter, lost_lines) = start_log(&plan.log).map_err(Failure::misused)?;
    bulkhead::tell_panics();
    raise_descriptor_limit();
    for note in layers.notes.iter().chain(&layers.shadowed()) {
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
    let inherited = inherited.map_err(Failure::misused)?;
    let common = common.clone().with_file_of(&layers);
    let done = runtime.block_on(serve(plan, inherited, common, &filter, lost_lines));
    runtime.shutdown_timeout(LAST_WAIT);
    done
}

/// Connections are file descriptors, and the soft limit is often 1024.
fn raise_descriptor_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => debug!(limit, "File descriptors"),
        Err(error) => warn!(%error, "Cannot raise the limit of file descriptors"),
    }
}

async fn serve(
    plan: Plan,
    inherited: Inherited,
    mut common: Common,
    filter: &Filter,
    lost_lines: ErrorCounter,
) -> Result<(), Failure> {
    // Before anything else: it would end the process.
    let mut hang_up = signal(SignalKind::hangup()).map_err(Failure::failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    let built = tokio::select! {
        built = Server::build(plan, inherited) => built,
        () = next(&mut terminate, &mut interrupt) => {
            info!("Stopped before everything was ready");
            return Ok(());
        }
    };
    let server = built.map_err(|error| match error {
        StartError::Plugin { .. } | StartError::Inherited(_) => Failure::misused(chain(&error)),
        StartError::Listen { .. } | StartError::Late(_) => Failure::failed(chain(&error)),
    })?;
    for (address, inherited, protocols) in server.addresses() {
        info!(%address, inherited, %protocols, "Listening");
    }
    if let Some(address) = server.admin_address() {
        info!(%address, "Answering operators");
    }
    server.metrics().log_lines_lost(move || lost_lines.dropped_lines());
    tell_systemd(&[NotifyState::Ready]);
    if let Some(time) = sd_notify::watchdog_enabled().filter(|time| !time.is_zero()) {
        tokio::spawn(say_alive(time / 2));
    }
    for greeting in server.greetings() {
        print(&greeting)?;
    }
    let stopping = CancellationToken::new();
    let signals = async {
        tokio::select! {
            () = next(&mut terminate, &mut interrupt) => {}
            () = stopping.cancelled() => {}
        }
        tell_systemd(&[NotifyState::Stopping]);
        stopping.cancel();
        next(&mut terminate, &mut interrupt).await;
    };
    let (reloader, reloads) = (server.reloader(), server.metrics().reloads());
    let reloading = async {
        let on_terminal = io::stderr().is_terminal();
        while hang_up.recv().await.is_some() {
            if on_terminal && !io::stderr().is_terminal() {
                // Not a wish to reload: the window was closed, and nobody could stop us.
                info!("The terminal has gone");
                stopping.cancel();
            }
            common = reload::reload(common, &reloader, filter, &reloads).await;
        }
    };
    tokio::select! {
        ended = server.run(stopping.cancelled()) => {
            info!(in_time = ended, "Stopped");
            Ok(())
        }
        () = signals => Err(Failure::failed("stopped at once by a second signal")),
        // A server that stops has no use for another configuration.
        () = async { stopping.run_until_cancelled(reloading).await; pending().await } => Ok(()),
    }
}

/// For units of `Type=notify`; nothing where nobody asked for it.
pub(super) fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "Cannot tell systemd");
    }
}

/// For units with `WatchdogSec=`. On a worker like everything that is served, so that systemd
/// restarts a server whose workers hang.
async fn say_alive(every: Duration) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // A socket that systemd does not read would hold up the worker.
        let _ = tokio::task::spawn_blocking(|| tell_systemd(&[NotifyState::Watchdog])).await;
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

/// Starts the log. What it returns must live as long as anything is logged, can change what
/// is, and counts the lines that are lost.
fn start_log(log: &Log) -> Result<(WorkerGuard, Filter, ErrorCounter), String> {
    let (filter, handle) = reload::layer(log.filter()?);
    let registry = tracing_subscriber::registry().with(filter);
    // A pipe that nobody reads must not stop the server: lines beyond the queue are lost.
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LOG_LINES)
        .finish(io::stderr());
    let lost_lines = writer.error_counter();
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let started = match log.format {
        LogFormat::Text => {
            // Colour codes belong on a terminal, not into a file or journal.
            registry.with(layer.with_ansi(io::stderr().is_terminal())).try_init()
        }
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    started.map(|()| (guard, handle, lost_lines)).map_err(|error| error.to_string())
}
