//! Many seeds of the simulation.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::run::{Run, last_fault, thousands};
use crate::support::ledger::Checked;
use crate::support::simulation::play;

/// Simulations at a time: most of what they do is waiting.
const AT_A_TIME: usize = 4;

pub fn seeds(run: &Run) -> String {
    let (first, last) = (*run.seeds.0.start(), *run.seeds.0.end());
    let next = AtomicU64::new(first);
    let (sum, faults) = (Mutex::new(Checked::default()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last {
                        return;
                    }
                    match std::panic::catch_unwind(|| play(seed)) {
                        Ok(Ok(checked)) => *sum.lock().unwrap() += checked,
                        Ok(Err(fault)) => faults.lock().unwrap().push(fault),
                        Err(_) => {
                            let fault = format!("seed {seed}: {}", last_fault());
                            faults.lock().unwrap().push(fault);
                        }
                    }
                }
            });
        }
    });
    let (sum, faults) = (sum.into_inner().unwrap(), faults.into_inner().unwrap());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    format!(
        "{} to {}: {} messages, {} subscriptions, {} deliveries as promised",
        first,
        last,
        thousands(sum.messages),
        thousands(sum.stays),
        thousands(sum.deliveries)
    )
}
