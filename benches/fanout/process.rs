//! The processes that are measured: started, heard out, and asked for their CPU time.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use super::floor;

/// `USER_HZ`, in which `/proc` counts CPU time: 100 on every common Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// How long a process may take until it listens.
const START: Duration = Duration::from_secs(20);

/// The last lines of the log, for the message when something goes wrong.
const LOG_LINES: usize = 10;

type Log = Arc<Mutex<VecDeque<String>>>;

/// A process under measurement; killed when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    log: Log,
    _dir: TempDir,
}

/// CPU seconds since the start of a process, or between two moments. The kernel measures the
/// sum; on most kernels it divides it by what it found running at each timer tick, so the
/// parts of a short round are rough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self { user: self.user - before.user, system: self.system - before.system }
    }
}

impl Process {
    /// The server as it is shipped: nothing is set but its key and a free port.
    pub(crate) fn server(public_key: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushmux"));
        command.env_clear().env("JWT_PUBLIC_KEY_B64", public_key).env("PORT", "0");
        Self::start(command)
    }

    pub(crate) fn floor(subscribers: usize) -> Self {
        Self::start(floor::command(subscribers))
    }

    fn start(mut command: Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        command.current_dir(dir.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Log::default();
        let found = drain(child.stderr.take().unwrap(), log.clone());
        let address = found.recv_timeout(START).unwrap_or_else(|_| {
            let _ = child.kill();
            let program = command.get_program().display();
            panic!("{program} does not listen. Its log:\n{}", tail(&log))
        });
        Self { child, address, log, _dir: dir }
    }

    /// CPU time of the whole process, all threads, in steps of 10 ms.
    pub(crate) fn cpu(&self) -> Cpu {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = std::fs::read_to_string(path).expect("the process still runs");
        // The name of the program, in brackets, may contain anything; the fields come after.
        let (_, fields) = text.rsplit_once(')').unwrap();
        let ticks = |index| fields.split_whitespace().nth(index).unwrap().parse::<f64>().unwrap();
        Cpu { user: ticks(11) / TICKS_PER_SECOND, system: ticks(12) / TICKS_PER_SECOND }
    }

    /// The end of what it logged.
    pub(crate) fn log(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(log: &Log) -> String {
    log.lock().unwrap().iter().flat_map(|line| ["  ", line, "\n"]).collect()
}

/// Reads the log to its end, so that the process never waits for us, and hands on the
/// address it names.
fn drain(from: ChildStderr, log: Log) -> Receiver<SocketAddr> {
    let (found, address) = sync_channel(1);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            report_address(&line, &found);
            let mut log = log.lock().unwrap();
            if log.len() == LOG_LINES {
                log.pop_front();
            }
            log.push_back(line);
        }
    });
    address
}

/// `... Listening ... address=127.0.0.1:8080 ...`
fn report_address(line: &str, found: &SyncSender<SocketAddr>) {
    let Some((_, rest)) = line.split_once("address=") else { return };
    if line.contains("Listening")
        && let Some(Ok(address)) = rest.split_whitespace().next().map(str::parse)
    {
        let _ = found.try_send(address);
    }
}

/// Says so if the subscribers would not fit.
pub(crate) fn check_descriptors(subscribers: usize) -> Result<(), String> {
    // The receiver holds those of the server and those of the floor at the same time.
    let needed = 2 * subscribers + 100;
    let limits = std::fs::read_to_string("/proc/self/limits").expect("Linux");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft = line.split_whitespace().nth(3).and_then(|soft| soft.parse::<usize>().ok());
    match soft {
        Some(soft) if soft < needed => Err(format!(
            "At most {soft} files may be open here, the benchmark needs {needed}.\n\
             Raise the limit and start again: ulimit -n {}",
            needed.next_power_of_two()
        )),
        _ => Ok(()),
    }
}
