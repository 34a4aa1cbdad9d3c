//! `POST /message`: from Naemon's notification command to browsers and phones.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Buf;
use futures_util::Stream;
use http::{HeaderMap, StatusCode};
use serde_json::json;
use tracing::{debug, warn};
use warp::reply::Response;

use super::decode::Members;
use super::store::Found;
use super::texts::{Texts, texts};
use super::{Shared, legacy, refuse, wire};
use crate::core::admission::Admission;
use crate::core::body::{Bodies, BodyError};
use crate::core::chain;
use crate::core::database::DatabaseError;
use crate::core::http as plain;
use crate::core::message::{Audience, Frame, Publication};
use crate::core::sink::Receipt;
use crate::core::throttle::Throttle;

/// What the body says. Missing members are empty or 0; `icon` is never looked at.
#[derive(Debug, Default)]
pub(super) struct Notification {
    pub timestamp: i64,
    pub user: i64,
    /// In lower case.
    pub kind: String,
    pub host_uuid: String,
    pub service_uuid: String,
    pub state: i64,
    /// `notificationtype`: `PROBLEM`, `RECOVERY`, `ACKNOWLEDGEMENT` and so on.
    pub event: String,
    pub output: String,
    pub ack_author: String,
    pub ack_comment: String,
}

/// What the notification is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Host,
    Service,
}

const MEMBERS: &[&str] = &[
    "timestamp",
    "userid",
    "type",
    "hostuuid",
    "serviceuuid",
    "state",
    "notificationtype",
    "output",
    "ackauthor",
    "ackcomment",
];

impl Notification {
    pub(super) fn read(body: &[u8]) -> Result<Self, serde_json::Error> {
        // Go turns what is no UTF-8 into U+FFFD as well.
        let text = String::from_utf8_lossy(body);
        let mut members = Members::read(&text, MEMBERS)?;
        Ok(Self {
            timestamp: members.take("timestamp")?,
            user: members.take("userid")?,
            kind: members.take::<String>("type")?.to_lowercase(),
            host_uuid: members.take("hostuuid")?,
            service_uuid: members.take("serviceuuid")?,
            state: members.take("state")?,
            event: members.take("notificationtype")?,
            output: members.take("output")?,
            ack_author: members.take("ackauthor")?,
            ack_comment: members.take("ackcomment")?,
        })
    }

    /// One second is the resolution of the timestamp; the future is never stale.
    fn is_stale(&self, max_age: Duration) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let sent = Duration::from_secs(u64::try_from(self.timestamp).unwrap_or(0));
        now.checked_sub(sent).is_some_and(|age| age > max_age)
    }
}

/// Answers a request. The order of the decisions is the original's.
pub(super) async fn answer(
    shared: &Shared,
    headers: &HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
    bodies: &Bodies,
) -> Response {
    let body = match bodies.read(headers, body, shared.config.max_body_bytes).await {
        Ok(body) => body,
        Err(BodyError::TimedOut) => {
            return refuse(StatusCode::REQUEST_TIMEOUT, "Request timed out");
        }
        Err(BodyError::Broken) => return refuse(StatusCode::BAD_REQUEST, "Invalid JSON"),
        Err(BodyError::Busy) => return Bodies::busy(),
        Err(BodyError::Announced { .. } | BodyError::TooLarge { .. }) => {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, "Message is too large");
        }
    };
    let Ok(notification) = Notification::read(&body.bytes) else {
        return refuse(StatusCode::BAD_REQUEST, "Invalid JSON");
    };
    if notification.user <= 0 {
        return refuse(StatusCode::BAD_REQUEST, "Invalid userId");
    }
    if notification.is_stale(shared.config.max_age) {
        debug!(user = notification.user, timestamp = notification.timestamp, "Too old, dropped");
        return plain::text(StatusCode::ACCEPTED, "Notification is too old and was dropped");
    }
    let kind = match notification.kind.as_str() {
        "host" => Kind::Host,
        "service" => Kind::Service,
        // The original sends an empty notification to everybody.
        _ => return refuse(StatusCode::BAD_REQUEST, "Invalid type, expected host or service"),
    };
    let browsers = shared.users.is_registered(notification.user);
    let legacy = shared.legacy_users.is_registered(notification.user);
    let phones = shared.router.reaches_offline(&shared.phones(notification.user));
    if !browsers && !legacy && !phones {
        let text = "User is not registered for push notifications";
        return plain::text(StatusCode::ACCEPTED, text);
    }
    match subject(shared, &notification, kind).await {
        Ok(subject) => {
            // For browsers of both kinds and phones, so that it is all of them or none.
            let admission = match shared.router.admit(body.bytes.len()).await {
                Ok(admission) => admission,
                Err(busy) => return busy.answer(),
            };
            let receipt = publish(shared, &notification, kind, &subject, browsers, &admission);
            let delivery = receipt.settled().await;
            debug!(user = notification.user, ?delivery, "Notification published");
            plain::text(StatusCode::OK, "ok")
        }
        Err(error) => error.answer(&shared.lookup_faults),
    }
}

