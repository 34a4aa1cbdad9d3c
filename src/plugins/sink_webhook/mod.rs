//! `type = "webhook"`: messages as HTTP requests.
//!
//! `deliver` puts a message into a bounded [`queue`] and returns; a fixed number of
//! workers ([`pool`]) send what waits to the target: one URL ([`target_url`]), or the
//! phones of a user through a gateway ([`relay`]). With more than one worker requests
//! overtake each other.
//!
//! A message is sent once. What fails is counted, and lost; so is what still waits when
//! the server's time to stop runs out.

mod client;
mod config;
mod endpoint;
mod outcome;
mod pool;
mod queue;
mod relay;
mod relay_body;
mod relay_settings;
mod target_url;

use std::sync::Arc;

use tracing::warn;

use crate::core::BoxError;
use crate::core::admission::Admission;
use crate::core::config::Check;
use crate::core::message::{Message, Topic};
use crate::core::plugin::{FromConfig, Plugin, SinkCx};
use crate::core::sink::{Receipt, Sink};

pub use config::{Config, Target};
use outcome::Outcomes;
use pool::Pool;
use relay::Relay;
use target_url::OneUrl;

pub(super) const PLUGIN: Plugin = Plugin::sink::<Webhook>("webhook");

/// The sink: whatever its target is.
pub struct Webhook(Box<dyn Sink>);

impl Sink for Webhook {
    fn deliver(&self, message: &Arc<Message>, admission: &Admission) -> Receipt {
        self.0.deliver(message, admission)
    }

    fn reaches_offline(&self, topic: &Topic) -> bool {
        self.0.reaches_offline(topic)
    }
}

impl FromConfig<SinkCx> for Webhook {
    type Config = Config;

    fn check(config: &Config, check: &mut Check<'_>) {
        config.check(check);
    }

    /// Certificates are in a file.
    fn inputs(config: &Config) -> Vec<u8> {
        std::fs::read(&config.ca_file).unwrap_or_default()
    }

    async fn build(config: Config, cx: SinkCx) -> Result<Self, BoxError> {
        if !config.verify_tls {
            let key = format!("sink.{}.verify_tls", cx.name);
            warn!(key, "Certificates are not verified: whoever is in between can read along");
        }
        let outcomes = Arc::new(Outcomes::new(&cx.name, &cx.metrics));
        Ok(Self(match config.target {
            Target::Url => {
                let target = OneUrl::build(&config)?;
                Box::new(Pool::start(target, &config, outcomes, &cx.jobs))
            }
            Target::Relay => {
                let database = cx.databases.get(&config.database)?;
                let target = Relay::build(&config, database, &cx.name, &cx.jobs).await?;
                Box::new(Pool::start(target, &config, outcomes, &cx.jobs))
            }
        }))
    }
}
