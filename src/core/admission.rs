//! What bounds the messages that are on their way.
//!
//! A publisher normally waits until its message is delivered, and so has one on its way. But
//! it can give up and come back, again and again, while what it published is not taken back.
//! So room for a message is asked for before it is published, and given back when it is
//! delivered, whether or not somebody still waits for that.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::reply::Response;

use super::http::try_later;
use super::metrics::{Refusals, Refused};

/// What a message takes beyond its text, in bytes, roughly.
const OVERHEAD: usize = 512;

/// Room for messages, in bytes. Who finds none waits, in the order of coming.
#[derive(Debug)]
pub(super) struct Room {
    bytes: u32,
    free: Arc<Semaphore>,
    timeout: Duration,
    refused: Refusals,
}

/// There was no room for a message for as long as its publisher may wait. Nothing of it was
/// published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Too many messages are on their way (server.max_publishing_bytes), try again")]
pub struct Busy;

impl Busy {
    /// The answer to the publisher.
    #[must_use]
    pub fn answer(self) -> Response {
        try_later(StatusCode::SERVICE_UNAVAILABLE, Duration::from_secs(1), self.to_string())
    }
}

/// Room that was given. A clone stands for the same room, which is free again when the
/// last one is dropped.
#[derive(Clone, Debug, Default)]
pub struct Admission(
    #[allow(dead_code, reason = "held for its drop")] Option<Arc<OwnedSemaphorePermit>>,
);

impl Room {
    pub(super) fn new(bytes: u32, timeout: Duration, refused: Refusals) -> Self {
        // A semaphore of tokio's takes more than any u32.
        Self { bytes, free: Arc::new(Semaphore::new(bytes as usize)), timeout, refused }
    }

    /// Waits until there is room for `bytes`; something larger than all of it gets all.
    pub(super) async fn admit(&self, bytes: usize) -> Result<Admission, Busy> {
        let bytes = u32::try_from(bytes + OVERHEAD).unwrap_or(u32::MAX).min(self.bytes);
        // Without a timer where there is room, as nearly always. Who waits has taken all that
        // is left, so this overtakes nobody.
        if let Ok(permit) = self.free.clone().try_acquire_many_owned(bytes) {
            return Ok(Admission(Some(Arc::new(permit))));
        }
        let permit = self.free.clone().acquire_many_owned(bytes);
        let Ok(permit) = tokio::time::timeout(self.timeout, permit).await else {
            self.refused.add(Refused::PublishTimeout);
            return Err(Busy);
        };
        // Nobody closes the semaphore, which is all that could go wrong.
        Ok(Admission(permit.ok().map(Arc::new)))
    }

    /// How many bytes are on their way, each message with what it takes beyond its text.
    /// What is kept back for the first in line counts as well.
    pub(super) fn taken(&self) -> usize {
        (self.bytes as usize).saturating_sub(self.free.available_permits())
    }

    /// Resolves when nothing is on its way.
    pub(super) async fn empty(&self) {
        let _ = self.free.acquire_many(self.bytes).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_comes_when_it_is_full_waits_for_what_is_delivered() {
        let room = Room::new(10_000, Duration::from_hours(1), Refusals::default());
        let first = room.admit(6_000).await.unwrap();
        let again = first.clone();
        assert_eq!(room.taken(), 6_000 + OVERHEAD);
        let mut second = Box::pin(room.admit(6_000));
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        assert!((&mut second).now_or_never().is_none(), "one of two clones is left");
        drop(again);
        let second = second.now_or_never().unwrap().unwrap();
        assert!(room.empty().now_or_never().is_none());
        drop(second);
        // Larger than everything: alone, but not refused.
        let huge = room.admit(1 << 40).await.unwrap();
        assert!(room.admit(1).now_or_never().is_none());
        drop(huge);
        assert!(room.empty().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_refused_and_takes_nothing() {
        let room = Room::new(10_000, Duration::from_secs(5), Refusals::default());
        let first = room.admit(6_000).await.unwrap();
        assert_eq!(room.admit(6_000).await.unwrap_err(), Busy);
        assert_eq!(room.refused.count(Refused::PublishTimeout), 1);
        drop(first);
        assert!(room.empty().now_or_never().is_some());
    }
}
