//! One connection from its upgrade to its end: socket to session, session to hub,
//! pings, deadlines, close.

use std::io;
use std::net::Shutdown;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing::debug;

use super::Shared;
use super::batch::Batch;
use super::member::Member;
use super::outbox::Outbox;
use super::queue::{Flush, State};
use super::reader::{Event, Reader, Violation};
use super::wire;
use crate::core::plugin::Jobs;
use crate::core::session::{Ending, Limits, Session};

/// How much is read at a time, unless a frame is known to need more.
const READ_BYTES: usize = 4096;

/// Runs the connection to its end.
///
/// Its future is what an idle connection costs most, so the connection comes in a box: the
/// compiler would keep room for it twice.
pub(super) async fn run(mut connection: Box<Connection>, jobs: Jobs) {
    let outbox = connection.client.outbox.clone();
    let end = connection.drive(&outbox, &jobs).await;
    debug!(reason = ?end, "WebSocket connection ended");
    let linger = connection.client.shared.config.close_timeout;
    // Leaves every topic before the socket is closed.
    drop(connection);
    if SockRef::from(&outbox.stream).shutdown(Shutdown::Write).is_ok() && end.is_orderly() {
        let _ = tokio::time::timeout(linger, read_to_end(&outbox.stream)).await;
    }
}

