//! Topic to members: a data structure, no sockets.
//!
//! The members of a topic stand in a *room*, dense, in segments of at most
//! [`SEGMENT`] members. A message goes round segment by segment, so who joins or leaves
//! waits for the turns of a few segments at most, never for a whole fan-out.
//!
//! Locks, from outer to inner, none of them ever held across an `.await`: what the user of
//! the hub locks in a room's lane, a room's list of segments (joins, and when a segment
//! runs empty), a segment (one member joins or leaves, or one message visits its members).
//! A shard of the map is locked for a look-up alone, inside none of them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

use super::message::Topic;

/// A power of two, well above the number of cores, so that look-ups rarely collide.
const SHARDS: usize = 64;

/// Most members of a segment: the writes that a join or a leave may have to wait for.
pub const SEGMENT: usize = 64;

/// A segment that is down to so many members is filled up before others.
const SPARSE: usize = SEGMENT / 4;

/// Who is subscribed to what. `M` is a member: cheap to clone, usually an `Arc`. `L` is
/// what else belongs to a topic while it has members.
#[derive(Debug)]
pub struct Hub<M, L> {
    hasher: RandomState,
    shards: Box<[Shard<M, L>]>,
}

type Shard<M, L> = Mutex<HashMap<Topic, Arc<Room<M, L>>>>;

/// The members of one topic.
#[derive(Debug)]
pub struct Room<M, L> {
    /// What the user of the hub keeps per topic.
    pub lane: L,
    segments: Mutex<Segments<M>>,
}

#[derive(Debug)]
struct Segments<M> {
    list: Vec<Arc<Segment<M>>>,
    /// How many members ever came in: the place of the newest in the order of coming.
    joined: u64,
    /// Set when the last member left and the room is about to leave the map. Who
    /// meets a closed room looks it up again.
    closed: bool,
}

/// Some members of a topic. A member stays in its segment until it leaves: one that
/// moved could be missed, or visited twice, by a message that is going round.
#[derive(Debug)]
pub struct Segment<M>(Mutex<Vec<Entry<M>>>);

#[derive(Debug)]
struct Entry<M> {
    id: u64,
    joined: u64,
    member: M,
}

/// Everybody who was in a room at one moment, to be visited part by part.
#[derive(Debug)]
pub struct Round<M> {
    parts: Vec<Arc<Segment<M>>>,
    joined: u64,
}

/// Where a member of a topic is; what it takes to leave.
#[derive(Debug)]
pub struct Seat<M>(Arc<Segment<M>>);

impl<M, L: Default> Default for Hub<M, L> {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl<M: Clone, L: Default> Hub<M, L> {
    /// Adds the member `id` to `topic`. Once this returns, a message that looks up the
    /// room finds it. The id must not be a member already.
    pub fn join(&self, topic: &Topic, id: u64, member: M) -> Seat<M> {
        loop {
            let room = self.shard(topic).lock().entry(topic.clone()).or_default().clone();
            let mut segments = room.segments.lock();
            if !segments.closed {
                return segments.seat(id, member);
            }
        }
    }

    /// Removes the member `id` from `topic`, and the topic when it was the last one. Once
    /// this returns, no round visits it any more.
    pub fn leave(&self, topic: &Topic, id: u64, seat: &Seat<M>) {
        if seat.0.remove(id) > SPARSE {
            return;
        }
        let Some(room) = self.room(topic) else { return };
        if !room.segments.lock().tidy(&seat.0) {
            return;
        }
        let mut shard = self.shard(topic).lock();
        // A new room may already stand under the same name.
        if shard.get(topic).is_some_and(|found| Arc::ptr_eq(found, &room)) {
            shard.remove(topic);
        }
    }

    /// The room of `topic`; none when nobody is there.
    pub fn room(&self, topic: &Topic) -> Option<Arc<Room<M, L>>> {
        self.shard(topic).lock().get(topic).cloned()
    }

