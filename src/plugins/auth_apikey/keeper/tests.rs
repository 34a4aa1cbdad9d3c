use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A source that does as it is told.
#[derive(Default)]
struct Stub {
    state: Mutex<State>,
    reads: AtomicUsize,
}

#[derive(Default)]
struct State {
    key: &'static str,
    takes: Duration,
    down: bool,
}

impl ReadKeys for Arc<Stub> {
    async fn read(&self) -> Result<KeyRing, SourceError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        // Half of the time to get there, half for the answer to get back.
        let half = self.state.lock().takes / 2;
        sleep(half).await;
        let State { key, down, .. } = *self.state.lock();
        sleep(half).await;
        if down {
            let source = io::ErrorKind::ConnectionRefused.into();
            return Err(SourceError::File { path: "/keys".into(), source });
        }
        let mut ring = KeyRing::default();
        ring.add_key(key.as_bytes());
        Ok(ring)
    }
}

impl Stub {
    fn new() -> Arc<Self> {
        let stub = Self::default();
        stub.change("old");
        stub.takes(Duration::from_millis(2));
        Arc::new(stub)
    }

    fn change(&self, key: &'static str) {
        self.state.lock().key = key;
    }

    fn takes(&self, time: Duration) {
        self.state.lock().takes = time;
    }

    fn down(&self, down: bool) {
        self.state.lock().down = down;
    }

    /// Readings since the last call.
    fn reads(&self) -> usize {
        self.reads.swap(0, Ordering::Relaxed)
    }

    fn keeper(self: &Arc<Self>) -> Arc<Keeper> {
        let second = Duration::from_secs(1);
        let policy = Policy { ask_rate: 20, cache: second, serve_stale: second * 600 };
        Arc::new(Keeper::start("test", self.clone(), policy, &Jobs::default()))
    }
}

async fn ask(keeper: &Keeper, key: &str) -> &'static str {
    match keeper.holds(key.as_bytes()).await {
        Ok(true) => "yes",
        Ok(false) => "no",
        Err(_) => "unavailable",
    }
}

