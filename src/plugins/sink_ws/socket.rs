//! What a connection asks of its socket besides bytes.

use std::io;

use socket2::SockRef;
use tokio::net::TcpStream;

/// How much is read at a time, unless a frame is known to need more.
pub(super) const READ_BYTES: usize = 4096;

/// Bounds what waits in the kernel, which is nothing that this process could count or throw
/// away. `SO_SNDBUF` would do so as well, but it counts what is on its way, too, and ends the
/// kernel's own tuning: clients far away, whose lines need many bytes on their way, would be
/// slowed down. A system that does not know the option keeps its own bound.
pub(super) fn limit_unsent(stream: &TcpStream, bytes: u32) {
    #[cfg(target_os = "linux")]
    if bytes > 0 {
        let _ = SockRef::from(stream).set_tcp_notsent_lowat(bytes);
    }
}

/// Throws away what the client still sends. To close a socket that has unread bytes
/// resets it, and a reset can overtake the Close frame that says why.
pub(super) async fn read_to_end(stream: &TcpStream) {
    while stream.readable().await.is_ok() {
        match discard(stream) {
            Ok(0) => return,
            // As in `process`: a client must not keep the worker for itself.
            Ok(_) => tokio::task::consume_budget().await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Reads into a buffer that is gone before anything is awaited: what lives across an
/// `.await` is part of every connection's task, idle ones included.
fn discard(stream: &TcpStream) -> io::Result<usize> {
    stream.try_read(&mut [0; READ_BYTES])
}
