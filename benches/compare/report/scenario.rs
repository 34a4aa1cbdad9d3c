//! What is measured, and what pushmux is to reach.

use super::metric::Metric;
use super::server::Server;
use super::server::Server::{Floor, Joining, Nchan, Pushmux, Ws};

/// One question, asked of several servers in turn.
pub(crate) struct Scenario {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) servers: &'static [Server],
    /// Put on each server one after the other, on a fresh process.
    pub(crate) loads: &'static [Load],
    /// The columns of its table, of which the first is compared with the floor's; the chart has
    /// a panel for each of the first `panels`.
    pub(crate) metrics: &'static [Metric],
    pub(crate) panels: usize,
    pub(crate) goals: &'static [Goal],
}

/// What `pushmux bench` is told.
pub(crate) struct Load {
    /// Behind the server's name; empty where there is one load.
    pub(crate) name: &'static str,
    /// Users with two browsers each, and not subscribers, where the dialect is oitc.
    pub(crate) subscribers: u32,
    pub(crate) length: Length,
    pub(crate) flags: &'static [&'static str],
    /// What only pushmux can be asked for.
    pub(crate) dialect: Dialect,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// notiflux for pushmux, generic for all others.
    Common,
    /// notiflux, for pushmux alone.
    Notiflux,
    Oitc,
}

#[derive(Clone, Copy)]
pub(crate) enum Length {
    /// So many times `--seconds`.
    Times(f64),
    /// So many messages where `--seconds` is 3, and in proportion.
    Messages(u32),
    /// So many messages, whatever `--seconds` is: fewer would show nothing.
    Exactly(u32),
    /// Nothing but connections.
    Idle,
}

/// What a figure of pushmux is to be at most.
pub(crate) struct Goal {
    pub(crate) metric: Metric,
    /// Index of the load.
    pub(crate) load: usize,
    pub(crate) to: To,
    pub(crate) at_most: f64,
}

/// What the figure is divided by, round by round.
#[derive(Clone, Copy)]
pub(crate) enum To {
    /// Nothing.
    One,
    /// The same of another server.
    Server(Server),
    /// Its own in another load of the scenario.
    Load(usize),
    /// Its own in the first load of another scenario.
    Scenario(&'static str),
}

const fn goal(metric: Metric, to: To, at_most: f64) -> Goal {
    Goal { metric, load: 0, to, at_most }
}

const fn load(subscribers: u32, flags: &'static [&'static str]) -> Load {
    Load { name: "", subscribers, length: Length::Times(1.0), flags, dialect: Dialect::Common }
}

const PLAIN: &[Server] = &[Floor, Pushmux, Nchan, Ws];
const FAN_OUT: &[Metric] =
    &[Metric::CpuPerDelivery, Metric::UserPerDelivery, Metric::DeliveriesPerSecond];

