//! A TCP stream whose peer has to read: a write that makes no progress for too long fails.
//!
//! hyper has a time-out for request heads and none for answers that nobody takes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::intake::Place;

/// The connections that HTTP is served on.
#[derive(Debug)]
pub(super) struct Stream {
    inner: TcpStream,
    place: Arc<Place>,
    write_timeout: Duration,
    /// Runs while a write waits for the peer.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    pub(super) fn new(inner: TcpStream, place: Arc<Place>, write_timeout: Duration) -> Self {
        Self { inner, place, write_timeout, waiting: None }
    }

    /// Lets `write` have its way, but not wait for ever.
    fn guard<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(done) = write(Pin::new(&mut self.inner), cx) {
            self.waiting = None;
            return Poll::Ready(done);
        }
        let end = Instant::now() + self.write_timeout;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep_until(end)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// A connection that is HTTP no more.
#[derive(Debug)]
pub struct Raw {
    /// The plain stream.
    pub stream: TcpStream,
    /// What was read of it already.
    pub early: Bytes,
    /// To be kept as long as the stream.
    pub place: Arc<Place>,
}

/// What is left of an upgraded connection. None for one that is not ours.
#[must_use]
pub fn into_raw(upgraded: Upgraded) -> Option<Raw> {
    let parts = upgraded.downcast::<TokioIo<Stream>>().ok()?;
    let Stream { inner, place, .. } = parts.io.into_inner();
    Some(Raw { stream: inner, early: parts.read_buf, place })
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.guard(cx, |inner, cx| inner.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.guard(cx, |inner, cx| inner.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
