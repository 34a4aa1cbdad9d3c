//! Hands each message to the sinks that want its topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;

use super::admission::{Admission, Busy, Room};
use super::bulkhead::Bulkhead;
use super::message::{Message, Pattern, Publication, Topic};
use super::metrics::{self, Lost};
use super::sink::{Delivery, Receipt, Sink};

/// A protocol's way to the sinks.
pub struct Router {
    routes: Arc<Routes>,
    published: Counter,
}

/// All sinks, and what the protocols' routers have in common.
pub(super) struct Routes {
    /// Looked at with each message, replaced as a whole by a reload.
    list: ArcSwap<Vec<Route>>,
    published: AtomicU64,
    room: Room,
}

/// A sink, and what it takes.
pub(super) struct Route {
    topics: Vec<Pattern>,
    sink: Arc<dyn Sink>,
    bulkhead: Arc<Bulkhead>,
    books: metrics::Sink,
}

impl Route {
    /// To a sink that takes every topic one of `topics` matches.
    pub(super) fn new(
        topics: Vec<Pattern>,
        sink: Arc<dyn Sink>,
        bulkhead: Arc<Bulkhead>,
        books: metrics::Sink,
    ) -> Self {
        Self { topics, sink, bulkhead, books }
    }

    fn takes(&self, topic: &Topic) -> bool {
        self.topics.iter().any(|pattern| pattern.matches(topic))
    }

    /// A message that a faulty sink lost, or is not asked about, is dropped once.
    fn deliver(&self, message: &Arc<Message>, admission: &Admission) -> Receipt {
        let lost = |why| {
            self.books.matched(1);
            self.books.dropped(why, 1);
            Receipt::from(Delivery { accepted: 0, dropped: 1 })
        };
        if !self.bulkhead.lets_pass() {
            return lost(Lost::PluginOff);
        }
        let delivered = self.bulkhead.call(|| self.sink.deliver(message, admission));
        delivered.unwrap_or_else(|_| lost(Lost::Failed))
    }
}

impl Routes {
    /// With room for messages of so many bytes on their way at a time, for which a publisher
    /// waits for `timeout` at most.
    pub(super) fn new(bytes: u32, timeout: Duration, refused: metrics::Refusals) -> Self {
        let room = Room::new(bytes, timeout, refused);
        Self { list: ArcSwap::default(), published: AtomicU64::new(0), room }
    }

    /// Has messages take other routes from now on. What is returned is in use as long as a
    /// message is on one of the old ones.
    pub(super) fn replace(&self, routes: Vec<Route>) -> Arc<Vec<Route>> {
        self.list.swap(Arc::new(routes))
    }

    /// For a protocol whose messages are counted there.
    pub(super) fn router(self: &Arc<Self>, published: Counter) -> Arc<Router> {
        Arc::new(Router { routes: self.clone(), published })
    }

    /// Bytes of messages that are on their way.
    pub(super) fn publishing(&self) -> usize {
        self.room.taken()
    }

    /// Resolves when everything that was published is delivered or counted as dropped.
    pub(super) async fn settled(&self) {
        self.room.empty().await;
    }
}

impl Router {
    /// Room for messages of so many bytes in all. Waits while too much is on its way, which
    /// clients cannot draw out: they are never waited for. A publisher that gives up
    /// meanwhile has published nothing.
    ///
    /// # Errors
    /// [`Busy`] after `server.publish_timeout`.
    pub async fn admit(&self, bytes: usize) -> Result<Admission, Busy> {
        self.routes.room.admit(bytes).await
    }

    /// Gives a message to every sink that takes its topic, before it returns.
    ///
    /// Not async on purpose: a publisher that goes away cannot cancel a fan-out
    /// half-way. Its answer waits for the receipt, and can say what was delivered.
    pub fn publish(&self, publication: Publication, admission: &Admission) -> Receipt {
        let Publication { topic, audience, frame, data } = publication;
        self.published.inc();
        let id = self.routes.published.fetch_add(1, Ordering::Relaxed) + 1;
        let message = Arc::new(Message { id, topic, audience, frame, data });
        let mut total = Receipt::default();
        for route in self.routes.list.load().iter().filter(|route| route.takes(&message.topic)) {
            total += route.deliver(&message, admission);
        }
        total
    }

    /// Whether some sink would bring a message of `topic` to somebody who is not on the
    /// line, for example through a relay to a phone.
    pub fn reaches_offline(&self, topic: &Topic) -> bool {
        let takes = |route: &&Route| route.takes(topic);
        self.routes.list.load().iter().filter(takes).any(|route| route.sink.reaches_offline(topic))
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
        let refused = metrics::Refusals::default();
        let routes = Arc::new(Routes::new(1, Duration::from_secs(1), refused));
        let route = |patterns: &[&str], count| {
            let topics = patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect();
            let bulkhead = Arc::new(Bulkhead::new("sink.x".into(), metrics::Faults::default()));
            Route::new(topics, Arc::new(Count(count)), bulkhead, metrics::Sink::default())
        };
        routes.replace(vec![route(&["a/*"], 1), route(&["*"], 10), route(&[], 100)]);
        let published = Counter::default();
        let protocol = routes.router(published.clone());
        let publish = |instance| {
            let publication = Publication::new(Topic::new(instance, "x"), "m");
            protocol.publish(publication, &Admission::default()).settled()
        };
        assert_eq!((publish("a").await.accepted, publish("b").await.accepted), (11, 10));
        assert_eq!(publish("a").await.dropped, 2);
        assert_eq!(published.get(), 3);
    }
}
