//! The real binary in a folder and an environment of its own.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::scrape::Scrape;
use super::{eventually, token::Keys};

/// How to start the binary. The environment holds nothing but what is set here.
pub struct Builder {
    /// A program that becomes the binary, and its arguments.
    under: Vec<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    dir: TempDir,
    /// What is handed over as systemd does it.
    socket: Option<OwnedFd>,
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    stdout: Arc<Mutex<String>>,
    log: Arc<Mutex<String>>,
    dir: TempDir,
    /// Kept open.
    unread: Option<ChildStderr>,
}

/// The real thing.
pub const BINARY: &str = env!("CARGO_BIN_EXE_pushmux");

/// `pushmux` with nothing in its environment.
pub fn program() -> Command {
    program_at(BINARY)
}

/// The same under another name, or by way of another program.
pub fn program_at(path: impl AsRef<OsStr>) -> Command {
    // Where it is measured what the tests reach, each process writes down what it did.
    const COUNTERS: &str = "LLVM_PROFILE_FILE";
    let mut command = Command::new(path);
    command.env_clear().envs(std::env::var_os(COUNTERS).map(|file| (COUNTERS, file)));
    command
}

impl Builder {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { under: vec![], args: vec![], env: vec![], dir, socket: None }
    }

    /// The notiflux profile by environment alone, on a free port.
    pub fn notiflux() -> Self {
        Self::new().env("JWT_PUBLIC_KEY_B64", &Keys::server().public_base64()).env("PORT", "0")
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.args.extend(args.map(String::from));
        self
    }

    /// Starts the binary with a program that becomes it, such as `prlimit`.
    pub fn under<const N: usize>(mut self, words: [&str; N]) -> Self {
        self.under = words.map(String::from).into();
        self
    }

    /// Writes a file into the folder the binary is started in.
    pub fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.dir.path().join(name), text).unwrap();
        self
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Hands the socket over, and keeps it as well.
    pub fn inherit(self, socket: &TcpListener) -> Self {
        self.inherit_any(socket.try_clone().unwrap().into())
    }

    pub fn inherit_any(mut self, socket: OwnedFd) -> Self {
        self.socket = Some(socket);
        self
    }

    fn command(&self) -> Command {
        // Only a shell can put a socket where it is expected, and knows the number of the
        // process that it becomes.
        let script = "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 </dev/null";
        let shell = ["/bin/sh", "-c", script].map(String::from);
        let shell = if self.socket.is_some() { &shell[..] } else { &[] };
        let binary = BINARY.to_owned();
        let mut words = shell.iter().chain(&self.under).chain([&binary]).chain(&self.args);
        let mut command = program_at(words.next().unwrap());
        command.args(words).envs(self.env.iter().cloned()).current_dir(self.dir.path());
        let stdin = match &self.socket {
            None => Stdio::null(),
            Some(socket) => socket.try_clone().unwrap().into(),
        };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the binary to its end.
    pub fn output(&self) -> Output {
        self.command().output().unwrap()
    }

    /// Starts a server and waits until it listens.
    pub fn start(self) -> Server {
        super::raise_descriptor_limit();
        let mut child = self.command().spawn().unwrap();
        let stdout = collect(child.stdout.take().unwrap());
        let log = collect(child.stderr.take().unwrap());
        let mut address = None;
        eventually("the server listens", || {
            let text = log.lock().unwrap().clone();
            address = listening(&text);
            assert!(child.try_wait().unwrap().is_none() || address.is_some(), "ended: {text}");
            address.is_some()
        });
        Server { child, address: address.unwrap(), stdout, log, dir: self.dir, unread: None }
    }

    /// The same, but from then on nobody reads what the server logs.
    pub fn start_with_stuck_log(self) -> Server {
        let mut child = self.command().spawn().unwrap();
        let stdout = collect(child.stdout.take().unwrap());
        let mut unread = child.stderr.take().unwrap();
        let log = read_until_listening(&mut unread);
        let address = listening(&log).unwrap();
        let log = Arc::new(Mutex::new(log));
        Server { child, address, stdout, log, dir: self.dir, unread: Some(unread) }
    }
}

/// What is read until the server listens, and no more.
fn read_until_listening(from: &mut impl Read) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    // Byte by byte, or something would be read that comes after.
    while listening(&String::from_utf8_lossy(&text)).is_none() || !text.ends_with(b"\n") {
        from.read_exact(&mut byte).unwrap();
        text.extend_from_slice(&byte);
    }
    String::from_utf8(text).unwrap()
}

/// The address in the first line that says so, as text or as JSON.
fn listening(log: &str) -> Option<SocketAddr> {
    log.lines().find(|line| line.contains("Listening")).and_then(address_in)
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let rest = line.split_once("address")?.1.trim_start_matches(['=', '"', ':']);
    rest.split(['"', ' ']).next()?.parse().ok()
}

/// What is read from there so far, whole lines only.
pub fn collect(from: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let to = text.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut text = to.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
    text
}

impl Server {
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    /// What nobody has read of the log, see [`Builder::start_with_stuck_log`].
    pub fn unread_log(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.unread.take().unwrap().read_to_end(&mut rest).unwrap();
        rest
    }

    /// Where this protocol is served.
    pub fn address_of(&self, protocol: &str) -> SocketAddr {
        let serves = |line: &&str| {
            let names = line.split_once(" protocols=").filter(|_| line.contains("Listening"));
            names.is_some_and(|(_, names)| names.split(',').any(|name| name == protocol))
        };
        let mut address = None;
        eventually("the protocol is served", || {
            address = self.log().lines().find(serves).and_then(address_in);
            address.is_some()
        });
        address.unwrap()
    }

    /// Where operators are answered.
    pub fn admin_address(&self) -> SocketAddr {
        let mut address = None;
        eventually("operators are answered", || {
            let log = self.log();
            let line = log.lines().find(|line| line.contains("Answering operators"));
            address = line.and_then(address_in);
            address.is_some()
        });
        address.unwrap()
    }

    /// What is counted so far.
    pub fn scrape(&self) -> Scrape {
        Scrape::of(self.admin_address())
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> usize {
        self.status_kib("VmRSS:")
    }

    /// The most resident memory since [`Self::forget_peak`], in KiB.
    pub fn peak_kib(&self) -> usize {
        self.status_kib("VmHWM:")
    }

    pub fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").unwrap();
    }

    fn status_kib(&self, name: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// CPU time so far, in hundredths of a second.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // The name, in brackets, may hold anything; user and system time are 12 and 13 behind.
        let (_, rest) = stat.rsplit_once(')').unwrap();
        rest.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum()
    }

    /// The number after `name=` in the line of the log that holds `line`, once it is there.
    pub fn reported(&self, line: &str, name: &str) -> usize {
        let mut number = None;
        eventually("the log says so", || {
            let log = self.log();
            let values = log.lines().filter(|text| text.contains(line));
            let mut values = values.filter_map(|text| text.split_once(&format!(" {name}=")));
            number = values.next().and_then(|(_, value)| value.split(' ').next()?.parse().ok());
            number.is_some()
        });
        number.unwrap()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the server ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        // The threads that read it let go when they have it all.
        eventually("its last words are read", || {
            Arc::strong_count(&self.log) == 1 && Arc::strong_count(&self.stdout) == 1
        });
        status.unwrap()
    }

    /// SIGTERM, and the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
