//! `type = "log"`: one line of JSON for each message, to stdout or a file. For debugging.
//!
//! The smallest sink there is, and the one `docs/writing-a-plugin.md` builds.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::core::BoxError;
use crate::core::admission::Admission;
use crate::core::config::Check;
use crate::core::health::Condition;
use crate::core::message::Message;
use crate::core::metrics::{self, Lost};
use crate::core::plugin::{FromConfig, Plugin, SinkCx};
use crate::core::sink::{Delivery, Receipt, Sink};

pub(super) const PLUGIN: Plugin = Plugin::sink::<Log>("log");

/// `[sink.<name>]`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// File to append to; stdout when empty.
    pub path: PathBuf,
    /// Most messages that wait for a slow disk or terminal; beyond it new ones are dropped.
    pub queue_messages: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { path: PathBuf::new(), queue_messages: 1024 }
    }
}

/// The sink: a bounded queue, and a thread that writes.
pub struct Log {
    queue: SyncSender<Item>,
    messages: metrics::Sink,
}

/// What the writing thread is given.
enum Item {
    Message(Arc<Message>),
    /// Everything before this is to be written; then say so.
    Flush(oneshot::Sender<()>),
}

impl Sink for Log {
    fn deliver(&self, message: &Arc<Message>, _: &Admission) -> Receipt {
        self.messages.matched(1);
        let why = match self.queue.try_send(Item::Message(message.clone())) {
            // Nobody received anything: a publisher's count of receivers is not ours.
            Ok(()) => {
                self.messages.queued(1, message.frame.as_bytes().len());
                return Receipt::default();
            }
            Err(TrySendError::Full(_)) => Lost::QueueFull,
            Err(TrySendError::Disconnected(_)) => Lost::Closed,
        };
        self.messages.dropped(why, 1);
        Delivery { accepted: 0, dropped: 1 }.into()
    }
}

impl FromConfig<SinkCx> for Log {
    type Config = Config;

    fn check(config: &Config, check: &mut Check<'_>) {
        check.range("queue_messages", config.queue_messages, 1..=1_000_000);
        if config.path.is_dir() {
            check.fault("path", "found a folder, expected a file");
        }
        if let Some(folder) = config.path.parent()
            && !folder.as_os_str().is_empty()
            && !folder.is_dir()
        {
            let found = folder.display();
            check.fault(
                "path",
                &format!("the folder {found} does not exist, expected a file in one that does"),
            );
        }
    }

    async fn build(config: Config, cx: SinkCx) -> Result<Self, BoxError> {
        let to: Box<dyn Write + Send> = if config.path.as_os_str().is_empty() {
            Box::new(io::stdout())
        } else {
            // On a thread that may block: a pipe opens when somebody reads it.
            Box::new(tokio::task::spawn_blocking(move || append(&config.path)).await??)
        };
        let (queue, waiting) = sync_channel(config.queue_messages);
        // A thread, since writing to a terminal or a network disk may block for ever.
        let messages = cx.metrics.sink(&cx.name);
        let name = cx.name;
        let thread = format!("sink.{name}");
        let works = cx.health.condition(&thread);
        let lines = Lines { to, is_torn: false };
        let mut writer = Writer { lines, name, messages: messages.clone(), works, lost: 0 };
        std::thread::Builder::new().name(thread).spawn(move || writer.run(&waiting))?;
        let (jobs, last) = (cx.jobs.clone(), queue.clone());
        cx.jobs.spawn(async move {
            jobs.stopping().await;
            let (done, flushed) = oneshot::channel();
            // Sending may have to wait for room, so it must not happen on this thread.
            let sent = tokio::task::spawn_blocking(move || last.send(Item::Flush(done)));
            if matches!(sent.await, Ok(Ok(()))) {
                let _ = flushed.await;
            }
        });
        Ok(Self { queue, messages })
    }
}

fn append(path: &PathBuf) -> Result<File, BoxError> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|error| format!("path: cannot append to {}: {error}", path.display()).into())
}

/// What the thread has in its hands.
struct Writer<W> {
    lines: Lines<W>,
    name: String,
    messages: metrics::Sink,
    works: Condition,
    /// How many messages were lost since the last one that was not.
    lost: u64,
}

impl<W: Write> Writer<W> {
    /// Writes until nobody is left who could bring something.
    fn run(&mut self, waiting: &Receiver<Item>) {
        for item in waiting {
            match item {
                Item::Message(message) => self.write(&message),
                Item::Flush(done) => _ = done.send(()),
            }
        }
    }

    fn write(&mut self, message: &Message) {
        let line = json!({
            "id": message.id,
            "topic": message.topic.as_str(),
            "message": message.frame.as_str(),
        });
        let sink = &self.name;
        match self.lines.write(&line.to_string()) {
            Ok(()) => {
                self.messages.delivered(1);
                if self.lost > 0 {
                    info!(sink, lost = self.lost, "Messages can be written again");
                    self.works.set(None);
                    self.lost = 0;
                }
            }
            Err(error) => {
                self.messages.dropped(Lost::Failed, 1);
                if self.lost == 0 {
                    warn!(sink, %error, "Cannot write messages, dropping them until it works again");
                    self.works.set(Some("cannot write messages"));
                }
                self.lost += 1;
            }
        }
        self.messages.left(1, message.frame.as_bytes().len());
    }
}

/// Whole lines, also where writing ends in the middle of one, as it does on a full disk.
struct Lines<W> {
    to: W,
    /// Whether the last line lacks its end.
    is_torn: bool,
}

impl<W: Write> Lines<W> {
    fn write(&mut self, line: &str) -> io::Result<()> {
        let text = format!("{}{line}\n", if self.is_torn { "\n" } else { "" });
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match self.to.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    // There is no line break within a line of JSON.
                    self.is_torn = rest[..written].last() != Some(&b'\n');
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has room for so many bytes.
    struct Disk(Vec<u8>, usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = bytes.len().min(self.1);
            if length == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.extend_from_slice(&bytes[..length]);
            self.1 -= length;
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_cut_off_is_not_the_beginning_of_the_next_one() {
        let mut lines = Lines { to: Disk(vec![], 6), is_torn: false };
        lines.write("one").unwrap();
        assert!(lines.write("two").is_err() && lines.write("three").is_err());
        // Room for the end of the cut line alone: that is written once.
        lines.to.1 = 1;
        assert!(lines.write("four").is_err());
        lines.to.1 = 100;
        lines.write("five").unwrap();
        lines.write("six").unwrap();
        assert_eq!(String::from_utf8(lines.to.0).unwrap(), "one\ntw\nfive\nsix\n");
    }
}
