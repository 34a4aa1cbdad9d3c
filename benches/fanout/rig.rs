//! One side of the comparison: a process, its subscribers and its publishers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;

use super::Publishing;
use super::floor;
use super::frames;
use super::process::{Cpu, Process};
use super::publisher::{Publisher, Request};
use super::receiver::{Progress, Subscriber, send};
use super::token::{Keys, TOPIC};

/// How long nothing may happen before messages count as lost. It decides nothing else.
const STALL: Duration = Duration::from_secs(20);

/// What one round came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) messages: u64,
    pub(crate) deliveries: u64,
    /// From the first request to the last delivery.
    pub(crate) seconds: f64,
    pub(crate) cpu: Cpu,
}

pub(crate) struct Rig {
    name: &'static str,
    process: Process,
    subscribers: usize,
    progress: Arc<Progress>,
    publishers: Vec<Publisher>,
    /// Sending halves of the server's subscribers; empty for the floor.
    pings: Vec<Arc<OwnedWriteHalf>>,
    faults: Receiver<String>,
    /// Kept for its drop, which ends the subscribers.
    _receivers: Receivers,
}

/// The tasks of all subscribers, on the way to their start.
struct Receivers {
    tasks: JoinSet<()>,
    progress: Arc<Progress>,
    faults: Sender<String>,
}

impl Rig {
    /// The server with all subscribers subscribed.
    pub(crate) async fn server(subscribers: usize, publishing: Publishing) -> Self {
        let keys = Keys::generate();
        let process = Process::server(&keys.public_base64());
        let address = process.address;
        let (mut receivers, faults) = Receivers::new(subscribers, publishing.connections);
        let token = keys.token("subscribe");
        let mut pings = Vec::with_capacity(subscribers);
        for _ in 0..subscribers {
            pings.push(receivers.add(subscribe(address, &token).await));
        }
        let token = keys.token("broadcast");
        let mut publishers = Vec::new();
        for lane in 0..publishing.connections {
            let request = Request::broadcast(address, &token);
            publishers.push(Publisher::new(
                lane,
                publishing.window,
                request,
                connect(address).await,
            ));
        }
        let mut rig =
            Self::new("server", process, subscribers, publishers, pings, receivers, faults);
        rig.settle().await;
        rig
    }

    /// The floor with the same subscribers, and one publisher for all messages in flight.
    pub(crate) async fn floor(subscribers: usize, publishing: Publishing) -> Self {
        let process = Process::floor(subscribers);
        let (mut receivers, faults) = Receivers::new(subscribers, 1);
        for _ in 0..subscribers {
            let stream = connect_as(process.address, floor::SUBSCRIBER).await;
            receivers.add(stream);
        }
        let window = publishing.window * u64::from(publishing.connections);
        let control = connect_as(process.address, floor::CONTROL).await;
        let publishers = vec![Publisher::new(0, window, Request::Byte, control)];
        let mut rig =
            Self::new("floor", process, subscribers, publishers, vec![], receivers, faults);
        rig.settle().await;
        rig
    }

    fn new(
        name: &'static str,
        process: Process,
        subscribers: usize,
        publishers: Vec<Publisher>,
        pings: Vec<Arc<OwnedWriteHalf>>,
        receivers: Receivers,
        faults: Receiver<String>,
    ) -> Self {
        let progress = receivers.progress.clone();
        Self {
            name,
            process,
            subscribers,
            progress,
            publishers,
            pings,
            faults,
            _receivers: receivers,
        }
    }

    /// Publishes for a while, waits for the last delivery, and tells what it took.
    pub(crate) async fn round(&mut self, time: Duration) -> Round {
        for publisher in &mut self.publishers {
            publisher.reconnect(self.process.address).await.expect("the server accepts");
        }
        let sent = self.sent();
        let cpu = self.process.cpu();
        let start = Instant::now();
        self.publish(start + time).await;
        let seconds = start.elapsed().as_secs_f64();
        let cpu = self.process.cpu().since(cpu);
        let messages = self.sent() - sent;
        Round { messages, deliveries: messages * self.subscribers as u64, seconds, cpu }
    }