    /// How many topics have members.
    pub fn topics(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, topic: &Topic) -> &Shard<M, L> {
        let hash = self.hasher.hash_one(topic);
        // Truncation is what we want: any bits will do.
        #[allow(clippy::cast_possible_truncation)]
        &self.shards[hash as usize % SHARDS]
    }
}

impl<M, L> Room<M, L> {
    /// Everybody who is there now.
    pub fn round(&self) -> Round<M> {
        let segments = self.segments.lock();
        Round { parts: segments.list.clone(), joined: segments.joined }
    }

    /// The same, when these are no more than `most`.
    pub fn small_round(&self, most: usize) -> Option<Round<M>> {
        let segments = self.segments.lock();
        match &*segments.list {
            [only] if only.len() <= most => {
                Some(Round { parts: vec![only.clone()], joined: segments.joined })
            }
            _ => None,
        }
    }
}

impl<M> Round<M> {
    /// How many parts there are, each of at most [`SEGMENT`] members.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Shows the members of one part to `visit`, which must not block and must not call
    /// back into the hub. Who has left is not among them, and neither is who came after the
    /// round began: whoever left and came again has been visited before, perhaps.
    pub fn visit(&self, part: usize, mut visit: impl FnMut(&M)) {
        let Some(segment) = self.parts.get(part) else { return };
        let members = segment.0.lock();
        members
            .iter()
            .filter(|entry| entry.joined <= self.joined)
            .for_each(|entry| visit(&entry.member));
    }

    /// Shows all members to `visit`.
    pub fn visit_all(&self, mut visit: impl FnMut(&M)) {
        (0..self.parts()).for_each(|part| self.visit(part, &mut visit));
    }
}

impl<M> Segments<M> {
    /// Puts a member into the last segment, or into a new one when that is full.
    fn seat(&mut self, id: u64, member: M) -> Seat<M> {
        self.joined += 1;
        let entry = Entry { id, joined: self.joined, member };
        if let Some(last) = self.list.last() {
            let mut members = last.0.lock();
            if members.len() < SEGMENT {
                members.push(entry);
                return Seat(last.clone());
            }
        }
        let segment = Arc::new(Segment(Mutex::new(vec![entry])));
        self.list.push(segment.clone());
        Seat(segment)
    }

