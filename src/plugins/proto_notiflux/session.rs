//! One client's conversation on `/ws`.

use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;

use super::Shared;
use super::command::{Command, parse};
use crate::core::auth::AuthError;
use crate::core::client_address::ClientAddress;
use crate::core::message::Topic;
use crate::core::session::{Client, Limits, Session};

const BAD_SUBSCRIBE: &str = "Invalid subscribe command, it should be: /subscribe <topic> <token>";
const UNKNOWN: &str = "Unknown command";

/// Why a client may not subscribe.
struct Refusal {
    reason: &'static str,
    /// Whether the token was good, though not for this.
    authenticated: bool,
}

pub(super) struct NotifluxSession {
    shared: Arc<Shared>,
    client_address: ClientAddress,
    /// Whether this client asked to be told what became of its commands.
    acknowledge: bool,
}

impl NotifluxSession {
    pub(super) fn new(
        shared: Arc<Shared>,
        client_address: ClientAddress,
        acknowledge: bool,
    ) -> Self {
        Self { shared, client_address, acknowledge }
    }

    async fn subscribe(&self, client: &mut dyn Client, name: &str, token: &str) {
        let topic = Topic::new(&self.shared.instance, name);
        let refused = self.refusal(client, &topic, name, token).await;
        match refused {
            None => {
                client.subscribe(topic);
                // Only now: whoever reads this misses nothing from here on.
                self.tell(client, || format!("/subscribed {name}"));
            }
            Some(Refusal { reason, authenticated }) => {
                // What comes without a good token can be anything, a token included; and so
                // can what comes with one.
                let topic = (authenticated && !name.contains(token)).then_some(name);
                self.shared.refused("subscription", topic, reason);
                self.tell(client, || format!("/denied {name} {reason}"));
            }
        }
    }

    async fn refusal(
        &self,
        client: &dyn Client,
        topic: &Topic,
        name: &str,
        token: &str,
    ) -> Option<Refusal> {
        let unknown = |reason| Some(Refusal { reason, authenticated: false });
        if let Some(fault) = self.shared.config.topic_fault(name) {
            return unknown(fault);
        }
        if client.subscriptions() >= self.shared.config.max_subscriptions
            && !client.is_subscribed(topic)
        {
            return unknown("too many subscriptions");
        }
        match self.shared.authenticate(self.client_address, token).await {
            Ok(grant) if grant.subscribe.covers(name) => None,
            Ok(_) => Some(Refusal {
                reason: "the token does not allow this topic to be subscribed to",
                authenticated: true,
            }),
            Err(AuthError::Denied(reason)) => unknown(reason),
            Err(AuthError::TooMany(_)) => unknown("too many bad tokens came from this address"),
            Err(error @ AuthError::Unavailable(_)) => {
                self.shared.warn_unavailable(&error);
                unknown("the token cannot be checked at the moment")
            }
        }
    }

    fn tell(&self, client: &mut dyn Client, text: impl FnOnce() -> String) {
        if self.acknowledge {
            client.send(text().into());
        }
    }
}

#[async_trait]
impl Session for NotifluxSession {
    fn limits(&self) -> Limits {
        self.shared.config.limits()
    }

    async fn received(&mut self, client: &mut dyn Client, text: &str) -> ControlFlow<()> {
        match parse(text) {
            Command::Nothing => {}
            Command::Subscribe { topic, token } => self.subscribe(client, topic, token).await,
            Command::BadSubscribe => client.send(BAD_SUBSCRIBE.into()),
            Command::Unsubscribe { topic } => {
                client.unsubscribe(&Topic::new(&self.shared.instance, topic));
                self.tell(client, || format!("/unsubscribed {topic}"));
            }
            Command::UnsubscribeAll => {
                client.unsubscribe_all();
                self.tell(client, || "/unsubscribed-all".to_owned());
            }
            Command::Unknown => client.send(UNKNOWN.into()),
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::core::auth::{AuthProvider, Grant, Scope};
    use crate::core::message::Frame;

    /// Says yes to `news` and to nothing else.
    struct News;

    #[async_trait]
    impl AuthProvider for News {
        async fn authenticate(&self, _: &str) -> Result<Arc<Grant>, AuthError> {
            let topics = Scope::Topics(HashSet::from(["news".to_owned()]));
            Ok(Arc::new(Grant { subscribe: topics, ..Grant::default() }))
        }
    }

    /// Writes down what happened, in order.
    #[derive(Default)]
    struct Recorder(Vec<String>);

    impl Client for Recorder {
        fn identify(&mut self, _: crate::core::session::Device) {}
        fn subscribe(&mut self, topic: Topic) {
            self.0.push(format!("subscribe {topic}"));
        }
        fn unsubscribe(&mut self, topic: &Topic) -> bool {
            self.0.push(format!("unsubscribe {topic}"));
            true
        }
        fn unsubscribe_all(&mut self) {
            self.0.push("unsubscribe all".into());
        }
        fn subscriptions(&self) -> usize {
            0
        }
        fn is_subscribed(&self, _: &Topic) -> bool {
            false
        }
        fn send(&mut self, frame: Frame) {
            self.0.push(format!("send {}", frame.as_str()));
        }
        fn send_binary(&mut self, bytes: &[u8]) {
            self.0.push(format!("send {bytes:?}"));
        }
    }

    #[tokio::test]
    async fn an_acknowledgement_comes_after_the_subscription_is_in_force() {
        let shared = Arc::new(Shared {
            instance: "n".into(),
            config: super::super::Config::default(),
            auth: Arc::new(News),
            auth_failures: Arc::new(crate::core::auth_failures::AuthFailures::new(
                0,
                crate::core::metrics::Refusals::default(),
            )),
            refusals: crate::core::throttle::Throttle::default(),
            unchecked: crate::core::throttle::Throttle::default(),
        });
        let address = ClientAddress(std::net::Ipv4Addr::LOCALHOST.into());
        let mut session = NotifluxSession::new(shared, address, true);
        let mut client = Recorder::default();
        for text in ["/subscribe news T", "/subscribe other T", "/unsubscribe news"] {
            assert!(session.received(&mut client, text).await.is_continue());
        }
        let expected = [
            "subscribe n/news",
            "send /subscribed news",
            "send /denied other the token does not allow this topic to be subscribed to",
            "unsubscribe n/news",
            "send /unsubscribed news",
        ];
        assert_eq!(client.0, expected);
    }
}
