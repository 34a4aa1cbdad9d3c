//! `target = "relay"`: a message for a user becomes one request for each of the user's
//! phones, to the gateway that the data base names.

use http::{HeaderMap, StatusCode};
use reqwest::Url;
use sea_orm::FromQueryResult;
use serde::Deserialize as _;
use tokio::sync::{Semaphore, watch};
use tracing::{info, warn};

use super::Config;
use super::client::{Client, Redirects, SendError};
use super::outcome::Outcomes;
use super::pool::Target;
use super::relay_body::Notice;
use super::relay_settings::{self, Gateway, GatewayError, Settings};
use crate::core::database::{Database, DatabaseError};
use crate::core::message::Message;
use crate::core::plugin::Jobs;
use crate::core::{BoxError, chain};

/// The target.
pub(super) struct Relay {
    client: Client,
    database: Database,
    settings: watch::Receiver<Settings>,
    /// One for each request that may be under way: a user may have many phones.
    requests: Semaphore,
    timeout: std::time::Duration,
}

/// Why a phone got nothing.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("the settings of the relay could not be read so far")]
    Unknown,
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    #[error("the devices of a user could not be read")]
    Devices(#[source] DatabaseError),
    #[error(transparent)]
    Send(#[from] SendError),
}

#[derive(FromQueryResult)]
struct Device {
    id: i64,
    /// What the gateway calls `token`. Not for the log.
    device_id: String,
}

impl Relay {
    pub(super) async fn build(
        config: &Config,
        database: Database,
        name: &str,
        jobs: &Jobs,
    ) -> Result<Self, BoxError> {
        let every = config.settings_cache;
        let settings = relay_settings::watch(database.clone(), every, name, jobs).await;
        Ok(Self {
            client: Client::build(config, Redirects::SameOrigin)?,
            database,
            settings,
            requests: Semaphore::new(config.concurrency),
            timeout: config.timeout,
        })
    }

    /// The settings; right after the start it waits for them.
    async fn settings(&self) -> Settings {
        let mut settings = self.settings.clone();
        let known = settings.wait_for(|settings| !matches!(settings, Settings::Unknown));
        match tokio::time::timeout(self.timeout, known).await {
            Ok(Ok(settings)) => settings.clone(),
            _ => Settings::Unknown,
        }
    }

    /// To all phones of the user at the same time, as far as requests are to be had. True when
    /// each of them has it, also when there is none.
    async fn to_all(&self, notice: &Notice, outcomes: &Outcomes) -> Result<bool, RelayError> {
        let gateway = match self.settings().await {
            Settings::On(gateway) => gateway,
            Settings::Off => return Ok(true),
            Settings::Unknown => return Err(RelayError::Unknown),
        };
        let (url, key) = gateway.ready.as_ref().map_err(|error| *error)?;
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", key.clone());
        let devices = self.devices(notice.user_id).await.map_err(RelayError::Devices)?;
        let sending = devices
            .iter()
            .map(|device| self.to_one(notice, device, &gateway, url, &headers, outcomes));
        Ok(futures_util::future::join_all(sending).await.into_iter().all(|sent| sent))
    }

    async fn to_one(
        &self,
        notice: &Notice,
        device: &Device,
        gateway: &Gateway,
        url: &Url,
        headers: &HeaderMap,
        outcomes: &Outcomes,
    ) -> bool {
        // Only a closed semaphore could refuse, and nobody closes it.
        let Ok(_permit) = self.requests.acquire().await else { return false };
        let body = notice.body(gateway.auth_key.expose(), &device.device_id);
        // One attempt; a retry would stand here.
        match self.client.post(url.clone(), headers.clone(), body).await {
            Ok(()) => outcomes.sent(),
            Err(SendError::Status(StatusCode::GONE)) => {
                outcomes.gone();
                self.forget(&device.device_id, &outcomes.name).await;
            }
            Err(error) => {
                outcomes.failed(&error);
                return false;
            }
        }
        true
    }

    async fn devices(&self, user_id: i64) -> Result<Vec<Device>, DatabaseError> {
        let sql = "SELECT id, device_id FROM mobile_devices WHERE user_id = ? ORDER BY id";
        self.database.query(sql, [user_id.into()]).await
    }

    /// Removes a device that is no more, for every user that had it.
    async fn forget(&self, device_id: &str, sink: &str) {
        match self.delete(device_id).await {
            Ok(rows) => info!(sink, rows, "The gateway says that a device is gone: removed"),
            Err(error) => {
                warn!(sink, error = chain(&error), "Cannot remove a device that is gone");
            }
        }
    }

    /// The data base may find that `ABC ` is `abc`; a token is its bytes. So it is asked
    /// for candidates, and those that are the token are deleted by number.
    async fn delete(&self, device_id: &str) -> Result<u64, DatabaseError> {
        let sql = "SELECT id, device_id FROM mobile_devices WHERE device_id = ?";
        let found = self.database.query::<Device>(sql, [device_id.into()]).await?;
        let mut rows = 0;
        for device in found.iter().filter(|device| device.device_id == device_id) {
            let sql = "DELETE FROM mobile_devices WHERE id = ?";
            rows += self.database.execute(sql, [device.id.into()]).await?;
        }
        Ok(rows)
    }
}

impl Target for Relay {
    type Item = Notice;

    fn item(&self, message: &Message) -> Option<(Notice, usize)> {
        if matches!(&*self.settings.borrow(), Settings::Off) {
            return None;
        }
        let notice = Notice::deserialize(&message.data).ok()?;
        let size = notice.size();
        Some((notice, size))
    }

    async fn deliver(&self, notice: Notice, outcomes: &Outcomes) -> bool {
        let delivered = self.to_all(&notice, outcomes).await;
        delivered.unwrap_or_else(|error| {
            outcomes.failed(&error);
            false
        })
    }

    /// Also when the settings lead nowhere: that an administrator made a mistake in them
    /// is no reason to tell publishers that nobody is registered.
    fn reaches_offline(&self) -> bool {
        // As long as nothing is known there may be a relay: a message must not be refused
        // for want of an answer.
        !matches!(&*self.settings.borrow(), Settings::Off)
    }
}
