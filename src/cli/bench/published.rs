//! What became of the messages that were published.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::dialect::Counts;
use super::process::Thread;
use super::tally::times;

/// Counted by the publishers.
pub(super) struct Published {
    /// Taken by the server while measuring.
    pub(super) measured: u64,
    /// Taken by the server before and after.
    pub(super) unmeasured: u64,
    /// Not taken, by status; 0 for no answer.
    pub(super) refused: BTreeMap<u16, u64>,
    /// The first time there was no answer.
    pub(super) first_failure: Option<String>,
    /// What the server says it has delivered, if it says so.
    pub(super) counts: Option<Counts>,
    /// Answers that said so.
    pub(super) counted: u64,
    /// Messages that were not with everybody in time.
    pub(super) given_up: u64,
    /// Why no more was published, if all that was asked for was not.
    pub(super) ended_early: Option<String>,
    /// From sending to the answer, measured messages only.
    pub(super) answers: Histogram<u64>,
    /// How far the schedule was missed at most, in nanoseconds.
    pub(super) behind: u64,
    pub(super) reconnects: u64,
    /// When measuring began and ended, without waiting for the last answers.
    pub(super) began: u64,
    pub(super) ended: u64,
    /// What the thread itself took while measuring.
    pub(super) thread: Thread,
}

impl Published {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            unmeasured: 0,
            measured: 0,
            refused: BTreeMap::new(),
            first_failure: None,
            counts: None,
            counted: 0,
            given_up: 0,
            ended_early: None,
            answers: times(),
            behind: 0,
            reconnects: 0,
            began: 0,
            ended: 0,
            thread: Thread::default(),
        }
    }
}
