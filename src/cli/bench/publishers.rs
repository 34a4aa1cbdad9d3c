//! The publishers: one thread with all publishing connections.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use super::dialect::{Counts, Request};
use super::inbox::PROBE;
use super::lane::{Lane, State};
use super::patience::{ANSWER, Patience};
use super::process::Thread;
use super::progress::Progress;
use super::published::Published;
use super::settings::{Length, Wait};
use super::stamp::Stamp;
use super::tally::note;

pub(super) const WAKER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

/// How often is looked for what takes too long.
const TICK: Duration = Duration::from_millis(50);

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One message to each topic that nobody counts.
    Probe,
    /// Counted and checked like those that are measured.
    Unmeasured,
    Measured,
}

/// All publishing connections.
pub(super) struct Publishers {
    progress: Arc<Progress>,
    poll: Poll,
    lanes: Vec<Lane>,
    requests: Vec<Request>,
    timer: OwnedFd,
    kind: Kind,
    next_id: u32,
    /// Messages begun in this part of the run.
    begun: u64,
    patience: Patience,
    /// Topic, number and time of what is not with everybody yet, where that has a bound.
    undelivered: VecDeque<(usize, u32, u64)>,
    /// Lanes that are idle, as a stack: the one that was last used is warm.
    idle: Vec<usize>,
    pub(super) published: Published,
}

impl Publishers {
    pub(super) fn new(progress: Arc<Progress>, poll: Poll) -> io::Result<Self> {
        let settings = &progress.settings;
        let timer =
            rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        poll.registry().register(
            &mut SourceFd(&timer.as_fd().as_raw_fd()),
            TIMER,
            Interest::READABLE,
        )?;
        Ok(Self {
            lanes: (0..settings.lanes).map(|_| Lane::new()).collect(),
            requests: (0..settings.topics).map(|topic| settings.dialect.publish(topic)).collect(),
            idle: (0..settings.lanes).rev().collect(),
            poll,
            timer,
            kind: Kind::Probe,
            next_id: 0,
            begun: 0,
            patience: Patience::default(),
            undelivered: VecDeque::new(),
            published: Published::new(),
            progress,
        })
    }

    /// Publishes one part of the run and waits for the last answers.
    pub(super) fn publish(&mut self, kind: Kind, length: Length) {
        let before = Thread::here();
        self.kind = kind;
        self.begun = 0;
        let began = self.progress.now();
        if kind == Kind::Measured {
            self.progress.measured_from.store(began, Release);
            self.published.began = began;
        }
        if let Err(error) = self.work(length, began) {
            self.progress.fail(format!("publisher: {error}"));
        }
        if kind == Kind::Measured {
            self.progress.measured_until.store(self.progress.now(), Release);
            self.published.thread = Thread::here().since(before);
        }
    }

