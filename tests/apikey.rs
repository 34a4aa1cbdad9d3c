//! The auth provider `apikey`, against real data bases. Asked through notiflux's strict
//! `/broadcast`: 200 is a key, 401 is none, 503 is "cannot tell".

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use crate::support::eventually;
use crate::support::http::post_json;
use crate::support::mariadb::MariaDb;
use crate::support::server::{Builder, Server};
use crate::support::sqlite::execute as sqlite;
use crate::support::ws::{Frame, Ws};

const NAME: &str = "SUDO_SERVER.API_KEY";
const KEY: &str = "5eed0f0a11c0ffee5eed0f0a11c0ffee5eed0f0a11c0ffee5eed0f0a11c0ffee";
const SHIPPED: &str = "UNSAVE_DEFAULT_CHANGE_ASAP";

/// A server that takes keys from `source`.
fn builder(source: &str) -> Builder {
    let rest = "[sink.ws]\n[protocol.notiflux]\nauth = \"apikey\"\nstrict = true\nack = true\n";
    Builder::new()
        .file("config.toml", &format!("[auth.apikey]\n{source}\n{rest}"))
        .env("PORT", "0")
        // "Listening" and what somebody must act on.
        .env("RUST_LOG", "warn,pushmux::cli=info")
}

fn of_url(url: &str) -> Builder {
    builder(&format!("database = \"main\"\n[database.main]\nurl = \"{url}\""))
}

fn ask(address: SocketAddr, key: &str) -> u16 {
    let body = json!({ "topic": "t", "message": "m", "token": key }).to_string();
    post_json(address, "/broadcast", &body).status
}

/// Asks, and insists that it does not take long.
fn ask_soon(address: SocketAddr, key: &str) -> u16 {
    let start = Instant::now();
    let status = ask(address, key);
    assert!(start.elapsed() < Duration::from_millis(2500), "took {:?}", start.elapsed());
    status
}

fn assert_only(server: &Server, key: &str) {
    assert_eq!(ask(server.address, key), 200);
    let all_but_last = &key[..key.len() - 1];
    for wrong in [
        "",
        " ",
        "lab",
        "other",
        NAME,
        all_but_last,
        &format!("{key}x"),
        &format!("{key} "),
        &format!(" {key}"),
        &format!("{key}\0"),
        &key.to_uppercase(),
        &format!("sha256:{}", sha256(key)),
        "' OR ''='",
    ] {
        assert_eq!(ask(server.address, wrong), 401, "{wrong:?}");
    }
}

fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Rows that MariaDB takes for ours; they come first.
const DECOYS: [(&str, &str); 4] = [
    ("sudo_server.api_key", "other"),
    ("SUDO_SERVER.API_KEY ", "other"),
    ("SÚDO_SERVER.API_KEY", "other"),
    ("SYSTEM_NAME", "lab"),
];

#[test]
fn mariadb_only_the_key_opens_the_door_and_a_changed_one_at_once() {
    let db = MariaDb::start();
    for (name, value) in DECOYS {
        db.set(name, value);
    }
    let found = db.sql(&format!("SELECT COUNT(*) FROM systemsettings WHERE `key` = '{NAME}'"));
    assert_eq!(found.trim(), "3", "they are as misleading as they should be");
    let cnf = format!("database = \"main\"\n[database.main]\ncnf = \"{}\"", db.cnf().display());
    let server = builder(&cnf).start();
    assert_eq!(ask(server.address, "other"), 401, "there is no such row yet");
    db.set(NAME, KEY);
    assert_only(&server, KEY);
    // A new second: whoever comes from here on has a reading of its own.
    std::thread::sleep(Duration::from_secs(1));
    for (old, new) in [(KEY, "rotated"), ("rotated", "Rotated"), ("Rotated", KEY)] {
        assert_eq!(ask(server.address, old), 200);
        db.set(NAME, new);
        assert_eq!([ask(server.address, old), ask(server.address, new)], [401, 200]);
    }
    db.set(NAME, "");
    assert_eq!([ask(server.address, ""), ask(server.address, KEY)], [401, 401]);
    db.sql("DELETE FROM systemsettings");
    assert_eq!([ask(server.address, "lab"), ask(server.address, KEY)], [401, 401]);
}

#[test]
fn a_key_subscribes_and_publishes_everywhere() {
    let server = builder(&format!("keys = [\"sha256:{}\"]", sha256(KEY))).start();
    let mut client = Ws::open(server.address);
    client.text(&format!("/subscribe t {KEY}"));
    client.text("/subscribe u wrong");
    client.settle();
    assert_eq!(ask(server.address, KEY), 200);
    assert_eq!(client.next_text(), "m");
    assert_only(&server, KEY);
}

