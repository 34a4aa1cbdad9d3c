//! What every protocol needs of HTTP: plain answers, and bodies read within limits.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

/// How much of a body that is too large is still read and thrown away, so that a
/// client which writes everything before it reads gets the answer and no reset.
const DRAIN_BYTES: usize = 8 * 1024 * 1024;

/// An answer with a status and nothing else.
#[must_use]
pub fn empty(status: StatusCode) -> Response {
    respond(status, None, Bytes::new())
}

/// An answer in plain text, without a final newline.
#[must_use]
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    respond(status, Some("text/plain; charset=utf-8"), body.into())
}

/// An answer in JSON.
#[must_use]
pub fn json(status: StatusCode, body: &serde_json::Value) -> Response {
    respond(status, Some("application/json"), body.to_string().into())
}

/// An answer of any type.
#[must_use]
pub fn respond(status: StatusCode, content_type: Option<&'static str>, body: Bytes) -> Response {
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    let length = response.body().len();
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response.into_response()
}

/// Matches exactly this path; `warp::path!` would take a trailing slash too.
pub fn exact_path(
    path: impl Into<Arc<str>>,
) -> impl Filter<Extract = (), Error = Rejection> + Clone {
    let path = path.into();
    warp::path::full()
        .and_then(move |full: FullPath| {
            let found = full.as_str() == &*path;
            async move { if found { Ok(()) } else { Err(warp::reject::not_found()) } }
        })
        .untuple_one()
}

/// Reads a body and throws it away, so that a client which writes before it reads gets
/// the answer: some megabytes at most, within `timeout`.
pub async fn drain_body(
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
    timeout: Duration,
) {
    let drain = async {
        let mut body = pin!(body);
        let mut drained = 0;
        while let Some(Ok(chunk)) = body.next().await {
            drained += chunk.remaining();
            if drained > DRAIN_BYTES {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(timeout, drain).await;
}

/// Why a body could not be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// `Content-Length` names more than the limit.
    #[error("{0} bytes are announced")]
    Announced(u64),
    /// More than the limit came.
    #[error("the body is too large")]
    TooLarge,
    /// It did not come in time.
    #[error("the body did not arrive in time")]
    TimedOut,
    /// The connection broke, or the chunks made no sense.
    #[error("the body is broken")]
    Broken,
}

/// Reads a body of at most `limit` bytes within `timeout`.
///
/// # Errors
/// See [`BodyError`]. Nothing is allocated for a body that is announced too large.
pub async fn read_body(
    headers: &HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
    limit: usize,
    timeout: Duration,
) -> Result<Vec<u8>, BodyError> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let read = async {
        let mut body = pin!(body);
        let mut read = Vec::new();
        let mut refused = announced.filter(|bytes| *bytes > limit as u64).map(BodyError::Announced);
        let mut drained = 0;
        while let Some(chunk) = body.next().await {
            let mut chunk = chunk.map_err(|_| BodyError::Broken)?;
            if refused.is_none() && read.len() + chunk.remaining() > limit {
                refused = Some(BodyError::TooLarge);
                read = Vec::new();
            }
            if refused.is_some() {
                drained += chunk.remaining();
                if drained > DRAIN_BYTES {
                    break;
                }
                continue;
            }
            while chunk.has_remaining() {
                let part = chunk.chunk();
                read.extend_from_slice(part);
                let length = part.len();
                chunk.advance(length);
            }
        }
        refused.map_or(Ok(read), Err)
    };
    tokio::time::timeout(timeout, read).await.unwrap_or(Err(BodyError::TimedOut))
}
