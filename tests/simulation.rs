//! Some seeds of the simulation. `scripts/stress --seeds 1..200` plays more of them.

use std::collections::BTreeSet;
use std::mem::discriminant;

use crate::support::simulation::{Fault, Schedule, play};

/// All faults are among them, see below.
const SEEDS: [u64; 5] = [4, 7, 10, 13, 15];

#[test]
fn whatever_the_network_does_what_was_promised_comes() {
    let mut messages = 0;
    for seed in SEEDS {
        let checked = play(seed).unwrap_or_else(|fault| panic!("{fault}"));
        assert!(checked.deliveries > 0, "seed {seed} has shown nothing");
        messages += checked.messages;
    }
    assert!(messages > 300, "{messages}");
}

#[test]
fn a_seed_is_a_schedule_and_the_seeds_that_are_played_have_every_fault() {
    let schedule = |seed| format!("{:?}", Schedule::new(seed));
    assert_eq!(schedule(7), schedule(7));
    assert_ne!(schedule(7), schedule(8));
    let faults = SEEDS.into_iter().flat_map(|seed| Schedule::new(seed).faults);
    let kinds: BTreeSet<_> =
        faults.map(|(_, fault)| format!("{:?}", discriminant(&fault))).collect();
    let all = [
        Fault::Hold { subscriber: 0, up: true, down: true, publishes: 1 },
        Fault::Reset { subscriber: 0 },
        Fault::Interrupt { publisher: 0 },
        Fault::Wave,
        Fault::Restart,
        Fault::Crash,
    ];
    for fault in all {
        assert!(kinds.contains(&format!("{:?}", discriminant(&fault))), "no {fault:?}: {kinds:?}");
    }
}
