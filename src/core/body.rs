//! Request bodies: read within a size, a time, and a memory that all of them share.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, StreamExt};
use http::header::{CONTENT_LENGTH, EXPECT, HeaderValue};
use http::{HeaderMap, StatusCode};
use tracing::warn;
use warp::reply::Response;

use super::config;
use super::http::try_later;
use super::metrics::{Refusals, Refused};
use super::throttle::Throttle;

/// How much of a body that is too large is still read and thrown away, so that a
/// client which writes everything before it reads gets the answer and no reset.
const DRAIN_BYTES: usize = 8 * 1024 * 1024;

/// What a client is told that finds no memory for its body.
const TOO_MANY: &str =
    "Too many request bodies at a time (server.max_body_bytes_in_flight), try again";

/// How bodies are read. Cheap to clone; clones share the memory.
#[derive(Clone, Debug)]
pub struct Bodies {
    timeout: Duration,
    in_flight: Arc<InFlight>,
}

#[derive(Debug)]
struct InFlight {
    limit: usize,
    bytes: AtomicUsize,
    refused: Refusals,
    told: Throttle,
}

/// A body, and the memory that is counted for it until it is dropped.
#[derive(Debug)]
pub struct Body {
    /// What came.
    pub bytes: Vec<u8>,
    held: Held,
}

/// Bytes that are counted as in flight; given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    in_flight: Arc<InFlight>,
    bytes: usize,
}

/// Why a body could not be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// `Content-Length` names more than the limit.
    #[error("{length} bytes are announced, and {limit} are allowed")]
    Announced {
        /// Bytes.
        length: u64,
        /// Bytes.
        limit: usize,
    },
    /// More than the limit came.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: usize,
    },
    /// Too much is in memory for other requests.
    #[error("{TOO_MANY}")]
    Busy,
    /// It did not come in time.
    #[error("the body did not arrive in time")]
    TimedOut,
    /// The connection broke, or the chunks made no sense.
    #[error("the body is broken")]
    Broken,
}

impl Bodies {
    /// Within `server.body_timeout` and `server.max_body_bytes_in_flight`.
    #[must_use]
    pub fn new(settings: &config::Server, refused: Refusals) -> Self {
        let in_flight = InFlight {
            limit: settings.max_body_bytes_in_flight,
            bytes: AtomicUsize::new(0),
            refused,
            told: Throttle::default(),
        };
        Self { timeout: settings.body_timeout, in_flight: Arc::new(in_flight) }
    }

    /// The answer to a body that found no memory.
    #[must_use]
    pub fn busy() -> Response {
        try_later(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(1), TOO_MANY)
    }

    /// Reads a body of at most `limit` bytes.
    ///
    /// # Errors
    /// See [`BodyError`]. Nothing is allocated for a body that is announced too large, and
    /// no more than has come for any other.
    pub async fn read(
        &self,
        headers: &HeaderMap,
        body: impl Stream<Item = Result<impl Buf, warp::Error>>,
        limit: usize,
    ) -> Result<Body, BodyError> {
        let read = self.read_within(headers, body, limit).await;
        match &read {
            Err(BodyError::Announced { .. } | BodyError::TooLarge { .. }) => self.too_large(),
            Err(BodyError::TimedOut) => self.in_flight.refused.add(Refused::BodyTimeout),
            // The first is counted where it is found out, which is not only here.
            Err(BodyError::Busy | BodyError::Broken) | Ok(_) => {}
        }
        read
    }

    /// Counts a body as too large, for who found that out after it was read.
    pub fn too_large(&self) {
        self.in_flight.refused.add(Refused::MaxBodyBytes);
    }

    async fn read_within(
        &self,
        headers: &HeaderMap,
        body: impl Stream<Item = Result<impl Buf, warp::Error>>,
        limit: usize,
    ) -> Result<Body, BodyError> {
        let announced =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(length) = announced.filter(|length| *length > limit as u64) {
            // Who asks first, as curl does, has not begun to send it.
            if !asks_first(headers) {
                self.drain(body).await;
            }
            return Err(BodyError::Announced { length, limit });
        }
        let mut body = pin!(body);
        let mut read = Body { bytes: Vec::new(), held: self.held() };
        let gathered = async {
            while let Some(chunk) = body.next().await {
                read.take(chunk.map_err(|_| BodyError::Broken)?, limit)?;
            }
            Ok(())
        };
        match tokio::time::timeout(self.timeout, gathered).await {
            Err(_) => Err(BodyError::TimedOut),
            Ok(Ok(())) => Ok(read),
            Ok(Err(error)) => {
                drop(read);
                self.drain(body).await;
                Err(error)
            }
        }
    }