/// How many subscribers of scenario F stop reading; its flags say it again.
const STOPPED: f64 = 10.0;

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "A",
        title: "1,000 subscribers, 128 bytes, one publish at a time",
        servers: PLAIN,
        loads: &[load(1000, &[])],
        metrics: FAN_OUT,
        panels: 1,
        goals: &[goal(Metric::CpuPerDelivery, To::Server(Floor), 1.15)],
    },
    Scenario {
        id: "A128",
        title: "1,000 subscribers, 128 bytes, 128 publishes in flight",
        servers: &[Floor, Joining, Pushmux, Nchan, Ws],
        // Who publishes faster than is read fills what a server keeps for slow clients.
        loads: &[load(1000, &["--in-flight", "128", "--undelivered", "1000"])],
        metrics: FAN_OUT,
        panels: 1,
        goals: &[
            goal(Metric::CpuPerDelivery, To::Server(Joining), 1.0),
            goal(Metric::CpuPerDelivery, To::Server(Nchan), 1.0 / 3.0),
        ],
    },
    Scenario {
        id: "A4K",
        title: "1,000 subscribers, 4,096 bytes, one publish at a time",
        servers: PLAIN,
        loads: &[load(1000, &["--payload", "4096"])],
        metrics: FAN_OUT,
        panels: 1,
        goals: &[goal(Metric::CpuPerDelivery, To::Server(Floor), 1.15)],
    },
    Scenario {
        id: "B",
        title: "50 publishes a second to 1,000 subscribers",
        servers: PLAIN,
        // Enough messages for a 99th percentile, and none that waits for the one before.
        loads: &[Load {
            length: Length::Times(3.0),
            ..load(1000, &["--rate", "50", "--in-flight", "4"])
        }],
        metrics: &[
            Metric::SpreadP50,
            Metric::SpreadP99,
            Metric::LatencyP50,
            Metric::LatencyP99,
            Metric::CpuPerDelivery,
        ],
        panels: 2,
        goals: &[
            goal(Metric::SpreadP50, To::Server(Floor), 1.05),
            goal(Metric::SpreadP99, To::Server(Floor), 1.5),
        ],
    },
    Scenario {
        id: "C",
        title: "One subscriber, 16 publishes in flight",
        servers: &[Floor, Joining, Pushmux, Nchan, Ws],
        loads: &[
            load(1, &["--in-flight", "16"]),
            // Tokens are signed before, so that their number must be known.
            Load {
                name: "new tokens",
                length: Length::Messages(30_000),
                dialect: Dialect::Notiflux,
                ..load(1, &["--in-flight", "16", "--new-tokens", "--warmup", "0s"])
            },
        ],
        metrics: &[Metric::CpuPerPublish, Metric::PublishesPerSecond, Metric::LatencyP50],
        panels: 1,
        goals: &[
            goal(Metric::CpuPerPublish, To::One, 15.0),
            Goal { load: 1, ..goal(Metric::CpuPerPublish, To::One, 65.0) },
        ],
    },
    Scenario {
        id: "D",
        title: "10,000 topics with one subscriber each, 16 publishes in flight",
        servers: PLAIN,
        loads: &[load(10_000, &["--topics", "10000", "--in-flight", "16"])],
        metrics: &[Metric::CpuPerDelivery, Metric::UserPerDelivery, Metric::DeliveriesPerSecond],
        panels: 1,
        goals: &[
            goal(Metric::CpuPerDelivery, To::Scenario("A"), 1.5),
            goal(Metric::CpuPerDelivery, To::Scenario("C"), 1.5),
        ],
    },
    Scenario {
        id: "E",
        title: "10,000 idle connections",
        servers: PLAIN,
        loads: &[Load { length: Length::Idle, ..load(10_000, &[]) }],
        metrics: &[Metric::BytesConnected, Metric::BytesSubscribed],
        panels: 2,
        goals: &[
            goal(Metric::BytesConnected, To::One, 2048.0),
            goal(Metric::BytesSubscribed, To::One, 2560.0),
        ],
    },
    Scenario {
        id: "F",
        title: "1 % of 1,000 subscribers stop reading, 5.7 MB are pushed at each in 18 s",
        servers: &[Pushmux, Nchan, Ws],
        loads: &[
            Load {
                name: "10 stopped",
                length: Length::Exactly(700),
                ..load(
                    1000,
                    &["--payload", "8192", "--rate", "40", "--in-flight", "4", "--slow", "10"],
                )
            },
            Load {
                name: "none stopped",
                length: Length::Exactly(700),
                ..load(1000, &["--payload", "8192", "--rate", "40", "--in-flight", "4"])
            },
        ],
        metrics: &[Metric::LatencyP50, Metric::LatencyP99, Metric::Growth, Metric::CutOff],
        panels: 2,
        goals: &[
            goal(Metric::LatencyP99, To::Load(1), 2.0),
            goal(Metric::Growth, To::One, STOPPED * (1024.0 + 64.0)),
        ],
    },
    Scenario {
        id: "O",
        title: "openITCOCKPIT: alerts for one user in turn, 9,900 users with two browsers each",
        servers: &[Pushmux],
        loads: &[Load { dialect: Dialect::Oitc, ..load(9900, &["--in-flight", "16"]) }],
        metrics: &[
            Metric::PublishesPerCpuSecond,
            Metric::CpuPerPublish,
            Metric::PublishesPerSecond,
            Metric::LatencyP50,
        ],
        panels: 0,
        goals: &[],
    },
];

impl Scenario {
    pub(crate) fn by_id(id: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.id.eq_ignore_ascii_case(id))
    }

    /// All that is measured, in the order of the tables.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&'static Load, Server)> {
        let servers = self.servers;
        self.loads.iter().flat_map(move |load| servers.iter().map(move |server| (load, *server)))
    }

    /// Files that each of the processes has open.
    pub(crate) fn files(&self) -> u64 {
        let most = self.loads.iter().map(|load| match load.dialect {
            Dialect::Oitc => 2 * load.subscribers,
            _ => load.subscribers,
        });
        u64::from(most.max().unwrap_or(0)) + 200
    }
}

/// A server under a load, as tables and charts call it.
pub(crate) fn label(load: &Load, server: Server) -> String {
    if load.name.is_empty() { server.to_string() } else { format!("{server}, {}", load.name) }
}

impl Load {
    /// Whether a server can be put under it.
    pub(crate) fn fits(&self, server: Server) -> bool {
        self.dialect == Dialect::Common || server == Pushmux
    }
}
