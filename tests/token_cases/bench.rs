//! A server, a witness, and a record of every token that was shown to it.

use std::collections::{BTreeSet, HashSet};
use std::fmt::Debug;

use serde_json::json;

use super::case::{Case, Door, Verdict};
use crate::support::eventually;
use crate::support::http::post_json;
use crate::support::server::{Builder, Server};
use crate::support::token::Keys;
use crate::support::ws::{Frame, Ws};

/// Where nothing arrives, a message may have been refused, or nobody may have listened.
/// So a witness listens, with good tokens, on every topic of the list that can have them.
pub(super) struct Bench {
    server: Server,
    witness: Ws,
    presented: BTreeSet<String>,
    messages: usize,
    faults: Vec<String>,
}

impl Bench {
    /// Starts the server; the witness is there when this returns.
    pub(super) fn start(builder: Builder, cases: &[Case]) -> Self {
        // The witness pings after each case, to know what came of it.
        let server = builder.env("PUSHMUX_SINK__WS__CONTROL_FRAME_RATE", "0").start();
        let witness = Ws::open(server.address);
        let (presented, faults) = (BTreeSet::new(), Vec::new());
        let mut bench = Self { server, witness, presented, messages: 0, faults };
        let legal = cases.iter().filter(|case| case.topic_is_legal());
        for topic in legal.map(Case::topic).collect::<BTreeSet<_>>() {
            let token = Keys::server().subscribe(&[&topic]);
            bench.witness.text(&format!("/subscribe {topic} {token}"));
            bench.presented.insert(token);
        }
        bench.witness.settle();
        bench
    }

    /// Presents the token of a case at a door, as often as it is to be presented, and
    /// notes what is not as expected.
    #[allow(clippy::print_stdout, reason = "what a failing test prints is shown")]
    pub(super) fn play(&mut self, case: &Case, door: Door) {
        // Shown when a helper panics: which case it was.
        println!("{door:?}: {}", case.name);
        let token = case.token(door);
        for _ in 0..case.times() {
            let accepted = match door {
                Door::Subscribe => self.subscribes(case, &token),
                Door::Broadcast => self.broadcasts(case, &token),
            };
            let seen = if accepted { Verdict::Accept } else { Verdict::Reject };
            self.check(case, door, &seen, &case.verdict(door));
        }
    }

    /// The same where the server says its verdict: strict, and with acknowledgements.
    pub(super) fn play_told(&mut self, case: &Case, door: Door) {
        let token = case.token(door);
        let verdict = match door {
            Door::Subscribe => self.subscribes_told(case, &token),
            Door::Broadcast => match self.publish(&case.topic(), "told", &token) {
                200 => Ok(Verdict::Accept),
                401 | 403 => Ok(Verdict::Reject),
                other => Err(format!("status {other}")),
            },
        };
        self.check(case, door, &verdict, &Ok(case.verdict(door)));
    }

    /// What an acknowledging server replies. To what is no `/subscribe` with a topic and
    /// a token, and to a frame that is too large, it has no verdict; they are refused.
    fn subscribes_told(&mut self, case: &Case, token: &str) -> Result<Verdict, String> {
        let mut client = Ws::open_path(self.server.address, "/ws?ack=true");
        self.presented.insert(token.to_owned());
        client.text(&case.command(token));
        let topic = case.topic();
        match client.drain().first() {
            Some(Frame::Text(text)) if *text == format!("/subscribed {topic}") => {
                Ok(Verdict::Accept)
            }
            Some(Frame::Text(text)) if text.starts_with("/denied ") => Ok(Verdict::Reject),
            Some(Frame::Text(text)) if !text.starts_with('/') => Ok(Verdict::Reject),
            None | Some(Frame::Close(_) | Frame::Eof) => Ok(Verdict::Reject),
            Some(other) => Err(format!("{other:?}")),
        }
    }

