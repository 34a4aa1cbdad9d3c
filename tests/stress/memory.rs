//! Ten times more on its way to the server than the system allows it memory for.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::books::ADMIN;
use crate::churn::{attend, publish, subscribers};
use crate::run::{Run, block_on};
use crate::support::ledger::Ledger;
use crate::support::notiflux::{STRICT, Topic};
use crate::support::peer::{head, within, write};
use crate::support::server::Builder;

const LIMIT: usize = 256 << 20;
/// `protocol.notiflux.max_body_bytes`: as large as a body may be.
const BODY: usize = 2 << 20;
const PUBLISHERS: usize = 10 * LIMIT / BODY;
const HEALTHY: usize = 20;

pub fn memory(_: &Run) -> String {
    let Some(group) = Group::new(LIMIT) else {
        return "skipped: no cgroup to be had here, which takes root".into();
    };
    // Heads are not what this is about, and the clients take their time.
    let keys = format!("{STRICT}{ADMIN}[server]\nheader_timeout = \"1m\"\nbody_timeout = \"1m\"\n");
    let builder = Builder::notiflux().file("config.toml", &keys);
    // As packaging/pushmux.service has it.
    let builder = builder.env("MALLOC_MMAP_THRESHOLD_", "131072");
    let mut server = builder.env("GROUP", &group.path.display().to_string()).under(ENTER).start();
    let (ledger, topic, address) = (Ledger::default(), Topic::new("t"), server.address);
    let over = watch::Sender::new(false);
    let (stays, [taken, refused]) = block_on(async {
        let healthy = subscribers(&ledger, &topic, address, HEALTHY).await;
        let healthy = join_all(healthy.into_iter().map(|it| attend(it, over.subscribe())));
        let overload = async {
            // To a topic without receivers: what a body costs, and not what readers cost.
            let elsewhere = Topic::new("elsewhere");
            let body = elsewhere.body("");
            let body = elsewhere.body(&"m".repeat(BODY - body.len()));
            let streams = join_all((0..PUBLISHERS).map(|_| announced(address)));
            let streams = within("publishers are connected", streams).await;
            let ready = watch::Sender::new(0_usize);
            let sent = join_all(streams.iter().map(|it| overwhelm(it, &body, &ready)));
            let statuses = within("publishers are answered", sent).await;
            let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
            let counts = [count(200), count(503)];
            assert_eq!(counts.iter().sum::<usize>(), PUBLISHERS, "other answers: {statuses:?}");
            publish(&ledger, &topic, address, 0..1, 10, 0).await;
            over.send_replace(true);
            counts
        };
        tokio::join!(healthy, overload)
    });
    let observed = [stays[0].seen.clone()];
    let checked = ledger.check(&observed, &stays).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(checked.messages, 10, "messages that came at all");
    assert!(taken > 0 && refused > 0, "{taken} bodies were taken, {refused} refused with 503");
    // A server that is full has other reasons for a 503.
    let for_memory = [("reason", "max_body_bytes_in_flight")];
    let counted = server.scrape().count("pushmux_refused_total", &for_memory);
    assert_eq!(counted, refused as u64, "refused for memory, and told 503");
    assert_eq!(group.kills(), 0, "kills for want of memory");
    let peak = group.peak().map(|bytes| format!(" {} MiB at most,", bytes >> 20));
    let peak = peak.unwrap_or_default();
    assert!(server.stop().success(), "the server ended badly");
    format!(
        "{PUBLISHERS} bodies of {} MiB at a time for {} MiB of memory: {taken} taken, {refused} \
         refused with 503,{peak} nobody killed; {HEALTHY} subscribers \
         stayed and got what came then",
        BODY >> 20,
        LIMIT >> 20
    )
}

/// A publisher that has said what it is going to send.
async fn announced(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /broadcast HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {BODY}\r\n\r\n"
    );
    write(&stream, head.as_bytes()).await.unwrap();
    stream
}

/// Sends a body, and its last byte when all others are as far; the status.
async fn overwhelm(stream: &TcpStream, body: &str, ready: &watch::Sender<usize>) -> u16 {
    let (most, last) = body.as_bytes().split_at(BODY - 1);
    let sent = async {
        // Who is refused may not get rid of all of it; the answer is what counts.
        let sent = write(stream, most).await;
        ready.send_modify(|ready| *ready += 1);
        _ = ready.subscribe().wait_for(|ready| *ready == PUBLISHERS).await;
        sent?;
        write(stream, last).await
    };
    let (answer, _) = tokio::join!(head(stream), sent);
    let (answer, _) = answer.unwrap_or_else(|error| panic!("no answer to a publisher: {error}"));
    answer.status
}

/// A control group with a limit on memory, version 1 or 2. Gone when dropped, which must be
/// after the server.
struct Group {
    path: PathBuf,
    names: &'static Names,
}

/// Goes into the group and becomes another program.
const ENTER: [&str; 3] = ["sh", "-c", r#"echo $$ > "$GROUP/cgroup.procs" && exec "$0" "$@""#];

/// What version 1 or 2 calls it.
struct Names {
    root: &'static str,
    limit: &'static str,
    /// 0 for no swap, where there is any.
    swap: &'static str,
    /// With version 2 there is none before Linux 5.19.
    peak: &'static str,
    kills: &'static str,
}

const VERSIONS: [Names; 2] = [
    Names {
        root: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        swap: "memory.swappiness",
        peak: "memory.max_usage_in_bytes",
        kills: "memory.oom_control",
    },
    Names {
        root: "/sys/fs/cgroup",
        limit: "memory.max",
        swap: "memory.swap.max",
        peak: "memory.peak",
        kills: "memory.events",
    },
];

const PREFIX: &str = "pushmux-stress-";

impl Group {
    /// None where that cannot be had.
    fn new(limit: usize) -> Option<Self> {
        VERSIONS.iter().find_map(|names| {
            let root = Path::new(names.root);
            // Where this version is in use; elsewhere it is a folder like others.
            root.join("cgroup.procs").exists().then_some(())?;
            forsaken(root).for_each(|path| _ = fs::remove_dir(path));
            let path = root.join(format!("{PREFIX}{}", std::process::id()));
            fs::create_dir(&path).ok()?;
            let group = Self { path, names };
            // Without this file version 2 does not limit memory here.
            fs::write(group.path.join(names.limit), limit.to_string()).ok()?;
            _ = fs::write(group.path.join(names.swap), "0");
            Some(group)
        })
    }

    /// The most memory it had, in bytes, where the system says so.
    fn peak(&self) -> Option<usize> {
        let text = fs::read_to_string(self.path.join(self.names.peak)).ok()?;
        Some(text.trim().parse().unwrap())
    }

    fn kills(&self) -> usize {
        let text = fs::read_to_string(self.path.join(self.names.kills)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.unwrap().trim().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// Groups of runs that were killed before they could remove them.
fn forsaken(root: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let of = name.strip_prefix(PREFIX);
        of.is_some_and(|process| !Path::new("/proc").join(process).exists())
    })
}
