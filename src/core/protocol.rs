//! A protocol is an HTTP and WebSocket surface: it turns requests into messages.

use std::net::SocketAddr;
use std::sync::Arc;

use warp::filters::BoxedFilter;
use warp::reply::Response;

/// What clients and publishers speak.
pub trait Protocol: Send + Sync {
    /// Every route of the protocol, with an answer for every request it matches.
    ///
    /// What it rejects is offered to the next protocol and in the end answered with
    /// an empty 404.
    fn routes(self: Arc<Self>) -> BoxedFilter<(Response,)>;

    /// Whether the protocol answers whatever path is asked for. Such a protocol is asked
    /// after all others on the same port.
    fn is_catch_all(&self) -> bool {
        false
    }

    /// The protocol's port is bound, and nothing was served yet.
    fn listening(&self, _address: SocketAddr) {}

    /// Text for the terminal once the server listens on `address`; none by default.
    ///
    /// Printed to stdout, never logged, so it may hold what a log must not.
    fn greeting(&self, _address: SocketAddr) -> Option<String> {
        None
    }
}
