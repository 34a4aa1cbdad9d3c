//! `target = "url"`: each message is one request to one URL.

use bytes::Bytes;
use http::HeaderMap;
use reqwest::Url;
use serde::Serialize;
use serde_json::Value;

use super::Config;
use super::client::{Client, Redirects, SendError};
use super::outcome::Outcomes;
use super::pool::Target;
use crate::core::BoxError;
use crate::core::message::Message;

/// The target.
pub(super) struct OneUrl {
    client: Client,
    url: Url,
    headers: HeaderMap,
}

/// What the receiver reads.
#[derive(Serialize)]
struct Body<'a> {
    id: u64,
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
}

impl OneUrl {
    pub(super) fn build(config: &Config) -> Result<Self, BoxError> {
        let client = Client::build(config, Redirects::Refuse)?;
        Ok(Self { client, url: config.url()?, headers: config.headers() })
    }

    /// One attempt; a retry would stand around this and send the same bytes again.
    async fn attempt(&self, body: Bytes) -> Result<(), SendError> {
        self.client.post(self.url.clone(), self.headers.clone(), body).await
    }
}

impl Target for OneUrl {
    type Item = Bytes;

    fn item(&self, message: &Message) -> Option<(Bytes, usize)> {
        let body = body(message)?;
        let size = body.len();
        Some((body, size))
    }

    async fn deliver(&self, body: Bytes, outcomes: &Outcomes) -> bool {
        let sent = self.attempt(body).await;
        match &sent {
            Ok(()) => outcomes.sent(),
            Err(error) => outcomes.failed(error),
        }
        sent.is_ok()
    }
}

/// Encoded before it waits: the queue then knows its size, and every attempt sends the
/// same bytes. Always some: nothing in it can fail to become JSON.
fn body(message: &Message) -> Option<Bytes> {
    let data = Some(&message.data).filter(|data| !data.is_null());
    let text = data.is_none().then(|| message.frame.as_str());
    let body = Body { id: message.id, topic: message.topic.name(), message: text, data };
    serde_json::to_vec(&body).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::message::{Audience, Topic};

    #[test]
    fn the_text_goes_out_unless_there_is_data() {
        let topic = Topic::new("notiflux", "a/b");
        let mut message = Message {
            id: 7,
            topic,
            audience: Audience::Everyone,
            frame: "x\"ü\n".into(),
            data: Value::Null,
        };
        let text = |message: &Message| String::from_utf8(body(message).unwrap().into()).unwrap();
        assert_eq!(text(&message), r#"{"id":7,"topic":"a/b","message":"x\"ü\n"}"#);
        message.data = json!({ "k": [1] });
        assert_eq!(text(&message), r#"{"id":7,"topic":"a/b","data":{"k":[1]}}"#);
    }
}
