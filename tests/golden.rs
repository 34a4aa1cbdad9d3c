//! Scenarios that were recorded from notiflux 0.2.1, played against pushmux. The
//! transcripts in `tests/golden/notiflux.json` are the original's own and never change.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::http::{post_json, request};
use crate::support::server::Builder;
use crate::support::token::{Keys, claims};
use crate::support::ws::{Frame, Ws};

fn subscribe(ws: &mut Ws, topic: &str) {
    subscribe_with(ws, topic, &Keys::server().subscribe(&[topic]));
}

fn subscribe_with(ws: &mut Ws, topic: &str, token: &str) {
    ws.text(&format!("/subscribe {topic} {token}"));
    ws.settle();
}

fn post(address: SocketAddr, topic: &str, message: &str) -> u16 {
    post_with(address, topic, message, &Keys::server().broadcast(&[topic]))
}

fn post_with(address: SocketAddr, topic: &str, message: &str, token: &str) -> u16 {
    let body = json!({ "topic": topic, "message": message, "token": token });
    post_json(address, "/broadcast", &body.to_string()).status
}

/// A frame as the transcripts write it.
fn written(frame: Frame) -> Value {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match frame {
        Frame::Text(text) => json!(["text", text]),
        Frame::Binary(bytes) => json!(["binary", hex(bytes)]),
        Frame::Ping(bytes) => json!(["ping", hex(bytes)]),
        Frame::Pong(bytes) => json!(["pong", hex(bytes)]),
        Frame::Close(None) => json!(["close", null]),
        Frame::Close(Some((code, reason))) => json!(["close", [code, reason]]),
        Frame::Eof => json!(["eof", null]),
    }
}

fn drain(ws: &mut Ws) -> Value {
    ws.drain().into_iter().map(written).collect()
}

type Scenario = fn(SocketAddr) -> Value;

const SCENARIOS: &[(&str, Scenario)] = &[
    ("health", |a| {
        let answer = request(a, "GET", "/health", &[], b"");
        json!([answer.status, answer.text()])
    }),
    ("subscribe_then_broadcast", |a| {
        let mut c = Ws::open(a);
        subscribe(&mut c, "a");
        let status = post(a, "a", "hello");
        json!([status, drain(&mut c)])
    }),
    ("two_topics_one_connection", |a| {
        let mut c = two_topics(a);
        for (topic, message) in [("a", "1"), ("b", "2"), ("c", "3")] {
            post(a, topic, message);
        }
        drain(&mut c)
    }),
    ("one_token_many_topics_broadcast", |a| {
        let token = Keys::server().broadcast(&["a", "b"]);
        let mut c = Ws::open(a);
        subscribe(&mut c, "a");
        subscribe(&mut c, "b");
        post_with(a, "a", "1", &token);
        post_with(a, "b", "2", &token);
        drain(&mut c)
    }),
    ("fan_out_to_three", |a| {
        let mut clients = [Ws::open(a), Ws::open(a), Ws::open(a)];
        clients.iter_mut().for_each(|c| subscribe(c, "fan"));
        post(a, "fan", "m");
        clients.iter_mut().map(drain).collect()
    }),
    ("only_subscribers_get_it", |a| {
        let (mut x, mut y) = (Ws::open(a), Ws::open(a));
        subscribe(&mut x, "x");
        subscribe(&mut y, "y");
        post(a, "x", "m");
        json!([drain(&mut x), drain(&mut y)])
    }),
    ("double_subscription_delivers_once", |a| {
        let mut c = Ws::open(a);
        subscribe(&mut c, "d");
        subscribe(&mut c, "d");
        post(a, "d", "m");
        drain(&mut c)
    }),
    ("unsubscribe_one", |a| unsubscribe(a, "/unsubscribe a")),
    ("unsubscribe_all", |a| unsubscribe(a, "/unsubscribe-all")),
    ("resubscribe_after_unsubscribe", |a| {
        let mut c = Ws::open(a);
        subscribe(&mut c, "a");
        c.text("/unsubscribe a");
        subscribe(&mut c, "a");
        post(a, "a", "1");
        drain(&mut c)
    }),
    ("unsubscribe_unknown_topic_is_silent", |a| {
        let mut c = Ws::open(a);
        c.text("/unsubscribe nothing");
        drain(&mut c)
    }),
    ("bad_command_replies", |a| {
        let mut c = Ws::open(a);
        let mut replies = serde_json::Map::new();
        for command in [
            "/nope",
            "/subscribe",
            "/subscribe onlytopic",
            "/subscribe a b c",
            "/unsubscribe",
            "/unsubscribe-all extra",
            "/",
            "/SUBSCRIBE a b",
        ] {
            c.text(command);
            replies.insert(command.into(), drain(&mut c));
        }
        replies.into()
    }),
    ("non_slash_text_is_ignored", |a| {
        let mut c = Ws::open(a);
        ["hello", "", "{}"].iter().for_each(|text| c.text(text));
        drain(&mut c)
    }),
    ("binary_is_ignored", |a| {
        let mut c = Ws::open(a);
        c.frame(0x82, b"\x00\x01/subscribe");
        let first = drain(&mut c);
        subscribe(&mut c, "a");
        post(a, "a", "1");
        json!([first, drain(&mut c)])
    }),
    ("ping_gets_pong", |a| {
        let mut c = Ws::open(a);
        c.frame(0x89, b"abc");
        json!([written(c.next())])
    }),
    ("close_is_echoed", |a| {
        let mut c = Ws::open(a);
        c.frame(0x88, b"\x03\xe8bye");
        json!([written(c.next()), written(c.next())])
    }),
    ("subscribe_denied_is_silent", |a| {
        let mut verdicts = serde_json::Map::new();
        for (name, token) in denied_subscriptions() {
            let mut c = Ws::open(a);
            subscribe_with(&mut c, "s", &token);
            post(a, "s", "secret");
            verdicts.insert(name.into(), json!({ "delivered": !c.drain().is_empty() }));
        }
        verdicts.into()
    }),
    ("broadcast_without_subscribers", |a| json!(post(a, "nobody", "m"))),
    ("order_is_kept", |a| {
        let mut c = Ws::open(a);
        subscribe(&mut c, "o");
        let token = Keys::server().broadcast(&["o"]);
        for index in 0..50 {
            post_with(a, "o", &index.to_string(), &token);
        }
        drain(&mut c)
    }),
    ("broadcast_denied_delivers_nothing", |a| {
        let keys = Keys::server();
        let mut verdicts = serde_json::Map::new();
        for (name, token) in [
            ("wrong scope", keys.subscribe(&["s"])),
            ("other topic", keys.broadcast(&["zzz"])),
            ("expired", keys.token(&with(claims("broadcast", &["s"]), "exp", json!(1)))),
            ("garbage", "x".to_owned()),
        ] {
            let mut c = Ws::open(a);
            subscribe(&mut c, "s");
            let status = post_with(a, "s", "secret", &token);
            let delivered = !c.drain().is_empty();
            verdicts.insert(name.into(), json!({ "status": status, "delivered": delivered }));
        }
        verdicts.into()
    }),
    ("broadcast_methods", |a| {
        let status = |method: &str| {
            (method.into(), json!(request(a, method, "/broadcast", &[], b"").status))
        };
        Value::Object(["GET", "PUT", "DELETE", "OPTIONS"].into_iter().map(status).collect())
    }),
    ("unknown_path", |a| {
        let status = |path: &str| (path.into(), json!(request(a, "GET", path, &[], b"").status));
        Value::Object(["/", "/nope", "/ws/", "/health/"].into_iter().map(status).collect())
    }),
    ("ws_without_upgrade", |a| json!(request(a, "GET", "/ws", &[], b"").status)),
];

