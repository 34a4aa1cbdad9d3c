//! The course of a run: connect, subscribe, probe, warm up, measure, settle.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Poll, Waker};

use super::churn::Churned;
use super::figures::{Figures, Memory, Server};
use super::process::{Cpu, Processes, Thread};
use super::progress::{Progress, Stage};
use super::publishers::{Kind, Publishers, WAKER};
use super::receivers::{self, Receivers};
use super::settings::{Length, Settings};
use super::subscribers::Received;
use super::tally::Tally;

/// How long nothing may happen while subscribers connect or subscribe.
const STALL: Duration = Duration::from_secs(10);

/// How often the run is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// How often memory is read, in looks.
const MEMORY_EVERY: u32 = 10;

/// How often subscriptions are probed, and how long all of it may take.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// Does the run.
///
/// # Errors
/// Why it could not go on.
pub(super) fn conduct(settings: Settings) -> Result<Figures, String> {
    let fault = |error: std::io::Error| format!("cannot start: {error}");
    let poll = Poll::new().map_err(fault)?;
    let waker = Waker::new(poll.registry(), WAKER).map_err(fault)?;
    let run = rand_run();
    let progress = Arc::new(Progress::new(settings, run, waker));
    let mut conductor = Conductor::start(progress.clone()).map_err(fault)?;
    let done = conductor.play(poll);
    progress.set_stage(Stage::Finish);
    let received = conductor.join();
    if let Some(failure) = progress.failure() {
        return Err(failure);
    }
    let mut figures = done?;
    for received in received {
        figures.tally.add(&received.tally);
        figures.lost += received.lost;
    }
    figures.judge();
    Ok(figures)
}

/// Two runs at the same time on the same topics are told apart in all but one of 65,536
/// cases.
fn rand_run() -> u16 {
    let [a, b, ..] = *uuid::Uuid::new_v4().as_bytes();
    u16::from_be_bytes([a, b])
}

struct Conductor {
    progress: Arc<Progress>,
    receivers: Receivers,
    server: Result<Processes, String>,
    memory: Memory,
    looks: u32,
    stop_churn: Arc<AtomicBool>,
    churn: Option<JoinHandle<Churned>>,
    churned: Option<Churned>,
}

impl Conductor {
    fn start(progress: Arc<Progress>) -> std::io::Result<Self> {
        let settings = &progress.settings;
        let server = if settings.pids.is_empty() {
            Processes::find(settings.publish_to)
        } else {
            Ok(Processes { pids: settings.pids.clone() })
        };
        // Before the first one connects.
        let start = server.as_ref().map_or(0, Processes::memory);
        let receivers = Receivers::start(&progress)?;
        Ok(Self {
            progress,
            receivers,
            server,
            memory: Memory { start, ..Memory::default() },
            looks: 0,
            stop_churn: Arc::default(),
            churn: None,
            churned: None,
        })
    }

    fn join(mut self) -> Vec<Received> {
        self.stop_churn();
        self.receivers.join(&self.progress)
    }

    fn play(&mut self, poll: Poll) -> Result<Figures, String> {
        let settings = &self.progress.settings;
        let (all, idle) = (settings.subscribers, settings.idle);
        if !idle {
            self.progress.set_stage(Stage::Receive);
        }
        self.gather("subscribers", "connected", all, |progress| progress.connected.load(Relaxed))?;
        self.memory.connected = self.read_memory();
        self.progress.set_stage(Stage::Receive);
        self.gather("subscribers", "subscribed", all, |progress| {
            progress.subscribed.load(Acquire)
        })?;
        self.memory.subscribed = self.read_memory();
        let publishers = Publishers::new(self.progress.clone(), poll)
            .map_err(|error| format!("cannot start: {error}"))?;
        if idle {
            return Ok(self.figures(publishers, [Cpu::default(); 2], Thread::default()));
        }
        let publishers = self.probe(publishers)?;
        self.start_churn().map_err(|error| format!("cannot start: {error}"))?;
        let length = Length::Time(self.progress.settings.warm_up);
        let publishers = self.publish(publishers, Kind::Unmeasured, length)?;
        let before = (self.cpu(), self.receivers.took());
        let length = self.progress.settings.length;
        let mut publishers = self.publish(publishers, Kind::Measured, length)?;
        if self.progress.settings.storm {
            publishers = self.prove(publishers)?;
        }
        self.settle();
        let after = (self.cpu(), self.receivers.took());
        self.stop_churn();
        let alive = self.server.as_ref().is_ok_and(Processes::are_alive);
        if self.server.is_ok() && !alive {
            self.server = Err("it has ended".into());
        }
        self.memory.end = self.read_memory();
        let receiver = before.1.iter().zip(after.1).map(|(before, after)| after.since(*before));
        let receiver = receiver.max_by_key(|thread| thread.ran).unwrap_or_default();
        Ok(self.figures(publishers, [before.0, after.0], receiver))
    }

