//! Black-box tests: the real binary over real sockets. One binary, one module per area.
// Tests say what went wrong by panicking, and count bytes of a size they chose.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::decimal_bitwise_operands,
    clippy::format_collect,
    clippy::large_stack_arrays,
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::similar_names,
    missing_docs,
    unreachable_pub
)]

mod admin;
mod apikey;
mod bench;
mod browser;
mod cli;
mod clock;
mod compare;
mod config;
mod conservation;
mod demo;
mod drain;
mod example;
mod fanout;
mod golden;
mod handover;
mod http;
mod intake;
mod layering;
mod lifecycle;
mod limits;
mod listen;
mod oitc;
mod oitc_database;
mod oitc_golden;
mod oitc_legacy;
mod oitc_outage;
mod oitc_wire;
mod origin;
mod refusals;
mod relay;
mod reload;
mod rxjs;
mod secrets;
mod send;
mod simulation;
mod sinks;
mod slow;
mod support;
mod token_cases;
mod webhook;
mod wire;
mod ws_cases;
