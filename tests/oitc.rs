//! The protocol `oitc` where the recorded transcripts are silent, and where pushmux is
//! better than the original on purpose.

use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::oitc::{
    HOST, KEY, NAMELESS, ODD_HOST, SERVICE, connect, dial, knock_with, on_sqlite, post, register,
    registered, serve, sqlite_file, taken, titles,
};
use crate::support::server::Builder;
use crate::support::sqlite;
use crate::support::ws::{Frame, Ws};

/// A push to all browsers of the user, also without registration.
const TEST: &str = r#"{"type":"TestPushNotification","payload":{"title":"T"}}"#;

fn refused(status: u16, text: &str) -> (u16, String) {
    (status, format!("{text}\n"))
}

/// The one notification that came, without its time.
fn notification(ws: &mut Ws) -> Value {
    let frames = ws.drain();
    let [Frame::Text(text)] = &frames[..] else { panic!("{frames:?}") };
    let mut message: Value = serde_json::from_str(text).unwrap();
    message["payload"].as_object_mut().unwrap().remove("timestamp").unwrap();
    message
}

/// Connections that notifications came to, of those given.
fn reached<const N: usize>(all: [&mut Ws; N]) -> [usize; N] {
    all.map(|ws| titles(ws).len())
}

#[test]
fn a_host_in_state_2_has_the_icon_of_an_unreachable_one() {
    let server = on_sqlite();
    let mut ws = registered(server.address, 5, "b");
    for (state, icon) in [
        (0, Some("HostPushIconUP")),
        (1, Some("HostPushIconDOWN")),
        (2, Some("HostPushIconUNREACHABLE")),
        (3, Some("HostPushIconUNREACHABLE")),
        (4, None),
    ] {
        assert_eq!(post(server.address, &json!({ "state": state })), taken());
        let icon = icon.map(|name| format!("/img/push_notifications/wh/{name}.png"));
        let shown = notification(&mut ws);
        assert_eq!(
            shown["payload"].get("icon").map(Value::to_string),
            icon.map(|i| json!(i).to_string())
        );
    }
    // Not for a notification that says something else.
    post(server.address, &json!({ "state": 2, "notificationtype": "DOWNTIMESTART" }));
    assert_eq!(notification(&mut ws)["payload"].get("icon"), None);
}

#[test]
fn what_is_not_there_is_the_callers_fault() {
    let server = on_sqlite();
    let mut ws = registered(server.address, 5, "b");
    let service = |host: Value, service: Value| {
        post(
            server.address,
            &json!({ "type": "service", "hostUuid": host, "serviceUuid": service }),
        )
    };
    let no_host = refused(400, "No host found for given UUID");
    let no_service = refused(400, "No service found for given UUID");
    for host in [json!("nope"), json!(""), Value::Null, json!("' OR ''='")] {
        assert_eq!(post(server.address, &json!({ "hostUuid": host })), no_host);
        assert_eq!(service(host, json!("nope")), no_host, "the host is looked for first");
    }
    for unknown in [json!("nope"), json!(""), Value::Null, json!(HOST)] {
        assert_eq!(service(json!(HOST), unknown), no_service);
    }
    for kind in [json!("nope"), json!(""), Value::Null, json!("host ")] {
        let expected = refused(400, "Invalid type, expected host or service");
        assert_eq!(post(server.address, &json!({ "type": kind })), expected, "{kind}");
    }
    assert_eq!(ws.drain(), [], "nothing of that was delivered");
    for kind in ["HOST", "Host"] {
        assert_eq!(post(server.address, &json!({ "type": kind })), taken());
        assert_eq!(notification(&mut ws)["payload"]["type"], "host");
    }
}

#[test]
fn a_new_host_is_found_at_once_and_a_new_name_after_the_cache() {
    let builder = Builder::new();
    let path = builder.path().join("oitc.sqlite");
    sqlite_file(&path);
    let url = format!("sqlite:{}", path.display());
    let server = serve(builder, &url, "export_interval = \"1h\"\nlookup_cache = \"0s\"");
    let mut ws = registered(server.address, 5, "b");
    let new = json!({ "hostUuid": "new" });
    assert_eq!(post(server.address, &new).0, 400);
    for (sql, name) in [
        ("INSERT INTO hosts (uuid, name) VALUES ('new', 'db-01')", "db-01"),
        ("UPDATE hosts SET name = 'db-02' WHERE uuid = 'new'", "db-02"),
    ] {
        sqlite::execute(&path, &[sql.into()]);
        assert_eq!(post(server.address, &new), taken());
        assert_eq!(titles(&mut ws), [format!("PROBLEM: {name} is UP!")]);
    }
}

#[test]
fn sqlite_has_the_same_names_as_mariadb() {
    let server = on_sqlite();
    let mut ws = registered(server.address, 5, "b");
    let service = |uuid| json!({ "type": "service", "serviceUuid": uuid });
    for (changes, title) in [
        (json!({}), "PROBLEM: web-01 is UP!"),
        (json!({ "hostUuid": ODD_HOST }), "PROBLEM: öd \"q\" <b>& is UP!"),
        (service(SERVICE), "PROBLEM: web-01/Ping is OK!"),
        (service(NAMELESS[0]), "PROBLEM: web-01/tmpl is OK!"),
        (service(NAMELESS[1]), "PROBLEM: web-01/tmpl is OK!"),
    ] {
        assert_eq!(post(server.address, &changes), taken());
        assert_eq!(titles(&mut ws), [title]);
    }
    for (key, status) in [(KEY, 101), ("other", 401), (&KEY[1..], 401)] {
        assert_eq!(knock_with(server.address, key).status, status, "{key}");
    }
}

