//! The protocol of openITCOCKPIT's front ends up to 5.6: the PHP server's.
//!
//! Its clients arrive without a subprotocol and without a query, and prove who they are
//! with a key in every message. So such a socket is open before anybody was asked, which is
//! why this is opt-in and why who does not register in time is sent away.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::post::{Kind, Notification, Subject};
use super::texts::legacy_texts;
use super::{Shared, browser_topic};
use crate::core::admission::Admission;
use crate::core::auth::AuthError;
use crate::core::client_address::ClientAddress;
use crate::core::message::{Audience, Frame, Publication};
use crate::core::session::{Client, Device, Limits, Session};
use crate::core::sink::Receipt;

pub(super) struct LegacySession {
    shared: Arc<Shared>,
    client_address: ClientAddress,
    /// Until when the client has to register.
    deadline: Instant,
    registered: Option<(i64, Arc<AtomicBool>)>,
}

impl LegacySession {
    pub(super) fn new(shared: Arc<Shared>, client_address: ClientAddress) -> Self {
        let deadline = Instant::now() + shared.config.legacy_register_timeout;
        Self { shared, client_address, deadline, registered: None }
    }

    /// What the key in a message means: go on with it, leave it, or send the client away.
    async fn judge(&self, key: &str, task: &str, user: Option<i64>) -> Verdict {
        match self.shared.authenticate(self.client_address, key).await {
            Ok(grant) if user.is_none_or(|user| grant.subscribe.covers(&browser_topic(user))) => {
                Verdict::Good
            }
            // Nobody can say that the key is wrong: who is in stays in, since these clients
            // never come back, and who is not has until the deadline.
            Err(AuthError::Unavailable(_) | AuthError::TooMany(_))
                if self.registered.is_some() && task != "register" =>
            {
                Verdict::Good
            }
            Err(AuthError::Unavailable(_) | AuthError::TooMany(_)) => Verdict::Unknown,
            _ => Verdict::Bad,
        }
    }

    /// False when the client is to be sent away.
    fn register(&mut self, client: &mut dyn Client, data: &Value) -> bool {
        let (Some(user), Some(browser)) = (user_of(data), data["browserUuid"].as_str()) else {
            return false;
        };
        if self.registered.is_none() {
            let flag = self.shared.legacy_users.join(user);
            self.shared.legacy_users.register(user);
            client.identify(Device { id: browser.into(), preferred: flag.clone() });
            client.subscribe(self.shared.legacy_browsers(user));
            self.registered = Some((user, flag));
        }
        true
    }
}

enum Verdict {
    Good,
    Unknown,
    Bad,
}

/// The PHP server takes a number in quotes, too.
fn user_of(data: &Value) -> Option<i64> {
    data["userId"].as_i64().or_else(|| data["userId"].as_str()?.parse().ok())
}

#[async_trait]
impl Session for LegacySession {
    fn limits(&self) -> Limits {
        self.shared.config.limits()
    }

    fn deadline(&self) -> Option<Instant> {
        self.registered.is_none().then_some(self.deadline)
    }

    async fn opened(&mut self, client: &mut dyn Client) {
        let uuid = Uuid::new_v4().to_string();
        client.send(text(
            "connection",
            "Connection established successfully",
            &json!({ "uuid": uuid }),
        ));
    }

    async fn received(&mut self, client: &mut dyn Client, text_of: &str) -> ControlFlow<()> {
        let Ok(message) = serde_json::from_str::<Value>(text_of) else {
            return ControlFlow::Continue(());
        };
        // Without one of these three the PHP server says nothing.
        let (Some(task), Some(key)) = (message["task"].as_str(), message["key"].as_str()) else {
            return ControlFlow::Continue(());
        };
        if message["uuid"].is_null() {
            return ControlFlow::Continue(());
        }
        let data = &message["data"];
        let user = (task == "register").then(|| user_of(data)).flatten();
        match self.judge(key, task, user).await {
            Verdict::Good => {}
            Verdict::Unknown => return ControlFlow::Continue(()),
            Verdict::Bad => return ControlFlow::Break(()),
        }
        match task {
            "register" if !self.register(client, data) => return ControlFlow::Break(()),
            "keepAlive" => client.send(text("keepAlive", "Pong", &json!([]))),
            "testMessage" => client.send(text("message", "This is a test message", data)),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    /// The original does not look at the opcode.
    async fn received_binary(&mut self, client: &mut dyn Client, bytes: &[u8]) -> ControlFlow<()> {
        self.received(client, &String::from_utf8_lossy(bytes)).await
    }
}

impl Drop for LegacySession {
    fn drop(&mut self) {
        if let Some((user, flag)) = &self.registered {
            self.shared.legacy_users.leave(*user, flag);
        }
    }
}

fn text(kind: &str, message: &str, data: &impl Serialize) -> Frame {
    #[derive(Serialize)]
    struct Envelope<'a, D> {
        r#type: &'a str,
        message: &'a str,
        data: &'a D,
    }
    // Strings and numbers always serialize.
    serde_json::to_string(&Envelope { r#type: kind, message, data }).unwrap_or_default().into()
}

/// Hands the notification to the legacy clients of the user, if there are any.
pub(super) fn publish(
    shared: &Shared,
    notification: &Notification,
    kind: Kind,
    subject: &Subject,
    admission: &Admission,
) -> Receipt {
    /// All members are always there; the order is the PHP server's.
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Data<'a> {
        timestamp: i64,
        user_id: i64,
        title: &'a str,
        message: &'a str,
        r#type: &'a str,
        host_uuid: &'a str,
        service_uuid: &'a str,
        icon: Option<&'a str>,
    }
    if !shared.legacy_users.is_registered(notification.user) {
        return Receipt::default();
    }
    let texts = legacy_texts(notification, kind, subject);
    let data = Data {
        timestamp: notification.timestamp,
        user_id: notification.user,
        title: &texts.title,
        message: &texts.message,
        r#type: &notification.kind,
        host_uuid: &notification.host_uuid,
        service_uuid: if kind == Kind::Service { &notification.service_uuid } else { "" },
        icon: Some(texts.icon).filter(|icon| !icon.is_empty()),
    };
    let topic = shared.legacy_browsers(notification.user);
    let mut publication = Publication::new(topic, text("message", &texts.message, &data));
    publication.audience = Audience::OnePerDevice;
    shared.router.publish(publication, admission)
}
