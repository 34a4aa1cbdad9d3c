//! One connection of each device.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::Count;
use super::outbox::{Offer, Outbox};

/// Offers the frame to one connection of each device: a preferred one first, then the
/// newest; the next one when that does not take it. Connections without a device stand
/// for themselves.
///
/// Allocates for the members of one topic, which here are one person's open tabs.
pub(super) fn offer_one_each(
    members: &mut dyn ExactSizeIterator<Item = &Arc<Outbox>>,
    frame: &Bytes,
    count: &mut Count,
) {
    let mut members: Vec<_> = members.collect();
    members.sort_by_cached_key(|outbox| {
        let device = outbox.device.get();
        let preferred = device.is_some_and(|device| device.preferred.load(Ordering::Relaxed));
        (device.map(|device| device.id.clone()), Reverse(preferred), Reverse(outbox.id))
    });
    let same = |a: &&Arc<Outbox>, b: &&Arc<Outbox>| match (a.device.get(), b.device.get()) {
        (Some(a), Some(b)) => a.id == b.id,
        _ => false,
    };
    for device in members.chunk_by(same) {
        let mut last = Offer::Closed;
        for outbox in device {
            last = outbox.offer(frame);
            if last == Offer::Accepted {
                break;
            }
        }
        count.add(last);
    }
}
