//! The process, under the names that every exporter uses.

use std::fs;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use rustix::time::{ClockId, clock_gettime};

use super::families::Level;

#[derive(Clone, Debug)]
pub(super) struct Process {
    cpu: Counter<f64, AtomicU64>,
    resident: Level,
    open_fds: Level,
    max_fds: Level,
    threads: Level,
}

impl Process {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let this = Self {
            cpu: Counter::default(),
            resident: Level::default(),
            open_fds: Level::default(),
            max_fds: Level::default(),
            threads: Level::default(),
        };
        let start = Gauge::<f64, AtomicU64>::default();
        // This is made when the process starts, but for some milliseconds.
        start.set(since_1970());
        let cpu = this.cpu.clone();
        registry.register_with_unit("cpu", "User and system time", Unit::Seconds, cpu);
        let resident = this.resident.clone();
        registry.register_with_unit("resident_memory", "Memory in use", Unit::Bytes, resident);
        registry.register("open_fds", "Open file descriptors", this.open_fds.clone());
        registry.register("max_fds", "Most file descriptors", this.max_fds.clone());
        registry.register("threads", "Threads", this.threads.clone());
        registry.register_with_unit("start_time", "Start, since 1970", Unit::Seconds, start);
        this
    }

    pub(super) fn refresh(&self) {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = std::time::Duration::try_from(used).unwrap_or_default().as_secs_f64();
        self.cpu.inner().store(seconds.to_bits(), std::sync::atomic::Ordering::Relaxed);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        self.resident.set(field(&status, "VmRSS:") * 1024);
        self.threads.set(field(&status, "Threads:"));
        self.open_fds.set(open_fds());
        let limit = rlimit::Resource::NOFILE.get_soft().unwrap_or(0);
        self.max_fds.set(usize::try_from(limit).unwrap_or(usize::MAX));
    }
}

/// Seconds since 1970, now.
pub(super) fn since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The number in the line of `/proc/self/status` that begins with `name`.
fn field(status: &str, name: &str) -> usize {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Linux says it in the size of the folder since 6.2; before, they have to be counted.
fn open_fds() -> usize {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).map(|folder| folder.len()) {
        Ok(size @ 1..) => usize::try_from(size).unwrap_or(usize::MAX),
        _ => fs::read_dir(folder).map_or(0, Iterator::count),
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn the_kernel_tells_what_is_asked() {
        let process = Process::register(&mut Registry::default());
        process.refresh();
        assert!(process.resident.get() > 1024 * 1024);
        assert!(process.threads.get() >= 1);
        assert!(process.open_fds.get() >= 3 && process.open_fds.get() <= process.max_fds.get());
        assert!(process.cpu.get() > 0.0);
        assert_eq!(field("Name:\tx\nVmRSS:\t    12 kB\n", "VmRSS:"), 12);
    }
}
