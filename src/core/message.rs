//! What travels through the router: a [`Message`] under a [`Topic`].

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// Where a message goes: `<protocol instance>/<name>`.
///
/// The instance prefix keeps two protocols on one router apart: a client of one
/// can never subscribe to, or publish into, a topic of the other by choosing a
/// clever name. Compared byte by byte; a clone is a reference count.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

impl Topic {
    /// The topic `name` of the protocol instance `instance`.
    #[must_use]
    pub fn new(instance: &str, name: &str) -> Self {
        Self(format!("{instance}/{name}").into())
    }

    /// The whole topic, instance included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without the instance: what the protocol's clients call it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or(&*self.0, |(_, name)| name)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which topics a sink takes: `*` for all, `prefix*`, or one exact topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Exactly this topic.
    Exact(String),
    /// Every topic that starts with this; the empty prefix is every topic.
    Prefix(String),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong, in words, when the text is empty or has a `*` that is not its last character.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (prefix, star) = text.strip_suffix('*').map_or((text, false), |p| (p, true));
        if prefix.contains('*') {
            return Err(format!("found `{text}`, expected at most one `*`, at the end"));
        }
        match (prefix, star) {
            ("", false) => Err("found an empty pattern, expected a topic, `prefix*` or `*`".into()),
            (_, true) => Ok(Self::Prefix(prefix.into())),
            (_, false) => Ok(Self::Exact(text.into())),
        }
    }

    /// Whether the pattern covers any topic that the protocol instance `instance` can have.
    #[must_use]
    pub fn reaches(&self, instance: &str) -> bool {
        let root = format!("{instance}/");
        match self {
            Self::Exact(exact) => exact.starts_with(&root),
            Self::Prefix(prefix) => prefix.starts_with(&root) || root.starts_with(prefix.as_str()),
        }
    }

    /// Whether the pattern covers `topic`.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        match self {
            Self::Exact(exact) => topic.as_str() == exact,
            Self::Prefix(prefix) => topic.as_str().starts_with(prefix.as_str()),
        }
    }
}

/// A protocol's finished wire text, encoded once and shared by every receiver.
///
/// Always valid UTF-8; a clone is a reference count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// The bytes as they go into the payload of a text frame.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // A `Frame` can only be made from a string, so this never takes the
        // replacement; `from_utf8_unchecked` would need `unsafe`, which we forbid.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl From<String> for Frame {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&'static str> for Frame {
    fn from(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }
}

/// Which receivers of a topic get a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// All of them.
    #[default]
    Everyone,
    /// One connection of each device, see [`Device`](super::session::Device).
    OnePerDevice,
}

/// What a protocol gives to the router.
#[derive(Debug)]
pub struct Publication {
    /// Where it goes.
    pub topic: Topic,
    /// Which receivers get it.
    pub audience: Audience,
    /// What live clients of the publishing protocol receive.
    pub frame: Frame,
    /// The same in a form that other sinks can make a body of; `Null` when the text of
    /// `frame` is all there is. The core never reads it.
    pub data: serde_json::Value,
}

impl Publication {
    /// For everyone, without data.
    #[must_use]
    pub fn new(topic: Topic, frame: impl Into<Frame>) -> Self {
        let frame = frame.into();
        Self { topic, audience: Audience::Everyone, frame, data: serde_json::Value::Null }
    }
}

/// One publication on its way through the router.
#[derive(Debug)]
pub struct Message {
    /// Unique and increasing within this process, from 1.
    pub id: u64,
    /// Where it goes.
    pub topic: Topic,
    /// Which receivers get it.
    pub audience: Audience,
    /// What live clients of the publishing protocol receive.
    pub frame: Frame,
    /// See [`Publication::data`].
    pub data: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_two_instances_differ() {
        assert_ne!(Topic::new("a", "x"), Topic::new("b", "x"));
        assert_eq!(Topic::new("a", "x/y").name(), "x/y");
    }

    #[test]
    fn patterns() {
        let topic = Topic::new("notiflux", "news");
        for (pattern, expected) in [
            ("*", true),
            ("notiflux/*", true),
            ("notiflux/news", true),
            ("notiflux/new", false),
            ("oitc/*", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().matches(&topic), expected, "{pattern}");
        }
        for (pattern, expected) in [
            ("*", true),
            ("not*", true),
            ("notiflux/n*", true),
            ("notiflux/x", true),
            ("notiflux", false),
            ("news", false),
            ("news*", false),
            ("notiflux2/*", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().reaches("notiflux"), expected, "{pattern}");
        }
        assert!(Pattern::parse("").is_err());
        assert!(Pattern::parse("a*b").is_err());
        assert!(Pattern::parse("**").is_err());
    }
}
