//! Any server with plain WebSocket subscribers and a POST to publish, such as nginx with
//! nchan.

use clap::Args;

use super::{Dialect, Request, upgrade};
use crate::cli::bench::options::{Audience, Load};
use crate::cli::bench::settings::Settings;
use crate::cli::bench::target::{self, Target};

/// By topic.
struct Generic {
    subscribe: Vec<Target>,
    publish: Vec<Target>,
    payload: usize,
}

impl Dialect for Generic {
    fn name(&self) -> &'static str {
        "generic"
    }

    fn handshake(&self, subscriber: usize) -> Vec<u8> {
        let target = &self.subscribe[subscriber % self.subscribe.len()];
        upgrade(&target.authority, target.path_or_root(), "")
    }

    fn subscribe(&self, _: usize) -> Option<String> {
        None
    }

    fn publish(&self, topic: usize) -> Request {
        let target = &self.publish[topic];
        let path = target.path_or_root();
        Request::post(&target.authority, path, "text/plain", ["", ""], self.payload)
    }

    fn accepts(&self, status: u16) -> bool {
        (200..300).contains(&status)
    }
}

/// `pushmux bench generic`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// Where subscribers connect; `{topic}` becomes the topic's name.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8080/sub/{topic}")]
    subscribe: String,
    /// Where messages are posted, as the body; `{topic}` becomes the topic's name.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080/pub/{topic}")]
    publish: String,
    #[command(flatten)]
    audience: Audience,
    #[command(flatten)]
    load: Load,
}

impl Options {
    /// Reads what the run needs.
    ///
    /// # Errors
    /// Naming the flag, what was found and what would be right.
    pub(in crate::cli::bench) fn settings(self) -> Result<Settings, String> {
        let topics = self.audience.names()?;
        let targets = |flag: &str, url: &str, scheme| {
            if topics.len() > 1 && !url.contains("{topic}") {
                let quoted = target::quoted(flag, url)?;
                return Err(format!(
                    "{flag}: found no {{topic}} in {quoted}, expected it, because there are {} topics",
                    topics.len()
                ));
            }
            let target =
                |topic: &String| Target::parse(flag, &url.replace("{topic}", topic), scheme);
            topics.iter().map(target).collect::<Result<Vec<_>, _>>()
        };
        let subscribe = targets("--subscribe", &self.subscribe, "ws")?;
        let publish = targets("--publish", &self.publish, "http")?;
        let (subscribers, payload) = (self.audience.subscribers as usize, self.load.payload());
        let ends = [subscribe[0].clone(), publish[0].clone()];
        let dialect = Generic { subscribe, publish, payload };
        self.load.settings(Box::new(dialect), [&ends[0], &ends[1]], subscribers, topics.len())
    }
}