fn two_topics(address: SocketAddr) -> Ws {
    let token = Keys::server().subscribe(&["a", "b"]);
    let mut c = Ws::open(address);
    subscribe_with(&mut c, "a", &token);
    subscribe_with(&mut c, "b", &token);
    c
}

fn unsubscribe(address: SocketAddr, command: &str) -> Value {
    let mut c = two_topics(address);
    c.text(command);
    c.settle();
    post(address, "a", "1");
    post(address, "b", "2");
    drain(&mut c)
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn denied_subscriptions() -> Vec<(&'static str, String)> {
    let keys = Keys::server();
    let good = || claims("subscribe", &["s"]);
    let unsigned = |header: &str| {
        let token = keys.sign(header, &good().to_string());
        token.rsplit_once('.').unwrap().0.to_owned() + "."
    };
    vec![
        ("wrong scope", keys.broadcast(&["s"])),
        ("unknown scope", keys.token(&claims("admin", &["s"]))),
        ("other topic", keys.subscribe(&["zzz"])),
        ("no topics", keys.subscribe(&[])),
        ("expired", keys.token(&with(good(), "exp", json!(1)))),
        ("garbage", "abc.def.ghi".to_owned()),
        ("prefix topic", keys.subscribe(&["s*"])),
        ("hs256", keys.sign(r#"{"alg":"HS256","typ":"JWT"}"#, &good().to_string())),
        ("alg none", unsigned(r#"{"alg":"none","typ":"JWT"}"#)),
        ("no sub", keys.token(&without(good(), "sub"))),
        ("no exp", keys.token(&without(good(), "exp"))),
        ("no scope", keys.token(&without(good(), "scope"))),
        ("topics is a string", keys.token(&with(good(), "topics", json!("s")))),
        ("scope is a list", keys.token(&with(good(), "scope", json!(["subscribe"])))),
    ]
}

#[test]
fn every_recorded_scenario_is_equal() {
    let text = include_str!("golden/notiflux.json");
    let recorded: BTreeMap<String, Value> = serde_json::from_str(text).unwrap();
    let server = Builder::notiflux().start();
    let mut played = 0;
    for (name, play) in SCENARIOS {
        let expected = &recorded[*name];
        assert_eq!(play(server.address), *expected, "{name}");
        played += 1;
    }
    assert_eq!(played, recorded.len(), "every recorded scenario is played");
}
