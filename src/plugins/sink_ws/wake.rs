//! How a connection's task is told that there is something to do.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures_util::task::AtomicWaker;

/// One task waits, anybody tells it. To be told before it waits, or more than once, is the
/// same as to be told once. `tokio::sync::Notify` does this for any number of tasks, which
/// costs every idle connection 60 bytes more.
#[derive(Debug, Default)]
pub(super) struct Wake {
    told: AtomicBool,
    task: AtomicWaker,
}

impl Wake {
    /// Tells the task.
    pub(super) fn tell(&self) {
        self.told.store(true, Ordering::Release);
        self.task.wake();
    }

    /// Resolves when the task was told since the last time. For one task alone: another one
    /// would take its place.
    pub(super) async fn told(&self) {
        poll_fn(|cx| {
            // First, so that whoever tells from here on finds somebody to wake.
            self.task.register(cx.waker());
            if self.told.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn to_be_told_before_or_twice_is_to_be_told_once() {
        let wake = Wake::default();
        assert_eq!(wake.told().now_or_never(), None);
        wake.tell();
        wake.tell();
        assert_eq!(wake.told().now_or_never(), Some(()));
        assert_eq!(wake.told().now_or_never(), None);
    }

    /// Two threads take turns; a call that went unheard would stop them.
    #[test]
    fn no_call_is_lost() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
        let sides = Arc::new([Wake::default(), Wake::default()]);
        sides[0].tell();
        runtime.unwrap().block_on(async {
            let turns = |side: usize| {
                let sides = sides.clone();
                tokio::spawn(async move {
                    for _ in 0..20_000 {
                        sides[side].told().await;
                        sides[1 - side].tell();
                    }
                })
            };
            for side in [turns(0), turns(1)] {
                side.await.unwrap();
            }
        });
    }
}