#[test]
fn ten_thousand_wrong_keys_are_a_query_a_second() {
    let db = MariaDb::start();
    db.set(NAME, KEY);
    let server = of_url(&db.url()).start();
    assert_eq!(ask(server.address, KEY), 200);
    let (before, start) = (db.selects(), Instant::now());
    let open = |_| Ws::open_path(server.address, "/ws?ack=true");
    let mut clients: Vec<_> = (0..50).map(open).collect();
    for round in 0..200 {
        for client in &mut clients {
            client.text(&format!("/subscribe t guess{round}"));
        }
        std::thread::sleep(Duration::from_millis(15));
    }
    for client in &mut clients {
        let denied = Frame::Text("/denied t the key is not valid".into());
        assert_eq!(client.drain(), vec![denied; 200]);
    }
    let (selects, seconds) = (db.selects() - before, start.elapsed().as_secs() as usize);
    // Twenty for the twenty before it counts as a crowd.
    assert!(selects <= 20 + seconds + 2, "{selects} in {seconds} s");
    assert_eq!(ask_soon(server.address, KEY), 200);
}

#[test]
fn killed_mariadb_the_last_key_counts_and_all_is_well_when_it_is_back() {
    let mut db = MariaDb::start();
    db.set(NAME, KEY);
    let server = of_url(&db.url()).start();
    let mut client = Ws::open(server.address);
    client.text(&format!("/subscribe t {KEY}"));
    client.settle();
    db.kill();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        assert_eq!(ask_soon(server.address, KEY), 200);
        assert_eq!(client.next_text(), "m", "who is in stays in");
        assert_eq!(ask_soon(server.address, "wrong"), 503);
        std::thread::sleep(Duration::from_millis(50));
    }
    db.restart();
    let back = Instant::now();
    db.set(NAME, "new");
    eventually("the new key counts", || ask_soon(server.address, "new") == 200);
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    assert_eq!(ask(server.address, KEY), 401);
    assert!(!client.drain().contains(&Frame::Eof), "who is in has stayed in");
    let log = server.log();
    assert_eq!(log.matches("Cannot read the keys").count(), 1, "{log}");
    assert!(log.contains("nobody answers at its address, or all of max_connections"), "{log}");
}

#[test]
fn frozen_mariadb_nobody_waits_for_long() {
    let db = MariaDb::start();
    db.set(NAME, KEY);
    let server = of_url(&db.url()).start();
    assert_eq!(ask(server.address, KEY), 200);
    db.freeze();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        for (key, status) in [(KEY, 200), ("wrong", 503)] {
            assert_eq!(ask_soon(server.address, key), status);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    db.thaw();
    let back = Instant::now();
    db.set(NAME, "new");
    eventually("the new key counts", || ask_soon(server.address, "new") == 200);
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    assert_eq!(ask(server.address, KEY), 401);
}

#[test]
fn a_locked_table_keeps_nobody_waiting_for_long() {
    let db = MariaDb::start();
    db.set(NAME, KEY);
    let server = of_url(&db.url()).start();
    assert_eq!(ask(server.address, KEY), 200);
    let locked = db.lock("systemsettings");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        for (key, status) in [(KEY, 200), ("wrong", 503)] {
            assert_eq!(ask_soon(server.address, key), status);
        }
    }
    drop(locked);
    eventually("keys are read again", || ask_soon(server.address, "wrong") == 401);
}

/// Whatever the table says, nobody waits, no key is none, and the last key that was read
/// counts as long as what comes is not even a text.
#[test]
fn odd_answers_of_the_data_base_let_nobody_in() {
    let db = MariaDb::start();
    let server = of_url(&db.url()).start();
    let nobody = |what: &str| {
        for key in ["", "NULL", "0", "other", KEY] {
            assert_eq!(ask_soon(server.address, key), 401, "{what}, {key:?}");
        }
    };
    nobody("no row");
    db.set(NAME, KEY);
    eventually("the key counts", || ask_soon(server.address, KEY) == 200);
    db.sql("ALTER TABLE systemsettings MODIFY `value` VARCHAR(255) NULL");
    db.sql("UPDATE systemsettings SET `value` = NULL");
    eventually("the key is gone", || ask_soon(server.address, KEY) == 401);
    nobody("NULL");
    db.sql("UPDATE systemsettings SET `value` = ''");
    nobody("an empty text");
    // Of two rows the first one counts, also when it is empty.
    db.sql(&format!("INSERT INTO systemsettings (`key`, `value`) VALUES ('{NAME}', '{KEY}')"));
    nobody("an empty row and one more");
    db.sql("UPDATE systemsettings SET `value` = 'first' ORDER BY id LIMIT 1");
    eventually("the first row counts", || ask_soon(server.address, "first") == 200);
    assert_eq!(ask_soon(server.address, KEY), 401);

    // No text at all: nothing can be said, and the last key goes on.
    for kind in ["INT NOT NULL", "DATETIME NOT NULL", "DOUBLE NULL"] {
        db.sql(&format!(
            "DELETE FROM systemsettings; ALTER TABLE systemsettings MODIFY `value` {kind}; \
             INSERT INTO systemsettings (`key`, `value`) VALUES ('{NAME}', 0)"
        ));
        eventually("it is no text", || ask_soon(server.address, "wrong") == 503);
        assert_eq!(ask_soon(server.address, "first"), 200, "{kind}");
        for key in ["", "0"] {
            assert_ne!(ask_soon(server.address, key), 200, "{kind}, {key:?}");
        }
    }
    // Without the row meanwhile: what was a number would be a text for a moment, and a key.
    db.sql(&format!(
        "DELETE FROM systemsettings; ALTER TABLE systemsettings MODIFY `value` BLOB; \
         INSERT INTO systemsettings (`key`, `value`) VALUES ('{NAME}', 0xFF00FE)"
    ));
    eventually("it is bytes that nobody sends", || ask_soon(server.address, "first") == 401);
    nobody("bytes");
    db.sql("DROP TABLE systemsettings");
    eventually("nothing can be said", || ask_soon(server.address, "wrong") == 503);
    eventually("the log says so", || server.log().contains("Cannot read the keys"));
}