/// Host, and service if it is about one.
#[derive(Debug)]
pub(super) struct Subject {
    pub host: String,
    pub service: Option<String>,
}

/// Why there is no subject; holds `host` or `service`.
enum NoSubject {
    Unknown(&'static str),
    Failed(&'static str, DatabaseError),
}

impl NoSubject {
    fn answer(self, failures: &Throttle) -> Response {
        match self {
            Self::Unknown(what) => {
                refuse(StatusCode::BAD_REQUEST, &format!("No {what} found for given UUID"))
            }
            Self::Failed(what, error) => {
                if let Some(more) = failures.pass() {
                    warn!(error = chain(&error), more_before = more, "Cannot look up a {what}");
                }
                refuse(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    &format!("DB error while fetching {what}"),
                )
            }
        }
    }
}

async fn subject(
    shared: &Shared,
    notification: &Notification,
    kind: Kind,
) -> Result<Subject, NoSubject> {
    let found = |result: Result<Option<Found>, DatabaseError>, what| match result {
        Ok(Some(Found { name, fault })) => {
            if let Some(error) = fault
                && let Some(more) = shared.lookup_faults.pass()
            {
                warn!(
                    error = chain(&error),
                    more_before = more,
                    "Cannot look up a {what}, using the name it had"
                );
            }
            Ok(name)
        }
        Ok(None) => Err(NoSubject::Unknown(what)),
        Err(error) => Err(NoSubject::Failed(what, error)),
    };
    let deadline = shared.store.deadline();
    let host = found(shared.store.host(&notification.host_uuid, deadline).await, "host")?;
    let service = match kind {
        Kind::Host => None,
        Kind::Service => {
            let asked = shared.store.service(&notification.service_uuid, deadline).await;
            Some(found(asked, "service")?)
        }
    };
    Ok(Subject { host, service })
}

/// What browsers and phones get of a notification.
pub(super) fn payload<'a>(notification: &'a Notification, texts: &'a Texts) -> wire::Push<'a> {
    wire::Push {
        timestamp: notification.timestamp,
        user_id: notification.user,
        title: &texts.title,
        message: &texts.message,
        kind: &notification.kind,
        host_uuid: &notification.host_uuid,
        service_uuid: &notification.service_uuid,
        icon: texts.icon,
    }
}

fn publish(
    shared: &Shared,
    notification: &Notification,
    kind: Kind,
    subject: &Subject,
    browsers: bool,
    admission: &Admission,
) -> Receipt {
    let texts = texts(notification, kind, subject);
    let payload = payload(notification, &texts);
    let frame = wire::push(&texts.message, &payload);
    let mut receipt = Receipt::default();
    if browsers {
        let mut publication = Publication::new(shared.browsers(notification.user), frame.clone());
        publication.audience = Audience::OnePerDevice;
        receipt += shared.router.publish(publication, admission);
    }
    receipt += legacy::publish(shared, notification, kind, subject, admission);
    let phone = Phone {
        body: &texts.message,
        notification_type: &notification.event,
        current_state: notification.state,
        push: &payload,
    };
    receipt += publish_to_phones(shared, frame, &phone, admission);
    receipt
}

/// What a relay to phones needs beyond the notification itself.
pub(super) struct Phone<'a> {
    pub body: &'a str,
    pub notification_type: &'a str,
    pub current_state: i64,
    pub push: &'a wire::Push<'a>,
}

/// Hands the notification to sinks that bring it to phones.
pub(super) fn publish_to_phones(
    shared: &Shared,
    frame: Frame,
    phone: &Phone<'_>,
    admission: &Admission,
) -> Receipt {
    let push = phone.push;
    let topic = shared.phones(push.user_id);
    if !shared.router.reaches_offline(&topic) {
        return Receipt::default();
    }
    let mut publication = Publication::new(topic, frame);
    publication.data = json!({
        "user_id": push.user_id,
        "title": push.title,
        "body": phone.body,
        "type": push.kind,
        "host_uuid": push.host_uuid,
        "service_uuid": push.service_uuid,
        "notification_type": phone.notification_type,
        "current_state": phone.current_state,
    });
    shared.router.publish(publication, admission)
}
