//! The protocol `oitc` beside a MariaDB that is busy, killed or frozen.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::{connect as open, request};
use crate::support::mariadb::MariaDb;
use crate::support::oitc::{
    HOST, KEY, ODD_HOST, SERVICE, connect, knock_with, mariadb, post, register, registered, serve,
    taken, titles,
};
use crate::support::server::{Builder, Server};
use crate::support::ws::{Frame, Ws};

/// Neither the export status nor the relay is looked at: what the data base is asked
/// comes from the test.
fn calm(db: &MariaDb) -> Server {
    let quiet = "export_interval = \"1h\"\n[sink.relay]\nsettings_cache = \"60s\"";
    serve(Builder::new(), &db.url(), quiet)
}

/// Looks at the export status all the time, so that an outage is felt by every part.
fn lively(db: &MariaDb) -> Server {
    let protocol = "export_interval = \"100ms\"\nlookup_cache = \"1h\"";
    serve(Builder::new(), &db.url(), protocol)
}

fn status_of(address: SocketAddr, key: &str) -> (u16, String) {
    let answer = knock_with(address, key);
    (answer.status, answer.text())
}

fn unauthorized(status: u16) -> (u16, String) {
    (status, "Unauthorized\n".into())
}

fn ping() -> Value {
    json!({ "type": "service", "serviceUuid": SERVICE })
}

