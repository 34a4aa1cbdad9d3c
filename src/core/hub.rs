//! Topic to members: a data structure, no sockets.
//!
//! Locks, from outer to inner, none of them ever held across an `.await`:
//! a shard of the map is locked for a look-up only; a room is locked while a member
//! joins or leaves and while a message goes round. So one topic's fan-out never holds
//! up another topic, and every member of a topic sees its messages in one order.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use indexmap::IndexMap;
use parking_lot::Mutex;

use super::message::Topic;

/// A power of two, well above the number of cores, so that look-ups rarely collide.
const SHARDS: usize = 64;

/// Who is subscribed to what. `M` is a member: cheap to clone, usually an `Arc`.
#[derive(Debug)]
pub struct Hub<M> {
    hasher: RandomState,
    shards: Box<[Shard<M>]>,
}

type Shard<M> = Mutex<HashMap<Topic, Arc<Room<M>>>>;

#[derive(Debug)]
struct Room<M>(Mutex<Members<M>>);

#[derive(Debug)]
struct Members<M> {
    /// Dense, so that a fan-out walks an array; leaving swaps with the last one.
    by_id: IndexMap<u64, M>,
    /// Set when the last member left and the room is about to leave the map. Who
    /// meets a closed room looks it up again.
    closed: bool,
}

impl<M> Default for Hub<M> {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl<M> Hub<M> {
    /// Adds the member `id` to `topic`. Once this returns, [`Self::visit`] finds it.
    /// Joining twice replaces the member and counts once.
    pub fn join(&self, topic: &Topic, id: u64, member: M) {
        loop {
            let room = self.shard(topic).lock().entry(topic.clone()).or_default().clone();
            let mut members = room.0.lock();
            if !members.closed {
                members.by_id.insert(id, member);
                return;
            }
        }
    }

    /// Removes the member `id` from `topic`, and the topic when it was the last one.
    pub fn leave(&self, topic: &Topic, id: u64) {
        let Some(room) = self.shard(topic).lock().get(topic).cloned() else {
            return;
        };
        let mut members = room.0.lock();
        members.by_id.swap_remove(&id);
        if !members.by_id.is_empty() || members.closed {
            return;
        }
        members.closed = true;
        drop(members);
        let mut shard = self.shard(topic).lock();
        // A new room may already stand under the same name.
        if shard.get(topic).is_some_and(|found| Arc::ptr_eq(found, &room)) {
            shard.remove(topic);
        }
    }

    /// Hands the members of `topic` to `visit`, one topic's visits strictly one after the
    /// other. `visit` must not block and must not call back into the hub.
    pub fn visit(&self, topic: &Topic, visit: impl FnOnce(&mut dyn ExactSizeIterator<Item = &M>)) {
        let Some(room) = self.shard(topic).lock().get(topic).cloned() else {
            return;
        };
        visit(&mut room.0.lock().by_id.values());
    }

    /// How many topics have members.
    pub fn topics(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, topic: &Topic) -> &Shard<M> {
        let hash = self.hasher.hash_one(topic);
        // Truncation is what we want: any bits will do.
        #[allow(clippy::cast_possible_truncation)]
        &self.shards[hash as usize % SHARDS]
    }
}

impl<M> Default for Room<M> {
    fn default() -> Self {
        Self(Mutex::new(Members { by_id: IndexMap::new(), closed: false }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(hub: &Hub<u64>, topic: &Topic) -> Vec<u64> {
        let mut found = Vec::new();
        hub.visit(topic, |members| found.extend(members));
        found.sort_unstable();
        found
    }

    #[test]
    fn join_leave_and_nothing_is_left() {
        let hub = Hub::default();
        let (a, b) = (Topic::new("t", "a"), Topic::new("t", "b"));
        hub.join(&a, 1, 1);
        hub.join(&a, 1, 1);
        hub.join(&a, 2, 2);
        hub.join(&b, 1, 1);
        assert_eq!(members(&hub, &a), [1, 2]);
        assert_eq!(hub.topics(), 2);
        hub.leave(&a, 1);
        hub.leave(&a, 7);
        assert_eq!(members(&hub, &a), [2]);
        hub.leave(&a, 2);
        hub.leave(&b, 1);
        hub.leave(&b, 1);
        assert_eq!(hub.topics(), 0);
        assert_eq!(members(&hub, &a), [0_u64; 0]);
    }

    #[test]
    fn a_member_that_joined_is_always_found_while_others_come_and_go() {
        let hub = Hub::default();
        let topic = Topic::new("t", "busy");
        std::thread::scope(|scope| {
            for id in 0..4 {
                let (hub, topic) = (&hub, &topic);
                scope.spawn(move || {
                    for _ in 0..5_000 {
                        hub.join(topic, id, id);
                        assert!(members(hub, topic).contains(&id));
                        hub.leave(topic, id);
                        assert!(!members(hub, topic).contains(&id));
                    }
                });
            }
        });
        assert_eq!(hub.topics(), 0);
    }
}
