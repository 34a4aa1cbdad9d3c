//! Who must have got what: messages with their times, and what subscribers saw of them.
//!
//! Times are ticks of one counter, taken before something is begun and after it is known to
//! be done, so that "before" and "after" are never a matter of clocks.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// What a message says of itself: who sent it, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    pub publisher: u16,
    pub number: u32,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.publisher, self.number)
    }
}

impl FromStr for Stamp {
    type Err = String;

    /// Reads the first word.
    fn from_str(text: &str) -> Result<Self, String> {
        let word = text.split(' ').next().unwrap_or_default();
        let parsed = word.split_once('-').and_then(|(publisher, number)| {
            Some(Self { publisher: publisher.parse().ok()?, number: number.parse().ok()? })
        });
        parsed.ok_or_else(|| format!("{word:?} is not a message that was sent"))
    }
}

/// One subscription of one client, from its acknowledgement to its end.
#[derive(Clone, Debug)]
pub struct Stay {
    pub who: String,
    pub seen: Vec<Stamp>,
    /// When it was known to be in force; never, for a connection that was lost before.
    pub acknowledged: Option<u64>,
    /// When the client began to end it, and got the answer; never, for a connection that
    /// was lost.
    pub left: Option<u64>,
}

impl Stay {
    pub fn new(who: &str) -> Self {
        Self { who: who.into(), seen: vec![], acknowledged: None, left: None }
    }
}

/// See the module.
#[derive(Default)]
pub struct Ledger {
    clock: AtomicU64,
    messages: Mutex<HashMap<Stamp, Times>>,
}

#[derive(Clone, Copy)]
struct Times {
    begun: u64,
    answered: Option<u64>,
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub messages: usize,
    pub stays: usize,
    pub deliveries: usize,
}

impl std::ops::AddAssign for Checked {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.stays += other.stays;
        self.deliveries += other.deliveries;
    }
}

impl Ledger {
    pub fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// To be called before a message is sent.
    pub fn begin(&self, stamp: Stamp) {
        let begun = self.now();
        let before = self.messages.lock().insert(stamp, Times { begun, answered: None });
        assert!(before.is_none(), "{stamp} was sent before");
    }

    /// To be called when the publisher has its answer.
    pub fn answered(&self, stamp: Stamp) {
        let now = self.now();
        self.messages.lock().get_mut(&stamp).unwrap().answered = Some(now);
    }

    /// Compares the stays at one topic with `observed`: what somebody saw who was always
    /// there, one list for each life of the server. Every stay must be a part of it without
    /// gaps or repetitions, that holds what was begun after its acknowledgement and, unless
    /// its connection was lost, what was answered before it left.
    ///
    /// # Errors
    /// A sentence about the first stay that is something else.
    pub fn check(&self, observed: &[Vec<Stamp>], stays: &[Stay]) -> Result<Checked, String> {
        let messages = self.messages.lock();
        let order = Order::new(lives(observed, stays), &messages)?;
        for stay in stays {
            order.check(stay).map_err(|fault| format!("{}: {fault}", stay.who))?;
        }
        Ok(Checked {
            messages: order.lives.iter().map(Vec::len).sum(),
            stays: stays.len(),
            deliveries: stays.iter().map(|stay| stay.seen.len()).sum(),
        })
    }

    /// The first message that was answered and that `observed` lacks, for topics and servers
    /// where that cannot be.
    pub fn unseen(&self, observed: &[Vec<Stamp>]) -> Option<Stamp> {
        let seen: HashSet<_> = observed.iter().flatten().collect();
        let messages = self.messages.lock();
        let answered = messages.iter().filter(|(_, times)| times.answered.is_some());
        answered.map(|(stamp, _)| *stamp).filter(|stamp| !seen.contains(stamp)).min()
    }
}

