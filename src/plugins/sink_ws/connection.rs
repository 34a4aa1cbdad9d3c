//! One connection from its upgrade to its end: socket to session, session to hub,
//! pings, deadlines, close.

use std::io;
use std::net::Shutdown;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::time::Instant;
use tracing::debug;

use super::Shared;
use super::end::End;
use super::member::Member;
use super::meter::Meters;
use super::outbox::Outbox;
use super::queue::{Flush, State};
use super::reader::{Event, Reader, Violation};
use super::socket::{READ_BYTES, limit_unsent, read_to_end};
use super::wire;
use crate::core::metrics::{self, Open};
use crate::core::session::{Ending, Session};
use crate::core::stream::Raw;

/// How late something that was due may be noticed. Beyond it the process was stopped or got
/// no time, and what clients failed to do meanwhile is not held against them.
const LATE: Duration = Duration::from_secs(1);

/// Runs the connection to its end.
///
/// Its future is what an idle connection costs most, so the connection comes in a box: the
/// compiler would keep room for it twice.
pub(super) async fn run(mut connection: Box<Connection>) {
    let outbox = connection.client.outbox.clone();
    // A fault of the session's, or of ours, is the end of this connection and of no other.
    let driven = AssertUnwindSafe(connection.drive(&outbox)).catch_unwind().await;
    let end = driven.unwrap_or_else(|_| {
        outbox.close(Some((1011, "internal error")));
        let _ = connection.write(&outbox);
        End::Failed
    });
    debug!(reason = ?end, "WebSocket connection ended");
    connection.open.end = if connection.slow { metrics::End::Slow } else { end.into() };
    // Who is being sent away had that time already, or a part of it.
    let linger = connection.client.shared.config.load().close_timeout;
    let until = connection.cut.unwrap_or_else(|| Instant::now() + linger);
    if end == End::Stuck || (end == End::CutOff && outbox.waiting() > 0) {
        // The client is not going to take what the kernel still has for it, which is let go of
        // at once. Otherwise the kernel would go on offering it for minutes, and whoever comes
        // again and again would have it hold more than any limit.
        let _ = SockRef::from(&outbox.stream).set_linger(Some(Duration::ZERO));
    }
    // Leaves every topic before the socket is closed.
    drop(connection);
    if SockRef::from(&outbox.stream).shutdown(Shutdown::Write).is_ok() && end.is_orderly() {
        let _ = tokio::time::timeout_at(until, read_to_end(&outbox.stream)).await;
    }
}

/// What has not happened in time.
enum Overdue {
    /// That is the end.
    End(End),
    /// The session's own deadline is over.
    Session,
}

/// One client, and what is known of it.
pub(super) struct Connection {
    reader: Reader,
    client: Member,
    session: Box<dyn Session>,
    meters: Meters,
    /// When the client last sent anything.
    heard: Instant,
    /// When the last ping went out; the time of the start before the first one.
    pinged: Instant,
    /// When the next ping is due.
    tick: Instant,
    /// Since when the first of what waits for the client does so.
    waits: Option<Instant>,
    /// When this connection has to end because the server does.
    turn: Option<Instant>,
    /// When to stop waiting for the client's part of the closing handshake.
    cut: Option<Instant>,
    /// Whether a publisher found the queue full and ended the connection.
    slow: bool,
    open: Open,
}

impl Connection {
    /// Takes over a connection that was just upgraded.
    pub(super) fn new(
        shared: Arc<Shared>,
        raw: Raw,
        session: Box<dyn Session>,
        open: Open,
    ) -> Box<Self> {
        // The bytes are copied: as they are they hold hyper's buffer, which is 8 KiB.
        let Raw { stream, early, place } = raw;
        // tokio keeps the waker of the task that read the socket last, and with it the whole
        // task, until another one waits in its place.
        let _ = stream.poll_read_ready(&mut Context::from_waker(Waker::noop()));
        limit_unsent(&stream, shared.config.load().send_buffer_bytes);
        let limits = session.limits();
        shared.connections.fetch_add(1, Ordering::Relaxed);
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        let policy = shared.policy.clone();
        let outbox = Arc::new(Outbox::new(id, stream, place, policy, limits.ending));
        let max_fragments = shared.config.load().max_fragments;
        let now = Instant::now();
        Box::new(Self {
            reader: Reader::new(&early, limits.max_message_bytes, max_fragments),
            client: Member::new(shared, outbox),
            session,
            heard: now,
            pinged: now,
            tick: now + limits.ping_interval,
            waits: None,
            turn: None,
            meters: Meters::default(),
            cut: None,
            slow: false,
            open,
        })
    }

