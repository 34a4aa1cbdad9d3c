//! What is refused for a limit, and by which.

use prometheus_client::metrics::counter::Counter;

use super::families::{Families, label};

/// Why somebody was refused: the key that says so, where it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A connection: too many.
    MaxConnections,
    /// A connection, or a request by way of a proxy: too many of one address.
    MaxConnectionsPerAddress,
    /// A connection whose first request did not come in time.
    HeaderTimeout,
    /// A request: its head has too many bytes or lines.
    HeadTooLarge,
    /// A request: its head is no HTTP.
    MalformedHead,
    /// A request with two `Host` lines.
    DuplicateHost,
    /// A request: its path is too long.
    MaxUriBytes,
    /// A request: its body is too large, as announced, as it came, or unpacked.
    MaxBodyBytes,
    /// A request: its body did not come in time.
    BodyTimeout,
    /// A request: the bodies of others take too much memory.
    MaxBodyBytesInFlight,
    /// A message: too many were on their way for too long.
    PublishTimeout,
    /// A credential: too many bad ones came from its address.
    MaxAuthFailures,
    /// A WebSocket of a page from somewhere else.
    AllowedOrigins,
}

impl Refused {
    const ALL: [(Self, &'static str); 13] = [
        (Self::MaxConnections, "max_connections"),
        (Self::MaxConnectionsPerAddress, "max_connections_per_address"),
        (Self::HeaderTimeout, "header_timeout"),
        (Self::HeadTooLarge, "head_too_large"),
        (Self::MalformedHead, "malformed_head"),
        (Self::DuplicateHost, "duplicate_host"),
        (Self::MaxUriBytes, "max_uri_bytes"),
        (Self::MaxBodyBytes, "max_body_bytes"),
        (Self::BodyTimeout, "body_timeout"),
        (Self::MaxBodyBytesInFlight, "max_body_bytes_in_flight"),
        (Self::PublishTimeout, "publish_timeout"),
        (Self::MaxAuthFailures, "max_auth_failures"),
        (Self::AllowedOrigins, "allowed_origins"),
    ];
}

/// Counts what is refused, each once, where it is refused. A clone counts with it.
#[derive(Clone, Debug, Default)]
pub struct Refusals([Counter; Refused::ALL.len()]);

impl Refusals {
    pub(super) fn new(families: &Families) -> Self {
        let counter = |(_, reason)| families.refused.get_or_create_owned(&label("reason", reason));
        Self(Refused::ALL.map(counter))
    }

    /// One more was refused.
    pub fn add(&self, why: Refused) {
        self.0[why as usize].inc();
    }

    /// How many were refused for this reason so far.
    #[cfg(test)]
    pub(crate) fn count(&self, why: Refused) -> u64 {
        self.0[why as usize].get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_counter() {
        let refusals = Refusals::default();
        for (count, (why, _)) in Refused::ALL.into_iter().enumerate() {
            (0..=count).for_each(|_| refusals.add(why));
        }
        for (count, (why, name)) in (1..).zip(Refused::ALL) {
            assert_eq!(refusals.count(why), count, "{name}");
            // A counter is found by the place of its reason, and named by that of its name.
            assert_eq!(why as u64 + 1, count, "{name}");
        }
    }
}
