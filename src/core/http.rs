//! What every protocol needs of HTTP: plain answers, exact paths.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use warp::path::FullPath;
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

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

/// A refusal for now, in plain text: the client may come again after `wait`.
#[must_use]
pub fn try_later(status: StatusCode, wait: Duration, body: impl Into<Bytes>) -> Response {
    later(text(status, body), wait)
}

/// The same answer, saying that the client may come again after `wait`: a second at least.
#[must_use]
pub fn later(mut response: Response, wait: Duration) -> Response {
    let seconds = wait.as_millis().div_ceil(1000).clamp(1, 3600);
    // Within a range that fits.
    let seconds = u16::try_from(seconds).unwrap_or(1);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
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