    /// Whether a client that subscribes with `token` gets what a good token publishes.
    fn subscribes(&mut self, case: &Case, token: &str) -> bool {
        let mut client = Ws::open(self.server.address);
        self.presented.insert(token.to_owned());
        client.text(&case.command(token));
        // Commands are handled in order: after this the command has been. A frame that
        // is too large ends the connection instead.
        let replies = client.drain();
        let topic = case.topic();
        let good = Keys::server().broadcast(&[&topic]);
        let (status, message) = self.publish_new(&topic, &good);
        self.check(case, Door::Subscribe, &("control", status), &("control", 200));
        // Fan-out comes before the answer to the publisher: what is not there now never
        // comes.
        let delivered = self.witnessed(&message);
        let legal = case.topic_is_legal();
        self.check(case, Door::Subscribe, &("control", delivered), &("control", legal));
        !replies.contains(&Frame::Eof) && client.drain().contains(&Frame::Text(message))
    }

    /// Whether the witness gets what `token` publishes.
    fn broadcasts(&mut self, case: &Case, token: &str) -> bool {
        let (status, message) = self.publish_new(&case.topic(), token);
        // Whatever the token says.
        self.check(case, Door::Broadcast, &status, &200);
        self.witnessed(&message)
    }

    fn check<T: Debug + PartialEq>(&mut self, case: &Case, door: Door, seen: &T, expected: &T) {
        if seen == expected {
            return;
        }
        let Case { category, name, deviation, .. } = case;
        let purpose = if *deviation { " (stricter than the original on purpose)" } else { "" };
        let fault = format!("{category}/{name} at {door:?}: {seen:?}, expected {expected:?}");
        self.note(&(fault + purpose));
    }

    /// Notes a fault for the end.
    pub(super) fn note(&mut self, fault: &str) {
        self.faults.push(fault.to_owned());
    }

    /// Publishes a text that was not sent before.
    fn publish_new(&mut self, topic: &str, token: &str) -> (u16, String) {
        self.messages += 1;
        let message = format!("message {}", self.messages);
        (self.publish(topic, &message, token), message)
    }

    /// The status of a broadcast.
    fn publish(&mut self, topic: &str, message: &str, token: &str) -> u16 {
        self.presented.insert(token.to_owned());
        let body = json!({ "topic": topic, "message": message, "token": token });
        post_json(self.server.address, "/broadcast", &body.to_string()).status
    }

    fn witnessed(&mut self, message: &str) -> bool {
        self.witness.drain().contains(&Frame::Text(message.to_owned()))
    }

    /// Ends the run: looks for what no case may cause, and reports everything together.
    pub(super) fn finish(mut self) {
        let written = self.written();
        for line in leaks(&self.presented, &written) {
            self.note(&format!("a piece of a token in the log: {line}"));
        }
        if written.contains("panicked") {
            self.note("a panic in the log");
        }
        // One topic of the list has a line break in it, and this after it.
        if written.lines().any(|line| line.starts_with("X: y")) {
            self.note("a topic has made a line of the log");
        }
        let Self { faults, .. } = self;
        assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    }

    /// Everything the server has written so far. The last thing it is made to write of
    /// is one more refusal; what is read until then is whole, and not empty.
    fn written(&mut self) -> String {
        let topic = "the-last-refusal";
        let token = Keys::server().broadcast(&["another topic"]);
        self.publish(topic, "", &token);
        eventually("the last refusal is in the log", || self.server.log().contains(topic));
        self.server.log() + &self.server.stdout()
    }
}

/// The lines that hold a piece of a token: 16 bytes from any multiple of 16, or the last 16,
/// so that no leak of 31 bytes passes between two.
pub(super) fn leaks<'a>(presented: &BTreeSet<String>, written: &'a str) -> Vec<&'a str> {
    let pieces: HashSet<_> = presented.iter().flat_map(|token| pieces(token)).collect();
    assert!(pieces.len() > 1000, "too little to look for: {} pieces", pieces.len());
    let leaks = |line: &&str| line.as_bytes().windows(PIECE).any(|at| pieces.contains(at));
    written.lines().filter(leaks).collect()
}

const PIECE: usize = 16;

/// None of a token shorter than a piece: `null` may be in any log.
fn pieces(token: &str) -> impl Iterator<Item = &[u8]> {
    let bytes = token.as_bytes();
    bytes.chunks_exact(PIECE).chain(bytes.len().checked_sub(PIECE).map(|start| &bytes[start..]))
}
