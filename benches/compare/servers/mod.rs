//! The servers: each on a fresh process, in a folder of its own.

mod floor;
mod nchan;
mod node;
mod process;
mod pushmux;

use std::net::SocketAddr;

use crate::report::scenario::{Dialect, Load};
use crate::report::server::Server;
use process::Process;
pub(crate) use pushmux::command;

/// The binary that is measured and that measures.
pub(crate) const PUSHMUX: &str = env!("CARGO_BIN_EXE_pushmux");

/// A server that listens. It ends when dropped.
pub(crate) struct Running {
    process: Process,
    address: SocketAddr,
    speaks: Dialect,
}

/// Starts a server.
///
/// # Errors
/// Why it does not listen, with the end of its log.
pub(crate) fn start(server: Server, load: &Load) -> Result<Running, String> {
    match (server, load.dialect) {
        (Server::Floor, _) => floor::start(false),
        (Server::Joining, _) => floor::start(true),
        (Server::Pushmux, Dialect::Oitc) => pushmux::oitc(),
        (Server::Pushmux, _) => pushmux::notiflux(),
        (Server::Nchan, _) => nchan::start(),
        (Server::Ws, _) => node::start(),
    }
}

/// What a server calls itself.
///
/// # Errors
/// When it is not installed: which package brings it.
pub(crate) fn version(server: Server) -> Result<String, String> {
    match server {
        Server::Floor => Ok("one write() for each message and subscriber".into()),
        Server::Joining => {
            Ok("one write() for each subscriber and all messages that are there".into())
        }
        Server::Pushmux => Ok(pushmux::version()),
        Server::Nchan => nchan::version(),
        Server::Ws => node::version(),
    }
}

impl Running {
    /// The arguments of `pushmux bench` that name the server.
    pub(crate) fn target(&self) -> Vec<String> {
        let address = self.address;
        let url = format!("http://{address}");
        match self.speaks {
            Dialect::Common => vec![
                "generic".to_owned(),
                format!("--subscribe=ws://{address}/sub/{{topic}}"),
                format!("--publish={url}/pub/{{topic}}"),
            ],
            Dialect::Notiflux => vec!["notiflux".into(), format!("--url={url}"), self.key()],
            Dialect::Oitc => pushmux::oitc_target(&url),
        }
    }

    fn key(&self) -> String {
        format!("--key={}", self.process.folder().join(pushmux::KEY_FILE).display())
    }

    /// The end of what it logged.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}

/// The first line of what a command prints on either stream.
fn first_line(program: &str, args: &[&str]) -> Option<String> {
    let output = std::process::Command::new(program).args(args).output().ok()?;
    let bytes = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    output.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}
