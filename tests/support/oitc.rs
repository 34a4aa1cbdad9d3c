//! openITCOCKPIT around its push server: rows in the data base, browsers, and Naemon.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::http::{Answer, post_json, raw};
use super::mariadb::MariaDb;
use super::server::{Builder, Server};
use super::ws::{Frame, Ws};
use super::{sqlite, token};

pub const KEY: &str = "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffee";
pub const KEY_NAME: &str = "SUDO_SERVER.API_KEY";
/// A host called `web-01`.
pub const HOST: &str = "7d0da8f5-3284-4862-b0ba-d0efcc48f20d";
/// A host whose name has what JSON and HTML treat specially.
pub const ODD_HOST: &str = "11111111-2222-3333-4444-555555555555";
/// A service called `Ping`.
pub const SERVICE: &str = "ed34425b-c9c4-4e0c-ad57-c4fd5a64ba8f";
/// Services with no name of their own, NULL and empty: the template's, `tmpl`, counts.
pub const NAMELESS: [&str; 2] =
    ["22222222-2222-3333-4444-555555555555", "33333333-2222-3333-4444-555555555555"];

/// Rows for the tables of either kind of data base.
fn rows() -> Vec<String> {
    let mut rows = vec![
        format!("INSERT INTO hosts (id, uuid, name) VALUES (1, '{HOST}', 'web-01')"),
        format!("INSERT INTO hosts (id, uuid, name) VALUES (2, '{ODD_HOST}', 'öd \"q\" <b>&')"),
        "INSERT INTO servicetemplates (id, name, template_name) VALUES (1, 'tmpl', 'Label')".into(),
    ];
    for (id, uuid, name) in
        [(1, SERVICE, "'Ping'"), (2, NAMELESS[0], "NULL"), (3, NAMELESS[1], "''")]
    {
        rows.push(format!(
            "INSERT INTO services (id, uuid, host_id, servicetemplate_id, name) VALUES ({id}, '{uuid}', 1, 1, {name})"
        ));
    }
    rows
}

/// A MariaDB with the key and these hosts and services; there was no export yet.
pub fn mariadb() -> MariaDb {
    let db = MariaDb::start();
    db.set(KEY_NAME, KEY);
    db.set("OTHER.API_KEY", "other");
    db.sql(&rows().join(";"));
    db
}

/// Switches the relay on: to this gateway, with this key, for one phone of the user 5.
pub fn relay(db: &MariaDb, gateway: SocketAddr, key: &str) {
    db.insert(
        "push_notifications_relay",
        &[
            ("address", &format!("http://{}", gateway.ip())),
            ("port", &gateway.port().to_string()),
            ("auth_key", key),
            ("enabled", "1"),
        ],
    );
    db.insert("mobile_devices", &[("user_id", "5"), ("device_id", "phone-device-token-1")]);
}

/// The same as an SQLite file, with as few columns as will do.
pub fn sqlite_file(path: &Path) {
    let mut statements: Vec<_> = [
        "CREATE TABLE systemsettings (`key` TEXT, value TEXT)",
        "CREATE TABLE hosts (id INTEGER PRIMARY KEY, uuid TEXT, name TEXT)",
        "CREATE TABLE servicetemplates (id INTEGER PRIMARY KEY, name TEXT, template_name TEXT)",
        "CREATE TABLE services (id INTEGER PRIMARY KEY, uuid TEXT, host_id INTEGER, servicetemplate_id INTEGER, name TEXT)",
        "CREATE TABLE exports (id INTEGER PRIMARY KEY, task TEXT, finished INTEGER)",
        "CREATE TABLE mobile_devices (id INTEGER PRIMARY KEY, user_id INTEGER, device_id TEXT)",
        "CREATE TABLE push_notifications_relay (id INTEGER PRIMARY KEY, address TEXT, port INTEGER, auth_key TEXT, enabled INTEGER)",
    ]
    .map(String::from)
    .into();
    statements.push(format!("INSERT INTO systemsettings VALUES ('{KEY_NAME}', '{KEY}')"));
    statements.push("INSERT INTO systemsettings VALUES ('OTHER.API_KEY', 'other')".into());
    statements.extend(rows());
    sqlite::execute(path, &statements);
}

/// A server that uses the data base at `url`; `protocol` are keys of `[protocol.oitc]`.
pub fn serve(builder: Builder, url: &str, protocol: &str) -> Server {
    serve_with(builder, url, "", protocol)
}

fn serve_with(builder: Builder, url: &str, server: &str, protocol: &str) -> Server {
    let config = format!(
        "profile = \"oitc\"\n[server]\nport = 0\n{server}\n[database.main]\nurl = \"{url}\"\n[protocol.oitc]\n{protocol}\n"
    );
    builder.file("config.toml", &config).start()
}