    async fn drive(&mut self, outbox: &Outbox) -> End {
        let Self { session, client, .. } = self;
        session.opened(client).await;
        // The client may have sent its first frames together with the request.
        if let ControlFlow::Break(end) = self.process(outbox).await {
            return end;
        }
        let shared = self.client.shared.clone();
        let mut stopping = pin!(shared.tasks.stopping());
        loop {
            let deadline = self.deadline();
            let interest = match self.waits {
                Some(_) => Interest::READABLE | Interest::WRITABLE,
                None => Interest::READABLE,
            };
            tokio::select! {
                ready = outbox.stream.ready(interest) => {
                    let Ok(ready) = ready else { return End::Lost };
                    if ready.is_readable()
                        && let ControlFlow::Break(end) = self.receive(outbox).await
                    {
                        return end;
                    }
                }
                () = outbox.wake.told() => {}
                () = tokio::time::sleep_until(deadline) => {
                    let now = Instant::now();
                    if now > deadline + LATE {
                        self.restart_clocks(outbox, now);
                    }
                    // A last look: what lies in the socket was done in time, perhaps, and
                    // where there is room by now the client has read.
                    if self.overdue(now).is_some() {
                        if let ControlFlow::Break(end) = self.receive(outbox).await {
                            return end;
                        }
                        if let ControlFlow::Break(end) = self.flush(outbox) {
                            return end;
                        }
                    }
                    if let ControlFlow::Break(end) = self.on_time(outbox) {
                        return end;
                    }
                }
                () = &mut stopping, if self.turn.is_none() => {
                    self.turn = Some(shared.turn());
                }
            }
            if let ControlFlow::Break(end) = self.flush(outbox) {
                return end;
            }
        }
    }

    /// When something is due, whatever happens before.
    fn deadline(&self) -> Instant {
        let session = self.session.deadline().filter(|_| self.cut.is_none());
        let turn = self.turn.filter(|_| self.cut.is_none());
        [self.cut, turn, self.stuck_at(), self.silent_at(), session]
            .into_iter()
            .flatten()
            .fold(self.tick, Instant::min)
    }

    /// When what waits has waited too long.
    fn stuck_at(&self) -> Option<Instant> {
        self.waits.map(|since| since + self.client.shared.config.load().write_timeout)
    }

    /// When the client has been silent for too long. Only who was asked can fail to answer.
    fn silent_at(&self) -> Option<Instant> {
        (self.heard < self.pinged).then(|| self.heard + self.session.limits().idle_timeout)
    }

    /// Writes what waits and draws the conclusions.
    fn flush(&mut self, outbox: &Outbox) -> ControlFlow<End> {
        // The server goes, which is not this client's fault: as long as it reads, it gets
        // what it was promised.
        let is_leaving = self.turn.is_some() && self.cut.is_some();
        let waiting = if is_leaving { outbox.waiting() } else { 0 };
        let Ok(flush) = self.write(outbox) else { return ControlFlow::Break(End::Lost) };
        if is_leaving && outbox.waiting() < waiting {
            self.cut = None;
            self.start_cut();
        }
        self.waits = match flush {
            Flush::All => None,
            Flush::Waits(since) => Some(since),
        };
        let state = outbox.state();
        // Not by us, or we would be waiting for an answer.
        self.slow |= state == State::Closing && self.cut.is_none();
        match state {
            State::Open => {}
            State::Broken => return ControlFlow::Break(End::Lost),
            // There is no Close frame to wait for an answer to.
            State::Closing if flush == Flush::All && outbox.ending == Ending::Abrupt => {
                return ControlFlow::Break(End::Closed);
            }
            // By us, or by a publisher: the queue was full.
            State::Closing => self.start_cut(),
        }
        ControlFlow::Continue(())
    }

    /// Writes what waits and counts what has left.
    fn write(&self, outbox: &Outbox) -> io::Result<Flush> {
        let (flush, left) = outbox.flush();
        self.client.count(left);
        flush
    }

