//! The debugging sink, alone and beside WebSocket clients.

use serde_json::{Value, json};

use crate::support::http::post_json;
use crate::support::server::Builder;
use crate::support::token::Keys;
use crate::support::ws::Ws;

fn config(sink: &str) -> String {
    format!(
        "profile = \"notiflux\"\n[protocol.notiflux]\nstrict = true\n[sink.debug]\ntype = \"log\"\n{sink}\n"
    )
}

fn post(address: std::net::SocketAddr, topic: &str, message: &str) -> Value {
    let token = Keys::server().broadcast(&[topic]);
    let body = json!({ "topic": topic, "message": message, "token": token }).to_string();
    serde_json::from_slice(&post_json(address, "/broadcast", &body).body).unwrap()
}

#[test]
fn every_message_is_a_line_of_json_in_the_file_also_the_last_one() {
    let builder = Builder::notiflux().file("config.toml", &config("path = \"messages.jsonl\""));
    let path = builder.path().join("messages.jsonl");
    let mut server = builder.start();
    let mut client = Ws::open(server.address);
    client.subscribe("t");
    // One receiver: the client. A log is nobody.
    assert_eq!(post(server.address, "t", "one\n\"two\""), json!({ "accepted": 1, "dropped": 0 }));
    assert_eq!(client.next_text(), "one\n\"two\"");
    for number in 0..100 {
        post(server.address, "u", &number.to_string());
    }
    assert!(server.stop().success());
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 101);
    assert_eq!(lines[0], json!({ "id": 1, "topic": "notiflux/t", "message": "one\n\"two\"" }));
    assert_eq!(lines[100], json!({ "id": 101, "topic": "notiflux/u", "message": "99" }));
}

#[test]
fn a_sink_takes_only_its_topics_and_stdout_is_the_default() {
    let server =
        Builder::notiflux().file("config.toml", &config("topics = [\"notiflux/a*\"]")).start();
    post(server.address, "b", "no");
    post(server.address, "abc", "yes");
    crate::support::eventually("the line is on stdout", || !server.stdout().is_empty());
    assert_eq!(server.stdout(), "{\"id\":2,\"message\":\"yes\",\"topic\":\"notiflux/abc\"}\n");
}
