//! The list of cases, `tests/cases/jwt.json`, and what its entries mean.

use aws_lc_rs::signature::KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::recipe::{Recipe, keys};
use crate::support::token::now;

/// Where a token is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Door {
    /// `/subscribe` on `/ws`.
    Subscribe,
    /// `POST /broadcast`.
    Broadcast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Accept,
    Reject,
}

/// One entry. Its texts hold templates: `{{now+N}}` and `{{now-N}}` are the time of the
/// build in seconds, `{{now+N*1000}}` is it in milliseconds, `{{repeat:S:N}}` is S N
/// times, `{{jwk:server}}` and `{{jwk:attacker}}` are public keys, and `{{token}}`
/// stands in `raw` for the token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) category: String,
    /// The door the payload is written for; at the other one its scope is swapped.
    pub(super) op: Door,
    topic: String,
    /// The whole command, where it is not `/subscribe <topic> <token>`.
    raw: Option<String>,
    header: String,
    pub(super) payload: String,
    sign: String,
    #[serde(default)]
    post: Vec<String>,
    pub(super) expected: Verdict,
    /// The original accepts what is refused here on purpose.
    pub(super) deviation: bool,
}

impl Case {
    pub(super) fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("../cases/jwt.json")).unwrap()
    }

    pub(super) fn topic(&self) -> String {
        expand(&self.topic)
    }

    /// The token for a door, built now.
    pub(super) fn token(&self, door: Door) -> String {
        let payload =
            if door == self.op { self.payload.clone() } else { swap_scope(&self.payload) };
        let (header, payload) = (expand(&self.header), expand(&payload));
        Recipe { header: &header, payload: &payload, sign: &self.sign, post: &self.post }.build()
    }

    /// The token at a door where a topic is a user: for user 5 where it was for `foo`. None
    /// where the case is about a topic that no user has.
    pub(super) fn token_for_user_5(&self) -> Option<String> {
        if self.topic != "foo" {
            return None;
        }
        let payload = match self.op {
            Door::Subscribe => self.payload.clone(),
            Door::Broadcast => swap_scope(&self.payload),
        };
        // Once as it is, once with a JSON escape of its first letter.
        let payload = payload.replace("foo", "browser/5");
        let payload = payload.replace(r"\u0066oo", r"\u0062rowser/5");
        let (header, payload) = (expand(&self.header), expand(&payload));
        Some(
            Recipe { header: &header, payload: &payload, sign: &self.sign, post: &self.post }
                .build(),
        )
    }

    /// The verdict of the token alone, without the command it is in.
    pub(super) fn verdict_of_the_token(&self) -> Verdict {
        if self.raw.is_some() { Verdict::Accept } else { self.expected }
    }

    /// The command that presents `token`.
    pub(super) fn command(&self, token: &str) -> String {
        match &self.raw {
            Some(raw) => raw.replace("{{token}}", token),
            None => format!("/subscribe {} {token}", self.topic()),
        }
    }

    /// How often the token is presented.
    pub(super) fn times(&self) -> usize {
        if self.name == "ok-replay-same-token" { 2 } else { 1 }
    }

    /// The verdict of a door: nearly always the same at both.
    pub(super) fn verdict(&self, door: Door) -> Verdict {
        match (self.name.as_str(), door) {
            // A command is trimmed before it is split, so the newline is not the
            // token's; a body is taken byte for byte.
            ("form-trailing-newline", Door::Subscribe) => Verdict::Accept,
            // These are about the grammar of commands. A body has none, and their
            // tokens are good.
            (_, Door::Broadcast) => self.verdict_of_the_token(),
            _ => self.expected,
        }
    }

    /// Whether a good token could be used with the topic. If not, nothing is ever
    /// delivered on it, and silence proves nothing.
    pub(super) fn topic_is_legal(&self) -> bool {
        let topic = self.topic();
        (1..=255).contains(&topic.len()) && !topic.contains(|c: char| c == ' ' || c.is_control())
    }
}

/// The words for a scope in every spelling of the list, each with what it is to
/// `/broadcast`: the third is a JSON escape of the first letter, the fourth has a
/// Cyrillic look-alike in it.
const SCOPES: [(&str, &str); 4] = [
    ("subscribe", "broadcast"),
    ("SUBSCRIBE", "BROADCAST"),
    (r"\u0073ubscribe", r"\u0062roadcast"),
    ("\u{455}ubscribe", "br\u{43E}adcast"),
];

/// The payload for the other door.
pub(super) fn swap_scope(payload: &str) -> String {
    let mut swapped = payload.to_owned();
    for (one, other) in SCOPES {
        // A NUL keeps the words apart that have been swapped already.
        swapped = swapped.replace(one, "\0").replace(other, one).replace('\0', other);
    }
    swapped
}

/// Fills in the templates.
fn expand(text: &str) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (template, after) = after.split_once("}}").expect("the end of a template");
        expanded.push_str(before);
        expanded.push_str(&fill(template));
        rest = after;
    }
    expanded + rest
}

fn fill(template: &str) -> String {
    if let Some(offset) = template.strip_prefix("now") {
        let (offset, unit) =
            offset.strip_suffix("*1000").map_or((offset, 1), |offset| (offset, 1000));
        let time = now().checked_add_signed(offset.parse().unwrap()).unwrap();
        return (time * unit).to_string();
    }
    if let Some((text, times)) =
        template.strip_prefix("repeat:").and_then(|rest| rest.rsplit_once(':'))
    {
        return text.repeat(times.parse().unwrap());
    }
    let name =
        template.strip_prefix("jwk:").unwrap_or_else(|| panic!("unknown template {template}"));
    jwk(name)
}

fn jwk(name: &str) -> String {
    // The byte 4, x, y.
    let point = keys(name).pair.public_key().as_ref();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
    format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}"#)
}
