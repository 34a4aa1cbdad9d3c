//! One message to all members of its topic.
//!
//! Few members are written to by the publisher itself, at once, unless messages come
//! thick and fast. Otherwise the message goes to the topic's lane, and a carrier takes all
//! that waits there: what was published meanwhile leaves with one write for each member. The
//! carrier lets others have their turn before it begins, so that publishers who are ready
//! bring what they have, and after every few segments, so that no topic holds up another.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use tracing::debug;

use super::batch::Batch;
use super::lane::{Brought, Lane};
use super::outbox::Outbox;
use super::queue::{Offer, Refused};
use super::{Shared, device, wire};
use crate::core::hub::{self, SEGMENT};
use crate::core::message::{Audience, Message};
use crate::core::plugin::Jobs;
use crate::core::sink::{Delivery, Receipt};

/// Most members that the publisher writes to by itself.
const FEW: usize = 16;

/// Most bytes that are joined into one write. A message that is larger goes alone.
const JOINED_BYTES: usize = 64 * 1024;

/// Members between two turns of others: well below a millisecond of writes.
const MEMBERS_PER_TURN: usize = 4 * SEGMENT;

pub(super) type Hub = hub::Hub<Arc<Outbox>, Lane<Parcel>>;
type Room = hub::Room<Arc<Outbox>, Lane<Parcel>>;

/// A message that waits for the carrier. Bounded by the publishers: each waits for its
/// answer before it brings the next message.
#[derive(Debug)]
pub(super) struct Parcel {
    frame: Bytes,
    audience: Audience,
    answer: oneshot::Sender<Delivery>,
}

/// Delivers `message`, or has it delivered by a carrier.
pub(super) fn deliver(shared: &Arc<Shared>, jobs: &Jobs, message: &Message) -> Receipt {
    let Some(room) = shared.hub.room(&message.topic) else { return Delivery::default().into() };
    let frame = wire::text(message.frame.as_bytes());
    let mut receipt = Receipt::default();
    let now = || {
        let few = room.small(FEW)?;
        let mut tally = Tally::new(1);
        match message.audience {
            Audience::Everyone => {
                let batch = Batch::one(frame.clone());
                few.visit(|outbox| tally.add(outbox.offer(&batch)));
            }
            Audience::OnePerDevice => device::offer_one_each(&[few], &frame, &mut tally),
        }
        Some(tally)
    };
    let later = || {
        let (answer, delivery) = oneshot::channel();
        receipt = Receipt::later(delivery);
        Parcel { frame: frame.clone(), audience: message.audience, answer }
    };
    match room.lane.bring(now, later) {
        Brought::Done(tally) => return tally.settle(shared).next().unwrap_or_default().into(),
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
    loop {
        tokio::task::yield_now().await;
        if !room.lane.take(&mut parcels, fits()) {
            return;
        }
        // After the parcels were taken, so that everybody is visited who joined before one
        // of them was published.
        let segments = room.segments();
        let mut tally = Tally::new(parcels.len());
        if parcels[0].audience == Audience::Everyone {
            let frames: Vec<_> = parcels.iter().map(|parcel| &parcel.frame).collect();
            let batch = Batch::join(&frames);
            let mut visited = 0;
            for segment in &segments {
                if visited >= MEMBERS_PER_TURN {
                    visited = 0;
                    tokio::task::yield_now().await;
                }
                segment.visit(|outbox| {
                    visited += 1;
                    tally.add(outbox.offer(&batch));
                });
            }
        } else {
            device::offer_one_each(&segments, &parcels[0].frame, &mut tally);
        }
        for (parcel, delivery) in parcels.drain(..).zip(tally.settle(shared)) {
            // Who does not want to know has gone.
            let _ = parcel.answer.send(delivery);
        }
    }
}

/// Says of one parcel after the other whether it can leave with those before it.
fn fits() -> impl FnMut(&Parcel) -> bool {
    let (mut bytes, mut joins) = (0, true);
    move |next| {
        bytes += next.frame.len();
        joins &= next.audience == Audience::Everyone;
        joins && bytes <= JOINED_BYTES
    }
}

/// What became of the messages of a batch.
pub(super) struct Tally {
    messages: usize,
    /// Receivers that took all of them: nearly everybody, so it is counted apart.
    complete: usize,
    /// What the other receivers took, for each message; not made before it is needed.
    partial: Vec<Count>,
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
        Self { messages, complete: 0, partial: Vec::new() }
    }

    /// Counts one receiver.
    pub(super) fn add(&mut self, offer: Offer) {
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

    /// Adds the drops to the sink's counters, and says of each message what became of it.
    fn settle(self, shared: &Shared) -> impl Iterator<Item = Delivery> {
        for Count { full, closed, .. } in &self.partial {
            shared.dropped.add(*full, *closed);
            debug!(full, closed, "Not delivered to every subscriber");
        }
        (0..self.messages).map(move |index| {
            let count = self.partial.get(index).copied().unwrap_or_default();
            Delivery {
                accepted: self.complete + count.accepted,
                dropped: count.full + count.closed,
            }
        })
    }
}
