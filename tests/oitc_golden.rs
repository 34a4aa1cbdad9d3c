//! Scenarios that were recorded from openITCOCKPIT's own push server (5.7, without a
//! relay to phones), played against pushmux. The transcripts in `tests/golden/oitc.json`
//! are the original's own and never change; where pushmux is better on purpose, the test
//! is in `oitc.rs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use crate::support::eventually;
use crate::support::http::{Answer, request};
use crate::support::mariadb::MariaDb;
use crate::support::oitc::{
    KEY, KEY_NAME, SERVICE, alert, any_browser, dial, knock, knock_with, mariadb, quiet, register,
    serve,
};
use crate::support::server::{Builder, Server};
use crate::support::token::now;
use crate::support::ws::{Frame, Ws};

/// The server and its data base.
struct Site {
    db: MariaDb,
    server: Server,
}

impl Site {
    fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// A browser of user 5 that asked for notifications.
    fn browser(&self) -> Ws {
        self.browser_of(5, &any_browser())
    }

    fn browser_of(&self, user: i64, browser: &str) -> Ws {
        let mut ws = self.silent(user, browser);
        register(&mut ws);
        ws
    }

    /// A browser that did not ask.
    fn silent(&self, user: i64, browser: &str) -> Ws {
        let mut ws = dial(self.address(), &format!("/?userId={user}&browserUuid={browser}"));
        ws.next_text();
        // The welcome comes before the connection can be reached; a pong comes after.
        ws.drain();
        ws
    }

    fn post(&self, changes: &Value) -> Value {
        self.post_text(&alert(changes).to_string())
    }

    fn post_text(&self, body: &str) -> Value {
        let json = [("Content-Type", "application/json")];
        written(&request(self.address(), "POST", "/message", &json, body.as_bytes()))
    }

    /// What a browser sees of every kind of notification, in several states.
    fn all_texts(&self, kind: &str, states: &[i64]) -> Value {
        let mut ws = self.browser();
        let mut texts = Map::new();
        for notification in NOTIFICATIONS {
            for state in states {
                let service = if kind == "service" { SERVICE } else { "" };
                self.post(&json!({
                    "type": kind, "serviceUuid": service, "notificationtype": notification,
                    "state": state, "output": format!("o{state}"), "ackauthor": "Ann",
                    "ackcomment": "c c"
                }));
                texts.insert(format!("{notification}/{state}"), frames(&mut ws));
            }
        }
        texts.into()
    }
}

const NOTIFICATIONS: [&str; 12] = [
    "PROBLEM",
    "RECOVERY",
    "ACKNOWLEDGEMENT",
    "DOWNTIMESTART",
    "DOWNTIMEEND",
    "DOWNTIMECANCELLED",
    "FLAPPINGSTART",
    "FLAPPINGSTOP",
    "FLAPPINGDISABLED",
    "CUSTOM",
    "",
    "problem",
];

/// An answer as the transcripts write it.
fn written(answer: &Answer) -> Value {
    json!([answer.status, answer.header("content-type"), answer.text()])
}

fn frames(ws: &mut Ws) -> Value {
    quiet(ws.drain()).into_iter().map(frame).collect()
}

/// A text byte for byte, but for what is different every time.
fn frame(frame: Frame) -> Value {
    match frame {
        Frame::Text(text) => json!(["text", blank(text)]),
        other => panic!("{other:?}"),
    }
}

/// Blanks the uuid that the server makes up and the time.
fn blank(text: String) -> String {
    if let Some((head, rest)) = text.split_once("\"clientUuid\":\"") {
        let (uuid, tail) = rest.split_once('"').unwrap();
        assert_eq!(uuid::Uuid::parse_str(uuid).unwrap().get_version_num(), 4);
        assert_eq!(uuid, uuid.to_lowercase());
        return format!("{head}\"clientUuid\":\"UUID4\"{tail}");
    }
    let Some((head, rest)) = text.split_once("\"timestamp\":") else { return text };
    let (time, tail) = rest.split_once(',').unwrap();
    assert!(time.parse::<u64>().unwrap().abs_diff(now()) < 30, "{text}");
    format!("{head}\"timestamp\":NOW,{tail}")
}

fn count(ws: &mut Ws) -> usize {
    quiet(ws.drain()).len()
}

type Scenario = fn(&Site) -> Value;

