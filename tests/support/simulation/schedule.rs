//! What happens in one simulation: all of it follows from the seed.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

use crate::support::dice;
use crate::support::proxy::Link;

/// One simulation.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Threads of the server.
    pub workers: usize,
    /// What may wait for a client; who needs more is disconnected, which is no fault.
    pub queue_messages: usize,
    pub topics: usize,
    /// The network of each subscriber. They are spread over the topics.
    pub subscribers: Vec<Link>,
    /// The network of each publisher. They publish to one topic after the other.
    pub publishers: Vec<Link>,
    /// Messages of each publisher.
    pub messages: u32,
    /// Bytes behind the stamp of each message.
    pub padding: usize,
    /// What goes wrong, and after how many publishes in all.
    pub faults: Vec<(usize, Fault)>,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing passes for this subscriber, up or down or both, for so many publishes.
    Hold { subscriber: usize, up: bool, down: bool, publishes: usize },
    /// The subscriber's connection is reset.
    Reset { subscriber: usize },
    /// The publisher's connection is reset.
    Interrupt { publisher: usize },
    /// All connections of subscribers are reset at once, and they all come back.
    Wave,
    /// The server gets SIGTERM, and another one takes its place.
    Restart,
    /// The server is killed, and another one takes its place.
    Crash,
}

impl Schedule {
    /// The schedule of a seed, today and always.
    pub fn new(seed: u64) -> Self {
        let mut runner = TestRunner::new_with_rng(Config::default(), dice::rng(seed, 0));
        schedule().new_tree(&mut runner).expect("nothing is filtered").current()
    }

    /// Whether messages may be lost that the server had taken.
    pub fn crashes(&self) -> bool {
        self.faults.iter().any(|(_, fault)| *fault == Fault::Crash)
    }

    /// Publishes in all.
    pub fn publishes(&self) -> usize {
        self.publishers.len() * self.messages as usize
    }
}

fn schedule() -> impl Strategy<Value = Schedule> {
    // Beyond 16 subscribers of a topic a message is written by a carrier.
    let crowd = prop_oneof![3 => 2_usize..8, 1 => 18_usize..40];
    let (subscribers, publishers) = (vec_of(link(), crowd), vec_of(link(), 1_usize..5));
    let sizes = (1_usize..5, prop_oneof![Just(4_usize), 16_usize..257], 1_usize..4);
    let padding = prop_oneof![4 => 0_usize..200, 2 => 200_usize..5_000, 1 => Just(70_000)];
    let load = (10_u32..60, padding);
    (sizes, subscribers, publishers, load)
        .prop_flat_map(|(sizes, subscribers, publishers, (messages, padding))| {
            let publishes = publishers.len() * messages as usize;
            let fault = fault(subscribers.len(), publishers.len(), publishes);
            let faults = vec_of((0..publishes, fault), 0_usize..12);
            (Just(sizes), Just(subscribers), Just(publishers), Just((messages, padding)), faults)
        })
        .prop_map(|(sizes, subscribers, publishers, (messages, padding), mut faults)| {
            let (workers, queue_messages, topics) = sizes;
            faults.sort_by_key(|(after, _)| *after);
            Schedule {
                workers,
                queue_messages,
                topics,
                subscribers,
                publishers,
                messages,
                padding,
                faults,
            }
        })
}

fn vec_of<S: Strategy + Clone>(
    element: S,
    size: impl Strategy<Value = usize>,
) -> impl Strategy<Value = Vec<S::Value>> {
    size.prop_flat_map(move |size| proptest::collection::vec(element.clone(), size))
}

fn link() -> impl Strategy<Value = Link> + Clone {
    let latency = prop_oneof![3 => Just(0_u64), 1 => 1_u64..20];
    let slice = prop_oneof![3 => Just(0_usize), 1 => Just(1), 1 => Just(7), 1 => 100_usize..1500];
    (latency, slice).prop_map(|(latency_ms, slice)| Link { latency_ms, slice })
}

fn fault(
    subscribers: usize,
    publishers: usize,
    publishes: usize,
) -> impl Strategy<Value = Fault> + Clone {
    let subscriber = 0..subscribers;
    let hold = (
        subscriber.clone(),
        prop_oneof![Just((true, true)), Just((true, false)), Just((false, true))],
        1..=publishes,
    )
        .prop_map(|(subscriber, (up, down), publishes)| Fault::Hold {
            subscriber,
            up,
            down,
            publishes,
        });
    prop_oneof![
        6 => hold,
        4 => subscriber.prop_map(|subscriber| Fault::Reset { subscriber }),
        2 => (0..publishers).prop_map(|publisher| Fault::Interrupt { publisher }),
        1 => Just(Fault::Wave),
        1 => Just(Fault::Restart),
        1 => Just(Fault::Crash),
    ]
}
