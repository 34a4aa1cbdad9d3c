//! Hands each message to the sinks that want its topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::admission::{Admission, Busy, Room};
use super::bulkhead::Bulkhead;
use super::message::{Message, Pattern, Publication, Topic};
use super::sink::{Delivery, Receipt, Sink};

/// The way from protocols to sinks.
pub struct Router {
    /// Looked at with each message, replaced as a whole by a reload.
    routes: ArcSwap<Vec<Route>>,
    published: AtomicU64,
    room: Room,
}

/// A sink, and what it takes.
pub(super) struct Route {
    topics: Vec<Pattern>,
    sink: Arc<dyn Sink>,
    bulkhead: Arc<Bulkhead>,
}

impl Route {
    /// To a sink that takes every topic one of `topics` matches.
    pub(super) fn new(topics: Vec<Pattern>, sink: Arc<dyn Sink>, bulkhead: Arc<Bulkhead>) -> Self {
        Self { topics, sink, bulkhead }
    }

    /// A message that a faulty sink lost, or is not asked about, is dropped once.
    fn deliver(&self, message: &Arc<Message>, admission: &Admission) -> Receipt {
        let lost = || Receipt::from(Delivery { accepted: 0, dropped: 1 });
        if !self.bulkhead.lets_pass() {
            return lost();
        }
        let delivered = self.bulkhead.call(|| self.sink.deliver(message, admission));
        delivered.unwrap_or_else(|_| lost())
    }
}

impl Router {
    /// With room for messages of so many bytes on their way at a time, for which a publisher
    /// waits for `timeout` at most.
    pub(super) fn new(bytes: u32, timeout: Duration) -> Self {
        let room = Room::new(bytes, timeout);
        Self { routes: ArcSwap::default(), published: AtomicU64::new(0), room }
    }

    /// Has messages take other routes from now on. What is returned is in use as long as a
    /// message is on one of the old ones.
    pub(super) fn replace(&self, routes: Vec<Route>) -> Arc<Vec<Route>> {
        self.routes.swap(Arc::new(routes))
    }

    /// Room for messages of so many bytes in all. Waits while too much is on its way, which
    /// clients cannot draw out: they are never waited for. A publisher that gives up
    /// meanwhile has published nothing.
    ///
    /// # Errors
    /// [`Busy`] after `server.publish_timeout`.
    pub async fn admit(&self, bytes: usize) -> Result<Admission, Busy> {
        self.room.admit(bytes).await
    }

    /// Resolves when everything that was published is delivered or counted as dropped.
    pub(super) async fn settled(&self) {
        self.room.empty().await;
    }

    /// Gives a message to every sink that takes its topic, before it returns.
    ///
    /// Not async on purpose: a publisher that goes away cannot cancel a fan-out
    /// half-way. Its answer waits for the receipt, and can say what was delivered.
    pub fn publish(&self, publication: Publication, admission: &Admission) -> Receipt {
        let Publication { topic, audience, frame, data } = publication;
        let id = self.published.fetch_add(1, Ordering::Relaxed) + 1;
        let message = Arc::new(Message { id, topic, audience, frame, data });
        let mut total = Receipt::default();
        for route in self.routes.load().iter() {
            if route.topics.iter().any(|pattern| pattern.matches(&message.topic)) {
                total += route.deliver(&message, admission);
            }
        }
        total
    }

    /// Whether some sink would bring a message of `topic` to somebody who is not on the
    /// line, for example through a relay to a phone.
    pub fn reaches_offline(&self, topic: &Topic) -> bool {
        let takes = |route: &&Route| route.topics.iter().any(|pattern| pattern.matches(topic));
        self.routes.load().iter().filter(takes).any(|route| route.sink.reaches_offline(topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::sink::Delivery;

    struct Count(usize);

    impl Sink for Count {
        fn deliver(&self, _: &Arc<Message>, _: &Admission) -> Receipt {
            Delivery { accepted: self.0, dropped: 1 }.into()
        }
    }

    #[tokio::test]
    async fn only_matching_sinks_are_asked_and_their_answers_are_summed() {
        let router = Router::new(1, Duration::from_secs(1));
        let route = |patterns: &[&str], count| {
            let topics = patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect();
            Route::new(topics, Arc::new(Count(count)), Arc::new(Bulkhead::new("sink.x".into())))
        };
        router.replace(vec![route(&["a/*"], 1), route(&["*"], 10), route(&[], 100)]);
        let publish = |instance| {
            let publication = Publication::new(Topic::new(instance, "x"), "m");
            router.publish(publication, &Admission::default()).settled()
        };
        assert_eq!((publish("a").await.accepted, publish("b").await.accepted), (11, 10));
        assert_eq!(publish("a").await.dropped, 2);
    }
}