    fn work(&mut self, length: Length, began: u64) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut looked = began;
        loop {
            let now = self.progress.now();
            let wait = self.begin(length, began, now)?;
            let over = wait.is_none();
            if over && self.published.ended < self.published.began {
                self.published.ended = now;
            }
            let stopped = self.progress.stopped.load(Acquire);
            if (over && self.idle.len() == self.lanes.len()) || stopped {
                return Ok(());
            }
            match self.poll.poll(&mut events, Some(wait.unwrap_or(TICK))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    WAKER => {}
                    TIMER => {
                        let _ = rustix::io::read(&self.timer, &mut [0; 8]);
                    }
                    Token(lane) => self.event(lane),
                }
            }
            let now = self.progress.now();
            self.check_delivered();
            if now.saturating_sub(looked) > TICK.as_nanos() as u64 {
                looked = now;
                self.check_time(now);
            }
        }
    }

    /// Begins what is due. Returns how long to wait for more; none if there is no more.
    fn begin(&mut self, length: Length, began: u64, now: u64) -> io::Result<Option<Duration>> {
        loop {
            if self.kind == Kind::Measured {
                self.storm(length, now - began);
            }
            let more = match length {
                Length::Time(time) => now.saturating_sub(began) < time.as_nanos() as u64,
                Length::Messages(count) => self.begun < u64::from(count),
            };
            if !more || self.published.ended_early.is_some() {
                return Ok(None);
            }
            let due = match self.progress.settings.rate {
                Some(rate) if self.kind != Kind::Probe => {
                    began + (self.begun as f64 * 1e9 / rate) as u64
                }
                _ => now,
            };
            if due > now {
                return Ok(Some(self.sleep(Duration::from_nanos(due - now))?));
            }
            if self.is_too_far_ahead(now) {
                return Ok(Some(TICK));
            }
            let Some(lane) = self.idle.pop() else { return Ok(Some(TICK)) };
            if self.kind == Kind::Measured {
                self.published.behind = self.published.behind.max(now - due);
            }
            self.send(lane, due);
        }
    }

    /// Whether subscribers must catch up first. What takes longer than `--settle` is lost and
    /// no longer waited for.
    fn is_too_far_ahead(&mut self, now: u64) -> bool {
        let Some(most) = self.progress.settings.undelivered else { return false };
        let settle = self.progress.settings.settle.as_nanos() as u64;
        while let Some((topic, id, sent)) = self.undelivered.front() {
            let over = self.progress.is_delivered(*topic, *id)
                || self.progress.is_stormy(*sent)
                || now.saturating_sub(*sent) > settle;
            if !over {
                break;
            }
            self.undelivered.pop_front();
        }
        self.undelivered.len() >= most
    }

    /// Has all subscribers drop their connection in the middle of the run, whether or not a
    /// message is due then.
    fn storm(&mut self, length: Length, since: u64) {
        let half = match length {
            Length::Time(time) => since >= time.as_nanos() as u64 / 2,
            Length::Messages(count) => self.begun >= u64::from(count / 2),
        };
        if half && self.progress.settings.storm {
            self.progress.storms.store(1, Release);
        }
    }

    /// Sets the timer: epoll knows whole milliseconds alone.
    fn sleep(&self, time: Duration) -> io::Result<Duration> {
        if time < TICK {
            let it_value = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()).max(1) };
            let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
            let timer = Itimerspec { it_interval, it_value };
            rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &timer)?;
        }
        Ok(TICK)
    }

    /// Sends the next message, which was due at `due`.
    fn send(&mut self, index: usize, due: u64) {
        let topic = (self.begun % self.requests.len() as u64) as usize;
        self.begun += 1;
        let (lane, id, sequence) = if self.kind == Kind::Probe {
            (PROBE, 0, 0)
        } else {
            let id = self.next_id;
            self.next_id = self.next_id.wrapping_add(1);
            (index as u8, id, self.progress.send(topic, index, id))
        };
        let since = self.progress.now();
        if self.kind != Kind::Probe && self.progress.settings.undelivered.is_some() {
            self.undelivered.push_back((topic, id, since));
        }
        // At a given rate a message's time begins when it was due: one that must wait until a
        // slow one is done is late as well, as it would be for those who really send it.
        let sent = if self.progress.settings.rate.is_some() { due } else { since };
        let run = self.progress.run;
        let stamp = Stamp { run, lane, topic: topic as u16, sequence, id, sent };
        let dialect = &*self.progress.settings.dialect;
        self.lanes[index].publish(&self.requests[topic], stamp, since, dialect);
        let mut sent = Ok(());
        if !self.lanes[index].is_connected() {
            let to = self.progress.settings.publish_to;
            sent = self.lanes[index].connect(to, self.poll.registry(), Token(index));
        }
        if let Err(error) = sent.and_then(|()| self.lanes[index].flush()) {
            self.failed(index, &format!("cannot publish: {error}"));
        }
    }

    fn event(&mut self, index: usize) {
        let lane = &mut self.lanes[index];
        if lane.state == State::Publishing
            && let Err(error) = lane.flush()
        {
            self.failed(index, &format!("cannot publish: {error}"));
            return;
        }
        match lane.read(&*self.progress.settings.dialect) {
            Ok(None) => {}
            Ok(Some(outcome)) => self.answered(index, outcome.status, outcome.counts),
            Err(reason) => self.failed(index, &reason),
        }
    }

    fn answered(&mut self, index: usize, status: u16, counts: Option<Counts>) {
        let taken = self.progress.settings.dialect.accepts(status);
        let now = self.progress.now();
        self.patience.answered(now);
        let lane = &mut self.lanes[index];
        if self.kind == Kind::Measured {
            note(&mut self.published.answers, now.saturating_sub(lane.since));
        }
        if !taken {
            self.refused(index, status);
            return;
        }
        match self.kind {
            Kind::Probe => {}
            Kind::Unmeasured => self.published.unmeasured += 1,
            Kind::Measured => self.published.measured += 1,
        }
        if let (Some(counts), true) = (counts, self.kind != Kind::Probe) {
            let sum = self.published.counts.get_or_insert_default();
            sum.accepted += counts.accepted;
            sum.dropped += counts.dropped;
            self.published.counted += 1;
        }
        lane.state = State::Delivering;
        self.done_if_delivered(index);
    }

    fn done_if_delivered(&mut self, index: usize) {
        if self.is_delivered(index) {
            self.patience.delivered();
            self.done(index);
        }
    }

    /// Whether nothing more is to be waited for.
    fn is_delivered(&self, index: usize) -> bool {
        let Lane { stamp, since, .. } = self.lanes[index];
        self.kind == Kind::Probe
            || self.progress.settings.wait == Wait::Answered
            || self.progress.is_stormy(since)
            || self.progress.is_delivered(usize::from(stamp.topic), stamp.id)
    }

    fn check_delivered(&mut self) {
        for index in 0..self.lanes.len() {
            if self.lanes[index].state == State::Delivering {
                self.done_if_delivered(index);
            }
        }
    }

    fn done(&mut self, index: usize) {
        self.lanes[index].state = State::Idle;
        self.idle.push(index);
    }

    /// The connection is of no use any more; with a message on it nobody knows what became
    /// of that.
    fn failed(&mut self, index: usize, reason: &str) {
        let lane = &mut self.lanes[index];
        lane.disconnect();
        self.published.reconnects += 1;
        if lane.state == State::Publishing {
            let end = self.patience.unanswered(lane.since, self.progress.now(), reason);
            self.published.ended_early = self.published.ended_early.take().or(end);
            self.published.first_failure.get_or_insert_with(|| reason.to_owned());
            self.refused(index, 0);
        }
    }

    fn refused(&mut self, index: usize, status: u16) {
        let stamp = self.lanes[index].stamp;
        if stamp.lane != PROBE {
            let stream = self.progress.stream(usize::from(stamp.topic), index);
            self.progress.failed.lock().entry(stream).or_default().insert(stamp.sequence);
            self.undelivered.retain(|(_, id, _)| *id != stamp.id);
        }
        *self.published.refused.entry(status).or_default() += 1;
        self.done(index);
    }

    /// Gives up what takes too long.
    fn check_time(&mut self, now: u64) {
        let settle = self.progress.settings.settle;
        for index in 0..self.lanes.len() {
            let since = self.lanes[index].since;
            let took = now.saturating_sub(since);
            match self.lanes[index].state {
                State::Publishing if took > ANSWER.as_nanos() as u64 => {
                    self.failed(index, "no answer to a publish within 10 s");
                }
                State::Delivering if took > settle.as_nanos() as u64 => {
                    self.published.given_up += 1;
                    let end = self.patience.late(since, now, settle);
                    self.published.ended_early = self.published.ended_early.take().or(end);
                    self.done(index);
                }
                _ => {}
            }
        }
    }
}