    /// Reads a body and throws it away, so that a client which writes before it reads gets
    /// the answer: some megabytes at most.
    pub async fn drain(&self, body: impl Stream<Item = Result<impl Buf, warp::Error>>) {
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
        let _ = tokio::time::timeout(self.timeout, drain).await;
    }

    fn held(&self) -> Held {
        Held { in_flight: self.in_flight.clone(), bytes: 0 }
    }
}

impl Body {
    fn take(&mut self, mut chunk: impl Buf, limit: usize) -> Result<(), BodyError> {
        if self.bytes.len() + chunk.remaining() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        self.held.add(chunk.remaining())?;
        while chunk.has_remaining() {
            let part = chunk.chunk();
            self.bytes.extend_from_slice(part);
            let length = part.len();
            chunk.advance(length);
        }
        Ok(())
    }

    /// Puts what the body was unpacked to in its place.
    ///
    /// # Errors
    /// [`BodyError::Busy`] when there is no memory for that.
    pub fn replace(&mut self, bytes: Vec<u8>) -> Result<(), BodyError> {
        self.held.add(bytes.len())?;
        self.bytes = bytes;
        Ok(())
    }

    /// The bytes, and what keeps them counted while something made of them lives.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, Held) {
        (self.bytes, self.held)
    }
}

impl Held {
    /// Counts more bytes. One request may always have some, however many they are.
    fn add(&mut self, more: usize) -> Result<(), BodyError> {
        let InFlight { limit, bytes, refused, told } = &*self.in_flight;
        let before = bytes.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        // Alone: what is counted is its own.
        if before + more <= *limit || before + more <= self.bytes {
            return Ok(());
        }
        refused.add(Refused::MaxBodyBytesInFlight);
        if let Some(more) = told.pass() {
            warn!(
                limit,
                more_before = more,
                "Request refused: too many bodies at a time (server.max_body_bytes_in_flight)"
            );
        }
        Err(BodyError::Busy)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.in_flight.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn asks_first(headers: &HeaderMap) -> bool {
    let value = headers.get(EXPECT).map(HeaderValue::as_bytes);
    value.is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;

    fn bodies(limit: usize) -> Bodies {
        let max_body_bytes_in_flight = limit;
        let settings = config::Server { max_body_bytes_in_flight, ..config::Server::default() };
        Bodies::new(&settings, Refusals::default())
    }

    async fn read(bodies: &Bodies, chunks: &[usize]) -> Result<Body, BodyError> {
        let chunks: Vec<_> = chunks.iter().map(|n| Ok(Bytes::from(vec![b'x'; *n]))).collect();
        bodies.read(&HeaderMap::new(), stream::iter(chunks), 1000).await
    }

    #[tokio::test]
    async fn what_is_in_memory_is_bounded_over_all_requests() {
        let bodies = bodies(1000);
        let count = || bodies.in_flight.bytes.load(Ordering::Relaxed);
        let first = read(&bodies, &[300, 300]).await.unwrap();
        assert_eq!((first.bytes.len(), count()), (600, 600));
        assert_eq!(read(&bodies, &[300, 300]).await.unwrap_err(), BodyError::Busy);
        assert_eq!(count(), 600, "what was refused is given back");
        let (bytes, held) = first.into_parts();
        drop(bytes);
        assert_eq!(read(&bodies, &[500]).await.unwrap_err(), BodyError::Busy);
        drop(held);
        assert_eq!(read(&bodies, &[1001]).await.unwrap_err(), BodyError::TooLarge { limit: 1000 });
        assert_eq!(count(), 0);
        let counted = |why| bodies.in_flight.refused.count(why);
        assert_eq!(counted(Refused::MaxBodyBytesInFlight), 2);
        assert_eq!(counted(Refused::MaxBodyBytes), 1);
    }

    #[tokio::test]
    async fn one_request_is_never_too_many() {
        let bodies = bodies(10);
        let mut body = read(&bodies, &[20, 20]).await.unwrap();
        body.replace(vec![0; 100]).unwrap();
        assert_eq!(read(&bodies, &[1]).await.unwrap_err(), BodyError::Busy);
        drop(body);
        assert_eq!(read(&bodies, &[1]).await.unwrap().bytes, b"x");
    }
}
