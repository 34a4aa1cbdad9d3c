//! What scenarios share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread::{self, ThreadId};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::options::{Options, Seeds};
use crate::support::dice::Dice;

/// One run of the suite.
pub struct Run {
    pub seed: u64,
    /// Which simulations to play.
    pub seeds: Seeds,
    /// How many times the usual number of messages.
    pub scale: u16,
}

/// Simulations when nobody says which: that many, from one that follows from the seed.
const SIMULATIONS: u64 = 20;

impl Run {
    /// # Errors
    /// When the seed in the environment is no number.
    pub fn new(options: &Options) -> Result<Self, String> {
        let variable = std::env::var("PUSHMUX_STRESS_SEED").ok().filter(|text| !text.is_empty());
        let seed = match (options.seed, variable) {
            (Some(seed), _) => seed,
            (None, Some(text)) => text
                .parse()
                .map_err(|_| format!("PUSHMUX_STRESS_SEED: found {text:?}, expected a number"))?,
            (None, None) => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                // Short enough to type.
                u64::from(since.subsec_nanos()) ^ (since.as_secs() & 0xFFFF)
            }
        };
        let first = seed.wrapping_mul(SIMULATIONS) % 1_000_000_000;
        let default = Seeds(first..=first + SIMULATIONS - 1);
        let seeds = options.seeds.clone().unwrap_or(default);
        Ok(Self { seed, seeds, scale: options.scale })
    }

    pub fn dice(&self, whose: usize) -> Dice {
        Dice::new(self.seed, whose)
    }
}

/// Runs clients, all of them on this thread: the other cores belong to the server. They are
/// one task, which must be free to read all that has come: with the budget of a task, a
/// thousand readers would fall behind one publisher.
pub fn block_on<T>(clients: impl Future<Output = T>) -> T {
    let run_time = tokio::runtime::Builder::new_current_thread().enable_all().build();
    run_time.unwrap().block_on(tokio::task::unconstrained(clients))
}

/// What panics said, in the order of coming, and on which thread.
static FAULTS: Mutex<Vec<(ThreadId, String)>> = Mutex::new(Vec::new());

/// Does it; the sentence and the place of a panic become an error.
pub fn attempt(it: impl FnOnce() -> String) -> Result<String, String> {
    std::panic::set_hook(Box::new(|info| {
        let sentence = info.payload_as_str().unwrap_or("it failed without a word");
        let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line()));
        let fault = format!("{sentence}{}", place.unwrap_or_default());
        FAULTS.lock().unwrap().push((thread::current().id(), fault));
    }));
    let done = catch_unwind(AssertUnwindSafe(it));
    let _ = std::panic::take_hook();
    // The first is the cause, on whatever thread it was.
    let mut faults = std::mem::take(&mut *FAULTS.lock().unwrap());
    done.map_err(|_| faults.swap_remove(0).1)
}

/// What the last panic on this thread said.
pub fn last_fault() -> String {
    let faults = FAULTS.lock().unwrap();
    let own = faults.iter().rfind(|(thread, _)| *thread == thread::current().id());
    own.map_or_else(String::new, |(_, fault)| fault.clone())
}

/// With commas: 1,234,567.
pub fn thousands(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(u64::MAX).to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
