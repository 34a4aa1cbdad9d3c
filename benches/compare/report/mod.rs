//! What is measured and how it is told. Nothing here starts a process, so that the tests can
//! include it.

// Rows of a chart are few.
#![allow(clippy::cast_precision_loss)]

pub(crate) mod chart;
pub(crate) mod document;
pub(crate) mod goals;
pub(crate) mod metric;
pub(crate) mod record;
pub(crate) mod scenario;
pub(crate) mod server;
pub(crate) mod spread;
pub(crate) mod table;
