//! CPU time and memory, from `/proc`.

use std::fs;
use std::path::{Path, PathBuf};

/// `USER_HZ`, in which `/proc` counts a process's CPU time: 100 on every common Linux.
const TICK: u64 = 10_000_000;

/// What a thread of ours took, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Thread {
    pub(super) ran: u64,
    /// Ready to run, and no CPU was free.
    pub(super) waited: u64,
}

impl Thread {
    /// The calling thread.
    pub(super) fn here() -> Self {
        Self::read(Path::new("/proc/thread-self"))
    }

    /// A thread by its folder.
    pub(super) fn read(folder: &Path) -> Self {
        let text = fs::read_to_string(folder.join("schedstat")).unwrap_or_default();
        let mut fields = text.split_whitespace().map(|field| field.parse().unwrap_or(0));
        let mut next = || fields.next().unwrap_or(0);
        Self { ran: next(), waited: next() }
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self {
            ran: self.ran.saturating_sub(before.ran),
            waited: self.waited.saturating_sub(before.waited),
        }
    }
}

/// The calling thread's folder, for others to read.
pub(super) fn this_thread() -> PathBuf {
    fs::read_link("/proc/thread-self")
        .map_or_else(|_| "/proc/thread-self".into(), |link| Path::new("/proc").join(link))
}

/// CPU time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cpu {
    pub(super) total: u64,
    /// In steps of 10 ms. On most kernels a share of the total that is told from what ran at
    /// each timer tick, so that of a short run it is rough.
    pub(super) user: u64,
}

/// The processes of the server that is measured.
#[derive(Clone, Debug)]
pub(super) struct Processes {
    pub(super) pids: Vec<u32>,
}

impl Processes {
    /// This one.
    pub(super) fn one(pid: u32) -> Self {
        Self { pids: vec![pid] }
    }

    /// Those that hold the socket that listens on a port.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) fn find(port: u16) -> Result<Self, String> {
        let inodes = listeners(port);
        if inodes.is_empty() {
            return Err(format!("nothing on this machine listens on port {port}"));
        }
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut pids: Vec<u32> = pids.filter(|pid| holds(*pid, &inodes)).collect();
        pids.sort_unstable();
        if pids.is_empty() {
            return Err(format!("the process that listens on port {port} belongs to another user"));
        }
        Ok(Self { pids })
    }

    /// What all of them took since they began. Threads that have ended count in steps of
    /// 10 ms.
    pub(super) fn cpu(&self) -> Cpu {
        let mut sum = Cpu::default();
        for pid in &self.pids {
            let ticks = ticks(*pid).unwrap_or_default();
            sum.user += ticks.user;
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            let exact = tasks.map(|task| Thread::read(&task.path()).ran).sum::<u64>();
            sum.total += exact.max(ticks.total);
        }
        sum
    }

    /// Resident memory in bytes.
    pub(super) fn memory(&self) -> u64 {
        self.pids.iter().map(|pid| memory(*pid).unwrap_or(0)).sum()
    }

    /// Whether none of them has ended.
    pub(super) fn are_alive(&self) -> bool {
        self.pids.iter().all(|pid| memory(*pid).is_some())
    }

    /// What they are called, each name once.
    pub(super) fn names(&self) -> String {
        let name = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        let mut names: Vec<_> = self.pids.iter().filter_map(name).collect();
        names.dedup();
        names.iter().map(|name| name.trim()).collect::<Vec<_>>().join(", ")
    }
}

fn memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

fn ticks(pid: u32) -> Option<Cpu> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in brackets, may contain anything; the fields come after.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok().map(|ticks| ticks * TICK);
    let (user, system) = (next()?, next()?);
    Some(Cpu { total: user + system, user })
}

/// Inodes of the sockets that listen on a port.
fn listeners(port: u16) -> Vec<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables.map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines()).filter_map(|line| listener(line, port)).collect()
}

/// `0: 0100007F:1F90 00000000:0000 0A ... inode ...`
fn listener(line: &str, port: u16) -> Option<String> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let (_, local) = fields.get(1)?.rsplit_once(':')?;
    let listens = u16::from_str_radix(local, 16) == Ok(port) && *fields.get(3)? == "0A";
    listens.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]"))).flatten()
}

fn holds(pid: u32, inodes: &[String]) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|link| link.to_str().is_some_and(|link| inodes.iter().any(|inode| inode == link)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_listens_is_found_and_read() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = Processes::find(listener.local_addr().unwrap().port()).unwrap();
        assert_eq!(found.pids, [std::process::id()]);
        assert!(found.memory() > 1024 * 1024 && found.are_alive());
        let before = found.cpu();
        assert!(before.total > 0);
        assert!(this_thread().join("schedstat").exists());
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        assert!(Processes::find(port).unwrap_err().contains(&port.to_string()));
    }

    #[test]
    fn lines_of_the_kernel() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0000000000000000 100 0 0 10 0";
        assert_eq!(listener(line, 8080).as_deref(), Some("socket:[12345]"));
        assert_eq!(listener(line, 8081), None);
        assert_eq!(listener(&line.replace(" 0A ", " 01 "), 8080), None);
    }
}
