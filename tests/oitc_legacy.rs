//! The protocol of openITCOCKPIT's front ends up to 5.6, opt-in on the same port.

use serde_json::{Value, json};

use crate::support::http::post_json;
use crate::support::oitc::{self, HOST, KEY, SERVICE};
use crate::support::server::Server;
use crate::support::token::{self, Keys};
use crate::support::ws::{Frame, Ws};

const ON: &str = "export_interval = \"1h\"\nlegacy = true";

/// A legacy client after its welcome; the uuid it was given.
fn connect(server: &Server) -> (Ws, String) {
    let mut ws = Ws::handshake(server.address, "/push_notifications", &[]);
    assert_eq!(ws.answer.status, 101);
    assert_eq!(ws.answer.header("sec-websocket-protocol"), None);
    let welcome: Value = serde_json::from_str(&ws.next_text()).unwrap();
    assert_eq!(welcome["type"], "connection");
    assert_eq!(welcome["message"], "Connection established successfully");
    let uuid = welcome["data"]["uuid"].as_str().unwrap().to_owned();
    (ws, uuid)
}

fn registered(server: &Server, user: i64, browser: &str) -> Ws {
    let (mut ws, uuid) = connect(server);
    let data = json!({ "userId": user, "browserUuid": browser });
    ws.text(&json!({ "task": "register", "key": KEY, "uuid": uuid, "data": data }).to_string());
    ws.settle();
    ws
}

fn alert(server: &Server, kind: &str, state: i64) -> u16 {
    let service = if kind == "service" { SERVICE } else { "" };
    let body = json!({
        "timestamp": token::now(), "userId": 5, "type": kind, "hostUuid": HOST,
        "serviceUuid": service, "state": state, "notificationtype": "PROBLEM", "output": "out",
    });
    post_json(server.address, "/message", &body.to_string()).status
}

#[test]
fn without_the_key_of_the_configuration_there_is_no_such_client() {
    let server = oitc::on_sqlite();
    let ws = Ws::handshake(server.address, "/", &[]);
    assert_eq!(ws.answer.status, 401);
}

#[test]
fn notifications_have_the_words_and_members_of_the_php_server() {
    let server = oitc::on_sqlite_with(ON);
    assert_eq!(alert(&server, "host", 1), 202, "nobody is there");
    let mut ws = registered(&server, 5, "b");
    assert_eq!(alert(&server, "host", 1), 200);
    let text = ws.next_text();
    let now = serde_json::from_str::<Value>(&text).unwrap()["data"]["timestamp"].clone();
    assert_eq!(
        text,
        format!(
            "{{\"type\":\"message\",\"message\":\"out\",\"data\":{{\"timestamp\":{now},\"userId\":5,\"title\":\"PROBLEM: web-01 is Down!\",\"message\":\"out\",\"type\":\"host\",\"hostUuid\":\"{HOST}\",\"serviceUuid\":\"\",\"icon\":\"/img/push_notifications/wh/HostPushIconDOWN.png\"}}}}"
        )
    );
    assert_eq!(alert(&server, "service", 9), 200);
    let message: Value = serde_json::from_str(&ws.next_text()).unwrap();
    assert_eq!(message["data"]["title"], "PROBLEM: Ping on web-01 is Unknown!");
    assert_eq!(message["data"]["serviceUuid"], SERVICE);
    assert_eq!(message["data"]["icon"], Value::Null);
}

#[test]
fn one_message_for_each_browser_and_both_dialects_side_by_side() {
    let server = oitc::on_sqlite_with(ON);
    let mut tabs = [registered(&server, 5, "same"), registered(&server, 5, "same")];
    let mut other = registered(&server, 5, "other");
    let mut stranger = registered(&server, 6, "same");
    let mut modern = oitc::registered(server.address, 5, "modern");
    assert_eq!(alert(&server, "host", 0), 200);
    let count = |ws: &mut Ws| ws.drain().len();
    let [first, second] = &mut tabs;
    assert_eq!(count(first) + count(second), 1);
    assert_eq!((count(&mut other), count(&mut stranger)), (1, 0));
    assert!(modern.next_text().contains("ProcessPushNotification"));
    // The flag goes with the connections.
    drop((tabs, other, modern));
    crate::support::eventually("nobody is registered any more", || {
        alert(&server, "host", 0) == 202
    });
}

#[test]
fn every_message_needs_the_key_and_registering_its_members() {
    let server = oitc::on_sqlite_with(ON);
    for message in [
        json!({ "task": "keepAlive", "key": "wrong", "uuid": "u" }),
        json!({ "task": "register", "key": KEY, "uuid": "u", "data": { "userId": 5 } }),
        json!({ "task": "register", "key": KEY, "uuid": "u", "data": { "browserUuid": "b" } }),
        json!({ "task": "register", "key": KEY, "uuid": "u" }),
    ] {
        let (mut ws, _) = connect(&server);
        ws.text(&message.to_string());
        assert_eq!(ws.next(), Frame::Eof, "{message}");
    }
    let (mut ws, uuid) = connect(&server);
    for ignored in ["nope", "[]", "{}", r#"{"task":"keepAlive","key":"wrong"}"#] {
        ws.text(ignored);
    }
    ws.settle();
    let data = json!({ "title": "Test", "icon": "/i.png" });
    for (task, data, expected) in [
        ("keepAlive", Value::Null, r#"{"type":"keepAlive","message":"Pong","data":[]}"#),
        (
            "testMessage",
            data,
            r#"{"type":"message","message":"This is a test message","data":{"icon":"/i.png","title":"Test"}}"#,
        ),
    ] {
        ws.text(&json!({ "task": task, "key": KEY, "uuid": uuid, "data": data }).to_string());
        assert_eq!(ws.next_text(), expected);
    }
    ws.text(&json!({ "task": "other", "key": KEY, "uuid": uuid }).to_string());
    ws.settle();
}

#[test]
fn who_does_not_register_in_time_is_sent_away() {
    let server = oitc::on_sqlite_with(&format!("{ON}\nlegacy_register_timeout = \"200ms\""));
    let mut stays = registered(&server, 5, "b");
    let (mut ws, _) = connect(&server);
    assert_eq!(ws.next(), Frame::Eof, "without a Close frame");
    stays.settle();
}

#[test]
fn a_credential_for_one_user_does_not_listen_as_another() {
    let public = Keys::server().public_base64();
    let config = format!("{ON}\nauth = \"jwt\"\n[auth.jwt]\npublic_key = \"{public}\"");
    let server = oitc::on_sqlite_with(&config);
    let token = Keys::server().subscribe(&["browser/6"]);
    for (user, allowed) in
        [(json!(5), false), (json!("5"), false), (json!(6), true), (json!("6"), true)]
    {
        let (mut ws, uuid) = connect(&server);
        let data = json!({ "userId": user, "browserUuid": "b" });
        let register = json!({ "task": "register", "key": token, "uuid": uuid, "data": data });
        ws.text(&register.to_string());
        if allowed {
            ws.settle();
        } else {
            assert_eq!(ws.next(), Frame::Eof, "{user}");
        }
    }
}
