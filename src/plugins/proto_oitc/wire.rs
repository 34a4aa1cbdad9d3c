//! Messages to browsers: one definition of each. Always the keys `type`, `message`,
//! `payload` in this order, and a final newline, as Go's encoder writes them.

use serde::Serialize;

use crate::core::json;
use crate::core::message::Frame;

/// The first message on every connection.
pub(super) fn established(client_uuid: &str) -> Frame {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Payload<'a> {
        client_uuid: &'a str,
    }
    frame("ConnectionEstablished", "Connection established successfully", Payload { client_uuid })
}

/// Whether openITCOCKPIT is exporting its configuration.
pub(super) fn export_status(running: bool) -> Frame {
    frame("ExportStatus", "", running)
}

/// The answer to `KeepAlive`.
pub(super) fn pong() -> Frame {
    frame("KeepAlive", "Pong", ())
}

/// The answer to a message of a type that is not known.
pub(super) fn unknown_type(name: &str) -> Frame {
    frame("Error", &format!("Unknown message type: {name}"), ())
}

/// A notification. Empty uuids and icons are left out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Push<'a> {
    pub timestamp: i64,
    pub user_id: i64,
    pub title: &'a str,
    pub message: &'a str,
    #[serde(rename = "type")]
    pub kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub host_uuid: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub service_uuid: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub icon: &'a str,
}

/// A notification under the text that browsers show.
pub(super) fn push(message: &str, payload: &Push<'_>) -> Frame {
    frame("ProcessPushNotification", message, payload)
}

fn frame(kind: &str, message: &str, payload: impl Serialize) -> Frame {
    #[derive(Serialize)]
    struct Envelope<'a, P> {
        r#type: &'a str,
        message: &'a str,
        payload: P,
    }
    let envelope = Envelope { r#type: kind, message, payload };
    // Texts and numbers cannot fail.
    let mut text = json::to_vec(&envelope).unwrap_or_default();
    text.push(b'\n');
    String::from_utf8(text).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_as_go_writes_them() {
        assert_eq!(
            pong().as_str(),
            "{\"type\":\"KeepAlive\",\"message\":\"Pong\",\"payload\":null}\n"
        );
        assert_eq!(
            export_status(true).as_str(),
            "{\"type\":\"ExportStatus\",\"message\":\"\",\"payload\":true}\n"
        );
    }

    #[test]
    fn empty_members_of_a_notification_are_left_out() {
        let mut payload = Push {
            timestamp: 1,
            user_id: 2,
            title: "t",
            message: "m",
            kind: "host",
            host_uuid: "h",
            service_uuid: "",
            icon: "",
        };
        let text = push("m", &payload);
        assert_eq!(
            text.as_str(),
            "{\"type\":\"ProcessPushNotification\",\"message\":\"m\",\"payload\":{\"timestamp\":1,\"userId\":2,\"title\":\"t\",\"message\":\"m\",\"type\":\"host\",\"hostUuid\":\"h\"}}\n"
        );
        (payload.service_uuid, payload.icon) = ("s", "i");
        assert!(
            push("m", &payload)
                .as_str()
                .contains(r#""hostUuid":"h","serviceUuid":"s","icon":"i"}"#)
        );
    }
}
