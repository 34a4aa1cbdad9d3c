//! A network between a client and the server that is as bad as a test wants.
//!
//! Each client has a proxy of its own. What it does to a connection can be changed at any
//! time; a connection that was held goes on where it was.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::dice::Dice;
use super::peer::{reset, write};

/// What a link does to what goes over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Most milliseconds that what is read at a time is late; chance says how many of them.
    pub latency_ms: u64,
    /// Bytes that are passed on at a time, 0 for all. What is read at a time, up to 64 KiB,
    /// is cut into no more than [`MOST_SLICES`], so that large messages end some time.
    pub slice: usize,
}

/// See [`Link::slice`].
const MOST_SLICES: usize = 64;

/// What is done to all connections of a proxy at the moment.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Nothing passes from the client to the server.
    hold_up: bool,
    /// Nothing passes from the server to the client.
    hold_down: bool,
    /// How often all connections were reset.
    resets: u64,
    /// New connections are reset.
    down: bool,
}

/// See the module. Ends with all its connections when dropped.
pub struct Proxy {
    pub address: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// In front of the server at `upstream`, on the run time this is called on.
    pub async fn start(upstream: SocketAddr, link: Link, dice: Dice) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (state, watched) = watch::channel(State::default());
        let dice = Arc::new(Mutex::new(dice));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let wire = Wire { link, dice: dice.clone(), state: watched.clone() };
                tokio::spawn(wire.serve(client, upstream));
            }
        });
        Ok(Self { address, state, accepting })
    }

    /// Lets nothing pass up, to the server, or down, to the client, for as long as it is true.
    pub fn hold(&self, up: bool, down: bool) {
        self.state.send_modify(|state| (state.hold_up, state.hold_down) = (up, down));
    }

    /// Resets every connection, to both sides.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }

    /// Whether new connections are reset.
    pub fn set_down(&self, down: bool) {
        self.state.send_modify(|state| state.down = down);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.reset();
    }
}

/// One connection.
struct Wire {
    link: Link,
    dice: Arc<Mutex<Dice>>,
    state: watch::Receiver<State>,
}

impl Wire {
    async fn serve(mut self, client: TcpStream, upstream: SocketAddr) {
        let State { down, resets, .. } = *self.state.borrow_and_update();
        let server = if down { None } else { TcpStream::connect(upstream).await.ok() };
        let Some(server) = server else { return reset(client) };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let mut state = self.state.clone();
        let both = async {
            let up = self.pass(&client, &server, |state| state.hold_up);
            let down = self.pass(&server, &client, |state| state.hold_down);
            tokio::try_join!(up, down)
        };
        let ended = tokio::select! {
            ended = both => ended.is_ok(),
            // Also when the proxy is dropped.
            () = async { _ = state.wait_for(|state| state.resets != resets).await } => false,
        };
        if !ended {
            reset(client);
            reset(server);
        }
    }

    /// Passes on what comes until it ends.
    async fn pass(
        &self,
        from: &TcpStream,
        to: &TcpStream,
        held: impl Fn(&State) -> bool,
    ) -> io::Result<()> {
        let mut state = self.state.clone();
        loop {
            from.readable().await?;
            _ = state.wait_for(|state| !held(state)).await;
            let bytes = match read(from) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            if bytes.is_empty() {
                return SockRef::from(to).shutdown(Shutdown::Write);
            }
            if self.link.latency_ms > 0 {
                let late = self.dice.lock().below(self.link.latency_ms + 1);
                tokio::time::sleep(Duration::from_millis(late)).await;
            }
            let slice = match self.link.slice {
                0 => bytes.len(),
                slice => slice.max(bytes.len().div_ceil(MOST_SLICES)),
            };
            for slice in bytes.chunks(slice) {
                _ = state.wait_for(|state| !held(state)).await;
                write(to, slice).await?;
                // So that the other side may look before the next one comes.
                tokio::task::yield_now().await;
            }
        }
    }
}

fn read(from: &TcpStream) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; 65536];
    let read = from.try_read(&mut chunk)?;
    chunk.truncate(read);
    Ok(chunk)
}
