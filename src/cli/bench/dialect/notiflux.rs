//! notiflux: `/subscribe <topic> <token>` on `/ws`, `POST /broadcast`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;

use super::{Counts, Dialect, Request, upgrade};
use crate::cli::bench::credential::{self, Signer};
use crate::cli::bench::options::{Audience, Load};
use crate::cli::bench::settings::Settings;
use crate::cli::bench::target::Target;
use crate::plugins::auth_jwt::token::TokenScope;

/// Most tokens that are signed before a run; each takes 300 bytes.
const MOST_TOKENS: f64 = 1e6;
/// Most topics that such a token names.
const MOST_TOPICS: usize = 100;

/// Subscribers and publishers with tokens.
struct Notiflux {
    target: Target,
    topics: Vec<String>,
    payload: usize,
    /// By topic.
    subscribe_tokens: Vec<String>,
    /// By topic.
    broadcast_tokens: Vec<String>,
    /// The first one for all probes, and for each other publish its own, good for all topics;
    /// none to use those by topic.
    new_tokens: Vec<String>,
    /// Those that were taken, with the probes' one.
    used: AtomicUsize,
}

impl Dialect for Notiflux {
    fn name(&self) -> &'static str {
        "notiflux"
    }

    fn handshake(&self, _: usize) -> Vec<u8> {
        upgrade(&self.target.authority, &format!("{}/ws", self.target.path), "")
    }

    fn subscribe(&self, subscriber: usize) -> Option<String> {
        let topic = subscriber % self.topics.len();
        Some(format!("/subscribe {} {}", self.topics[topic], self.subscribe_tokens[topic]))
    }

    fn publish(&self, topic: usize) -> Request {
        let before = format!(r#"{{"topic":"{}","message":""#, self.topics[topic]);
        let between = r#"","token":""#;
        let token = self.new_tokens.first().unwrap_or_else(|| &self.broadcast_tokens[topic]);
        let path = format!("{}/broadcast", self.target.path);
        let mut request = Request::post(
            &self.target.authority,
            &path,
            "application/json",
            [&before, &format!(r#"{between}{token}"}}"#)],
            self.payload,
        );
        request.token_at = (!self.new_tokens.is_empty())
            .then_some(request.message_at + self.payload + between.len());
        request
    }

    fn next_token(&self, _: usize) -> Option<&[u8]> {
        let index = self.used.fetch_add(1, Ordering::Relaxed);
        self.new_tokens.get(index).map(String::as_bytes)
    }

    /// In its own mode notiflux says 200 to everything: what does not arrive tells.
    fn accepts(&self, status: u16) -> bool {
        status == 200
    }

    fn counts(&self, body: &[u8]) -> Option<Counts> {
        body.starts_with(b"{").then(|| serde_json::from_slice(body).ok()).flatten()
    }
}

/// `pushmux bench notiflux`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// The server, with its path prefix if it has one.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The private key that signs the tokens, as `pushmux token keygen` writes it.
    #[arg(long, value_name = "FILE", required_unless_present_all = ["subscribe_token", "broadcast_token"])]
    key: Option<PathBuf>,
    /// A token of scope subscribe for every topic.
    #[arg(long, value_name = "file:PATH|env:NAME")]
    subscribe_token: Option<String>,
    /// A token of scope broadcast for every topic.
    #[arg(long, value_name = "file:PATH|env:NAME")]
    broadcast_token: Option<String>,
    /// Another token for every publish, signed before the run: measures verification. Needs
    /// --key, and --rate or --messages with --warmup 0s.
    #[arg(long, requires = "key", conflicts_with = "broadcast_token")]
    new_tokens: bool,
    #[command(flatten)]
    audience: Audience,
    #[command(flatten)]
    load: Load,
}

impl Options {
    /// Reads and signs what the run needs.
    ///
    /// # Errors
    /// Naming the flag, what was found and what would be right.
    pub(in crate::cli::bench) fn settings(self) -> Result<Settings, String> {
        let target = Target::parse("--url", &self.url, "http")?;
        let topics = self.audience.names()?;
        let signer = self.key.as_deref().map(Signer::load).transpose()?;
        let tokens = |flag, given: Option<&String>, scope| match (given, &signer) {
            (Some(source), _) => {
                credential::read(flag, source).map(|token| vec![token; topics.len()])
            }
            (None, Some(signer)) => {
                topics.iter().map(|topic| signer.sign(scope, std::slice::from_ref(topic))).collect()
            }
            (None, None) => Err(format!("{flag}: found none, expected it or --key")),
        };
        let given = [self.subscribe_token.as_ref(), self.broadcast_token.as_ref()];
        let subscribe_tokens = tokens("--subscribe-token", given[0], TokenScope::Subscribe)?;
        let broadcast_tokens = tokens("--broadcast-token", given[1], TokenScope::Broadcast)?;
        let mut new_tokens = Vec::new();
        if let (true, Some(signer)) = (self.new_tokens, &signer) {
            let count = self.load.messages(topics.len()).ok_or(
                "--new-tokens: found no number of messages to sign for, expected --rate N, or --messages N with --warmup 0s",
            )?;
            if count > MOST_TOKENS || topics.len() > MOST_TOPICS {
                return Err(format!(
                    "--new-tokens: found {count} messages and {} topics, expected at most {MOST_TOKENS} and {MOST_TOPICS}",
                    topics.len()
                ));
            }
            // One more for the probes.
            for _ in 0..=count as usize {
                new_tokens.push(signer.sign(TokenScope::Broadcast, &topics)?);
            }
        }
        let (subscribers, payload) = (self.audience.subscribers as usize, self.load.payload());
        let count = topics.len();
        let dialect = Notiflux {
            target: target.clone(),
            topics,
            payload,
            subscribe_tokens,
            broadcast_tokens,
            new_tokens,
            used: AtomicUsize::new(1),
        };
        self.load.settings(Box::new(dialect), [&target, &target], subscribers, count)
    }
}

/// Publishes to one topic with these tokens.
#[cfg(test)]
pub(in crate::cli::bench) fn with_tokens(tokens: &[&str]) -> impl Dialect {
    Notiflux {
        target: Target::parse("--url", "http://127.0.0.1:1", "http").unwrap(),
        topics: vec!["bench".into()],
        payload: 128,
        subscribe_tokens: Vec::new(),
        broadcast_tokens: Vec::new(),
        new_tokens: tokens.iter().map(ToString::to_string).collect(),
        used: AtomicUsize::new(1),
    }
}
