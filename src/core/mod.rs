//! The core: it knows topics, sinks and tables, and names no plugin.

pub mod admin;
pub mod admission;
pub mod auth;
pub mod auth_failures;
pub mod body;
pub mod bulkhead;
pub mod client_address;
pub mod config;
pub mod database;
pub mod drain;
pub mod health;
pub mod http;
pub mod hub;
pub mod inherited;
pub mod intake;
pub mod json;
pub mod listener;
pub mod message;
pub mod metrics;
pub mod origin;
pub mod plan;
pub mod plugin;
pub mod protocol;
pub mod reload;
pub mod router;
pub mod server;
pub mod session;
pub mod sink;
mod stamp;
pub mod stream;
pub mod throttle;
pub mod upgrade;
mod workshop;

/// A cause, whatever its type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error with its causes in one line, each said once.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
