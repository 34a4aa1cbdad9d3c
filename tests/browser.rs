//! The demo page as a visitor meets it: in a real browser, with real clicks and keys.

use serde_json::{Value, json};

use crate::support::cdp::{Browser, Tab};
use crate::support::server::{Builder, Server};
use crate::support::{DEADLINE, eventually, http, quiet_port};

fn demo(port: u16) -> Server {
    Builder::new().args(["--profile", "demo", "--port", &port.to_string()]).start()
}

/// A tab with the page, subscribed to its default topic.
fn visitor(browser: &Browser, server: &Server) -> Tab {
    let mut tab = browser.open(&format!("http://{}/", server.address));
    eventually("the page is connected", || tab.text("#state") == "connected");
    tab.click("#subscribe");
    eventually("the server acknowledges", || tab.text("#ack").starts_with("Subscribed to “demo”"));
    tab
}

fn wait_for_messages(tab: &mut Tab, expected: &[&str]) {
    eventually(&format!("{expected:?} in the list"), || tab.texts("#messages .text") == expected);
}

/// What the page says instead of a latency when the message was not its own.
const ELSEWHERE: &str = "from elsewhere";

/// The latency shown for the only message, in milliseconds.
fn latency(tab: &mut Tab) -> f64 {
    let text = tab.text("#messages .latency");
    text.strip_suffix(" ms").unwrap_or_else(|| panic!("no latency: {text}")).parse().unwrap()
}

#[test]
fn a_visitor_publishes_and_sees_it_arrive() {
    let server = demo(0);
    let browser = Browser::start();
    let mut tab = visitor(&browser, &server);

    tab.type_into("#message", "hello <b>world</b>");
    tab.click("#publish");
    wait_for_messages(&mut tab, &["hello <b>world</b>"]);

    assert_eq!(
        tab.eval("document.querySelectorAll('#messages b').length"),
        0,
        "text was taken for HTML"
    );
    let latency = latency(&mut tab);
    assert!(latency >= 0.0 && latency < DEADLINE.as_secs_f64() * 1000.0, "{latency} ms");
    eventually("the receivers are counted", || {
        tab.text("#result") == "Published: 1 receiver accepted it."
    });
    assert!(tab.errors().is_empty(), "{:?}", tab.errors());
}

#[test]
fn what_others_publish_appears_without_a_latency() {
    let server = demo(0);
    let browser = Browser::start();
    let mut tab = visitor(&browser, &server);

    let tokens = http::request(server.address, "GET", "/demo/tokens?topic=demo", &[], b"");
    assert_eq!(tokens.status, 200);
    let tokens: Value = serde_json::from_str(&tokens.text()).unwrap();
    let body =
        json!({ "topic": "demo", "message": "from a program", "token": tokens["broadcast"] });
    assert_eq!(http::post_json(server.address, "/broadcast", &body.to_string()).status, 200);
    wait_for_messages(&mut tab, &["from a program"]);
    assert_eq!(tab.text("#messages .latency"), ELSEWHERE);

    // The command to paste is taken apart instead of run, which would need curl.
    let command = tab.text("#curl");
    let rest = command
        .strip_prefix(&format!("curl http://{}/broadcast ", server.address))
        .expect(&command);
    let body =
        rest.split_once("-d '").and_then(|(_, body)| body.strip_suffix('\'')).expect(&command);
    assert_eq!(http::post_json(server.address, "/broadcast", body).status, 200);
    wait_for_messages(&mut tab, &["from a program", "hello from a terminal"]);
}

#[test]
fn two_tabs_both_get_a_message() {
    let server = demo(0);
    let browser = Browser::start();
    let mut first = visitor(&browser, &server);
    let mut second = visitor(&browser, &server);

    first.type_into("#message", "to both");
    first.press_enter();
    wait_for_messages(&mut first, &["to both"]);
    wait_for_messages(&mut second, &["to both"]);

    latency(&mut first);
    assert_eq!(second.text("#messages .latency"), ELSEWHERE);
    eventually("the receivers are counted", || {
        first.text("#result") == "Published: 2 receivers accepted it."
    });
}

#[test]
fn the_page_survives_a_restart_of_the_server() {
    let mut server = demo(quiet_port());
    let browser = Browser::start();
    let mut tab = visitor(&browser, &server);

    server.stop();
    eventually("the page notices", || tab.text("#state").contains("reconnecting"));
    assert_eq!(tab.text("#ack"), "Will subscribe to “demo” once connected.");

    // The keys are new, so the tokens which the page still has are of no use any more.
    let _server = demo(server.address.port());
    eventually("the page subscribes again", || {
        tab.text("#ack").starts_with("Subscribed to “demo”")
    });
    assert_eq!(tab.text("#state"), "connected");
    tab.type_into("#message", "back again");
    tab.press_enter();
    wait_for_messages(&mut tab, &["back again"]);
}
