//! Back ends and clients of a strict notiflux server, by the thousand.

use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::frames::Frame;
use super::ledger::{Ledger, Stamp, Stay};
use super::peer::{Peer, Publisher};
use super::token::{Keys, claims, now};

/// Keys that make the server tell clients and back ends the truth; more of `[protocol.notiflux]`
/// can follow.
pub const STRICT: &str = "profile = \"notiflux\"\n[protocol.notiflux]\nstrict = true\nack = true\n";

/// Where a client asks to be told.
pub const PATH: &str = "/ws?ack=true";

/// A topic and the tokens for it, valid for a day.
pub struct Topic {
    pub name: String,
    subscribe: String,
    broadcast: String,
}

impl Topic {
    pub fn new(name: &str) -> Self {
        let token = |scope| {
            let mut claims = claims(scope, &[name]);
            claims["exp"] = (now() + 86_400).into();
            Keys::server().token(&claims)
        };
        let subscribe = format!("/subscribe {name} {}", token("subscribe"));
        Self { name: name.into(), subscribe, broadcast: token("broadcast") }
    }

    /// What a client says to subscribe.
    pub fn subscribe(&self) -> &str {
        &self.subscribe
    }

    /// What a back end posts to `/broadcast`.
    pub fn body(&self, message: &str) -> String {
        json!({ "topic": self.name, "message": message, "token": self.broadcast }).to_string()
    }
}

/// How many the server says have got a message, and how many have not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    pub accepted: u64,
    pub dropped: u64,
}

impl std::ops::AddAssign for Delivery {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.dropped += other.dropped;
    }
}

/// One after the other, each answered before the next: messages of one publisher.
pub struct Speaker<'a> {
    pub ledger: &'a Ledger,
    pub publisher: Publisher,
    next: Stamp,
    padding: String,
}

impl<'a> Speaker<'a> {
    /// With so many bytes behind each message's stamp.
    pub fn new(ledger: &'a Ledger, address: SocketAddr, publisher: u16, padding: usize) -> Self {
        let next = Stamp { publisher, number: 0 };
        let padding =
            if padding == 0 { String::new() } else { format!(" {}", "m".repeat(padding)) };
        Self { ledger, publisher: Publisher::new(address), next, padding }
    }

    /// Publishes the next message. Without an answer nobody knows what became of it.
    ///
    /// # Panics
    /// When the answer is not 200.
    pub async fn say(&mut self, topic: &Topic) -> io::Result<Delivery> {
        let stamp = self.next;
        self.next.number += 1;
        self.ledger.begin(stamp);
        let body = topic.body(&format!("{stamp}{}", self.padding));
        let answer = self.publisher.post("/broadcast", &body).await?;
        assert_eq!(answer.status, 200, "the answer to {stamp}: {}", answer.text());
        self.ledger.answered(stamp);
        let counts: Value = serde_json::from_slice(&answer.body).unwrap();
        let count = |name: &str| counts[name].as_u64().unwrap();
        Ok(Delivery { accepted: count("accepted"), dropped: count("dropped") })
    }
}

/// Why a client has stopped listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// It has got as many messages as it wanted.
    Enough,
    /// It was told to.
    Over,
    /// The connection is over.
    Lost,
}

/// A client that subscribes to one topic, again and again.
pub struct Listener<'a> {
    pub ledger: &'a Ledger,
    pub topic: &'a Topic,
    pub peer: Peer,
}

impl<'a> Listener<'a> {
    /// Connects, and waits for nothing else.
    pub async fn connect(
        ledger: &'a Ledger,
        topic: &'a Topic,
        address: SocketAddr,
    ) -> io::Result<Self> {
        let (peer, answer) = Peer::open(address, PATH, &[]).await?;
        assert_eq!(answer.status, 101, "the answer to a handshake");
        Ok(Self { ledger, topic, peer })
    }

    /// Subscribes. True when it was acknowledged, false when the connection is over.
    pub async fn subscribe(&mut self, stay: &mut Stay) -> bool {
        if self.peer.text(self.topic.subscribe()).await.is_err() {
            return false;
        }
        let acknowledged = self.until(&format!("/subscribed {}", self.topic.name), stay).await;
        if acknowledged {
            stay.acknowledged = Some(self.ledger.now());
        }
        acknowledged
    }

    /// Ends the subscription. True when that was acknowledged.
    pub async fn unsubscribe(&mut self, stay: &mut Stay) -> bool {
        let leaving = self.ledger.now();
        if self.peer.text(&format!("/unsubscribe {}", self.topic.name)).await.is_err() {
            return false;
        }
        let acknowledged = self.until(&format!("/unsubscribed {}", self.topic.name), stay).await;
        if acknowledged {
            stay.left = Some(leaving);
        }
        acknowledged
    }

    /// Waits for everything that was answered before, and stops counting there. False when
    /// the connection is over.
    pub async fn finish(&mut self, stay: &mut Stay) -> bool {
        let leaving = self.ledger.now();
        let settled = self.peer.settle(|frame| stay.seen.push(stamp(&frame))).await;
        if settled {
            stay.left = Some(leaving);
        }
        settled
    }

    /// Listens until `enough` messages have come or `over` is true.
    pub async fn listen(
        &mut self,
        stay: &mut Stay,
        enough: usize,
        over: &mut watch::Receiver<bool>,
    ) -> Pause {
        for _ in 0..enough {
            tokio::select! {
                biased;
                frame = self.peer.next() => match frame {
                    Frame::Close(_) | Frame::Eof => return Pause::Lost,
                    frame => stay.seen.push(stamp(&frame)),
                },
                () = async { _ = over.wait_for(|over| *over).await } => return Pause::Over,
            }
        }
        Pause::Enough
    }

    async fn until(&mut self, word: &str, stay: &mut Stay) -> bool {
        loop {
            match self.peer.next().await {
                Frame::Text(text) if text == word => return true,
                Frame::Close(_) | Frame::Eof => return false,
                frame => stay.seen.push(stamp(&frame)),
            }
        }
    }
}

fn stamp(frame: &Frame) -> Stamp {
    match frame {
        Frame::Text(text) => text.parse().unwrap_or_else(|fault| panic!("{fault}")),
        other => panic!("expected a message, got {other:?}"),
    }
}