    /// Reads what is there and handles it.
    async fn receive(&mut self, outbox: &Outbox) -> ControlFlow<End> {
        match self.read(outbox) {
            Ok(0) => return ControlFlow::Break(End::Lost),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return ControlFlow::Break(End::Lost),
        }
        self.process(outbox).await
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
                Err(violation) => return self.refuse(outbox, &violation),
            };
            let shared = &self.client.shared;
            let now = self.heard.saturating_duration_since(shared.started);
            let limits = self.session.limits();
            let allowed = (limits.message_rate, shared.config.load().control_frames());
            if let Some(violation) = self.meters.too_often(&event, allowed, now) {
                return self.refuse(outbox, &violation);
            }
            match event {
                Event::Ping(payload) => _ = outbox.try_offer(wire::pong(&payload)),
                Event::Close(status) => {
                    // An answer to ours, or theirs, which gets the same status back.
                    let reason = |reason| if limits.echo_close_reason { reason } else { "" };
                    outbox.answer_close(
                        status.as_ref().map(|(code, text)| (*code, reason(text.as_str()))),
                    );
                    let _ = self.write(outbox);
                    return ControlFlow::Break(End::Closed);
                }
                // After our Close only theirs matters.
                _ if self.cut.is_some() => {}
                Event::Pong => {}
                Event::Text(text) => {
                    if self.session.received(&mut self.client, &text).await.is_break() {
                        self.close(outbox, Some((1000, "")));
                    }
                }
                Event::Binary(bytes) => {
                    if self.session.received_binary(&mut self.client, &bytes).await.is_break() {
                        self.close(outbox, Some((1000, "")));
                    }
                }
            }
        }
    }

    /// Nobody looked after this connection for a while: clocks that run against the client
    /// begin anew. The session's own deadline cannot, but it gets to see what came.
    fn restart_clocks(&mut self, outbox: &Outbox, now: Instant) {
        self.heard = now;
        outbox.restart_clock(now);
        self.waits = self.waits.map(|_| now);
        let timeout = self.client.shared.config.load().close_timeout;
        self.cut = self.cut.map(|_| now + timeout);
    }

    /// What the client failed to do in time, if anything.
    fn overdue(&self, now: Instant) -> Option<Overdue> {
        let over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| now >= deadline);
        if over(self.cut) {
            Some(Overdue::End(End::CutOff))
        } else if over(self.stuck_at()) {
            Some(Overdue::End(End::Stuck))
        } else if over(self.silent_at()) {
            Some(Overdue::End(End::Silent))
        } else if self.cut.is_none() && over(self.session.deadline()) {
            Some(Overdue::Session)
        } else {
            None
        }
    }

    /// Does what is due.
    fn on_time(&mut self, outbox: &Outbox) -> ControlFlow<End> {
        let now = Instant::now();
        match self.overdue(now) {
            Some(Overdue::End(end)) => return ControlFlow::Break(end),
            Some(Overdue::Session) => self.close(outbox, Some((1008, "time is up"))),
            None if self.cut.is_none() && self.turn.is_some_and(|turn| now >= turn) => {
                self.close(outbox, Some((1001, "going away")));
            }
            None => {}
        }
        if now >= self.tick {
            self.tick = now + self.session.limits().ping_interval;
            // Who is not asked, because too much waits already, need not answer; whether what
            // waits is read has a deadline of its own.
            if outbox.try_offer(wire::ping()) {
                self.pinged = now;
            }
        }
        ControlFlow::Continue(())
    }

    /// Sends a Close frame and gives the client some time to answer it.
    fn close(&mut self, outbox: &Outbox, status: Option<(u16, &str)>) {
        outbox.close(status);
        self.start_cut();
    }

    fn start_cut(&mut self) {
        let timeout = self.client.shared.config.load().close_timeout;
        self.cut.get_or_insert_with(|| Instant::now() + timeout);
    }

    /// The client broke the protocol: it is told, if it can bear it, and no more is read.
    /// What the socket does not take now is lost with the connection; only a client that
    /// does not read can lose anything.
    fn refuse(&self, outbox: &Outbox, violation: &Violation) -> ControlFlow<End> {
        outbox.close(Some((violation.code, violation.reason)));
        let _ = self.write(outbox);
        ControlFlow::Break(End::Refused(violation.reason))
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use bytes::Bytes;
    use tokio::net::TcpStream;

    use super::*;
    use crate::core::intake::Place;
    use crate::core::plugin::Jobs;
    use crate::core::session::{Client, Limits, Rate};
    use crate::plugins::sink_ws::Config;

    struct Silent;

    #[async_trait]
    impl Session for Silent {
        fn limits(&self) -> Limits {
            let ping_interval = Duration::from_secs(1);
            Limits {
                max_message_bytes: 1,
                message_rate: Rate { per_second: 1, burst: 1 },
                ping_interval,
                ending: Ending::Abrupt,
                echo_close_reason: false,
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
        let metrics = metrics::LiveSink::default();
        let shared = Arc::new(Shared::new(Config::default(), Jobs::default(), metrics));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let raw = Raw { stream, early: Bytes::new(), place: Place::any() };
        let open = Arc::<metrics::Connections>::default().open();
        let connection = Connection::new(shared, raw, Box::new(Silent), open);
        let (own, outbox) = (size_of_val(&*connection), size_of_val(&*connection.client.outbox));
        let task = size_of_val(&run(connection));
        // With the 104 bytes that tokio adds, a task takes a multiple of 128.
        assert!(task <= 536, "{task} bytes");
        assert!(own + outbox + task <= 1072, "{own} + {outbox} + {task} bytes");
    }
}
