//! CPU time and memory, from `/proc`.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
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

impl Cpu {
    /// What was taken since then. Of a short time the steps of `user` may be more than the
    /// total, which is exact.
    pub(super) fn since(self, before: Self) -> Self {
        let total = self.total.saturating_sub(before.total);
        Self { total, user: self.user.saturating_sub(before.user).min(total) }
    }
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

    /// Those that hold a socket that listens at an address.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) fn find(address: SocketAddr) -> Result<Self, String> {
        // Only an address of this machine can be bound.
        if TcpListener::bind((address.ip(), 0)).is_err() {
            return Err("the server is on another machine".into());
        }
        let inodes = listeners(address);
        if inodes.is_empty() {
            return Err(format!("nothing in sight listens at {address}"));
        }
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut pids: Vec<u32> = pids.filter(|pid| holds(*pid, &inodes)).collect();
        pids.sort_unstable();
        if pids.is_empty() {
            return Err(format!("the process that listens at {address} belongs to another user"));
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

/// Inodes of the sockets that listen at an address, or at all addresses.
fn listeners(address: SocketAddr) -> Vec<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables.map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines());
    lines.filter_map(|line| listener(line, address)).collect()
}

/// `0: 0100007F:1F90 00000000:0000 0A ... inode ...`
fn listener(line: &str, address: SocketAddr) -> Option<String> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let (ip, port) = fields.get(1)?.rsplit_once(':')?;
    let ip = kernel_address(ip)?;
    let listens = *fields.get(3)? == "0A"
        && u16::from_str_radix(port, 16) == Ok(address.port())
        && (ip.is_unspecified() || ip == address.ip().to_canonical());
    listens.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]"))).flatten()
}

/// Words of 32 bits, each in the machine's byte order.
fn kernel_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    if text.len() == 8 {
        return word(0).map(IpAddr::from);
    }
    let mut bytes = [0_u8; 16];
    for (index, part) in bytes.chunks_mut(4).enumerate() {
        part.copy_from_slice(&word(index * 8)?);
    }
    Some(IpAddr::from(bytes).to_canonical())
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
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let found = Processes::find(address).unwrap();
        assert_eq!(found.pids, [std::process::id()]);
        assert!(found.memory() > 1024 * 1024 && found.are_alive());
        let before = found.cpu();
        assert!(before.total > 0);
        assert!(this_thread().join("schedstat").exists());
        drop(socket);
        assert!(Processes::find(address).unwrap_err().contains(&address.to_string()));
        let elsewhere = Processes::find("192.0.2.1:80".parse().unwrap());
        assert!(elsewhere.unwrap_err().contains("another machine"));
    }

    #[test]
    fn user_time_is_at_most_the_total() {
        let before = Cpu { total: 101_000_000, user: 50_000_000 };
        for (total, user, taken) in [(3_000_000, TICK, 3_000_000), (2 * TICK, TICK, TICK)] {
            let after = Cpu { total: before.total + total, user: before.user + user };
            assert_eq!(after.since(before), Cpu { total, user: taken });
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn lines_of_the_kernel() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0000000000000000 100 0 0 10 0";
        let on = |line: &str, address: &str| listener(line, address.parse().unwrap());
        assert_eq!(on(line, "127.0.0.1:8080").as_deref(), Some("socket:[12345]"));
        assert_eq!((on(line, "127.0.0.1:8081"), on(line, "127.0.0.2:8080")), (None, None));
        assert_eq!(on(&line.replace(" 0A ", " 01 "), "127.0.0.1:8080"), None);
        let zeros = "0".repeat(32);
        let mapped = "0000000000000000FFFF00000100007F";
        for (local, target) in [
            ("00000000", "127.0.0.1:8080"),
            (zeros.as_str(), "127.0.0.1:8080"),
            (zeros.as_str(), "[::1]:8080"),
            (mapped, "127.0.0.1:8080"),
            ("00000000000000000000000001000000", "[::1]:8080"),
        ] {
            assert!(on(&line.replace("0100007F", local), target).is_some(), "{local} {target}");
        }
    }
}
