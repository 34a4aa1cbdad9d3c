//! The lock of [`lane`](super::lane), by a name of its own: the model tests put another
//! one in its place.

pub(super) use parking_lot::Mutex;
