//! One message to all members of its topic.
//!
//! Few members are written to by the publisher itself, at once, unless messages come
//! thick and fast. Otherwise the message goes to the topic's lane, and a carrier takes all
//! that waits there: what was published meanwhile leaves with one write for each member. The
//! carrier lets others have their turn before it begins, so that publishers who are ready
//! bring what they have, and after every few segments of members, so that no topic holds up another.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::oneshot;
use tracing::{debug, error};

use super::batch::Batch;
use super::lane::{Brought, Lane};
use super::outbox::Outbox;
use super::queue::{Offer, Refused};
use super::{Shared, device, wire};
use crate::core::admission::Admission;
use crate::core::hub::{self, Round};
use crate::core::message::{Audience, Message};
use crate::core::metrics::Lost;
use crate::core::plugin::Jobs;
use crate::core::sink::{Delivery, Receipt};

/// Most members that the publisher writes to by itself.
const FEW: usize = 16;

/// Most bytes that are joined into one write. A message that is larger goes alone.
const JOINED_BYTES: usize = 64 * 1024;

/// Most messages that are joined into one write: beyond, little is gained, and a client
/// whose socket is full has to hold them all.
const JOINED_MESSAGES: usize = 128;

/// Parts of a round between two turns of others: well below a millisecond of writes.
const PARTS_PER_TURN: usize = 4;

pub(super) type Hub = hub::Hub<Arc<Outbox>, Lane<Parcel>>;
type Room = hub::Room<Arc<Outbox>, Lane<Parcel>>;

/// A message that waits for the carrier.
#[derive(Debug)]
pub(super) struct Parcel {
    frame: Bytes,
    audience: Audience,
    answer: oneshot::Sender<Delivery>,
    /// When it came.
    came: Instant,
    /// Bounds what waits, whether or not the publisher still does.
    _admission: Admission,
}

/// Delivers `message`, or has it delivered by a carrier.
pub(super) fn deliver(
    shared: &Arc<Shared>,
    jobs: &Jobs,
    message: &Message,
    admission: &Admission,
) -> Receipt {
    let Some(room) = shared.hub.room(&message.topic) else { return Delivery::default().into() };
    let came = Instant::now();
    let frame = wire::text(message.frame.as_bytes());
    let mut receipt = Receipt::default();
    let now = || {
        let few = room.small_round(FEW)?;
        let mut tally = Tally::new(1);
        match message.audience {
            Audience::Everyone => {
                let batch = Batch::one(frame.clone());
                few.visit_all(|outbox| tally.add(outbox.offer(&batch)));
            }
            Audience::OnePerDevice => device::offer_one_each(&few, &frame, &mut tally),
        }
        Some(tally)
    };
    let later = || {
        let (answer, delivery) = oneshot::channel();
        receipt = Receipt::later(delivery);
        Parcel {
            frame: frame.clone(),
            audience: message.audience,
            answer,
            came,
            _admission: admission.clone(),
        }
    };
    match room.lane.bring(now, later) {
        Brought::Done(tally) => {
            return tally.settle(shared, came).next().unwrap_or_default().into();
        }
        Brought::Waits => {}
        Brought::NeedsCarrier => {
            let shared = shared.clone();
            jobs.spawn(async move { carry(&shared, &room).await });
        }
    }
    receipt
}

/// Carries what waits in the lane until nothing waits.
async fn carry(shared: &Shared, room: &Room) {
    let mut parcels = Vec::new();
    let carrier = room.lane.carrier();
    loop {
        tokio::task::yield_now().await;
        if !carrier.take(&mut parcels, fits(shared.config.load().queue_messages)) {
            return;
        }
        // After the parcels were taken, so that everybody is visited who joined before one
        // of them was published.
        let round = room.round();
        let mut tally = Tally::new(parcels.len());
        let visited = AssertUnwindSafe(visit(&round, &parcels, &mut tally)).catch_unwind().await;
        if visited.is_err() {
            // Who is waiting behind these is carried all the same.
            error!(messages = parcels.len(), "Messages did not get to every subscriber");
        }
        // The first one waited longest.
        let came = parcels[0].came;
        for (parcel, delivery) in parcels.drain(..).zip(tally.settle(shared, came)) {
            // Who does not want to know has gone.
            let _ = parcel.answer.send(delivery);
        }
    }
}

/// Brings the parcels, which leave together, to everybody.
async fn visit(round: &Round<Arc<Outbox>>, parcels: &[Parcel], tally: &mut Tally) {
    if parcels[0].audience != Audience::Everyone {
        return device::offer_one_each(round, &parcels[0].frame, tally);
    }
    let frames: Vec<_> = parcels.iter().map(|parcel| &parcel.frame).collect();
    let batch = Batch::join(&frames);
    for part in 0..round.parts() {
        if part > 0 && part.is_multiple_of(PARTS_PER_TURN) {
            tokio::task::yield_now().await;
        }
        round.visit(part, |outbox| tally.add(outbox.offer(&batch)));
    }
}

