//! One connection of each device.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::batch::Batch;
use super::fanout::Tally;
use super::outbox::Outbox;
use super::queue::{Offer, Refused};
use crate::core::hub::Round;

/// Offers the frame to one connection of each device: a preferred one first, then the
/// newest; the next one when that does not take it. Connections without a device stand
/// for themselves.
///
/// Allocates for the members of one topic, which here are one person's open tabs. Unlike
/// with a message for everyone, a member that leaves at this very moment may still be
/// written to.
pub(super) fn offer_one_each(round: &Round<Arc<Outbox>>, frame: &Bytes, tally: &mut Tally) {
    let mut members: Vec<Arc<Outbox>> = Vec::new();
    round.visit_all(|outbox| members.push(outbox.clone()));
    members.sort_by_cached_key(|outbox| {
        let device = outbox.device.get();
        let preferred = device.is_some_and(|device| device.preferred.load(Ordering::Relaxed));
        (device.map(|device| device.id.clone()), Reverse(preferred), Reverse(outbox.id))
    });
    let same = |a: &Arc<Outbox>, b: &Arc<Outbox>| match (a.device.get(), b.device.get()) {
        (Some(a), Some(b)) => a.id == b.id,
        _ => false,
    };
    let batch = Batch::one(frame.clone());
    for device in members.chunk_by(same) {
        let mut last = Offer::refused(Refused::Closed);
        for outbox in device {
            // Also one that does not take the message may have let go of others for it.
            let (evicted, evicted_bytes) = (last.evicted, last.evicted_bytes);
            last = outbox.offer(&batch);
            last.evicted += evicted;
            last.evicted_bytes += evicted_bytes;
            if last.refused.is_none() {
                break;
            }
        }
        tally.add(last);
    }
}
