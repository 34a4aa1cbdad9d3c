//! `--profile demo` without a browser: what its page asks for, and who else may.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::http::{Answer, post_json, request};
use crate::support::oitc::{alert, titles};
use crate::support::server::{Builder, Server};
use crate::support::ws::Ws;

const GATEWAY: &str = "/notifications/send-notification.json";

fn demo() -> Server {
    Builder::new().args(["--profile", "demo", "--port", "0"]).start()
}

/// What the page is told.
fn monitoring(address: SocketAddr) -> Value {
    let answer = request(address, "GET", "/demo/monitoring", &[], b"");
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
    serde_json::from_str(&answer.text()).unwrap()
}

fn uuid(monitoring: &Value, list: &str, name: &str) -> String {
    let items = monitoring[list].as_array().unwrap();
    let item = items.iter().find(|item| item["name"] == name);
    item.unwrap_or_else(|| panic!("{name}: {items:?}"))["uuid"].as_str().unwrap().to_owned()
}

/// A browser of the demo's user, registered as openITCOCKPIT's front end does it.
fn browser(address: SocketAddr, monitoring: &Value, uuid: &str) -> Ws {
    let offers = format!("access_token, {}", monitoring["key"].as_str().unwrap());
    let target = format!("/push_notifications?userId={}&browserUuid={uuid}", monitoring["user"]);
    let mut ws = Ws::handshake(address, &target, &[("Sec-WebSocket-Protocol", &offers)]);
    assert_eq!(ws.answer.status, 101);
    assert!(ws.next_text().contains("ConnectionEstablished"));
    crate::support::oitc::register(&mut ws);
    ws
}

fn post(address: SocketAddr, monitoring: &Value, changes: Value) -> Answer {
    let mut changes = changes;
    changes["userId"] = monitoring["user"].clone();
    post_json(address, "/message", &alert(&changes).to_string())
}

#[test]
fn an_alert_reaches_every_browser_and_nobody_when_there_is_none() {
    let server = demo();
    let known = monitoring(server.address);
    let host = json!({ "hostUuid": uuid(&known, "hosts", "web-01"), "state": 1 });
    let nobody = post(server.address, &known, host.clone());
    assert_eq!((nobody.status, nobody.text().contains("not registered")), (202, true));
    let mut browsers = ["a", "b"].map(|name| browser(server.address, &known, name));
    assert_eq!(post(server.address, &known, host.clone()).status, 200);
    let service = json!({
        "type": "Service", "hostUuid": host["hostUuid"], "state": 2,
        "serviceUuid": uuid(&known, "services", "Ping"),
    });
    assert_eq!(post(server.address, &known, service).status, 200);
    for browser in &mut browsers {
        let expected = ["PROBLEM: web-01 is DOWN!", "PROBLEM: web-01/Ping is CRITICAL!"];
        assert_eq!(titles(browser), expected);
    }
    assert_eq!(post(server.address, &known, json!({ "hostUuid": "nope" })).status, 400);
    drop(browsers);
    eventually("they are gone", || post(server.address, &known, host.clone()).status == 202);
}

#[test]
fn a_phone_gets_what_the_relay_posts_as_long_as_it_is_held() {
    let server = demo();
    let known = monitoring(server.address);
    let odd = json!({ "hostUuid": uuid(&known, "hosts", "Büro <3. Stock> & \"Lager\"") });
    let mut phone = Ws::open_path(server.address, "/demo/phone");
    eventually("the relay is on", || post(server.address, &known, odd.clone()).status == 200);
    let said: Value = serde_json::from_str(&phone.next_text()).unwrap();
    let expected = json!({
        "auth_key": "***", "body": "out", "current_state": 0, "host_uuid": odd["hostUuid"],
        "notification_type": "PROBLEM", "service_uuid": "", "token": "phone-of-the-demo",
        "title": "PROBLEM: Büro <3. Stock> & \"Lager\" is UP!", "type": "host", "user_id": 1,
    });
    assert_eq!(said, expected);
    // A second one gets it as well, and keeps the relay on when the first one goes.
    let mut second = Ws::open_path(server.address, "/demo/phone");
    second.settle();
    drop(phone);
    assert_eq!(post(server.address, &known, odd.clone()).status, 200);
    assert!(second.next_text().contains("Lager"));
    drop(second);
    eventually("the relay is off", || post(server.address, &known, odd.clone()).status == 202);
}

