//! One POST to the push server.
//!
//! With hyper alone: Naemon starts this program for every alert. Building a reqwest client
//! reads the system's certificates, for nothing here, and takes twice as long (2 ms) as all
//! of a run takes without (under 1 ms). It also asks the environment for proxies and
//! follows redirects unless told not to; hyper knows neither.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};

use super::alert::Target;
use crate::core::BoxError;

/// The longest answer that is read. The server's are some dozen bytes.
const ANSWER_BYTES: usize = 1024 * 1024;

/// What the server said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// As it stood in the answer.
    pub(super) reason: Vec<u8>,
    pub(super) body: Bytes,
}

/// Why there is no answer. Connection faults read as the original writes them.
#[derive(Debug, Error)]
pub(super) enum PostError {
    #[error("dial tcp: lookup {host}: {}", plain(.error))]
    Lookup { host: String, error: io::Error },
    #[error("dial tcp: lookup {0}: no such host")]
    NoAddress(String),
    #[error("dial tcp {address}: connect: {}", plain(.error))]
    Connect { address: SocketAddr, error: io::Error },
    #[error("no answer within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    #[error("no answer")]
    Exchange(#[from] hyper::Error),
    #[error("cannot send this")]
    Request(#[from] http::Error),
    #[error("broken answer")]
    Body(#[source] BoxError),
}

/// `Connection refused (os error 111)` the way Go and C put it.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// Posts `body`, all of it within `limit`. Redirects are answers like others.
pub(super) async fn post(
    target: &Target,
    body: Vec<u8>,
    limit: Duration,
) -> Result<Answer, PostError> {
    tokio::time::timeout(limit, exchange(target, body))
        .await
        .unwrap_or(Err(PostError::TimedOut(limit)))
}

async fn exchange(target: &Target, body: Vec<u8>) -> Result<Answer, PostError> {
    let request = request(target, body)?;
    let stream = connect(target).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its faults come out at the sender or at the body, and it ends with this process.
    tokio::spawn(connection);
    answer(sender.send_request(request).await?).await
}

fn request(target: &Target, body: Vec<u8>) -> Result<Request<Full<Bytes>>, http::Error> {
    Request::builder()
        .method(Method::POST)
        .uri("/message")
        .header(header::HOST, target.authority())
        .header(header::USER_AGENT, concat!("pushmux/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(body))
}

/// Tries the host's addresses in turn; the first one's fault is the one that is told.
async fn connect(target: &Target) -> Result<TcpStream, PostError> {
    let host = target.host.as_str();
    let addresses = lookup_host((host, target.port))
        .await
        .map_err(|error| PostError::Lookup { host: host.to_owned(), error })?;
    let mut first = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                first.get_or_insert(PostError::Connect { address, error });
            }
        }
    }
    Err(first.unwrap_or_else(|| PostError::NoAddress(host.to_owned())))
}

async fn answer(response: http::Response<Incoming>) -> Result<Answer, PostError> {
    let status = response.status();
    // hyper keeps the words only if they are not the usual ones.
    let reason = match response.extensions().get::<ReasonPhrase>() {
        Some(words) => words.as_bytes().to_vec(),
        None => status.canonical_reason().unwrap_or_default().into(),
    };
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    Ok(Answer { status, reason, body: body.map_err(PostError::Body)?.to_bytes() })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    use super::super::alert::Target;
    use super::{PostError, plain, post};

    #[tokio::test]
    async fn a_server_that_hangs_is_given_up() {
        // The kernel accepts; nobody ever answers.
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let target = Target { host: "127.0.0.1".into(), port };
        let (start, limit) = (Instant::now(), Duration::from_millis(50));
        let error = post(&target, b"{}".to_vec(), limit).await.unwrap_err();
        assert!(start.elapsed() >= limit);
        assert!(matches!(error, PostError::TimedOut(_)), "{error}");
        assert_eq!(error.to_string(), "no answer within 50ms");
    }

    #[test]
    fn the_systems_faults_read_as_in_the_original() {
        assert_eq!(plain(&std::io::Error::from_raw_os_error(111)), "connection refused");
        assert_eq!(plain(&std::io::Error::other("Ärger")), "ärger");
    }
}