/// Says of one parcel after the other whether it can leave with those before it.
fn fits(queue_messages: usize) -> impl FnMut(&Parcel) -> bool {
    let (mut messages, mut bytes, mut joins) = (0, 0, true);
    move |next| {
        messages += 1;
        bytes += next.frame.len();
        joins &= next.audience == Audience::Everyone;
        joins && bytes <= JOINED_BYTES && messages <= JOINED_MESSAGES.min(queue_messages)
    }
}

/// What became of the messages of a batch.
pub(super) struct Tally {
    messages: usize,
    /// Receivers that took all of them: nearly everybody, so it is counted apart.
    complete: usize,
    /// What the other receivers took, for each message; not made before it is needed.
    partial: Vec<Count>,
    receivers: usize,
    /// Of all messages and receivers.
    written: usize,
    /// Messages that wait, those included that give up their place at once.
    queued: usize,
    queued_bytes: usize,
    /// Messages, these or earlier ones, that gave their place in a queue to newer ones.
    evicted: usize,
    evicted_bytes: usize,
}

/// What became of one message, by receiver.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    accepted: usize,
    full: usize,
    closed: usize,
}

impl Tally {
    pub(super) fn new(messages: usize) -> Self {
        Self {
            messages,
            complete: 0,
            partial: Vec::new(),
            receivers: 0,
            written: 0,
            queued: 0,
            queued_bytes: 0,
            evicted: 0,
            evicted_bytes: 0,
        }
    }

    /// Counts one receiver.
    pub(super) fn add(&mut self, offer: Offer) {
        self.receivers += 1;
        self.written += offer.accepted - offer.queued;
        self.queued += offer.queued;
        self.queued_bytes += offer.queued_bytes;
        self.evicted += offer.evicted;
        self.evicted_bytes += offer.evicted_bytes;
        let Some(reason) = offer.refused else {
            self.complete += 1;
            return;
        };
        self.partial.resize(self.messages, Count::default());
        let (accepted, refused) = self.partial.split_at_mut(offer.accepted);
        accepted.iter_mut().for_each(|count| count.accepted += 1);
        for count in refused {
            match reason {
                Refused::Full => count.full += 1,
                Refused::Closed => count.closed += 1,
            }
        }
    }

    /// Adds everything to the sink's counters, each once for all receivers, and says of each
    /// message what became of it. The first of them came at `came`.
    fn settle(self, shared: &Shared, came: Instant) -> impl Iterator<Item = Delivery> {
        let full: usize = self.partial.iter().map(|count| count.full).sum();
        let closed: usize = self.partial.iter().map(|count| count.closed).sum();
        let evicted = self.evicted;
        let books = &shared.metrics.messages;
        books.matched(self.receivers * self.messages);
        books.delivered(self.written);
        books.queued(self.queued, self.queued_bytes);
        books.left(evicted, self.evicted_bytes);
        if full + closed + evicted > 0 {
            books.dropped(Lost::QueueFull, full);
            books.dropped(Lost::Closed, closed);
            books.dropped(Lost::Evicted, evicted);
            debug!(full, closed, evicted, "Not delivered to every subscriber");
        }
        shared.metrics.fan_out(came.elapsed());
        (0..self.messages).map(move |index| {
            let count = self.partial.get(index).copied().unwrap_or_default();
            Delivery {
                accepted: self.complete + count.accepted,
                dropped: count.full + count.closed,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(length: usize, audience: Audience) -> Parcel {
        let (answer, _) = oneshot::channel();
        Parcel {
            frame: vec![0; length].into(),
            audience,
            answer,
            came: Instant::now(),
            _admission: Admission::default(),
        }
    }

    /// How many of the parcels leave together.
    fn together(parcels: &[Parcel], queue_messages: usize) -> usize {
        let lane = Lane::default();
        for parcel in parcels {
            let _ = lane.bring(|| None::<()>, || parcel);
        }
        let (carrier, mut batch) = (lane.carrier(), Vec::new());
        let mut fits = fits(queue_messages);
        assert!(carrier.take(&mut batch, |parcel| fits(parcel)));
        batch.len()
    }

    #[test]
    fn small_messages_for_everyone_leave_together_within_limits() {
        let everyone = |length| parcel(length, Audience::Everyone);
        let small: Vec<_> = (0..300).map(|_| everyone(100)).collect();
        assert_eq!(together(&small, 256), JOINED_MESSAGES);
        // More than may wait for a client would be more than it can be given.
        assert_eq!(together(&small, 3), 3);
        assert_eq!(together(&[everyone(40_000), everyone(25_000), everyone(600)], 256), 2);
        // Whatever its size, the first one leaves.
        assert_eq!(together(&[everyone(1 << 20), everyone(1)], 256), 1);
    }

    #[test]
    fn a_message_for_one_of_each_device_leaves_alone() {
        let (all, one) = (Audience::Everyone, Audience::OnePerDevice);
        let parcels = |audiences: &[Audience]| -> Vec<_> {
            audiences.iter().map(|audience| parcel(1, *audience)).collect()
        };
        assert_eq!(together(&parcels(&[one, all, all]), 256), 1);
        assert_eq!(together(&parcels(&[all, all, one, all]), 256), 2);
    }
}
