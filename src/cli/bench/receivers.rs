//! The receiving threads.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use super::process::Thread;
use super::progress::Progress;
use super::settings::{Length, Settings};
use super::subscribers::{Received, Subscribers};
use super::tally::Tally;
use super::timeline::Timeline;

/// All receivers, running.
pub(super) struct Receivers {
    threads: Vec<JoinHandle<Received>>,
    /// Where their CPU time can be read, and how much of it they had nothing to do.
    folders: Vec<PathBuf>,
    idle: Vec<Arc<AtomicU64>>,
}

impl Receivers {
    /// Starts them; they connect at once.
    pub(super) fn start(progress: &Arc<Progress>) -> io::Result<Self> {
        let settings = &progress.settings;
        let (mut threads, mut idle) = (Vec::new(), Vec::new());
        let (tell, folders) = mpsc::sync_channel(settings.threads);
        for range in shares(settings.subscribers, settings.threads) {
            let tally = Tally::new(timeline(settings));
            let awake: Arc<AtomicU64> = Arc::default();
            let subscribers = Subscribers::new(progress.clone(), range, tally, awake.clone())?;
            idle.push(awake);
            let tell = tell.clone();
            let receiver = thread::Builder::new().name("receiver".into()).spawn(move || {
                let _ = tell.send(super::process::this_thread());
                subscribers.run()
            })?;
            threads.push(receiver);
        }
        let folders = folders.iter().take(threads.len()).collect();
        Ok(Self { threads, folders, idle })
    }

    pub(super) fn count(&self) -> usize {
        self.threads.len()
    }

    /// What each of them took so far.
    pub(super) fn took(&self) -> Vec<Thread> {
        let busy = |(folder, idle): (&PathBuf, &Arc<AtomicU64>)| {
            let mut thread = Thread::read(folder);
            thread.ran = thread.ran.saturating_sub(idle.load(Ordering::Relaxed));
            thread
        };
        self.folders.iter().zip(&self.idle).map(busy).collect()
    }

    /// What they have seen, once they have ended.
    pub(super) fn join(self, progress: &Progress) -> Vec<Received> {
        let mut received = Vec::new();
        for thread in self.threads {
            match thread.join() {
                Ok(part) => received.push(part),
                Err(_) => progress.fail("a receiver has ended early"),
            }
        }
        received
    }
}

/// The numbers of the subscribers of each receiver.
fn shares(subscribers: usize, threads: usize) -> impl Iterator<Item = Range<usize>> {
    (0..threads).map(move |part| subscribers * part / threads..subscribers * (part + 1) / threads)
}

/// An empty timeline if one is wanted, for about a hundred slices.
pub(super) fn timeline(settings: &Settings) -> Option<Timeline> {
    let slice = match settings.length {
        Length::Time(time) => u64::try_from(time.as_nanos() / 100).unwrap_or(u64::MAX),
        Length::Messages(_) => 1_000_000,
    };
    (settings.json.is_some() || settings.svg.is_some()).then(|| Timeline::new(slice))
}