#[test]
fn html_in_a_name_is_escaped_as_the_original_does() {
    let server = on_sqlite();
    let mut ws = registered(server.address, 5, "b");
    post(server.address, &json!({ "hostUuid": ODD_HOST, "output": "a\u{2028}b/\t\u{1}é" }));
    let text = ws.next_text();
    assert!(text.contains(r#""title":"PROBLEM: öd \"q\" \u003cb\u003e\u0026 is UP!""#), "{text}");
    assert!(text.contains(r#""message":"a\u2028b/\t\u0001é""#), "{text}");
    assert!(text.ends_with("}}\n"), "{text}");
}

#[test]
fn export_status_is_told_at_every_look_and_once_at_the_connect() {
    let builder = Builder::new();
    let path = builder.path().join("oitc.sqlite");
    sqlite_file(&path);
    let export =
        |id, task, finished| format!("INSERT INTO exports VALUES ({id}, '{task}', {finished})");
    sqlite::execute(&path, &[export(1, "export_started", 1), export(3, "export_started", 0)]);
    // The last one that was started counts, not the last row.
    sqlite::execute(&path, &[export(2, "export_started", 1), export(4, "after_export", 1)]);
    let url = format!("sqlite:{}", path.display());
    let server = serve(builder, &url, "export_interval = \"4s\"");
    let running = "{\"type\":\"ExportStatus\",\"message\":\"\",\"payload\":true}\n";
    let mut first = connect(server.address, 5, "b");
    assert_eq!(first.next_text(), running);
    // Long before the next look.
    let mut second = dial(server.address, "/?userId=6&browserUuid=b");
    assert!(second.next_text().contains("ConnectionEstablished"));
    assert_eq!(second.drain(), [Frame::Text(running.into())]);
    sqlite::execute(&path, &["UPDATE exports SET finished = 1".into()]);
    for ws in [&mut first, &mut second] {
        assert_eq!(ws.next_text(), running.replace("true", "false"), "changed or not");
    }
}

#[test]
fn a_registered_tab_is_preferred_and_then_the_newest() {
    let server = on_sqlite();
    let alert = || assert_eq!(post(server.address, &json!({})), taken());
    let mut first = registered(server.address, 5, "b");
    let mut second = connect(server.address, 5, "b");
    alert();
    assert_eq!(reached([&mut first, &mut second]), [1, 0], "only the first asked");
    register(&mut second);
    alert();
    assert_eq!(reached([&mut first, &mut second]), [0, 1], "both asked, this is newer");
    let mut third = connect(server.address, 5, "b");
    alert();
    assert_eq!(reached([&mut first, &mut second, &mut third]), [0, 1, 0]);
    drop(second);
    eventually("the first is next in line", || {
        alert();
        reached([&mut first, &mut third])[0] == 1
    });
    drop(first);
    eventually("nobody is left who asked", || post(server.address, &json!({})).0 == 202);
    // It may have come after the first had gone and before it was forgotten.
    titles(&mut third);
    register(&mut third);
    alert();
    assert_eq!(reached([&mut third]), [1]);
}

#[test]
fn a_browser_that_did_not_ask_gets_what_another_browser_asked_for() {
    let server = on_sqlite();
    let mut silent = connect(server.address, 5, "x");
    let (mut old_tab, mut new_tab) =
        (connect(server.address, 5, "y"), connect(server.address, 5, "y"));
    assert_eq!(post(server.address, &json!({})).0, 202);
    // A test goes to everybody, whether or not anybody asked.
    silent.text(TEST);
    assert_eq!(reached([&mut silent, &mut old_tab, &mut new_tab]), [1, 0, 1]);
    register(&mut silent);
    let mut late = connect(server.address, 5, "z");
    assert_eq!(post(server.address, &json!({})), taken());
    assert_eq!(reached([&mut silent, &mut old_tab, &mut new_tab, &mut late]), [1, 0, 1, 1]);
}

#[test]
fn a_payload_of_the_wrong_kind_is_ignored() {
    let server = on_sqlite();
    let mut ws = connect(server.address, 5, "b");
    for payload in
        [json!("x"), json!([]), json!(1), json!({ "userId": 1.5 }), json!({ "userId": "5" })]
    {
        ws.text(
            &json!({ "type": "RegisterBrowserPushNotification", "payload": payload }).to_string(),
        );
        assert_eq!(ws.drain(), []);
        assert_eq!(post(server.address, &json!({})).0, 202, "{payload}");
    }
    // Whom it names does not count: whoever asks, asks for himself.
    ws.text(r#"{"type":"RegisterBrowserPushNotification","payload":{"userId":6}}"#);
    ws.settle();
    assert_eq!(post(server.address, &json!({ "userId": 6 })).0, 202);
    assert_eq!(post(server.address, &json!({})), taken());
}
