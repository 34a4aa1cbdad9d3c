//! A TCP stream whose peer has to read: a write that makes no progress for too long fails.
//!
//! hyper has a time-out for request heads and none for answers that nobody takes. It also
//! takes a bare LF for the end of a line, which is watched for here.

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
    head: Head,
}

/// The first request's head as it is read. Those after it on the same connection are not
/// watched: where they begin only hyper knows.
#[derive(Debug, Default)]
struct Head {
    /// Whether there was anything but empty lines, which may come before a request.
    begun: bool,
    /// Whether the line that is being read has nothing in it so far.
    is_blank: bool,
    last: u8,
    ended: bool,
}

impl Head {
    /// Spoils the first bare LF, so that hyper refuses the head with the 400 it has for
    /// others: whoever stands between may have read one line where hyper would read two.
    fn watch(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.ended {
                return;
            }
            match *byte {
                b'\n' if self.last != b'\r' => {
                    *byte = 0;
                    self.ended = true;
                }
                b'\n' => {
                    self.ended = self.begun && self.is_blank;
                    self.is_blank = true;
                }
                b'\r' => {}
                _ => (self.begun, self.is_blank) = (true, false),
            }
            self.last = *byte;
        }
    }
}

impl Stream {
    pub(super) fn new(inner: TcpStream, place: Arc<Place>, write_timeout: Duration) -> Self {
        Self { inner, place, write_timeout, waiting: None, head: Head::default() }
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
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        self.head.watch(&mut buffer.filled_mut()[before..]);
        Poll::Ready(Ok(()))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(bytes: &[u8], cut: usize) -> Vec<u8> {
        let (mut head, mut bytes) = (Head::default(), bytes.to_vec());
        bytes.chunks_mut(cut).for_each(|part| head.watch(part));
        bytes
    }

    #[test]
    fn a_bare_line_feed_is_spoiled_in_the_first_head_and_nothing_else_is_touched() {
        for (bytes, spoiled) in [
            (&b"GET / HTTP/1.1\r\nA: b\r\n\r\nbody\nbody"[..], None),
            (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n\n", None),
            (b"GET / HTTP/1.1\nA: b\r\n\r\n", Some(14)),
            (b"GET / HTTP/1.1\r\nA: b\nC: d\n\n", Some(20)),
            (b"\r\n\r\nGET / HTTP/1.1\r\nA: b\n\r\n", Some(24)),
            (b"GET / HTTP/1.1\r\nA: b\r\n\n", Some(22)),
            (b"\nGET / HTTP/1.1\r\n\r\n", Some(0)),
        ] {
            let mut expected = bytes.to_vec();
            if let Some(place) = spoiled {
                assert_eq!(expected[place], b'\n');
                expected[place] = 0;
            }
            for cut in [1, 2, 3, 7, 100] {
                assert_eq!(watched(bytes, cut), expected, "{cut}");
            }
        }
    }
}
