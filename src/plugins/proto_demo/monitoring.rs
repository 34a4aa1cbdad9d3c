//! What the page needs to send alerts as openITCOCKPIT's monitoring does, and to receive
//! them as its front end does. Read once, from the data base that the profile fills.

use sea_orm::FromQueryResult;
use serde_json::{Value, json};

use crate::core::config::Secret;
use crate::core::database::{Database, DatabaseError};

pub(super) struct Monitoring {
    /// With which browsers connect.
    api_key: Secret,
    /// With which the relay calls the gateway of the phones.
    pub gateway_key: Secret,
    /// Whose browsers and phone the page shows.
    user: i64,
    hosts: Vec<Host>,
    services: Vec<Service>,
}

/// What the data base lacks.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoMonitoring {
    #[error("[database.{0}] cannot be read")]
    Database(String, #[source] DatabaseError),
    #[error("[database.{0}] has no row in {1}, expected sample data as in the profile demo")]
    Row(String, &'static str),
}

#[derive(FromQueryResult)]
struct Text {
    value: String,
}

#[derive(FromQueryResult)]
struct User {
    user_id: i64,
}

#[derive(FromQueryResult)]
struct Host {
    uuid: String,
    name: String,
}

#[derive(FromQueryResult)]
struct Service {
    uuid: String,
    name: String,
    host_uuid: String,
}

impl Monitoring {
    pub(super) async fn read(database: &Database) -> Result<Self, NoMonitoring> {
        let read = Read(database);
        let services = "SELECT s.uuid, COALESCE(NULLIF(s.name, ''), t.name) AS name, \
             h.uuid AS host_uuid FROM services s INNER JOIN hosts h ON h.id = s.host_id \
             INNER JOIN servicetemplates t ON t.id = s.servicetemplate_id ORDER BY s.id";
        let api_key = "SELECT value FROM systemsettings WHERE `key` = 'SUDO_SERVER.API_KEY'";
        let gateway_key = "SELECT auth_key AS value FROM push_notifications_relay ORDER BY id";
        let user = "SELECT user_id FROM mobile_devices ORDER BY id";
        let monitoring = Self {
            api_key: read.first::<Text>(api_key, "systemsettings").await?.value.into(),
            gateway_key: read
                .first::<Text>(gateway_key, "push_notifications_relay")
                .await?
                .value
                .into(),
            user: read.first::<User>(user, "mobile_devices").await?.user_id,
            hosts: read.all("SELECT uuid, name FROM hosts ORDER BY id").await?,
            services: read.all(services).await?,
        };
        if monitoring.hosts.is_empty() {
            return Err(NoMonitoring::Row(database.name().to_owned(), "hosts"));
        }
        Ok(monitoring)
    }

    /// For the page; holds the API key, as what openITCOCKPIT tells its front end does.
    pub(super) fn json(&self) -> Value {
        let host = |host: &Host| json!({ "uuid": host.uuid, "name": host.name });
        let service = |service: &Service| json!({ "uuid": service.uuid, "name": service.name, "host": service.host_uuid });
        json!({
            "key": self.api_key.expose(),
            "user": self.user,
            "hosts": self.hosts.iter().map(host).collect::<Vec<_>>(),
            "services": self.services.iter().map(service).collect::<Vec<_>>(),
        })
    }

    /// A command that sends an alert about the first host to the server at `address`.
    pub(super) fn command(&self, address: std::net::SocketAddr) -> String {
        let host = self.hosts.first().map_or("", |host| &host.uuid);
        format!(
            "OITC_ADDRESS={address} pushmux send --type Host --notificationtype PROBLEM --hostuuid {host} --state 1 --output 'no answer to ping' --user-id {}",
            self.user
        )
    }
}

struct Read<'a>(&'a Database);

impl Read<'_> {
    async fn all<R: FromQueryResult>(&self, sql: &str) -> Result<Vec<R>, NoMonitoring> {
        let failed = |error| NoMonitoring::Database(self.0.name().to_owned(), error);
        self.0.query(sql, []).await.map_err(failed)
    }

    async fn first<R: FromQueryResult>(
        &self,
        sql: &str,
        table: &'static str,
    ) -> Result<R, NoMonitoring> {
        let row = self.all(sql).await?.into_iter().next();
        row.ok_or_else(|| NoMonitoring::Row(self.0.name().to_owned(), table))
    }
}