/// What the server can and cannot do while its data base is away. `clients` are all on
/// the line; the name of [`HOST`] is known, no other.
fn assert_lives_on(address: SocketAddr, clients: &mut [Ws]) {
    assert_eq!(status_of(address, KEY).0, 101, "the last key counts");
    // At once, or when what was read just before is too old for a crowd as well.
    eventually("nobody can tell", || {
        let answer = status_of(address, "wrong");
        assert!([401, 503].map(unauthorized).contains(&answer), "{answer:?}");
        answer.0 == 503
    });
    assert_eq!(post(address, &json!({})), taken());
    for client in &mut *clients {
        assert_eq!(titles(client), ["PROBLEM: web-01 is UP!"]);
    }
    let failed = |what: &str| (500, format!("DB error while fetching {what}\n"));
    assert_eq!(post(address, &json!({ "hostUuid": ODD_HOST })), failed("host"));
    assert_eq!(post(address, &ping()), failed("service"));
    // What needs no data base is as ever.
    assert_eq!(post(address, &json!({ "userId": 4242 })).0, 202);
    assert_eq!(request(address, "GET", "/healthz", &[], b"").text(), "ok");
    clients[0].text(r#"{"type":"KeepAlive"}"#);
    assert!(clients[0].next_text().contains("Pong"));
}

/// All is as before the outage, for the same clients.
fn assert_recovers(address: SocketAddr, clients: &mut [Ws]) {
    eventually("wrong keys are known again", || status_of(address, "wrong") == unauthorized(401));
    let odd = json!({ "hostUuid": ODD_HOST });
    eventually("names are found again", || post(address, &odd) == taken());
    assert_eq!(post(address, &ping()), taken());
    for client in clients {
        let expected = ["PROBLEM: öd \"q\" <b>& is UP!", "PROBLEM: web-01/Ping is OK!"];
        assert_eq!(titles(client), expected);
    }
    assert_eq!(post(address, &json!({ "hostUuid": "nope" })).0, 400);
}

fn fifty(address: SocketAddr) -> Vec<Ws> {
    (0..50).map(|index| registered(address, 5, &format!("b{index}"))).collect()
}

/// An alert for [`HOST`], whose name is known from then on, reaches everybody.
fn reaches_all(address: SocketAddr, clients: &mut [Ws]) {
    assert_eq!(post(address, &json!({})), taken());
    clients.iter_mut().for_each(|client| assert_eq!(titles(client).len(), 1));
}

#[test]
fn killed_mariadb_costs_no_connection_and_comes_back() {
    let mut db = mariadb();
    let server = lively(&db);
    let mut clients = fifty(server.address);
    reaches_all(server.address, &mut clients);
    db.kill();
    assert_lives_on(server.address, &mut clients);
    clients.push(registered(server.address, 5, "new"));
    reaches_all(server.address, &mut clients);
    db.restart();
    assert_recovers(server.address, &mut clients);
    db.sql("INSERT INTO exports (task) VALUES ('export_started')");
    assert!(clients[0].next_text().contains("ExportStatus"));
}

#[test]
fn frozen_mariadb_keeps_nobody_waiting_for_ever() {
    let db = mariadb();
    let server = lively(&db);
    let mut clients = fifty(server.address);
    reaches_all(server.address, &mut clients);
    db.freeze();
    assert_lives_on(server.address, &mut clients);
    clients.push(registered(server.address, 5, "new"));
    reaches_all(server.address, &mut clients);
    db.thaw();
    assert_recovers(server.address, &mut clients);
}

/// Alerts for one host share a query. When it fails they must not ask one after the
/// other, each for as long as a query may take: here that would be a minute.
#[test]
fn a_storm_of_alerts_that_cannot_be_looked_up_does_not_queue_up() {
    let db = mariadb();
    let server = calm(&db);
    let address = server.address;
    let mut ws = registered(address, 5, "b");
    db.freeze();
    let start = Instant::now();
    let storm: Vec<_> =
        (0..30).map(|_| std::thread::spawn(move || post(address, &json!({})))).collect();
    for alert in storm {
        let expected = (500, "DB error while fetching host\n".to_owned());
        assert_eq!(alert.join().expect("an answer in time"), expected);
    }
    // Whomever an alert waits for: no longer than one statement may take, which is 2 s.
    assert!(start.elapsed() < Duration::from_millis(2600), "{:?}", start.elapsed());
    db.thaw();
    eventually("the name is found", || post(address, &json!({})) == taken());
    assert_eq!(titles(&mut ws).len(), 1);
}

/// A table that is locked takes every connection of the pool with it.
#[test]
fn a_locked_table_costs_the_alerts_that_need_it_and_nobody_else() {
    let db = mariadb();
    let server = lively(&db);
    let address = server.address;
    let mut clients = fifty(address);
    reaches_all(address, &mut clients);
    let locked = db.lock("hosts");
    let unknown = json!({ "hostUuid": ODD_HOST });
    std::thread::scope(|scope| {
        let storm: Vec<_> = (0..20)
            .map(|_| {
                scope.spawn(|| {
                    let start = Instant::now();
                    (post(address, &unknown), start.elapsed())
                })
            })
            .collect();
        let start = Instant::now();
        assert_eq!(status_of(address, KEY).0, 101);
        assert!(start.elapsed() < Duration::from_millis(2500), "{:?}", start.elapsed());
        reaches_all(address, &mut clients);
        for alert in storm {
            let (answer, time) = alert.join().unwrap();
            assert_eq!(answer, (500, "DB error while fetching host\n".to_owned()));
            assert!(time < Duration::from_millis(2600), "{time:?}");
        }
    });
    drop(locked);
    assert_recovers(address, &mut clients);
}

#[test]
fn odd_names_fail_alone_and_cost_nobody_the_connection() {
    let db = mariadb();
    let server = serve(
        Builder::new(),
        &db.url(),
        "export_interval = \"100ms\"\nlookup_cache = \"0s\"\nlookup_stale = \"0s\"",
    );
    let address = server.address;
    let mut ws = registered(address, 5, "b");
    let failed = (500, "DB error while fetching host\n".to_owned());
    db.sql("ALTER TABLE hosts MODIFY name VARCHAR(255) NULL; UPDATE hosts SET name = NULL");
    assert_eq!(post(address, &json!({})), failed);
    db.sql("UPDATE hosts SET name = ''");
    assert_eq!(post(address, &json!({})), taken());
    assert_eq!(titles(&mut ws), ["PROBLEM:  is UP!"]);
    // Two of one UUID: one of them is taken.
    db.sql(&format!(
        "ALTER TABLE hosts DROP INDEX uuid; UPDATE hosts SET name = 'twin', uuid = '{HOST}'"
    ));
    assert_eq!(post(address, &json!({})), taken());
    assert_eq!(titles(&mut ws), ["PROBLEM: twin is UP!"]);
    db.sql("UPDATE hosts SET name = '0'; ALTER TABLE hosts MODIFY name INT");
    assert_eq!(post(address, &json!({})), failed);
    db.sql("ALTER TABLE exports MODIFY finished VARCHAR(9) NULL; INSERT INTO exports (task, finished) VALUES ('export_started', 'soon')");
    eventually("the export cannot be read", || server.log().contains("Cannot read the export"));
    db.sql("UPDATE exports SET finished = NULL; DROP TABLE hosts");
    assert_eq!(post(address, &json!({})), failed);
    ws.text(r#"{"type":"KeepAlive"}"#);
    assert!(ws.next_text().contains("Pong"));
    assert_eq!(status_of(address, KEY).0, 101);
}

#[test]
fn a_mariadb_that_is_down_at_the_start_is_waited_for() {
    let mut db = mariadb();
    db.sql("INSERT INTO exports (task) VALUES ('export_started')");
    db.kill();
    let server = lively(&db);
    assert_eq!(status_of(server.address, KEY), unauthorized(503));
    assert_eq!(post(server.address, &json!({})).0, 500);
    db.restart();
    eventually("the key counts", || status_of(server.address, KEY).0 == 101);
    let mut ws = connect(server.address, 5, "b");
    assert!(ws.until(|frame| matches!(frame, Frame::Text(_))).len() == 1);
    register(&mut ws);
    assert_eq!(post(server.address, &json!({})), taken());
    assert_eq!(titles(&mut ws), ["PROBLEM: web-01 is UP!"]);
}

#[test]
fn a_thousand_alerts_for_fifty_hosts_are_a_hundred_queries() {
    const HOSTS: usize = 50;
    let db = mariadb();
    let row = |index: usize| {
        format!(
            "INSERT INTO hosts (uuid, name) VALUES ('h{index}', 'host-{index}'); \
             INSERT INTO services (uuid, servicetemplate_id, name) VALUES ('s{index}', 1, 'Load')"
        )
    };
    db.sql(&(0..HOSTS).map(row).collect::<Vec<_>>().join(";"));
    let server = calm(&db);
    let address = server.address;
    let mut ws = registered(address, 5, "b");
    let before = db.selects();
    let storm = move || {
        for index in 0..250 {
            let host = index % HOSTS;
            let alert = json!({
                "type": "service", "hostUuid": format!("h{host}"), "serviceUuid": format!("s{host}")
            });
            assert_eq!(post(address, &alert), taken());
        }
    };
    let storms: Vec<_> = (0..4).map(|_| std::thread::spawn(storm)).collect();
    // Read meanwhile: a queue that is full drops what comes.
    let mut came = 0;
    while came < 1000 {
        assert!(matches!(ws.next(), Frame::Text(_)));
        came += 1;
    }
    storms.into_iter().for_each(|storm| storm.join().unwrap());
    let selects = db.selects() - before;
    // One for each host and each service, and a few for a key that is read again.
    assert!((100..=150).contains(&selects), "{selects}");
}

/// Asks for a connection again and again, with keys that are wrong, on one line: so many
/// times, and at least until `end`.
fn guess(address: SocketAddr, times: usize, end: Instant) {
    let mut stream = open(address);
    let mut answer = Vec::new();
    for guess in (0..).take_while(|guess| *guess < times || Instant::now() < end) {
        let request = format!(
            "GET /?userId=5&browserUuid=b HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Protocol: access_token, guess{guess}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        answer.clear();
        while !answer.ends_with(b"\r\n\r\nUnauthorized\n") {
            let mut chunk = [0; 1024];
            let length = stream.read(&mut chunk).unwrap();
            assert!(length > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&chunk[..length]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 401 "), "{}", String::from_utf8_lossy(&answer));
    }
}

#[test]
fn ten_thousand_wrong_keys_are_a_query_a_second_after_the_first_twenty() {
    let db = mariadb();
    let server = calm(&db);
    let address = server.address;
    assert_eq!(status_of(address, KEY).0, 101);
    let (before, start) = (db.selects(), Instant::now());
    let guessers: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(move || guess(address, 2500, start + Duration::from_secs(3))))
        .collect();
    guessers.into_iter().for_each(|guesser| guesser.join().unwrap());
    let (selects, seconds) = (db.selects() - before, start.elapsed().as_secs() as usize);
    // While fewer than twenty a second come, each has a reading of its own.
    assert!(selects <= 20 + seconds + 2, "{selects} in {seconds} s");
    assert_eq!(status_of(address, KEY).0, 101);
}

#[test]
fn a_uuid_is_found_as_mariadb_compares_and_passed_on_as_it_came() {
    let db = mariadb();
    let server = calm(&db);
    let mut ws = registered(server.address, 5, "b");
    for uuid in [HOST.to_uppercase(), format!("{HOST} ")] {
        assert_eq!(post(server.address, &json!({ "hostUuid": uuid })), taken());
        let text = ws.next_text();
        let message: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(message["payload"]["hostUuid"], uuid);
        assert_eq!(message["payload"]["title"], "PROBLEM: web-01 is UP!");
    }
}
