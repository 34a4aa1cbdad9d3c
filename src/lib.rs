//! pushmux: a real-time notification server made of plugins around a small routing core.
//!
//! # Layout
//! In reading order:
//! * [`core::message`], [`core::auth`], [`core::sink`], [`core::session`],
//!   [`core::protocol`]: the contracts. Core knows topics and nothing else.
//! * [`core::hub`], [`core::router`]: how a message finds its receivers.
//! * [`core::plugin`], [`core::config`], [`core::plan`]: from TOML and environment to
//!   checked, typed plugins.
//! * [`core::server`]: start, accept, stop.
//! * [`plugins`]: the list, and a folder for each plugin.
//! * [`profiles`]: built-in configurations.
//! * [`cli`]: the command line.

pub mod cli;
pub mod core;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod plugins;
pub mod profiles;
