//! The core: it knows topics, sinks and tables, and names no plugin.

pub mod auth;
pub mod config;
pub mod database;
pub mod http;
pub mod hub;
pub mod json;
pub mod message;
pub mod plan;
pub mod plugin;
pub mod protocol;
pub mod router;
pub mod server;
pub mod session;
pub mod sink;
pub mod stream;
pub mod throttle;
pub mod upgrade;

/// A cause, whatever its type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