    /// Waits until all subscribers are so far.
    fn gather(
        &mut self,
        who: &str,
        what: &str,
        all: usize,
        count: impl Fn(&Progress) -> usize,
    ) -> Result<(), String> {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            self.look()?;
            let now = count(&self.progress);
            if now >= all {
                return Ok(());
            }
            if now > last {
                (last, since) = (now, Instant::now());
            }
            if since.elapsed() > STALL {
                return Err(format!("only {now} of {all} {who} {what}, and no more for 10 s"));
            }
        }
    }

    /// A short wait, after which the run may have failed.
    fn look(&mut self) -> Result<(), String> {
        thread::park_timeout(LOOK);
        self.looks += 1;
        if self.looks.is_multiple_of(MEMORY_EVERY) {
            self.read_memory();
        }
        self.progress.failure().map_or(Ok(()), Err)
    }

    fn read_memory(&mut self) -> u64 {
        let now = self.server.as_ref().map_or(0, Processes::memory);
        self.memory.peak = self.memory.peak.max(now);
        now
    }

    fn cpu(&self) -> Cpu {
        self.server.as_ref().map_or_else(|_| Cpu::default(), Processes::cpu)
    }

    /// After a storm: all come back, and a message to each topic shows that they are there.
    fn prove(&mut self, publishers: Publishers) -> Result<Publishers, String> {
        // Where publishing has ended early it may not have begun.
        self.progress.storms.store(1, Release);
        let receivers = self.receivers.count();
        self.gather("groups of subscribers", "came back", receivers, |progress| {
            progress.back.load(Acquire)
        })?;
        let topics = u32::try_from(self.progress.settings.topics).unwrap_or(u32::MAX);
        self.publish(publishers, Kind::Unmeasured, Length::Messages(topics))
    }

    fn start_churn(&mut self) -> std::io::Result<()> {
        if self.progress.settings.churn == 0 {
            return Ok(());
        }
        let (progress, stop) = (self.progress.clone(), self.stop_churn.clone());
        let churn = move || super::churn::churn(&progress, &stop);
        self.churn = Some(thread::Builder::new().name("churn".into()).spawn(churn)?);
        Ok(())
    }

    fn stop_churn(&mut self) {
        self.stop_churn.store(true, Release);
        let Some(churn) = self.churn.take() else { return };
        match churn.join() {
            Ok(churned) => self.churned = Some(churned),
            Err(_) => self.progress.fail("those who come and go have ended early"),
        }
    }

    /// Publishes until every healthy subscriber has got something. Not every server says when
    /// a subscription is in force, and some say nothing to a bad token.
    fn probe(&mut self, mut publishers: Publishers) -> Result<Publishers, String> {
        let (healthy, start) = (self.progress.settings.healthy(), Instant::now());
        let topics = self.progress.settings.topics;
        let patience = self.progress.settings.settle;
        loop {
            let length = Length::Messages(u32::try_from(topics).unwrap_or(u32::MAX));
            publishers = self.publish(publishers, Kind::Probe, length)?;
            if let Some((status, _)) = publishers.published.refused.first_key_value() {
                return Err(match &publishers.published.first_failure {
                    Some(reason) => format!("the first publish failed: {reason}"),
                    None => format!("the server answered the first publish with {status}"),
                });
            }
            let sent = Instant::now();
            while sent.elapsed() < PROBE_EVERY {
                let probed = self.progress.probed.load(Acquire);
                if probed >= healthy {
                    return Ok(publishers);
                }
                if start.elapsed() > patience {
                    return Err(format!(
                        "only {probed} of {healthy} subscribers got a first message within {}: do the tokens fit, and the topics?",
                        humantime::format_duration(patience)
                    ));
                }
                self.look()?;
            }
        }
    }

    /// Publishes one part of the run, on a thread of its own.
    fn publish(
        &mut self,
        mut publishers: Publishers,
        kind: Kind,
        length: Length,
    ) -> Result<Publishers, String> {
        let main = thread::current();
        let publisher = thread::Builder::new()
            .name("publisher".into())
            .spawn(move || {
                publishers.publish(kind, length);
                main.unpark();
                publishers
            })
            .map_err(|error| format!("cannot start: {error}"))?;
        while !publisher.is_finished() {
            // A failure stops the publisher as well.
            let _ = self.look();
        }
        let publishers = publisher.join().map_err(|_| "the publisher has ended early")?;
        self.progress.failure().map_or(Ok(publishers), Err)
    }

    /// Waits until nothing is under way any more.
    fn settle(&mut self) {
        let start = Instant::now();
        self.progress.set_stage(Stage::Settle);
        while self.progress.settled.load(Acquire) < self.receivers.count()
            && start.elapsed() < self.progress.settings.settle
            && self.look().is_ok()
        {}
    }

    fn figures(&mut self, publishers: Publishers, cpu: [Cpu; 2], receiver: Thread) -> Figures {
        let [before, after] = cpu;
        let server = self.server.as_ref().map(|processes| Server {
            pids: processes.pids.clone(),
            names: processes.names(),
            cpu: after.since(before),
            memory: self.memory,
        });
        Figures {
            progress: self.progress.clone(),
            published: publishers.published,
            tally: Tally::new(receivers::timeline(&self.progress.settings)),
            lost: 0,
            receiver,
            churned: self.churned.take(),
            server: server.map_err(Clone::clone),
            faults: Vec::new(),
            warnings: Vec::new(),
        }
    }
}
