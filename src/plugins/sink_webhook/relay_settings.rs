//! The relay's settings: a row that an administrator changes in a web form, read again
//! and again so that a change works without a restart.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use reqwest::Url;
use sea_orm::FromQueryResult;
use tokio::sync::watch;
use tracing::{info, warn};

use super::endpoint::{self, EndpointError};
use crate::core::chain;
use crate::core::config::Secret;
use crate::core::database::{Database, DatabaseError};
use crate::core::plugin::Jobs;

/// How long a start waits for the first reading.
const FIRST_READING: Duration = Duration::from_millis(500);

/// The last that is known.
#[derive(Clone)]
pub(super) enum Settings {
    /// Nothing was read so far.
    Unknown,
    /// No row is enabled.
    Off,
    /// The first row that is enabled.
    On(Arc<Gateway>),
}

/// Where to send to, and with which key.
pub(super) struct Gateway {
    address: Secret,
    port: i64,
    /// Goes into the body.
    pub(super) auth_key: Secret,
    /// Where to and with which header, or why nothing can be sent.
    pub(super) ready: Result<(Url, HeaderValue), GatewayError>,
}

/// Why nothing can be sent.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum GatewayError {
    /// See the cause.
    #[error("the relay has no usable address")]
    Endpoint(#[from] EndpointError),
    /// The key has a line break or the like.
    #[error("the key of the relay has characters that no header can have")]
    Key,
}

#[derive(FromQueryResult)]
struct Row {
    address: String,
    port: i64,
    auth_key: String,
}

impl Gateway {
    fn new(row: Row) -> Self {
        let Row { address, port, auth_key } = row;
        let ready = ready(&address, port, &auth_key);
        Self { address: address.into(), port, auth_key: auth_key.into(), ready }
    }

    fn is(&self, row: &Row) -> bool {
        self.address.expose() == row.address
            && self.port == row.port
            && self.auth_key.expose() == row.auth_key
    }
}

fn ready(address: &str, port: i64, key: &str) -> Result<(Url, HeaderValue), GatewayError> {
    let url = endpoint::parse(address, port)?;
    let mut key = HeaderValue::from_bytes(key.as_bytes()).map_err(|_| GatewayError::Key)?;
    key.set_sensitive(true);
    Ok((url, key))
}

/// Reads the settings now and every `every`, until the server stops. Returns once the first
/// reading is done, so that a server that listens knows whether there is a relay, or when it
/// takes too long: the data base may be down.
pub(super) async fn watch(
    database: Database,
    every: Duration,
    name: &str,
    jobs: &Jobs,
) -> watch::Receiver<Settings> {
    let (sender, receiver) = watch::channel(Settings::Unknown);
    let first = tokio::time::timeout(FIRST_READING, refresh(&database, &sender, false, name));
    let mut failing = matches!(first.await, Ok(true));
    let (sink, stopping) = (name.to_owned(), jobs.clone());
    jobs.spawn(async move {
        let keep_reading = async {
            loop {
                tokio::time::sleep(every).await;
                failing = refresh(&database, &sender, failing, &sink).await;
            }
        };
        tokio::select! {
            () = stopping.stopping() => {}
            () = keep_reading => {}
        }
    });
    receiver
}

/// Reads once; true when that failed. What was known stays then.
async fn refresh(
    database: &Database,
    known: &watch::Sender<Settings>,
    failing: bool,
    sink: &str,
) -> bool {
    match read(database).await {
        Ok(row) => {
            if failing {
                info!(sink, "The settings of the relay can be read again");
            }
            update(known, row, sink);
            false
        }
        Err(error) => {
            if !failing {
                let error = chain(&error);
                warn!(sink, error, "Cannot read the settings of the relay, keeping the last ones");
            }
            true
        }
    }
}

async fn read(database: &Database) -> Result<Option<Row>, DatabaseError> {
    let sql = "SELECT address, port, auth_key FROM push_notifications_relay WHERE enabled = 1 ORDER BY id LIMIT 1";
    Ok(database.query::<Row>(sql, []).await?.pop())
}

/// Takes over what was read, and says so when it is something else than before.
fn update(known: &watch::Sender<Settings>, row: Option<Row>, sink: &str) {
    let next = match (&*known.borrow(), row) {
        (Settings::Off, None) => return,
        (Settings::On(gateway), Some(row)) if gateway.is(&row) => return,
        (_, None) => Settings::Off,
        (_, Some(row)) => Settings::On(Arc::new(Gateway::new(row))),
    };
    tell(&next, sink);
    known.send_replace(next);
}

fn tell(settings: &Settings, sink: &str) {
    let Settings::On(gateway) = settings else {
        return info!(sink, "The relay is off");
    };
    match &gateway.ready {
        Ok((url, _)) => {
            let gateway = url.origin().ascii_serialization();
            info!(sink, gateway, "The relay is on");
        }
        Err(error) => warn!(sink, error = chain(error), "The relay is on and cannot be used"),
    }
}