#[test]
fn a_mariadb_that_is_down_at_the_start_is_waited_for_and_said_so() {
    let mut db = MariaDb::start();
    db.set(NAME, SHIPPED);
    db.kill();
    let server = of_url(&db.url()).start();
    assert_eq!(ask_soon(server.address, SHIPPED), 503);
    eventually("the outage is in the log", || server.log().contains("Cannot read the keys"));
    db.restart();
    let back = Instant::now();
    eventually("the key counts", || ask_soon(server.address, SHIPPED) == 200);
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    let log = server.log();
    assert_eq!(log.matches("which everybody knows").count(), 1, "{log}");
}

#[test]
fn no_log_ever_has_a_key_or_a_password() {
    let mut db = MariaDb::start();
    db.set(NAME, KEY);
    let level = "pushmux=trace,sqlx=trace,sea_orm=trace,warp=trace,info";
    let server = of_url(&db.url())
        .env("PUSHMUX_DATABASE__MAIN__DEBUG", "true")
        .env("RUST_LOG", level)
        .start();
    assert_eq!(ask(server.address, KEY), 200);
    assert_eq!(ask(server.address, "guessed-secret"), 401);
    db.kill();
    assert_eq!(ask(server.address, KEY), 200);
    assert_eq!(ask(server.address, "guessed-secret"), 503);
    eventually("the outage is in the log", || server.log().contains("Cannot read the keys"));
    let log = server.log();
    assert!(log.contains("SELECT `key`, `value`"), "{log}");
    for secret in [KEY, &sha256(KEY), "guessed-secret", "p%40ss", "p@ss", NAME] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[test]
fn sqlite_serves_as_well_with_a_setting_or_a_statement_of_one_s_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.sqlite");
    let insert = |(name, value): (&str, &str)| {
        format!("INSERT INTO options (title, content) VALUES ('{name}', '{value}')")
    };
    let mut setup = vec!["CREATE TABLE options (title TEXT COLLATE NOCASE, content TEXT)".into()];
    setup.extend(DECOYS.map(insert));
    setup.push(insert((NAME, KEY)));
    sqlite(&path, &setup);
    let database = format!("[database.main]\nurl = \"sqlite:{}\"", path.display());
    let setting = "database = \"main\"\ntable = \"options\"\nname_column = \"title\"\nvalue_column = \"content\"";
    let server = builder(&format!("{setting}\n{database}")).start();
    assert_only(&server, KEY);
    std::thread::sleep(Duration::from_secs(1));
    sqlite(&path, &[format!("UPDATE options SET content = 'rotated' WHERE title = '{NAME}'")]);
    assert_eq!([ask(server.address, KEY), ask(server.address, "rotated")], [401, 200]);

    let hash = format!("sha256:{}", sha256("hashed"));
    sqlite(&path, &["DELETE FROM options".into(), insert(("a", "one")), insert(("b", &hash))]);
    sqlite(&path, &[insert(("c", "")), "INSERT INTO options VALUES ('d', NULL)".into()]);
    let query = "database = \"main\"\nquery = \"SELECT content FROM options\"";
    let server = builder(&format!("{query}\n{database}")).start();
    for (key, status) in [("one", 200), ("hashed", 200), ("", 401), (hash.as_str(), 401)] {
        assert_eq!(ask(server.address, key), status, "{key}");
    }
}

#[test]
fn a_file_is_read_again_when_it_changes_and_counts_on_while_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    std::fs::write(&path, format!("# ours\n{KEY}\nsha256:{}\n", sha256("hashed"))).unwrap();
    let server = builder(&format!("file = \"{}\"", path.display())).start();
    assert_only(&server, KEY);
    assert_eq!(ask(server.address, "hashed"), 200);
    std::thread::sleep(Duration::from_secs(1));
    std::fs::write(&path, "new\n").unwrap();
    assert_eq!([ask(server.address, KEY), ask(server.address, "new")], [401, 200]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!([ask(server.address, "new"), ask(server.address, KEY)], [200, 503]);
}
