//! A browser's conversation.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use tracing::debug;
use uuid::Uuid;

use super::decode::{Members, fits};
use super::handshake::Visitor;
use super::{Shared, post, wire};
use crate::core::admission::Admission;
use crate::core::message::{Audience, Frame, Publication};
use crate::core::session::{Client, Device, Limits, Session};
use crate::core::sink::Receipt;

const REGISTER: &str = "RegisterBrowserPushNotification";
const TEST: &str = "TestPushNotification";
const TEST_MESSAGE: &str = "This is a test push notification triggered by the client";

pub(super) struct OitcSession {
    shared: Arc<Shared>,
    user: i64,
    browser: Arc<str>,
    /// Whether notifications were asked for; shared with the sink, which prefers such
    /// connections, and with the registry, which is the gate.
    flag: Arc<AtomicBool>,
}

/// The keys the original knows; it checks their types and ignores their values.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Register {
    #[serde(rename = "userId")]
    _user_id: Option<i64>,
    #[serde(rename = "clientUuid")]
    _client_uuid: Option<String>,
    #[serde(rename = "browserUuid")]
    _browser_uuid: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Test {
    title: Option<String>,
    icon: Option<String>,
}

/// What a browser wants.
pub(super) enum Request {
    KeepAlive,
    Register,
    Test(Test),
    /// Something nobody knows; holds what is to be said to it.
    Unknown(Frame),
    /// Something with a payload that does not go with it; holds what.
    Unfitting(&'static str),
    Undecodable,
}

/// Reads a message of a browser.
pub(super) fn understand(text: &str) -> Request {
    let read = Members::read(text, &["type", "message", "payload"]).and_then(|mut members| {
        // The message is not used, but must be a text.
        members.take::<String>("message")?;
        Ok((members.take::<String>("type")?, members.take::<Value>("payload")?))
    });
    let Ok((kind, payload)) = read else { return Request::Undecodable };
    match kind.as_str() {
        "KeepAlive" => Request::KeepAlive,
        REGISTER if fits::<Register>(&payload).is_some() => Request::Register,
        REGISTER => Request::Unfitting(REGISTER),
        TEST => fits(&payload).map_or(Request::Unfitting(TEST), Request::Test),
        other => Request::Unknown(wire::unknown_type(other)),
    }
}

impl OitcSession {
    pub(super) fn new(shared: Arc<Shared>, visitor: &Visitor) -> Self {
        let flag = shared.users.join(visitor.user);
        Self { shared, user: visitor.user, browser: visitor.browser.as_str().into(), flag }
    }

    /// To all browsers of the user, registered or not, and to his phones.
    fn test(&self, test: Test, admission: &Admission) -> Receipt {
        let title = test.title.unwrap_or_default();
        let icon = test.icon.unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let payload = wire::Push {
            timestamp: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            user_id: self.user,
            title: &title,
            message: &title,
            kind: "host",
            host_uuid: "",
            service_uuid: "",
            icon: &icon,
        };
        let frame = wire::push(TEST_MESSAGE, &payload);
        let mut publication = Publication::new(self.shared.browsers(self.user), frame.clone());
        publication.audience = Audience::OnePerDevice;
        let mut receipt = self.shared.router.publish(publication, admission);
        let phone = post::Phone {
            body: &title,
            notification_type: "CUSTOM",
            current_state: 0,
            push: &payload,
        };
        receipt += post::publish_to_phones(&self.shared, frame, &phone, admission);
        receipt
    }
}

#[async_trait]
impl Session for OitcSession {
    fn limits(&self) -> Limits {
        self.shared.config.limits()
    }

    async fn opened(&mut self, client: &mut dyn Client) {
        client.identify(Device { id: self.browser.clone(), preferred: self.flag.clone() });
        client.send(wire::established(&Uuid::new_v4().to_string()));
        client.subscribe(self.shared.browsers(self.user));
        client.subscribe(self.shared.exports());
        if let Some(status) = self.shared.last_export.fresh(&self.shared) {
            client.send(status);
        }
    }

    async fn received(&mut self, client: &mut dyn Client, text: &str) -> ControlFlow<()> {
        match understand(text) {
            Request::Undecodable => {
                debug!(user = self.user, "Undecodable message, ending the connection");
                return ControlFlow::Break(());
            }
            Request::KeepAlive => client.send(wire::pong()),
            Request::Register => self.shared.users.register(self.user),
            Request::Test(request) => match self.shared.router.admit(text.len()).await {
                Ok(admission) => _ = self.test(request, &admission).settled().await,
                Err(error) => debug!(%error, "Test notification refused"),
            },
            Request::Unknown(answer) => client.send(answer),
            Request::Unfitting(kind) => {
                debug!(user = self.user, kind, "Payload of the wrong kind ignored");
            }
        }
        ControlFlow::Continue(())
    }

    /// The original does not look at the opcode.
    async fn received_binary(&mut self, client: &mut dyn Client, bytes: &[u8]) -> ControlFlow<()> {
        self.received(client, &String::from_utf8_lossy(bytes)).await
    }
}

impl Drop for OitcSession {
    fn drop(&mut self) {
        self.shared.users.leave(self.user, &self.flag);
    }
}