    /// Has every subscriber get a pong: what was sent before has been processed by then, and
    /// what came before it has been counted.
    pub(crate) async fn settle(&mut self) {
        let ping = frames::client_frame(9, b"");
        for stream in &self.pings {
            send(stream, &ping).unwrap_or_else(|fault| panic!("the server: {fault}"));
        }
        if self.pings.is_empty() {
            self.publishers[0].settle_floor().await;
        }
        let waited = tokio::select! {
            fault = self.faults.recv() => Err(fault.unwrap()),
            waited = tokio::time::timeout(STALL, self.progress.settled()) => {
                waited.map_err(|_| "no pong for every subscriber".into())
            }
        };
        waited.unwrap_or_else(|fault| self.fail(&fault));
    }

    async fn publish(&mut self, until: Instant) {
        let mut tasks = JoinSet::new();
        for (lane, mut publisher) in self.publishers.drain(..).enumerate() {
            let progress = self.progress.clone();
            tasks.spawn(async move {
                let result = publisher.run(until, &progress.lanes[lane]).await;
                (lane, publisher, result)
            });
        }
        let deadline = tokio::time::sleep_until((until + STALL).into());
        tokio::pin!(deadline);
        let mut done = Vec::new();
        while !tasks.is_empty() {
            tokio::select! {
                ended = tasks.join_next() => {
                    let (lane, publisher, result) = ended.unwrap().unwrap();
                    result.unwrap_or_else(|fault| self.fail(&fault));
                    done.push((lane, publisher));
                }
                fault = self.faults.recv() => self.fail(&fault.unwrap()),
                () = &mut deadline => {
                    self.fail(&format!("messages or answers lost: {}", self.progress.describe()))
                }
            }
        }
        done.sort_by_key(|(lane, _)| *lane);
        self.publishers.extend(done.into_iter().map(|(_, publisher)| publisher));
    }

    fn sent(&self) -> u64 {
        self.publishers.iter().map(Publisher::sent).sum()
    }

    fn fail(&self, fault: &str) -> ! {
        let Self { name, subscribers, .. } = self;
        let log = self.process.log();
        panic!("{name} with {subscribers} subscribers: {fault}\nThe end of its log:\n{log}")
    }
}

impl Receivers {
    fn new(subscribers: usize, lanes: u8) -> (Self, Receiver<String>) {
        let (faults, reported) = channel(1);
        let progress = Arc::new(Progress::new(subscribers, lanes));
        (Self { tasks: JoinSet::new(), progress, faults }, reported)
    }

    fn add(&mut self, stream: TcpStream) -> Arc<OwnedWriteHalf> {
        let (read, write) = stream.into_split();
        let write = Arc::new(write);
        let (number, progress) = (self.tasks.len(), self.progress.clone());
        let subscriber = Subscriber { number, read, write: write.clone(), progress };
        self.tasks.spawn(subscriber.run(self.faults.clone()));
        write
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("the process accepts");
    stream.set_nodelay(true).unwrap();
    stream
}

async fn connect_as(address: SocketAddr, role: u8) -> TcpStream {
    let mut stream = connect(address).await;
    stream.write_all(&[role]).await.unwrap();
    stream
}

/// A WebSocket that has asked for its subscription.
async fn subscribe(address: SocketAddr, token: &str) -> TcpStream {
    let mut stream = connect(address).await;
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = tokio::time::timeout(STALL, head(&mut stream)).await.expect("an answer in time");
    assert!(head.starts_with("HTTP/1.1 101 "), "the upgrade was refused:\n{head}");
    let command = format!("/subscribe {TOPIC} {token}");
    stream.write_all(&frames::client_frame(1, command.as_bytes())).await.unwrap();
    stream
}

/// Reads up to the empty line. The server has nothing to say after it yet.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let read = stream.read_buf(&mut head).await.expect("the answer to the upgrade");
        assert!(read > 0, "closed in the head: {}", head.escape_ascii());
    }
    String::from_utf8(head).expect("a head in ASCII")
}
