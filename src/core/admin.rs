//! `[admin]`: what operators ask of the server, on a port of their own.
//!
//! Apart from the listeners that clients use, so that it answers while these are full or
//! closed. It knows nothing of protocols, and has no secrets to tell.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::warn;

use super::config::Listen;
use super::health::Health;
use super::inherited::Inherited;
use super::listener;
use super::metrics::{CONTENT_TYPE as OPEN_METRICS, Metrics};

/// Most connections at a time; more wait in the kernel.
const MAX_CONNECTIONS: usize = 32;

/// How long a connection may last: one request and its answer, which itself may have to
/// wait two seconds for a data base.
const MAX_TIME: Duration = Duration::from_secs(10);

/// How long a request head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest request head.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// How long to wait after `accept` failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";

/// The port, bound.
pub(super) struct Admin {
    socket: TcpListener,
    /// With the port the system chose for 0.
    pub address: SocketAddr,
    questions: Questions,
}

/// What there is to be known.
#[derive(Clone)]
pub(super) struct Questions {
    pub metrics: Metrics,
    pub health: Health,
}

impl Admin {
    pub(super) async fn bind(
        listen: &Listen,
        inherited: &mut Inherited,
        questions: Questions,
    ) -> io::Result<Self> {
        let (socket, _) = listener::bind(listen, inherited).await?;
        Ok(Self { address: socket.local_addr()?, socket, questions })
    }

    /// Answers for as long as it is polled.
    pub(super) async fn serve(self) {
        let mut connections = JoinSet::new();
        loop {
            if connections.len() >= MAX_CONNECTIONS {
                connections.join_next().await;
            }
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, _)) => _ = connections.spawn(answer(stream, self.questions.clone())),
                    Err(error) => {
                        warn!(%error, "Cannot accept connections of operators, trying again");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Answers one request. Whoever has more to ask connects again, which is cheap and leaves
/// nobody in a place that others wait for.
async fn answer(stream: TcpStream, questions: Questions) {
    let service = service_fn(|request| {
        let questions = questions.clone();
        async move { Ok::<_, Infallible>(questions.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // However it ends: it is the other side's business.
    let _ = tokio::time::timeout(MAX_TIME, connection).await;
}

impl Questions {
    async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let is_known = matches!(request.uri().path(), "/metrics" | "/livez" | "/readyz");
        if !is_known {
            return respond(StatusCode::NOT_FOUND, TEXT, String::new());
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, String::new());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/metrics" => respond(StatusCode::OK, OPEN_METRICS, self.metrics.text()),
            "/readyz" => self.ready().await,
            // That somebody answers is all there is to be said.
            _ => respond(StatusCode::OK, TEXT, "ok\n".to_owned()),
        }
    }

    async fn ready(&self) -> Response<Full<Bytes>> {
        let reasons = self.health.reasons().await;
        if reasons.is_empty() {
            return respond(StatusCode::OK, TEXT, "ok\n".to_owned());
        }
        respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, reasons.join("\n") + "\n")
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
