//! What the gateway reads, byte for byte as the server this replaces sent it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::core::json;

/// What a message for phones says; comes as the data of a message.
#[derive(Debug, Deserialize)]
pub(super) struct Notice {
    pub(super) user_id: i64,
    title: String,
    body: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    host_uuid: String,
    #[serde(default)]
    service_uuid: String,
    notification_type: String,
    current_state: i64,
}

/// The fields stand in the order of the wire, which is the alphabet's.
#[derive(Serialize)]
struct Request<'a> {
    auth_key: &'a str,
    body: &'a str,
    current_state: i64,
    host_uuid: &'a str,
    notification_type: &'a str,
    service_uuid: &'a str,
    title: &'a str,
    token: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    user_id: i64,
}

impl Notice {
    /// About what it takes in memory.
    pub(super) fn size(&self) -> usize {
        let Self { title, body, kind, host_uuid, service_uuid, notification_type, .. } = self;
        let texts = [title, body, kind, host_uuid, service_uuid, notification_type];
        size_of::<Self>() + texts.map(String::len).iter().sum::<usize>()
    }

    /// The request for one phone.
    pub(super) fn body(&self, auth_key: &str, token: &str) -> Bytes {
        let request = Request {
            auth_key,
            body: &self.body,
            current_state: self.current_state,
            host_uuid: &self.host_uuid,
            notification_type: &self.notification_type,
            service_uuid: &self.service_uuid,
            title: &self.title,
            token,
            kind: &self.kind,
            user_id: self.user_id,
        };
        // Texts and numbers cannot fail.
        json::to_vec(&request).unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_in_the_order_of_the_alphabet_with_the_escapes_of_go() {
        let data = json!({
            "user_id": 1, "title": "<b> & \u{2028}\u{2029}", "body": "a\"\\/\u{8}\u{c}\n\r\t\u{1f}\u{7f}ü€😀",
            "type": "host", "host_uuid": "u", "service_uuid": "", "notification_type": "PROBLEM",
            "current_state": 1, "icon": "ignored",
        });
        let notice = Notice::deserialize(&data).unwrap();
        assert_eq!(
            String::from_utf8(notice.body("K<", "T").into()).unwrap(),
            "{\"auth_key\":\"K\\u003c\",\"body\":\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u001f\u{7f}ü€😀\",\"current_state\":1,\"host_uuid\":\"u\",\"notification_type\":\"PROBLEM\",\"service_uuid\":\"\",\"title\":\"\\u003cb\\u003e \\u0026 \\u2028\\u2029\",\"token\":\"T\",\"type\":\"host\",\"user_id\":1}"
        );
        assert!(notice.size() > 40);
    }

    #[test]
    fn other_data_is_no_notice() {
        for data in [json!(null), json!({}), json!([1]), json!({ "user_id": "1" })] {
            assert!(Notice::deserialize(&data).is_err());
        }
    }
}
