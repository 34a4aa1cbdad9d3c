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
    for (device, state) in LINES {
        let line = format!("{device} .line");
        eventually("the device is back, with the new key", || tab.text(&line) == state);
    }
    tab.type_into("#message", "back again");
    tab.press_enter();
    wait_for_messages(&mut tab, &["back again"]);
}

/// What receives alerts, and what it says of itself once it does.
const LINES: [(&str, &str); 3] =
    [("#browser-a", "registered"), ("#browser-b", "registered"), ("#phone", "switched on")];

/// Titles of the alerts that a browser or the phone shows.
fn alerts(tab: &mut Tab, device: &str) -> Vec<String> {
    tab.texts(&format!("{device} .title"))
}

/// Types another text for the alert.
fn rewrite(tab: &mut Tab, text: &str) {
    tab.eval("document.querySelector('#output').value = ''");
    tab.type_into("#output", text);
}

#[test]
fn an_alert_arrives_in_two_browsers_and_on_the_phone_until_they_disconnect() {
    let server = demo(0);
    let browser = Browser::start();
    let mut tab = browser.open(&format!("http://{}/", server.address));
    for (device, state) in LINES {
        let line = format!("{device} .line");
        eventually("the device is on the line", || tab.text(&line) == state);
    }
    let down = "PROBLEM: web-01 is DOWN!";
    // The relay is told of the phone by the data base, which it reads now and then.
    eventually("the phone gets an alert", || {
        tab.click("#alert-send");
        !alerts(&mut tab, "#phone").is_empty()
    });
    // The phone may well have it before the sender has its answer.
    eventually("the answer is told", || {
        tab.text("#alert-result") == "200 “ok”: the server took it."
    });
    assert_eq!(alerts(&mut tab, "#phone")[0], down);
    let pushed = tab.texts("#phone li pre").remove(0);
    assert!(pushed.contains("\"title\": \"PROBLEM: web-01 is DOWN!\""), "{pushed}");
    for device in ["#browser-a", "#browser-b"] {
        eventually("the browser gets it", || {
            alerts(&mut tab, device).first().is_some_and(|it| it == down)
        });
    }

    // One browser less: the others still get what comes.
    tab.click("#browser-b button");
    assert_eq!(tab.text("#browser-b .line"), "disconnected");
    let before = alerts(&mut tab, "#browser-b").len();
    rewrite(&mut tab, "<i>now</i>");
    tab.click("#alert-send");
    for device in ["#browser-a", "#phone"] {
        let text = format!("{device} li:last-child .text");
        eventually("the alert arrives", || tab.texts(&text) == ["<i>now</i>"]);
    }
    assert_eq!(tab.eval("document.querySelectorAll('.device i').length"), 0, "taken for HTML");
    assert_eq!(alerts(&mut tab, "#browser-b").len(), before);
    assert!(tab.errors().is_empty(), "{:?}", tab.errors());

    // Nobody is left.
    tab.click("#browser-a button");
    tab.click("#phone button");
    let nobody = "202 “User is not registered for push notifications”: nobody listens.";
    eventually("the page says so", || {
        tab.click("#alert-send");
        tab.text("#alert-result") == nobody
    });
    // And back again.
    tab.click("#browser-b button");
    eventually("it is registered", || tab.text("#browser-b .line") == "registered");
    tab.click("#alert-send");
    eventually("the alert arrives", || alerts(&mut tab, "#browser-b").len() == before + 1);
}

#[test]
fn the_command_says_what_the_form_says() {
    let server = demo(0);
    let browser = Browser::start();
    let mut tab = browser.open(&format!("http://{}/", server.address));
    eventually("the form is filled", || tab.texts("#level option").len() == 3);
    tab.eval("(() => { const choice = document.querySelector('#object'); choice.value = [...choice.options].find(o => o.text === 'db-01/Disk usage').value; choice.dispatchEvent(new Event('change', { bubbles: true })); })()");
    assert_eq!(tab.texts("#level option"), ["OK", "WARNING", "CRITICAL", "UNKNOWN"]);
    rewrite(&mut tab, "it's full");
    let command = tab.text("#command");
    for part in [
        &format!("OITC_ADDRESS={} pushmux send --type Service ", server.address),
        " --notificationtype PROBLEM ",
        " --state 2 ",
        r" --output 'it'\''s full' --user-id 1",
    ] {
        assert!(command.contains(part), "{part} is not in {command}");
    }
}