/// Throws away what the client still sends. To close a socket that has unread bytes
/// resets it, and a reset can overtake the Close frame that says why.
async fn read_to_end(stream: &TcpStream) {
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

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The socket is gone, or the client closed it.
    Lost,
    /// Nothing was heard for too long, not even a pong.
    Silent,
    /// The client did not read what waited for it.
    Stuck,
    /// The client did not answer our Close frame in time.
    CutOff,
    /// Both sides have said Close, or ours ends without a word.
    Closed,
    /// The client broke the protocol and was told so.
    Refused(&'static str),
}

impl End {
    /// Whether a Close frame is on its way that the client should get to see.
    fn is_orderly(self) -> bool {
        matches!(self, Self::Closed | Self::Refused(_))
    }
}

/// One client, and what is known of it.
pub(super) struct Connection {
    reader: Reader,
    client: Member,
    session: Box<dyn Session>,
    limits: Limits,
    /// When the client last sent anything.
    heard: Instant,
    /// When the last ping went out; the time of the start before the first one.
    pinged: Instant,
    /// When the next ping is due.
    tick: Instant,
    /// Since when the client has not read what waits for it.
    stuck: Option<Instant>,
    /// When to stop waiting for the client's part of the closing handshake.
    cut: Option<Instant>,
}

impl Connection {
    /// Takes over `stream`, of which `early` was read already.
    pub(super) fn new(
        shared: Arc<Shared>,
        stream: TcpStream,
        early: &[u8],
        session: Box<dyn Session>,
    ) -> Box<Self> {
        // tokio keeps the waker of the task that read the socket last, and with it the whole
        // task, until another one waits in its place.
        let _ = stream.poll_read_ready(&mut Context::from_waker(Waker::noop()));
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let limits = session.limits();
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let outbox = Arc::new(Outbox::new(id, stream, &shared.config, limits.ending));
        let now = Instant::now();
        Box::new(Self {
            reader: Reader::new(early, limits.max_message_bytes),
            client: Member::new(shared, outbox),
            session,
            heard: now,
            pinged: now,
            tick: now + limits.ping_interval,
            limits,
            stuck: None,
            cut: None,
        })
    }

    async fn drive(&mut self, outbox: &Outbox, jobs: &Jobs) -> End {
        let Self { session, client, .. } = self;
        session.opened(client).await;
        // The client may have sent its first frames together with the request.
        if let ControlFlow::Break(end) = self.process(outbox).await {
            return end;
        }
        let mut stopping = pin!(jobs.stopping());
        loop {
            let deadline = self.deadline();
            let interest = match self.stuck {
                Some(_) => Interest::READABLE | Interest::WRITABLE,
                None => Interest::READABLE,
            };
            tokio::select! {
                ready = outbox.stream.ready(interest) => {
                    let Ok(ready) = ready else { return End::Lost };
                    if ready.is_readable() {
                        match self.read(outbox) {
                            Ok(0) => return End::Lost,
                            Ok(_) => {}
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                            Err(_) => return End::Lost,
                        }
                        if let ControlFlow::Break(end) = self.process(outbox).await {
                            return end;
                        }
                    }
                }
                () = outbox.wake.notified() => {}
                () = tokio::time::sleep_until(deadline) => {
                    if let ControlFlow::Break(end) = self.on_tick(outbox) {
                        return end;
                    }
                    // A last look may have found something to read.
                    if let ControlFlow::Break(end) = self.process(outbox).await {
                        return end;
                    }
                }
                () = &mut stopping, if self.cut.is_none() => {
                    self.close(outbox, Some((1001, "going away")));
                }
            }
            if let ControlFlow::Break(end) = self.flush(outbox) {
                return end;
            }
        }
    }

    /// When something is due, whatever happens before.
    fn deadline(&self) -> Instant {
        let stuck = self.stuck.map(|since| since + self.client.shared.config.write_timeout);
        let silent = (self.heard < self.pinged).then(|| self.heard + self.limits.idle_timeout);
        [self.cut, stuck, silent, self.session.deadline()]
            .into_iter()
            .flatten()
            .fold(self.tick, Instant::min)
    }

    /// Writes what waits and draws the conclusions.
    fn flush(&mut self, outbox: &Outbox) -> ControlFlow<End> {
        let Ok(flush) = outbox.flush() else { return ControlFlow::Break(End::Lost) };
        self.stuck = match flush {
            Flush::All => None,
            Flush::Some => Some(Instant::now()),
            Flush::Stuck => self.stuck.or_else(|| Some(Instant::now())),
        };
        match outbox.state() {
            State::Open => {}
            State::Broken => return ControlFlow::Break(End::Lost),
            // There is no Close frame to wait for an answer to.
            State::Closing if flush == Flush::All && self.limits.ending == Ending::Abrupt => {
                return ControlFlow::Break(End::Closed);
            }
            // By us, or by a publisher: the queue was full.
            State::Closing => self.start_cut(),
        }
        ControlFlow::Continue(())
    }

    fn read(&mut self, outbox: &Outbox) -> io::Result<usize> {
        self.reader.buffer.reserve(READ_BYTES);
        let read = outbox.stream.try_read_buf(&mut self.reader.buffer)?;
        self.heard = Instant::now();
        Ok(read)
    }

    /// Handles every complete frame that was read.
    async fn process(&mut self, outbox: &Outbox) -> ControlFlow<End> {
        loop {
            // Reading a socket costs no budget of tokio's: without this a client that
            // always has something to say would keep the worker for itself.
            tokio::task::consume_budget().await;
            let event = match self.reader.next() {
                Ok(Some(event)) => event,
                Ok(None) => {
                    self.reader.release();
                    return ControlFlow::Continue(());
                }
                Err(violation) => return Self::refuse(outbox, &violation),
            };
            match event {
                Event::Ping(payload) => _ = outbox.offer(&Batch::one(wire::pong(&payload))),
                Event::Close(status) => {
                    // An answer to ours, or theirs, which gets the same status back.
                    let echo = self.limits.echo_close_reason;
                    let reason = |reason| if echo { reason } else { "" };
                    outbox.answer_close(
                        status.as_ref().map(|(code, text)| (*code, reason(text.as_str()))),
                    );
                    let _ = outbox.flush();
                    return ControlFlow::Break(End::Closed);
                }
                // After our Close only theirs matters.
                _ if self.cut.is_some() => {}
                Event::Pong => {}
                Event::Text(text) => self.received(outbox, &text).await,
                Event::Binary(bytes) => {
                    if self.limits.binary_is_text {
                        self.received(outbox, &String::from_utf8_lossy(&bytes)).await;
                    }
                }
            }
        }
    }

    async fn received(&mut self, outbox: &Outbox, text: &str) {
        if self.session.received(&mut self.client, text).await.is_break() {
            self.close(outbox, Some((1000, "")));
        }
    }

    fn on_tick(&mut self, outbox: &Outbox) -> ControlFlow<End> {
        let now = Instant::now();
        if self.cut.is_some_and(|cut| now >= cut) {
            return ControlFlow::Break(End::CutOff);
        }
        let write_timeout = self.client.shared.config.write_timeout;
        if self.stuck.is_some_and(|since| now >= since + write_timeout) {
            return ControlFlow::Break(End::Stuck);
        }
        if self.cut.is_none() && self.session.deadline().is_some_and(|deadline| now >= deadline) {
            self.close(outbox, Some((1008, "time is up")));
        }
        if now - self.tick.min(now) > self.limits.ping_interval {
            // Nobody looked for a whole interval: the process was stopped or starved.
            // The client could not be heard, which is not the same as being silent.
            self.heard = now;
        }
        // Only who was asked can fail to answer. What waits in the socket is an answer too;
        // it is processed when the socket's own turn comes.
        let silent = self.heard < self.pinged && now >= self.heard + self.limits.idle_timeout;
        if silent && !matches!(self.read(outbox), Ok(1..)) {
            return ControlFlow::Break(End::Silent);
        }
        if now >= self.tick {
            self.tick = now + self.limits.ping_interval;
            self.pinged = now;
            let _ = outbox.offer(&Batch::one(wire::ping()));
        }
        ControlFlow::Continue(())
    }

    /// Sends a Close frame and gives the client some time to answer it.
    fn close(&mut self, outbox: &Outbox, status: Option<(u16, &str)>) {
        outbox.close(status);
        self.start_cut();
    }

    fn start_cut(&mut self) {
        let timeout = self.client.shared.config.close_timeout;
        self.cut.get_or_insert_with(|| Instant::now() + timeout);
    }

    /// The client broke the protocol: it is told, if it can bear it, and no more is read.
    /// What the socket does not take now is lost with the connection; only a client that
    /// does not read can lose anything.
    fn refuse(outbox: &Outbox, violation: &Violation) -> ControlFlow<End> {
        outbox.close(Some((violation.code, violation.reason)));
        let _ = outbox.flush();
        ControlFlow::Break(End::Refused(violation.reason))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize};

    use async_trait::async_trait;

    use super::*;
    use crate::core::session::Client;
    use crate::plugins::sink_ws::{Config, Dropped, fanout};

    struct Silent;

    #[async_trait]
    impl Session for Silent {
        fn limits(&self) -> Limits {
            let ping_interval = std::time::Duration::from_secs(1);
            Limits {
                max_message_bytes: 1,
                ping_interval,
                ending: Ending::Abrupt,
                echo_close_reason: false,
                binary_is_text: false,
                idle_timeout: 2 * ping_interval,
            }
        }

        async fn received(&mut self, _: &mut dyn Client, _: &str) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
    }

    /// What lives across an `.await`, such as a buffer, is paid for by every connection.
    #[tokio::test]
    async fn an_idle_connection_is_small() {
        let shared = Arc::new(Shared {
            config: Config::default(),
            hub: fanout::Hub::default(),
            next_id: AtomicU64::new(1),
            connections: AtomicUsize::new(0),
            dropped: Dropped::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let connection = Connection::new(shared, stream, b"", Box::new(Silent));
        let (own, outbox) = (size_of_val(&*connection), size_of_val(&*connection.client.outbox));
        let task = size_of_val(&run(connection, Jobs::default()));
        assert!(own + outbox + task <= 1200, "{own} + {outbox} + {task} bytes");
    }
}
