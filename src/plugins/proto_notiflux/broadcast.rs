//! `POST /broadcast`: from body to router.

use std::io::Read;

use bytes::Buf;
use futures_util::Stream;
use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use serde::Deserialize;
use serde_json::json;
use warp::reply::Response;

use super::{Config, Shared};
use crate::core::auth::AuthError;
use crate::core::body::{Bodies, BodyError, Held};
use crate::core::client_address::ClientAddress;
use crate::core::http as answer;
use crate::core::message::{Publication, Topic};
use crate::core::router::Router;

/// The body. The name of the struct is on the wire: serde puts it into two of the
/// errors that publishers see, as it did with the original.
#[derive(Debug, Deserialize)]
pub(super) struct BroadcastPayload {
    pub topic: String,
    pub message: String,
    pub token: String,
}

/// Why a body was refused, with the words of the original where it has any.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("Content type error")]
    ContentType,
    #[error("Content encoding `{0}` is not supported, send gzip, deflate or none")]
    Encoding(String),
    #[error("Content encoding error: the body is not what Content-Encoding says")]
    Compressed,
    #[error("JSON payload ({length} bytes) is larger than allowed (limit: {limit} bytes).")]
    Announced { length: u64, limit: usize },
    #[error("JSON payload has exceeded limit ({0} bytes).")]
    TooLarge(usize),
    #[error("The request body did not arrive in time")]
    TimedOut,
    #[error("The request body is incomplete")]
    Broken,
    /// Too many bodies at a time.
    #[error("busy")]
    Busy,
    #[error("Json deserialize error: {0}")]
    Json(#[from] serde_json::Error),
}

impl Refusal {
    pub(super) fn answer(&self) -> Response {
        let status = match self {
            Self::Announced { .. } | Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Encoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::Busy => return Bodies::busy(),
            Self::ContentType | Self::Compressed | Self::Broken | Self::Json(_) => {
                StatusCode::BAD_REQUEST
            }
        };
        answer::text(status, self.to_string())
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Announced { length, limit } => Self::Announced { length, limit },
            BodyError::TooLarge { limit } => Self::TooLarge(limit),
            BodyError::Busy => Self::Busy,
            BodyError::TimedOut => Self::TimedOut,
            BodyError::Broken => Self::Broken,
        }
    }
}

/// Reads and decodes a body. Content type first, then size, then JSON, like the original.
/// What is returned beside is held while the payload lives.
pub(super) async fn read(
    headers: &HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
    config: &Config,
    bodies: &Bodies,
) -> Result<(BroadcastPayload, Held), Refusal> {
    let limit = config.max_body_bytes;
    if !is_json(headers) {
        bodies.drain(body).await;
        return Err(Refusal::ContentType);
    }
    let mut body = bodies.read(headers, body, limit).await?;
    let unpacked = decompress(headers, &body.bytes, limit);
    if matches!(unpacked, Err(Refusal::TooLarge(_))) {
        bodies.too_large();
    }
    if let Some(plain) = unpacked? {
        body.replace(plain)?;
    }
    let (bytes, held) = body.into_parts();
    Ok((serde_json::from_slice(&bytes)?, held))
}

/// Whether the content type is JSON: subtype `json` or suffix `+json`, any main type,
/// any letter case, parameters allowed.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = value.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let Some((main, subtype)) = essence.split_once('/') else { return false };
    let token = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    token(main) && token(subtype) && (subtype == "json" || subtype.ends_with("+json"))
}

/// None for a body that is plain as it is.
pub(super) fn decompress(
    headers: &HeaderMap,
    body: &[u8],
    limit: usize,
) -> Result<Option<Vec<u8>>, Refusal> {
    let encoding =
        headers.get(CONTENT_ENCODING).map_or("identity", |value| value.to_str().unwrap_or("?"));
    let decoder: &mut dyn Read = match encoding.trim().to_ascii_lowercase().as_str() {
        "identity" | "" => return Ok(None),
        "gzip" | "x-gzip" => &mut flate2::read::GzDecoder::new(body),
        "deflate" => &mut flate2::read::ZlibDecoder::new(body),
        other => return Err(Refusal::Encoding(other.to_owned())),
    };
    let mut plain = Vec::new();
    // One more than allowed tells "just fits" from "goes on", whatever it would become.
    let read = decoder.take(limit as u64 + 1).read_to_end(&mut plain);
    read.map_err(|_| Refusal::Compressed)?;
    if plain.len() > limit {
        return Err(Refusal::TooLarge(limit));
    }
    Ok(Some(plain))
}

/// Judges and publishes. By default the answer to a decodable body is 200, whatever the
/// token says: publishers of the original take anything else for an outage.
pub(super) async fn publish(
    shared: &Shared,
    router: &Router,
    client: ClientAddress,
    payload: BroadcastPayload,
) -> Response {
    let BroadcastPayload { topic, message, token } = payload;
    let strict = shared.config.strict;
    let refuse = |status, reason: &str| {
        if strict {
            answer::json(status, &json!({ "error": reason }))
        } else {
            answer::empty(StatusCode::OK)
        }
    };
    let grant = match shared.authenticate(client, &token).await {
        Ok(grant) => grant,
        Err(error @ AuthError::TooMany(wait)) => {
            let refusal = refuse(StatusCode::TOO_MANY_REQUESTS, &error.to_string());
            return if strict { answer::later(refusal, wait) } else { refusal };
        }
        Err(AuthError::Denied(reason)) => {
            // Without the topic: what comes without a good token can be anything, a
            // token in the wrong place included.
            shared.refused("broadcast", None, reason);
            return refuse(StatusCode::UNAUTHORIZED, reason);
        }
        Err(error @ AuthError::Unavailable(_)) => {
            shared.warn_unavailable(&error);
            return answer::empty(StatusCode::SERVICE_UNAVAILABLE);
        }
    };
    if let Some(reason) = shared.config.topic_fault(&topic) {
        shared.refused("broadcast", None, reason);
        return refuse(StatusCode::FORBIDDEN, reason);
    }
    if !grant.publish.covers(&topic) {
        let reason = "the token does not allow this topic to be published to";
        // Unless somebody has put the token there, too.
        let topic = Some(&*topic).filter(|topic| !topic.contains(&token));
        shared.refused("broadcast", topic, reason);
        return refuse(StatusCode::FORBIDDEN, reason);
    }
    // Nothing was accepted yet, so nothing is lost; a 200 would say otherwise.
    let admission = match router.admit(message.len()).await {
        Ok(admission) => admission,
        Err(busy) => return busy.answer(),
    };
    let publication = Publication::new(Topic::new(&shared.instance, &topic), message);
    let delivery = router.publish(publication, &admission).settled().await;
    if !strict {
        return answer::empty(StatusCode::OK);
    }
    let body = json!({ "accepted": delivery.accepted, "dropped": delivery.dropped });
    answer::json(StatusCode::OK, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for (value, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/vnd.x+json", true),
            ("text/json", true),
            ("text/plain", false),
            ("json", false),
            ("/json", false),
            ("application/json5", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]);
            assert_eq!(is_json(&headers), expected, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