    /// Takes an empty segment out, has a sparse one filled up next. True when the room was
    /// closed, because it was the last segment.
    fn tidy(&mut self, segment: &Arc<Segment<M>>) -> bool {
        let Some(position) = self.list.iter().position(|other| Arc::ptr_eq(other, segment)) else {
            return false;
        };
        let members = segment.len();
        if members == 0 {
            self.list.swap_remove(position);
            self.closed = self.list.is_empty();
        } else if self.list.last().is_some_and(|last| last.len() > members) {
            let last = self.list.len() - 1;
            self.list.swap(position, last);
        }
        self.closed
    }
}

impl<M> Segment<M> {
    fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// How many members are left.
    fn remove(&self, id: u64) -> usize {
        let mut members = self.0.lock();
        if let Some(index) = members.iter().position(|entry| entry.id == id) {
            members.swap_remove(index);
        }
        members.len()
    }
}

impl<M, L: Default> Default for Room<M, L> {
    fn default() -> Self {
        let segments = Segments { list: Vec::new(), joined: 0, closed: false };
        Self { lane: L::default(), segments: Mutex::new(segments) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    type Ids = Hub<u64, ()>;

    fn members(hub: &Ids, topic: &Topic) -> Vec<u64> {
        let mut found = Vec::new();
        if let Some(room) = hub.room(topic) {
            room.round().visit_all(|id| found.push(*id));
        }
        found.sort_unstable();
        found
    }

    #[test]
    fn join_leave_and_nothing_is_left() {
        let hub = Ids::default();
        let (a, b) = (Topic::new("t", "a"), Topic::new("t", "b"));
        let one = hub.join(&a, 1, 1);
        let two = hub.join(&a, 2, 2);
        let other = hub.join(&b, 1, 1);
        assert_eq!(members(&hub, &a), [1, 2]);
        assert_eq!(hub.topics(), 2);
        hub.leave(&a, 1, &one);
        hub.leave(&a, 7, &one);
        assert_eq!(members(&hub, &a), [2]);
        hub.leave(&a, 2, &two);
        hub.leave(&b, 1, &other);
        hub.leave(&b, 1, &other);
        assert_eq!(hub.topics(), 0);
        assert_eq!(members(&hub, &a), [0_u64; 0]);
    }

    #[test]
    fn segments_that_emptied_are_filled_again_and_do_not_pile_up() {
        let hub = Ids::default();
        let topic = Topic::new("t", "churn");
        let mut seats = BTreeMap::new();
        // A sixteenth of the members stays, the others come and go.
        for id in 0..10_000 {
            seats.insert(id, hub.join(&topic, id, id));
            if id >= 1_000 && id % 16 != 0 {
                let oldest = *seats.keys().find(|id| *id % 16 != 0).unwrap();
                hub.leave(&topic, oldest, &seats.remove(&oldest).unwrap());
            }
        }
        let room = hub.room(&topic).unwrap();
        let segments = room.round().parts();
        assert_eq!(members(&hub, &topic), seats.keys().copied().collect::<Vec<_>>());
        assert!(segments <= seats.len().div_ceil(SPARSE) + 2, "{segments}, {}", seats.len());
    }

    #[test]
    fn a_member_that_joined_is_always_found_while_others_come_and_go() {
        let hub = Ids::default();
        let topic = Topic::new("t", "busy");
        std::thread::scope(|scope| {
            for id in 0..4 {
                let (hub, topic) = (&hub, &topic);
                scope.spawn(move || {
                    for _ in 0..5_000 {
                        let seat = hub.join(topic, id, id);
                        assert!(members(hub, topic).contains(&id));
                        hub.leave(topic, id, &seat);
                        assert!(!members(hub, topic).contains(&id));
                    }
                });
            }
        });
        assert_eq!(hub.topics(), 0);
    }

    proptest! {
        /// Whatever happens while a message goes round: who was there before and did not
        /// leave is visited exactly once, and nobody twice, also who left and came again.
        #[test]
        fn a_round_visits_everybody_once(
            start in 1_u64..200,
            steps in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..300),
        ) {
            let hub = Ids::default();
            let topic = Topic::new("t", "round");
            let mut seats: BTreeMap<_, _> =
                (0..start).map(|id| (id, hub.join(&topic, id, id))).collect();
            let mut steadfast: BTreeSet<_> = seats.keys().copied().collect();
            let mut seen = Vec::new();
            let round = hub.room(&topic).unwrap().round();
            let per_part = steps.len() / round.parts() + 1;
            let mut steps = (start..).zip(steps);
            for part in 0..round.parts() {
                round.visit(part, |id| seen.push(*id));
                for (new, (join, index)) in steps.by_ref().take(per_part) {
                    let known: Vec<_> = seats.keys().copied().collect();
                    let id = if known.is_empty() { new } else { *index.get(&known) };
                    if let Some(seat) = seats.remove(&id) {
                        hub.leave(&topic, id, &seat);
                        steadfast.remove(&id);
                    }
                    if join {
                        // The one that left, or somebody new.
                        let id = if index.index(2) == 0 { id } else { new };
                        seats.entry(id).or_insert_with(|| hub.join(&topic, id, id));
                    }
                }
            }
            let visits = seen.len();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(visits, seen.len());
            prop_assert!(steadfast.iter().all(|id| seen.binary_search(id).is_ok()));
            prop_assert_eq!(members(&hub, &topic), seats.keys().copied().collect::<Vec<_>>());
        }
    }
}
