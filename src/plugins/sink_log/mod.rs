//! `type = "log"`: one line of JSON for each message, to stdout or a file. For debugging.
//!
//! The smallest sink there is, and the one `docs/writing-a-plugin.md` builds.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot;
use tracing::warn;

use crate::core::BoxError;
use crate::core::admission::Admission;
use crate::core::config::Check;
use crate::core::message::Message;
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
}

/// What the writing thread is given.
enum Item {
    Message(Arc<Message>),
    /// Everything before this is to be written; then say so.
    Flush(oneshot::Sender<()>),
}

impl Sink for Log {
    fn deliver(&self, message: &Arc<Message>, _: &Admission) -> Receipt {
        match self.queue.try_send(Item::Message(message.clone())) {
            // Nobody received anything: a publisher's count of receivers is not ours.
            Ok(()) => Receipt::default(),
            Err(_) => Delivery { accepted: 0, dropped: 1 }.into(),
        }
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
        let name = cx.name;
        std::thread::Builder::new().name(format!("sink.{name}")).spawn(move || {
            write(&waiting, to, &name);
        })?;
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
        Ok(Self { queue })
    }
}

fn append(path: &PathBuf) -> Result<File, BoxError> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|error| format!("path: cannot append to {}: {error}", path.display()).into())
}

fn write(waiting: &Receiver<Item>, mut to: impl Write, name: &str) {
    let mut failed = false;
    for item in waiting {
        let message = match item {
            Item::Message(message) => message,
            Item::Flush(done) => {
                let _ = done.send(());
                continue;
            }
        };
        let line = json!({
            "id": message.id,
            "topic": message.topic.as_str(),
            "message": message.frame.as_str(),
        });
        let written = writeln!(to, "{line}").and_then(|()| to.flush());
        if let Err(error) = &written
            && !failed
        {
            warn!(sink = name, %error, "Cannot write messages, dropping them until it works again");
        }
        failed = written.is_err();
    }
}