/// Many clients, each in a task of its own, all at once.
async fn crowd(keeper: &Arc<Keeper>, size: usize, key: &'static str, expected: &'static str) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..size {
        let keeper = keeper.clone();
        tasks.spawn(async move { ask(&keeper, key).await });
    }
    for answer in tasks.join_all().await {
        assert_eq!(answer, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_key_counts_from_the_next_client_on() {
    let stub = Stub::new();
    let keeper = stub.keeper();
    for [old, new] in [["old", "new"], ["new", "newer"], ["newer", "old"]] {
        for _ in 0..5 {
            assert_eq!(ask(&keeper, old).await, "yes");
        }
        stub.change(new);
        assert_eq!(ask(&keeper, old).await, "no");
        assert_eq!(ask(&keeper, new).await, "yes");
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_is_under_way_is_not_fresh_enough() {
    let stub = Stub::new();
    let keeper = stub.keeper();
    assert_eq!(ask(&keeper, "old").await, "yes");
    stub.takes(Duration::from_millis(100));
    let early = {
        let keeper = keeper.clone();
        tokio::spawn(async move { ask(&keeper, "old").await })
    };
    // This reading has already seen the old key when it changes.
    sleep(Duration::from_millis(80)).await;
    stub.change("new");
    assert_eq!(ask(&keeper, "new").await, "yes");
    assert_eq!(early.await.unwrap(), "yes");
    assert_eq!(ask(&keeper, "old").await, "no");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_shares_readings() {
    let stub = Stub::new();
    let keeper = stub.keeper();
    assert_eq!(ask(&keeper, "old").await, "yes");
    sleep(Duration::from_secs(5)).await;
    stub.reads();
    crowd(&keeper, 5000, "old", "yes").await;
    assert!((1..=2).contains(&stub.reads()));
    crowd(&keeper, 5000, "guess", "no").await;
    assert_eq!(stub.reads(), 0, "what was read just now will do");
}

#[tokio::test(start_paused = true)]
async fn the_first_of_a_wave_do_not_have_a_reading_each() {
    let stub = Stub::new();
    let keeper = stub.keeper();
    assert_eq!(ask(&keeper, "old").await, "yes");
    sleep(Duration::from_secs(5)).await;
    stub.reads();
    // As many as may have one, as fast as browsers come back after a restart.
    let mut first = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let keeper = keeper.clone();
        first.spawn(async move { ask(&keeper, "old").await });
        sleep(Duration::from_millis(1)).await;
    }
    assert!(first.join_all().await.into_iter().all(|answer| answer == "yes"));
    stub.change("new");
    assert_eq!(ask(&keeper, "old").await, "yes", "one more than may have one");
    sleep(Duration::from_millis(100)).await;
    assert!((2..=3).contains(&stub.reads()));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ask(&keeper, "old").await, "no");
}

#[tokio::test(start_paused = true)]
async fn guessing_costs_one_reading_a_second_and_never_lets_an_old_key_live_longer() {
    let stub = Stub::new();
    let keeper = stub.keeper();
    let start = Instant::now();
    for guess in 0..10_000 {
        sleep(Duration::from_millis(1)).await;
        assert_eq!(ask(&keeper, "guess").await, "no", "{guess}");
    }
    let (reads, time) = (stub.reads(), start.elapsed());
    assert!(reads < 20 + 12, "{reads} in {time:?}");
    assert!(time < Duration::from_secs(11), "{time:?}");
    // In the midst of it the key changes.
    stub.change("new");
    let changed = Instant::now();
    while ask(&keeper, "old").await == "yes" {
        sleep(Duration::from_millis(5)).await;
        assert!(changed.elapsed() < Duration::from_millis(1100));
    }
    assert_eq!(ask(&keeper, "new").await, "yes");
}

#[tokio::test(start_paused = true)]
async fn while_the_source_fails_the_last_keys_count_and_nobody_waits() {
    let stub = Stub::new();
    let keeper = stub.keeper();
    assert_eq!(ask(&keeper, "old").await, "yes");
    sleep(Duration::from_secs(10_000)).await;
    stub.down(true);
    stub.takes(Duration::from_secs(2));
    let start = Instant::now();
    assert_eq!(ask(&keeper, "old").await, "yes");
    assert!(start.elapsed() <= PATIENCE);
    assert_eq!(ask(&keeper, "new").await, "unavailable");
    sleep(Duration::from_secs(2)).await;
    for _ in 0..590 {
        let now = Instant::now();
        assert_eq!(ask(&keeper, "old").await, "yes");
        assert_eq!(ask(&keeper, "guess").await, "unavailable");
        assert_eq!(now.elapsed(), Duration::ZERO);
        sleep(Duration::from_secs(1)).await;
    }
    let tries = stub.reads();
    assert!((100..=300).contains(&tries), "{tries} tries");
    sleep(Duration::from_secs(15)).await;
    assert_eq!(ask(&keeper, "old").await, "unavailable", "after serve_stale");
    // Back, with another key.
    stub.down(false);
    stub.change("new");
    stub.takes(Duration::from_millis(2));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(ask(&keeper, "old").await, "no");
    assert_eq!(ask(&keeper, "new").await, "yes");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_down_at_the_start_is_waited_for() {
    let stub = Stub::new();
    stub.down(true);
    let keeper = stub.keeper();
    assert_eq!(ask(&keeper, "old").await, "unavailable");
    stub.down(false);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(ask(&keeper, "old").await, "yes");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_holds_nobody_up_for_long() {
    let stub = Stub::new();
    let keeper = stub.keeper();
    assert_eq!(ask(&keeper, "old").await, "yes");
    stub.takes(Duration::from_secs(100));
    for (key, expected) in [("old", "yes"), ("new", "unavailable")] {
        let start = Instant::now();
        assert_eq!(ask(&keeper, key).await, expected);
        assert!(start.elapsed() <= PATIENCE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_ends_no_reading() {
    let stub = Stub::new();
    let keeper = stub.keeper();
    stub.takes(Duration::from_millis(500));
    let gone = timeout(Duration::from_millis(10), ask(&keeper, "old")).await;
    assert!(gone.is_err());
    assert_eq!(ask(&keeper, "old").await, "yes");
    assert!(stub.reads() <= 2);
}

#[tokio::test(start_paused = true)]
async fn when_the_reader_has_ended_nothing_is_said_about_any_key() {
    let stub = Stub::new();
    let policy = stub.keeper().policy;
    let (wanted, known) = (watch::channel(Instant::now()).0, watch::channel(Known::default()).1);
    let keeper = Keeper { policy, arrivals: Mutex::default(), wanted, known };
    assert_eq!(ask(&keeper, "old").await, "unavailable");
}

#[tokio::test(start_paused = true)]
async fn ready_is_who_has_read_the_keys() {
    let stub = Stub::new();
    stub.keeper().ready().await.unwrap();
    stub.down(true);
    let keeper = stub.keeper();
    assert!(matches!(keeper.ready().await, Err(Unknown::Failed(_))));
    stub.down(false);
    stub.takes(PATIENCE * 2);
    let started = Instant::now();
    stub.keeper().ready().await.unwrap();
    assert!(started.elapsed() >= PATIENCE * 2, "as long as it takes");
}
