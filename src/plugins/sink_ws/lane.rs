//! One message after the other for a topic, and those that wait leave together.
//!
//! Whoever brings something to a lane and finds it free either does the work at once,
//! while the lane is locked, or leaves it there and sends a carrier. Whatever comes while a
//! carrier is under way waits for its next turn.
//!
//! At once is cheaper when things come one at a time, a carrier when many come together.
//! Which of the two it is cannot be seen without a carrier, so one is sent now and then, and
//! again for as long as it finds company for what it was sent with.
//!
//! Written without knowledge of sockets, so that every interleaving can be tried.

use std::cell::Cell;
use std::collections::VecDeque;

use super::sync::Mutex;

/// The lane of one topic.
#[derive(Debug)]
pub(super) struct Lane<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    /// Whether a carrier is under way.
    carried: bool,
    /// How often work may still be done at once before a carrier is sent to look around.
    at_once: u8,
}

/// A carrier costs about as much as two or three writes; so seldom, it costs nothing.
const LOOK_AROUND: u8 = 16;

/// What became of what was brought.
#[derive(Debug)]
pub(super) enum Brought<R> {
    /// It was done at once.
    Done(R),
    /// It waits for the carrier that is under way.
    Waits,
    /// It waits, and the caller has to send a carrier, see [`Lane::carrier`].
    NeedsCarrier,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self(Mutex::new(State { waiting: VecDeque::new(), carried: false, at_once: LOOK_AROUND }))
    }
}

impl<T> Lane<T> {
    /// Does `now` on the spot if the lane is free and quiet and `now` wants to (it says
    /// `None` when the work is too long for that); else leaves what `later` makes.
    pub(super) fn bring<R>(
        &self,
        now: impl FnOnce() -> Option<R>,
        later: impl FnOnce() -> T,
    ) -> Brought<R> {
        let mut state = self.0.lock();
        if !state.carried
            && state.at_once > 0
            && let Some(done) = now()
        {
            state.at_once -= 1;
            return Brought::Done(done);
        }
        state.waiting.push_back(later());
        if std::mem::replace(&mut state.carried, true) {
            Brought::Waits
        } else {
            Brought::NeedsCarrier
        }
    }

    /// For who was sent to carry: takes what waits until nothing does.
    pub(super) fn carrier(&self) -> Carrier<'_, T> {
        Carrier { lane: self, done: Cell::new(false) }
    }
}

/// Somebody who carries what waits in a lane. There is only one at a time.
#[derive(Debug)]
pub(super) struct Carrier<'a, T> {
    lane: &'a Lane<T>,
    done: Cell<bool>,
}

impl<T> Carrier<'_, T> {
    /// Moves the first of what waits into `batch`, which is empty, and
    /// those after it as long as `fits` says so; it is asked about each, the first included.
    /// False, and the carrier's work is over, when nothing waits.
    pub(super) fn take(&self, batch: &mut Vec<T>, mut fits: impl FnMut(&T) -> bool) -> bool {
        let mut state = self.lane.0.lock();
        match state.waiting.len() {
            0 => {}
            1 => state.at_once = LOOK_AROUND,
            _ => state.at_once = 0,
        }
        while let Some(next) = state.waiting.front() {
            if !fits(next) && !batch.is_empty() {
                return true;
            }
            batch.extend(state.waiting.pop_front());
        }
        if batch.is_empty() {
            state.carried = false;
            // A topic that was busy once keeps no memory for it.
            state.waiting = VecDeque::new();
            self.done.set(true);
        }
        !batch.is_empty()
    }
}

impl<T> Drop for Carrier<'_, T> {
    /// A carrier that fails in the middle must not leave a lane that nobody carries.
    fn drop(&mut self) {
        if !self.done.get() {
            let mut state = self.lane.0.lock();
            state.waiting.clear();
            state.carried = false;
        }
    }
}