#[test]
fn the_keys_are_new_with_every_start_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let builder = Builder::new().env("TMPDIR", folder.path().to_str().unwrap());
        builder.args(["--profile", "demo", "--port", "0"]).start()
    };
    let keys = [0, 1].map(|_| {
        let mut server = start();
        let key = monitoring(server.address)["key"].as_str().unwrap().to_owned();
        assert!(server.stop().success());
        assert!(!server.log().contains(&key) && !server.stdout().contains(&key));
        let files = [folder.path(), server.path()].map(|path| path.read_dir().unwrap().count());
        assert_eq!(files, [0, 0]);
        key
    });
    assert_eq!(keys[0].len(), 160);
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn pages_from_elsewhere_are_told_nothing_and_strangers_cannot_push() {
    let server = demo();
    let address = server.address;
    let own = format!("http://{address}");
    for path in ["/demo/monitoring", "/demo/tokens?topic=demo"] {
        assert_eq!(request(address, "GET", path, &[("Origin", &own)], b"").status, 200);
        let answer = request(address, "GET", path, &[("Origin", "http://evil.example")], b"");
        assert_eq!(answer.status, 403, "{path}");
        let host = format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        assert_eq!(crate::support::http::raw(address, host.as_bytes()).status, 403, "{path}");
    }
    let hold = |origin: &str| Ws::handshake(address, "/demo/phone", &[("Origin", origin)]);
    assert_eq!(hold("http://evil.example").answer.status, 403);
    assert_eq!(hold(&own).answer.status, 101);
    for headers in [&[][..], &[("X-Api-Key", "guess")]] {
        assert_eq!(request(address, "POST", GATEWAY, headers, b"{}").status, 401);
    }
    let page = request(address, "GET", "/demo/phone", &[], b"");
    assert_eq!((page.status, page.text().as_str()), (400, "expected a WebSocket"));
}

#[test]
fn the_printed_command_reaches_a_browser() {
    let server = demo();
    let known = monitoring(server.address);
    let mut ws = browser(server.address, &known, "a");
    let mut command = String::new();
    eventually("the command is printed", || {
        let text = server.stdout();
        let line = text.lines().find(|line| line.starts_with("OITC_ADDRESS="));
        command = line.unwrap_or_default().to_owned();
        !command.is_empty()
    });
    let (place, flags) = command.split_once(" pushmux send ").unwrap();
    assert_eq!(place, format!("OITC_ADDRESS={}", server.address));
    let (before, quoted) = flags.split_once(" '").unwrap();
    let (text, after) = quoted.split_once("' ").unwrap();
    let words = before.split(' ').chain([text]).chain(after.split(' '));
    let mut sending = Builder::new().env("OITC_ADDRESS", &server.address.to_string());
    for word in std::iter::once("send").chain(words) {
        sending = sending.args([word]);
    }
    assert_eq!(sending.output().status.code(), Some(0));
    assert_eq!(titles(&mut ws), ["PROBLEM: web-01 is DOWN!"]);
}

/// The part about monitoring shows the key and changes the relay.
#[test]
fn a_data_base_that_lasts_is_not_for_the_demo() {
    let builder = Builder::new();
    let path = builder.path().join("oitc.sqlite");
    crate::support::oitc::sqlite_file(&path);
    let before = std::fs::read(&path).unwrap();
    let builder = builder
        .env("PUSHMUX_DATABASE__DEMO__URL", &format!("sqlite:{}", path.display()))
        .args(["--profile", "demo", "--port", "0"]);
    let output = builder.output();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("database.demo.setup: found statements, expected none"), "{error}");

    // Nor without the profile's statements.
    let config = format!(
        "[server]\nport = 0\n[auth.jwt]\ngenerate = true\n[sink.ws]\n[database.main]\nurl = \"sqlite:{}\"\n[protocol.demo]\ndatabase = \"main\"\n",
        path.display()
    );
    let output = Builder::new().file("config.toml", &config).output();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("protocol.demo: database: [database.main] lasts"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn without_a_data_base_the_demo_is_about_topics_alone() {
    let config = "[server]\nport = 0\n[auth.jwt]\ngenerate = true\n[protocol.demo]\n";
    let server = Builder::new().file("config.toml", config).start();
    assert_eq!(monitoring(server.address), Value::Null);
    assert_eq!(request(server.address, "POST", GATEWAY, &[], b"{}").status, 404);
    assert_eq!(request(server.address, "GET", "/", &[], b"").status, 200);
}

#[test]
fn a_system_without_certificates_is_no_obstacle_but_for_a_url_that_needs_them() {
    let bare = |builder: Builder| {
        builder.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent")
    };
    let server = bare(Builder::new().args(["--profile", "demo", "--port", "0"])).start();
    assert_eq!(request(server.address, "GET", "/", &[], b"").status, 200);
    assert!(server.log().contains("No certificates of the system"), "{}", server.log());

    let config = "profile = \"notiflux\"\n[sink.webhook]\nurl = \"https://localhost/\"\n";
    let output = bare(Builder::notiflux().file("config.toml", config)).output();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("sink.webhook") && said.contains("certificates"), "{said}");
}