const SCENARIOS: &[(&str, Scenario)] = &[
    // Among the first, before so many came that they share readings of the key.
    ("key_rotation_takes_effect_at_once", |site| {
        site.db.set(KEY_NAME, "rotated");
        let statuses = [KEY, "rotated"].map(|key| knock_with(site.address(), key).status);
        site.db.set(KEY_NAME, KEY);
        json!(statuses)
    }),
    ("healthz", |site| {
        let answer = request(site.address(), "GET", "/healthz", &[], b"");
        json!([answer.status, answer.text()])
    }),
    ("handshake_welcome", |site| {
        let mut ws = dial(site.address(), "/?userId=5&browserUuid=b");
        let header = |name| ws.answer.header(name).map(str::to_owned);
        let (protocol, extensions) =
            (header("sec-websocket-protocol"), header("sec-websocket-extensions"));
        json!([ws.answer.status, protocol, extensions, frame(ws.next())])
    }),
    ("handshake_refused", refused),
    ("any_origin_is_accepted", |site| {
        let offers = format!("access_token, {KEY}");
        let headers =
            [("Sec-WebSocket-Protocol", &*offers), ("Origin", "https://monitoring.example")];
        let ws = Ws::handshake(site.address(), "/?userId=5&browserUuid=b", &headers);
        json!(ws.answer.status)
    }),
    ("plain_get_with_good_credentials", |site| {
        let offers = format!("access_token, {KEY}");
        let headers = [("Sec-WebSocket-Protocol", &*offers)];
        let answer = request(site.address(), "GET", "/?userId=5&browserUuid=b", &headers, b"");
        json!([answer.status, answer.text()])
    }),
    ("plain_get_root", |site| {
        let answer = request(site.address(), "GET", "/", &[], b"");
        json!([answer.status, answer.text()])
    }),
    ("keep_alive", |site| {
        let mut ws = site.silent(5, &any_browser());
        ws.text(r#"{"type":"KeepAlive"}"#);
        ws.text(r#"{"type":"KeepAlive","message":"x","payload":{"a":1}}"#);
        frames(&mut ws)
    }),
    ("unknown_type", |site| {
        let mut ws = site.silent(5, &any_browser());
        for text in [r#"{"type":"Nope"}"#, "{}", r#"{"type":"keepalive"}"#] {
            ws.text(text);
        }
        frames(&mut ws)
    }),
    ("test_push", |site| {
        let mut same = [site.browser(), site.browser(), site.browser_of(6, &any_browser())];
        same[0].text(
            r#"{"type":"TestPushNotification","message":"","payload":{"title":"Hi","icon":"/i.png"}}"#,
        );
        same.iter_mut().map(frames).collect()
    }),
    ("message_validation", |site| {
        let user = |value: Value| alert(&json!({ "userId": value })).to_string();
        let bodies = [
            ("not json", "nope".to_owned()),
            ("empty", String::new()),
            ("array", "[]".into()),
            ("null", "null".into()),
            ("userId missing", user(Value::Null)),
            ("userId 0", user(json!(0))),
            ("userId negative", user(json!(-4))),
            ("userId string", user(json!("5"))),
            ("state string", alert(&json!({ "state": "0" })).to_string()),
            ("type number", alert(&json!({ "type": 1 })).to_string()),
        ];
        bodies.map(|(name, body)| (name.to_owned(), site.post_text(&body))).into_iter().collect()
    }),
    ("message_methods", |site| {
        let ask = |method: &str| {
            let answer = request(site.address(), method, "/message", &[], b"");
            (method.to_owned(), written(&answer))
        };
        ["GET", "PUT", "DELETE"].map(ask).into_iter().collect()
    }),
    ("message_needs_no_content_type", |site| {
        let mut ws = site.browser();
        let body = alert(&json!({})).to_string();
        let answer = request(site.address(), "POST", "/message", &[("X", "y")], body.as_bytes());
        json!([written(&answer), frames(&mut ws)])
    }),
    ("unknown_fields_and_trailing_data", |site| {
        let mut ws = site.browser();
        let more = site.post(&json!({ "foo": 1 }));
        let trailing = site.post_text(&format!("{}garbage", alert(&json!({}))));
        json!([more, trailing, frames(&mut ws)])
    }),
    ("stale_message", |site| {
        let mut ws = site.browser();
        let at = |timestamp: Value| site.post(&json!({ "timestamp": timestamp }));
        let dropped = [json!(now() - 301), json!(0), Value::Null].map(at);
        let [recent, future] = [json!(now() - 280), json!(now() + 9999)].map(at);
        let [a, b, c] = dropped;
        json!([a, b, c, recent[0], future[0], count(&mut ws)])
    }),
    ("not_registered_user", |site| site.post(&json!({ "userId": 4242 }))),
    ("connected_but_not_registered", |site| {
        let mut ws = site.silent(77, &any_browser());
        json!([site.post(&json!({ "userId": 77 })), frames(&mut ws)])
    }),
    ("host_texts", |site| site.all_texts("host", &[0, 1, 3, 4, -1])),
    ("service_texts", |site| site.all_texts("service", &[0, 1, 2, 3, 4, -1])),
    ("host_message_keeps_service_uuid", |site| {
        let mut ws = site.browser();
        site.post(&json!({ "serviceUuid": SERVICE }));
        frames(&mut ws)
    }),
    ("one_frame_per_browser", |site| {
        let mut all = [(5, "same"), (5, "same"), (5, "other"), (6, "b")]
            .map(|(user, browser)| site.browser_of(user, browser));
        site.post(&json!({}));
        let [a, b, other, stranger] = all.each_mut().map(count);
        json!([a + b, other, stranger])
    }),
    ("registration_is_per_user", |site| {
        let mut all = [site.silent(31, "one"), site.browser_of(31, "other")];
        site.post(&json!({ "userId": 31 }));
        all.iter_mut().map(count).collect()
    }),
    ("registration_ends_with_the_connection", |site| {
        drop(site.browser_of(33, "b"));
        let mut answer = Value::Null;
        eventually("the connection is gone", || {
            answer = site.post(&json!({ "userId": 33 }));
            answer[0] != 200
        });
        answer
    }),
    ("order_is_kept", |site| {
        let mut ws = site.browser();
        for index in 0..30 {
            site.post(&json!({ "output": index.to_string() }));
        }
        let message = |frame| {
            let Frame::Text(text) = frame else { panic!("{frame:?}") };
            serde_json::from_str::<Value>(&text).unwrap()["message"].take()
        };
        quiet(ws.drain()).into_iter().map(message).collect()
    }),
    ("export_status", |site| {
        let mut ws = site.silent(5, &any_browser());
        let before = site.db.selects();
        eventually("it was looked at", || site.db.selects() >= before + 3);
        let silence = ws.drain().len();
        site.db.sql("INSERT INTO exports (task, finished) VALUES ('export_started', 0)");
        let running = frame(ws.next());
        site.db.sql("UPDATE exports SET finished = 1");
        let done = ws.until(|frame| matches!(frame, Frame::Text(text) if text.contains("false")));
        site.db.sql("DELETE FROM exports");
        json!([silence, [running], [frame(done.last().unwrap().clone())]])
    }),
];

fn refused(site: &Site) -> Value {
    let (target, key) = ("/?userId=5&browserUuid=b", format!("access_token, {KEY}"));
    let user = |user: &str| format!("/?userId={user}&browserUuid=b");
    let of_offers = [
        ("wrong key", Some("access_token, nope".to_owned())),
        ("key prefix", Some(key[..key.len() - 1].to_owned())),
        ("other setting's key", Some("access_token, other".into())),
        ("no protocol", None),
        ("one protocol", Some("access_token".into())),
        ("three protocols", Some(format!("{key}, x"))),
        ("swapped", Some(format!("{KEY}, access_token"))),
        ("other name", Some(format!("token, {KEY}"))),
    ];
    let of_targets = [
        ("no userId", "/?browserUuid=b".to_owned()),
        ("userId 0", user("0")),
        ("userId -1", user("-1")),
        ("userId abc", user("abc")),
        ("userId 5.0", user("5.0")),
        ("userId too big", user("9223372036854775808")),
        ("no browserUuid", "/?userId=5".into()),
        ("empty browserUuid", "/?userId=5&browserUuid=".into()),
        ("no query", "/".into()),
    ];
    let address = site.address();
    let by_offers = of_offers
        .into_iter()
        .map(|(name, offers)| (name, knock(address, target, offers.as_deref())));
    let by_targets =
        of_targets.into_iter().map(|(name, target)| (name, knock(address, &target, Some(&key))));
    by_offers.chain(by_targets).map(|(name, answer)| (name.to_owned(), written(&answer))).collect()
}

#[test]
fn every_recorded_scenario_is_equal() {
    let text = include_str!("golden/oitc.json");
    let recorded: BTreeMap<String, Value> = serde_json::from_str(text).unwrap();
    let db = mariadb();
    // These browsers ping after each of their steps, to know when it was done; real ones cannot.
    let builder = Builder::new().env("PUSHMUX_SINK__WS__CONTROL_FRAME_RATE", "0");
    let server = serve(builder, &db.url(), "export_interval = \"200ms\"");
    let site = Site { db, server };
    let mut played = 0;
    for (name, play) in SCENARIOS {
        assert_eq!(play(&site), recorded[*name], "{name}");
        played += 1;
    }
    assert_eq!(played, recorded.len(), "every recorded scenario is played");
}
