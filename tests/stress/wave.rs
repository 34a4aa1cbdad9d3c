//! Thousands of browsers come back within three seconds, as they do after a restart.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::outage::{is_notification, registered};
use crate::run::{Run, block_on, thousands};
use crate::support::oitc::{alert, mariadb, serve};
use crate::support::peer::{Publisher, within};
use crate::support::server::Builder;

const BROWSERS: usize = 4_000;
const WITHIN: Duration = Duration::from_secs(3);

/// `ask_rate` of the key's keeper: so many who come one by one have a reading each.
const ONE_BY_ONE: usize = 20;

pub fn wave(run: &Run) -> String {
    let db = mariadb();
    let mut server = serve(Builder::new(), &db.url(), "export_interval = \"1h\"");
    let address = server.address;
    let (before, start) = (db.selects(), Instant::now());
    let (selects, slowest, all) = block_on(async {
        let mut dice = run.dice(0);
        let wave = join_all((0..BROWSERS).map(|index| {
            let due = Duration::from_micros(dice.below(WITHIN.as_micros() as u64));
            async move {
                tokio::time::sleep(due).await;
                let due = start + due;
                let browser = registered(address, &format!("b{index}")).await;
                (browser, due.elapsed())
            }
        }));
        let mut browsers = within("all browsers are served", wave).await;
        let (all, selects) = (start.elapsed(), db.selects() - before);
        let most = ONE_BY_ONE + all.as_secs() as usize + 2;
        assert!(selects <= most, "{selects} statements for the data base, expected {most} at most");
        let mut publisher = Publisher::new(address);
        let body = alert(&json!({})).to_string();
        let post = publisher.post("/message", &body);
        let answer = within("an alert is answered", post).await.unwrap();
        assert_eq!(answer.status, 200, "the answer to an alert");
        for (browser, _) in &mut browsers {
            let mut came = 0;
            let count = |frame| came += usize::from(is_notification(&frame));
            assert!(within("a browser is answered", browser.settle(count)).await, "disconnected");
            assert_eq!(came, 1, "notifications for a browser of the wave");
        }
        let slowest = browsers.iter().map(|(_, took)| *took).max().unwrap_or_default();
        (selects, slowest, all)
    });
    assert!(server.stop().success(), "the server ended badly");
    format!(
        "{} browsers within {} s: all served after {:.1} s, each within {} ms; {selects} statements \
         for the data base; one alert to all of them came once to each",
        thousands(BROWSERS),
        WITHIN.as_secs(),
        all.as_secs_f64(),
        slowest.as_millis()
    )
}
