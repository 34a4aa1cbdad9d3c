//! Who is on the line, and who has asked for notifications.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// The connections of every user, each with its flag: whether it, or another connection of
/// the user while it was there, registered for notifications.
#[derive(Debug, Default)]
pub(super) struct Users(Mutex<HashMap<i64, Vec<Arc<AtomicBool>>>>);

impl Users {
    /// Adds a connection; its flag is down.
    pub(super) fn join(&self, user: i64) -> Arc<AtomicBool> {
        let flag = Arc::new(AtomicBool::new(false));
        self.0.lock().entry(user).or_default().push(flag.clone());
        flag
    }

    /// Takes a connection away, and its flag with it.
    pub(super) fn leave(&self, user: i64, flag: &Arc<AtomicBool>) {
        let mut users = self.0.lock();
        let Some(connections) = users.get_mut(&user) else { return };
        connections.retain(|other| !Arc::ptr_eq(other, flag));
        if connections.is_empty() {
            users.remove(&user);
        }
    }

    /// Raises the flag of every present connection of the user.
    pub(super) fn register(&self, user: i64) {
        for flag in self.0.lock().get(&user).into_iter().flatten() {
            flag.store(true, Ordering::Relaxed);
        }
    }

    /// The gate: whether any connection of the user has its flag up.
    pub(super) fn is_registered(&self, user: i64) -> bool {
        let users = self.0.lock();
        users.get(&user).is_some_and(|flags| flags.iter().any(|flag| flag.load(Ordering::Relaxed)))
    }

    /// Whether nobody is on the line.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_goes_with_the_connection() {
        let users = Users::default();
        let (a, b) = (users.join(1), users.join(1));
        assert!(!users.is_registered(1));
        users.register(1);
        let later = users.join(1);
        assert!(users.is_registered(1) && !users.is_registered(2));
        assert!(b.load(Ordering::Relaxed) && !later.load(Ordering::Relaxed));
        users.leave(1, &a);
        assert!(users.is_registered(1));
        users.leave(1, &b);
        assert!(!users.is_registered(1) && !users.is_empty());
        users.leave(1, &later);
        assert!(users.is_empty());
    }
}
