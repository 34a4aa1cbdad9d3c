//! Fan-out: what delivering one message to N WebSocket subscribers costs the server.
//!
//! `cargo bench --bench fanout` starts the release binary in its notiflux profile and drives
//! it over loopback: `POST /broadcast` on kept-alive connections, N subscribers on `/ws`,
//! texts of 128 bytes. Two ways to publish:
//!
//! * **one at a time**: the next message is sent when every subscriber has the previous one
//!   and the publisher its answer. Nothing can be joined; this is the cost of a quiet server.
//! * **16 in flight**: four connections with four pipelined requests each. A server that
//!   joins messages into one write per subscriber shows it here.
//!
//! Beside it runs a *floor*, a process that does nothing but one non-blocking `write()` of a
//! ready-made frame per subscriber and message. The rounds alternate (server, floor, server,
//! floor ...), so that whatever else the machine does hits both, and the ratio of two
//! neighbouring rounds means more than either number. A ratio below 1 is possible: the floor
//! never joins messages.
//!
//! CPU time is that of the server process alone, from `/proc/<pid>/stat`. On loopback a
//! `write()` includes the receiver's TCP input, so the floor is higher than with a network
//! card. Deliveries per second are those of the whole machine: receiver and server share it.
//!
//! Every subscriber must get every message exactly once and in the publisher's order;
//! anything else ends the run with a panic. No time is asserted. Linux only.
#![forbid(unsafe_code)]
// A benchmark prints, ends with a panic when something goes wrong, divides counters, and
// casts sizes that it chose.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]

mod floor;
mod frames;
mod options;
mod process;
mod publisher;
mod receiver;
mod report;
mod rig;
mod token;

use std::process::ExitCode;
use std::time::Duration;

use options::Options;
use report::{Measured, Report};
use rig::Rig;

/// How many subscribers the scenarios have.
const SUBSCRIBERS: [usize; 4] = [1, 8, 100, 1000];

/// Before the first round: caches, branch predictors and the server's token cache.
const WARM_UP: Duration = Duration::from_millis(200);

/// How the messages of a scenario are published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publishing {
    pub(crate) name: &'static str,
    /// Publisher connections to the server. The floor has one, with all of the messages.
    pub(crate) connections: u8,
    /// Messages in flight per connection: sent, and not yet with every subscriber.
    pub(crate) window: u64,
}

const PUBLISHING: [Publishing; 2] = [
    Publishing { name: "one at a time", connections: 1, window: 1 },
    Publishing { name: "128 in flight", connections: 128, window: 1 },
];

fn main() -> ExitCode {
    if let Some(subscribers) = floor::requested() {
        floor::serve(subscribers);
        return ExitCode::SUCCESS;
    }
    let most = SUBSCRIBERS[SUBSCRIBERS.len() - 1];
    let options = process::check_descriptors(most).and_then(|()| Options::from_args());
    let options = match options {
        Ok(options) => options,
        Err(fault) => {
            eprintln!("{fault}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(run(&options));
    report.print();
    report.write();
    ExitCode::SUCCESS
}

async fn run(options: &Options) -> Report {
    let mut report = Report::new(options);
    for subscribers in SUBSCRIBERS {
        for publishing in PUBLISHING {
            eprintln!("{subscribers} subscribers, {} ...", publishing.name);
            report.add(scenario(subscribers, publishing, options).await);
        }
    }
    report
}

/// All rounds of one scenario, on a server and a floor of its own.
async fn scenario(subscribers: usize, publishing: Publishing, options: &Options) -> Measured {
    let mut server = Rig::server(subscribers, publishing).await;
    let mut floor = Rig::floor(subscribers, publishing).await;
    server.round(WARM_UP).await;
    floor.round(WARM_UP).await;
    let mut measured = Measured::new(subscribers, publishing);
    for _ in 0..options.rounds {
        measured.server.push(server.round(options.time).await);
        measured.floor.push(floor.round(options.time).await);
    }
    // A message too many would come before the answer to a ping sent now.
    server.settle().await;
    floor.settle().await;
    measured
}