/// The lists of the observer, and behind each what others still saw when a server was killed
/// that had not written to the observer yet.
fn lives(observed: &[Vec<Stamp>], stays: &[Stay]) -> Vec<Vec<Stamp>> {
    let pairs = stays.iter().flat_map(|stay| stay.seen.windows(2));
    let next: HashMap<_, _> = pairs.map(|pair| (pair[0], pair[1])).collect();
    let mut seen: HashSet<_> = observed.iter().flatten().copied().collect();
    let mut lives = observed.to_vec();
    for life in &mut lives {
        while let Some(after) = life.last().and_then(|last| next.get(last)) {
            if !seen.insert(*after) {
                break;
            }
            life.push(*after);
        }
    }
    lives
}

/// What was published in which order, and what of it had to come.
struct Order {
    lives: Vec<Vec<Stamp>>,
    places: HashMap<Stamp, (usize, usize)>,
    /// For each place, the latest time at which one of the messages before it was begun.
    begun_before: Vec<Vec<u64>>,
    /// For each place, the earliest time at which it or one after it was answered.
    answered_from: Vec<Vec<u64>>,
    /// When each message was begun and answered.
    times: Vec<(Stamp, u64, u64)>,
}

impl Order {
    fn new(lives: Vec<Vec<Stamp>>, messages: &HashMap<Stamp, Times>) -> Result<Self, String> {
        let mut order = Self {
            places: HashMap::new(),
            begun_before: vec![],
            answered_from: vec![],
            times: vec![],
            lives: vec![],
        };
        for (life, list) in lives.iter().enumerate() {
            let (mut begun, mut answered) = (vec![0], vec![u64::MAX]);
            for (place, stamp) in list.iter().enumerate() {
                if order.places.insert(*stamp, (life, place)).is_some() {
                    return Err(format!("the observer: {stamp} came twice"));
                }
                let times = messages.get(stamp);
                let times = times.ok_or_else(|| format!("the observer: {stamp} was never sent"))?;
                begun.push(begun[place].max(times.begun));
                order.times.push((*stamp, times.begun, times.answered.unwrap_or(u64::MAX)));
            }
            for (_, _, time) in order.times[order.times.len() - list.len()..].iter().rev() {
                answered.push((*time).min(answered[answered.len() - 1]));
            }
            answered.reverse();
            order.begun_before.push(begun);
            order.answered_from.push(answered);
        }
        order.lives = lives;
        Ok(order)
    }

    fn check(&self, stay: &Stay) -> Result<(), String> {
        let Some((life, places)) = self.place(&stay.seen)? else {
            return if stay.seen.is_empty() { self.check_empty(stay) } else { Ok(()) };
        };
        let list = &self.lives[life];
        if stay.acknowledged.is_some_and(|time| self.begun_before[life][places.start] > time) {
            return Err(format!(
                "nothing came before {}, though a message before it was sent after the subscription was acknowledged",
                list[places.start]
            ));
        }
        if stay.left.is_some_and(|time| self.answered_from[life][places.end] < time) {
            return Err(format!(
                "nothing came after {}, though a message after it was answered before the subscription ended",
                list[places.end - 1]
            ));
        }
        Ok(())
    }

    /// Where the messages of a stay are; none for an empty one, and for one that only saw what
    /// a server that was killed brought to nobody else.
    fn place(&self, seen: &[Stamp]) -> Result<Option<(usize, Range<usize>)>, String> {
        let Some(first) = seen.first() else { return Ok(None) };
        let Some((life, start)) = self.places.get(first).copied() else {
            let known = seen.iter().find(|stamp| self.places.contains_key(stamp));
            let fault = |known| format!("{known} came, after messages that nobody else got");
            return known.map_or(Ok(None), |known| Err(fault(known)));
        };
        for (index, stamp) in seen.iter().enumerate() {
            let expected = self.lives[life].get(start + index);
            if expected != Some(stamp) {
                let expected = expected.map_or("nothing".into(), ToString::to_string);
                let again = if seen[..index].contains(stamp) { " again" } else { "" };
                return Err(format!("{stamp} came{again}, {expected} was due"));
            }
        }
        Ok(Some((life, start..start + seen.len())))
    }

