//! The locks of [`lane`](super::lane) and [`outbox`](super::outbox), by a name of their
//! own: the model tests put other ones in their place.

pub(super) use parking_lot::Mutex;
