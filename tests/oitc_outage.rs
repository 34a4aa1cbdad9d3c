//! Names of hosts and services while the data base is away, as seen by Naemon.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::mariadb::MariaDb;
use crate::support::oitc::{
    HOST, ODD_HOST, SERVICE, mariadb, post, registered, serve, taken, titles,
};
use crate::support::server::{Builder, Server};

/// Finds every name old, prints every statement, and makes none but for names.
fn forgetful(db: &MariaDb, keys: &str) -> Server {
    let keys = format!(
        "export_interval = \"1h\"\nlookup_cache = \"0s\"\n{keys}\n[sink.relay]\nsettings_cache = \"60s\""
    );
    serve(Builder::new().env("MYSQL_DEBUG", "1"), &db.url(), &keys)
}

fn failed(what: &str) -> (u16, String) {
    (500, format!("DB error while fetching {what}\n"))
}

fn unknown(what: &str) -> (u16, String) {
    (400, format!("No {what} found for given UUID\n"))
}

fn service() -> Value {
    json!({ "type": "service", "serviceUuid": SERVICE })
}

#[test]
fn while_the_data_base_is_down_known_names_go_on_and_unknown_ones_are_faults() {
    let mut db = mariadb();
    let server = forgetful(&db, "");
    let mut ws = registered(server.address, 5, "b");
    let (host, odd) = (json!({}), json!({ "hostUuid": ODD_HOST }));
    assert_eq!(post(server.address, &service()), taken());
    assert_eq!(titles(&mut ws), ["PROBLEM: web-01/Ping is OK!"]);
    db.kill();
    for _ in 0..3 {
        assert_eq!(post(server.address, &host), taken());
        assert_eq!(post(server.address, &service()), taken());
    }
    let both = ["PROBLEM: web-01 is UP!", "PROBLEM: web-01/Ping is OK!"];
    assert_eq!(titles(&mut ws), [both; 3].concat());
    assert_eq!(post(server.address, &odd), failed("host"));
    assert_eq!(post(server.address, &json!({ "hostUuid": "nope" })), failed("host"));
    let other = json!({ "type": "service", "serviceUuid": "nope" });
    assert_eq!(post(server.address, &other), failed("service"));
    eventually("the log says so", || server.log().contains("using the name it had"));

    // What was changed meanwhile counts once the data base is back.
    db.restart();
    db.sql(&format!("UPDATE hosts SET name = 'web-02' WHERE uuid = '{HOST}'"));
    db.sql(&format!("DELETE FROM services WHERE uuid = '{SERVICE}'"));
    eventually("the service is gone", || post(server.address, &service()) == unknown("service"));
    ws.drain();
    assert_eq!(post(server.address, &host), taken());
    assert_eq!(titles(&mut ws), ["PROBLEM: web-02 is UP!"]);
    // And is gone for good, also when the data base goes down again.
    db.kill();
    assert_eq!(post(server.address, &service()), failed("service"));
    assert_eq!(post(server.address, &host), taken());
    assert_eq!(titles(&mut ws), ["PROBLEM: web-02 is UP!"]);
}

#[test]
fn a_frozen_data_base_is_asked_for_known_names_by_one_alert_and_not_by_each() {
    const ALERTS: usize = 30;
    let db = mariadb();
    let server = forgetful(&db, "");
    let mut ws = registered(server.address, 5, "b");
    assert_eq!(post(server.address, &service()), taken());
    let asked = || server.log().matches("SELECT name FROM hosts").count();
    eventually("the first alert asked", || asked() == 1);
    db.freeze();
    for _ in 0..ALERTS {
        assert_eq!(post(server.address, &service()), taken());
    }
    db.thaw();
    assert_eq!(titles(&mut ws).len(), 1 + ALERTS);
    // One, and one more for each pause that passed on a machine that is busy.
    assert!(asked() - 1 < ALERTS / 3, "{}", server.log());
}

#[test]
fn with_lookup_stale_off_or_over_an_old_name_is_not_used() {
    let mut db = mariadb();
    let off = forgetful(&db, "lookup_stale = \"0s\"");
    let short = forgetful(&db, "lookup_stale = \"50ms\"");
    for server in [&off, &short] {
        let _ws = registered(server.address, 5, "b");
        assert_eq!(post(server.address, &json!({})), taken());
    }
    db.kill();
    let _ws = [registered(off.address, 5, "b"), registered(short.address, 5, "b")];
    assert_eq!(post(off.address, &json!({})), failed("host"));
    eventually("the name is too old", || post(short.address, &json!({})) == failed("host"));
}

#[test]
fn one_table_that_cannot_be_read_does_not_keep_old_names_in_force() {
    let db = mariadb();
    let server = forgetful(&db, "");
    let _ws = registered(server.address, 5, "b");
    assert_eq!(post(server.address, &json!({})), taken());
    db.sql("DROP TABLE servicetemplates");
    let unread = json!({ "type": "service", "serviceUuid": SERVICE });
    assert_eq!(post(server.address, &unread), failed("service"));
    db.sql(&format!("DELETE FROM hosts WHERE uuid = '{HOST}'"));
    eventually("the host is asked for again", || {
        // Fails again, within the pause after the one before, until it is refused for its host.
        post(server.address, &unread) == unknown("host")
    });
}