    fn check_empty(&self, stay: &Stay) -> Result<(), String> {
        let (Some(from), Some(to)) = (stay.acknowledged, stay.left) else { return Ok(()) };
        let missed = |(_, begun, answered): &&(_, u64, u64)| *begun > from && *answered < to;
        match self.times.iter().find(missed) {
            Some((stamp, ..)) => Err(format!("{stamp} did not come")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages 0 to 9, each answered before the next was begun, at the ticks 2n and 2n + 1.
    fn ten() -> (Ledger, [Vec<Stamp>; 1]) {
        let ledger = Ledger::default();
        let stamps: Vec<_> = (0..10).map(|number| Stamp { publisher: 0, number }).collect();
        for stamp in &stamps {
            ledger.begin(*stamp);
            ledger.answered(*stamp);
        }
        (ledger, [stamps])
    }

    /// From tick to tick, having seen these.
    fn stay(times: Range<u64>, seen: &[u32]) -> Stay {
        let seen = seen.iter().map(|number| Stamp { publisher: 0, number: *number }).collect();
        let (acknowledged, left) = (Some(times.start), Some(times.end));
        Stay { who: "it".into(), seen, acknowledged, left }
    }

    #[test]
    fn what_had_to_come_is_all_that_is_asked_for() {
        let (ledger, all) = ten();
        // From the answer to 2 to the beginning of 6.
        for seen in [&[3, 4, 5][..], &[2, 3, 4, 5], &[3, 4, 5, 6], &[0, 1, 2, 3, 4, 5]] {
            let checked = ledger.check(&all, &[stay(5..12, seen)]).unwrap();
            assert_eq!(checked, Checked { messages: 10, stays: 1, deliveries: seen.len() });
        }
        ledger.check(&all, &[stay(5..6, &[])]).unwrap();
        let lost =
            |acknowledged, seen: &[u32]| Stay { acknowledged, left: None, ..stay(0..0, seen) };
        for stay in [lost(Some(5), &[]), lost(Some(5), &[3]), lost(None, &[7])] {
            ledger.check(&all, &[stay]).unwrap();
        }
        assert_eq!(ledger.unseen(&all), None);
    }

    #[test]
    fn every_fault_is_found_and_told() {
        let (ledger, all) = ten();
        for (seen, sentence) in [
            (
                &[4, 5][..],
                "it: nothing came before 0-4, though a message before it was sent after the subscription was acknowledged",
            ),
            (
                &[3, 4],
                "it: nothing came after 0-4, though a message after it was answered before the subscription ended",
            ),
            (&[], "it: 0-3 did not come"),
            (&[3, 5], "it: 0-5 came, 0-4 was due"),
            (&[3, 3, 4, 5], "it: 0-3 came again, 0-4 was due"),
            (&[3, 4, 5, 77], "it: 0-77 came, 0-6 was due"),
            (&[77, 3], "it: 0-3 came, after messages that nobody else got"),
        ] {
            let found = ledger.check(&all, &[stay(5..12, seen)]).unwrap_err();
            assert_eq!(found, sentence);
        }
        let two = [stay(5..12, &[3, 4, 5]), stay(5..12, &[3, 5, 4])];
        let found = ledger.check(&all, &two).unwrap_err();
        assert_eq!(found, "it: 0-5 came, 0-4 was due");
        let twice = [&all[0][..], &all[0][9..]].concat();
        assert_eq!(ledger.check(&[twice], &[]).unwrap_err(), "the observer: 0-9 came twice");
        assert_eq!(ledger.unseen(&[all[0][1..].to_vec()]), Some(all[0][0]));
    }

    #[test]
    fn a_server_that_was_killed_may_have_told_others_more() {
        let (ledger, [all]) = ten();
        let lives = [all[..3].to_vec(), all[6..].to_vec()];
        let mut more = stay(0..0, &[1, 2, 3, 4]);
        more.left = None;
        ledger.check(&lives, &[more.clone(), stay(7..8, &[3, 4])]).unwrap();
        // But not what came in the next life, and not with a gap.
        more.seen.push(all[6]);
        assert!(ledger.check(&lives, &[more]).is_err());
    }
}