/// A server with an SQLite file, for tests that are not about the data base. It never
/// looks for exports, so that clients get nothing but what the test is about.
pub fn on_sqlite() -> Server {
    on_sqlite_with("export_interval = \"1h\"")
}

pub fn on_sqlite_with(protocol: &str) -> Server {
    sqlite_with("", protocol)
}

/// `server` are keys of `[server]`.
pub fn on_sqlite_with_server(server: &str) -> Server {
    sqlite_with(server, "export_interval = \"1h\"")
}

fn sqlite_with(server: &str, protocol: &str) -> Server {
    let builder = Builder::new();
    let path = builder.path().join("oitc.sqlite");
    sqlite_file(&path);
    serve_with(builder, &format!("sqlite:{}", path.display()), server, protocol)
}

/// Asks for a WebSocket and returns the answer with its body.
pub fn knock(address: SocketAddr, target: &str, offers: Option<&str>) -> Answer {
    let offers = offers.map(|text| format!("Sec-WebSocket-Protocol: {text}\r\n"));
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{}\r\n",
        offers.unwrap_or_default()
    );
    raw(address, request.as_bytes())
}

/// Asks with a key, as a browser would.
pub fn knock_with(address: SocketAddr, key: &str) -> Answer {
    knock(address, "/?userId=5&browserUuid=b", Some(&format!("access_token, {key}")))
}

/// A name that no other browser has.
pub fn any_browser() -> String {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    format!("browser-{}", SERIAL.fetch_add(1, Ordering::Relaxed))
}

/// A browser's connection that has not read anything yet.
pub fn dial(address: SocketAddr, target: &str) -> Ws {
    dial_with(address, KEY, target)
}

fn dial_with(address: SocketAddr, key: &str, target: &str) -> Ws {
    let offers = format!("access_token, {key}");
    let ws = Ws::handshake(address, target, &[("Sec-WebSocket-Protocol", &offers)]);
    assert_eq!(ws.answer.status, 101);
    ws
}

/// A browser on the line, welcomed and reachable.
pub fn connect(address: SocketAddr, user: i64, browser: &str) -> Ws {
    connect_with(address, KEY, user, browser)
}

fn connect_with(address: SocketAddr, key: &str, user: i64, browser: &str) -> Ws {
    let mut ws = dial_with(address, key, &format!("/?userId={user}&browserUuid={browser}"));
    assert!(ws.next_text().contains("ConnectionEstablished"));
    // The welcome comes before the connection can be reached; a pong comes after.
    assert_eq!(quiet(ws.drain()), []);
    ws
}

/// A browser that asked for notifications.
pub fn registered(address: SocketAddr, user: i64, browser: &str) -> Ws {
    registered_with(address, KEY, user, browser)
}

/// The same with a key of one's own.
pub fn registered_with(address: SocketAddr, key: &str, user: i64, browser: &str) -> Ws {
    let mut ws = connect_with(address, key, user, browser);
    register(&mut ws);
    ws
}

/// Asks for notifications, and returns when that has taken effect.
pub fn register(ws: &mut Ws) {
    ws.text(r#"{"type":"RegisterBrowserPushNotification","message":"","payload":{"clientUuid":"x","browserUuid":"y"}}"#);
    let frames = ws.drain();
    assert_eq!(quiet(frames), [], "it is not answered");
}

/// Without the export status, which comes whenever it is due.
pub fn quiet(mut frames: Vec<Frame>) -> Vec<Frame> {
    frames.retain(|frame| !matches!(frame, Frame::Text(text) if text.contains("ExportStatus")));
    frames
}

/// Titles of the notifications that came so far.
pub fn titles(ws: &mut Ws) -> Vec<String> {
    let title = |frame| {
        let Frame::Text(text) = frame else { panic!("{frame:?}") };
        let message: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(message["type"], "ProcessPushNotification");
        message["payload"]["title"].as_str().unwrap().to_owned()
    };
    quiet(ws.drain()).into_iter().map(title).collect()
}

/// What Naemon's command posts, with changes; a member that is changed to null is left out.
pub fn alert(changes: &Value) -> Value {
    let mut alert = json!({
        "timestamp": token::now(), "userId": 5, "type": "host", "hostUuid": HOST,
        "serviceUuid": "", "icon": "", "state": 0, "notificationtype": "PROBLEM",
        "output": "out", "ackauthor": "", "ackcomment": ""
    });
    for (name, value) in changes.as_object().unwrap() {
        alert[name] = value.clone();
    }
    alert.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    alert
}

/// Posts an alert: status and body.
pub fn post(address: SocketAddr, changes: &Value) -> (u16, String) {
    let answer = post_json(address, "/message", &alert(changes).to_string());
    (answer.status, answer.text())
}

/// The answer to an alert that was taken.
pub fn taken() -> (u16, String) {
    (200, "ok".into())
}
