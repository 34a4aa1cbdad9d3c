//! A process in a folder of its own.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a process may take until it listens, or until it has ended.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What is shown of a log.
const LOG_LINES: usize = 10;

/// Killed when dropped, unless it is told to end in another way.
pub(super) struct Process {
    child: Child,
    folder: TempDir,
    /// A command that ends it and its children.
    stop: Option<Command>,
}

/// An empty folder for a process.
pub(super) fn folder() -> Result<TempDir, String> {
    tempfile::tempdir().map_err(|error| format!("cannot make a temporary folder: {error}"))
}

impl Process {
    /// Starts a command in a folder. What it says goes into a file there.
    pub(super) fn start(mut command: Command, folder: TempDir) -> Result<Self, String> {
        let name = command.get_program().display().to_string();
        let fault = |error| format!("cannot start {name}: {error}");
        let log = File::create(folder.path().join("log")).map_err(fault)?;
        command.current_dir(folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().map_err(fault)?).stderr(log);
        let child = command.spawn().map_err(fault)?;
        Ok(Self { child, folder, stop: None })
    }

    pub(super) fn stopped_by(mut self, stop: Command) -> Self {
        self.stop = Some(stop);
        self
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits for `... Listening ... address=127.0.0.1:8080 ...` in the log.
    pub(super) fn announced(&mut self) -> Result<SocketAddr, String> {
        let log = self.folder.path().join("log");
        self.until(|| address(&fs::read_to_string(&log).unwrap_or_default()))
    }

    /// Waits until something listens.
    pub(super) fn listens(&mut self, address: SocketAddr) -> Result<SocketAddr, String> {
        self.until(|| TcpStream::connect(address).is_ok().then_some(address))
    }

    fn until(
        &mut self,
        mut look: impl FnMut() -> Option<SocketAddr>,
    ) -> Result<SocketAddr, String> {
        let start = Instant::now();
        loop {
            if let Some(address) = look() {
                return Ok(address);
            }
            let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if ended || start.elapsed() > PATIENCE {
                return Err(format!("it does not listen. The end of its log:\n{}", self.log()));
            }
            thread::park_timeout(LOOK);
        }
    }

    /// The end of what it logged.
    pub(super) fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let start = Instant::now();
        if let Some(stop) = &mut self.stop
            && stop.output().is_ok_and(|output| output.status.success())
        {
            while self.child.try_wait().is_ok_and(|status| status.is_none())
                && start.elapsed() < PATIENCE
            {
                thread::park_timeout(LOOK);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address(log: &str) -> Option<SocketAddr> {
    // The last line may not be whole yet.
    let lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let mut lines = lines.filter(|line| line.contains("Listening"));
    let (_, rest) = lines.next()?.split_once("address=")?;
    rest.split_whitespace().next()?.parse().ok()
}
