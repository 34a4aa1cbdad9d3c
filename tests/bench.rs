//! `pushmux bench` against pushmux, and against a server that makes mistakes.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::oitc;
use crate::support::server::{Builder, Server, program};
use crate::support::stub::{Mistake, PAUSE, Stub};

/// A run: what it printed, and its figures if it came so far.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    figures: Value,
}

impl Run {
    #[track_caller]
    fn good(&self) {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        assert_eq!(
            (&self.figures["good"], &self.figures["faults"]),
            (&true.into(), &Value::Array(vec![]))
        );
        assert!(self.stdout.contains("result            good"), "{}", self.stdout);
    }

    /// A figure by its way through the JSON.
    #[track_caller]
    fn count(&self, pointer: &str) -> u64 {
        let found = self.figures.pointer(pointer).and_then(Value::as_u64);
        found.unwrap_or_else(|| panic!("{pointer} in {:#}", self.figures))
    }
}

/// Runs `pushmux bench` in a folder; `key` is in the variable `BENCH_KEY`.
fn bench(folder: &Path, args: &[&str], key: &str) -> Run {
    let json = folder.join("figures.json");
    let Output { status, stdout, stderr } = program()
        .arg("bench")
        .args(args)
        .env("BENCH_KEY", key)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(stdout), text(stderr));
    let read = std::fs::read_to_string(&json).unwrap_or_default();
    for output in [&stdout, &stderr, &read] {
        assert!(key.is_empty() || !output.contains(key), "a secret in {output}");
    }
    let figures = serde_json::from_str(&read).unwrap_or(Value::Null);
    Run { code: status.code(), stdout, stderr, figures }
}

/// A notiflux server whose private key is in its folder.
fn notiflux(strict: &str) -> Server {
    let builder = Builder::new();
    let keygen = program().args(["token", "keygen"]).current_dir(builder.path()).output().unwrap();
    let line = String::from_utf8(keygen.stdout).unwrap();
    let key = line.trim().strip_prefix("JWT_PUBLIC_KEY_B64=").unwrap();
    builder
        .env("PORT", "0")
        .env("JWT_PUBLIC_KEY_B64", key)
        .env("PUSHMUX_PROTOCOL__NOTIFLUX__STRICT", strict)
        .start()
}

fn on_notiflux(server: &Server, args: &[&str]) -> Run {
    let url = format!("http://{}", server.address);
    let all = ["notiflux", "--url", &url, "--json", "figures.json"];
    let cold: &[_] = if args.contains(&"--warmup") { &[] } else { &["--warmup", "0s"] };
    bench(server.path(), &[&all, cold, args].concat(), "")
}

#[test]
fn everything_that_was_published_comes_once_to_everybody() {
    let server = notiflux("true");
    let key = ["--key", "private.pem", "--subscribers", "20"];
    let run =
        on_notiflux(&server, &[&key[..], &["--messages", "50", "--svg", "plot.svg"]].concat());
    run.good();
    for (pointer, count) in [
        ("/published/measured", 50),
        ("/received/delivered", 1000),
        ("/received/expected", 1000),
        ("/received/measured", 1000),
        ("/received/latency_ns/count", 1000),
        ("/received/first_to_last_ns/count", 50),
        ("/published/answer_ns/count", 50),
        ("/server_says/accepted", 1000),
        ("/server_says/dropped", 0),
        ("/server/pids/0", server.pid().into()),
    ] {
        assert_eq!(run.count(pointer), count, "{pointer}");
    }
    assert!(run.count("/server/rss_bytes/end") > 1024 * 1024);
    let over_time = run.figures["over_time"].as_array().unwrap();
    let counted: u64 = over_time.iter().map(|slice| slice["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, 1000);
    let svg = std::fs::read_to_string(server.path().join("plot.svg")).unwrap();
    assert!(svg.contains("<polyline class=\"p99\" points=\""), "{svg}");

    let more = ["--topics", "7", "--in-flight", "5", "--threads", "2", "--payload", "2000"];
    let rated = ["--rate", "2000", "--messages", "600", "--warmup", "100ms"];
    let run = on_notiflux(&server, &[&key[..], &more, &rated].concat());
    run.good();
    assert_eq!(run.count("/published/measured"), 600);
    assert!(run.count("/published/unmeasured") > 0, "it has warmed up");
    assert_eq!(run.count("/server_says/accepted"), run.count("/received/delivered"));
}

#[test]
fn each_publish_can_have_a_token_of_its_own() {
    let server = notiflux("true");
    let args = ["--key", "private.pem", "--subscribers", "2", "--messages", "30", "--new-tokens"];
    on_notiflux(&server, &args).good();
    // Without a number of messages nobody knows how many tokens to sign.
    let run = on_notiflux(&server, &["--key", "private.pem", "--new-tokens"]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("--new-tokens: found no number of messages"), "{}", run.stderr);
}

#[test]
fn tokens_come_from_files_and_variables_and_are_not_printed() {
    let server = notiflux("false");
    let sign = |scope| {
        let args = ["token", "sign", "--scope", scope, "--topic", "bench"];
        let mut command = program();
        let output = command.args(args).current_dir(server.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    std::fs::write(server.path().join("subscribe.token"), sign("subscribe")).unwrap();
    let url = format!("http://{}", server.address);
    let args = [
        &["notiflux", "--url", &url, "--subscribe-token", "file:subscribe.token"][..],
        &["--broadcast-token", "env:BENCH_KEY", "--subscribers", "5", "--messages", "10"],
        &["--warmup", "0s", "--json", "figures.json", "--settle", "1s"],
    ]
    .concat();
    bench(server.path(), &args, sign("broadcast").trim()).good();
    // A server that is not strict answers 200 to a bad token: nothing comes.
    let run = bench(server.path(), &args, "a.bad.token");
    assert_eq!(run.code, Some(1));
    assert!(
        run.stderr.starts_with("only 0 of 5 subscribers got a first message"),
        "{}",
        run.stderr
    );
}

#[test]
fn who_stops_reading_comes_back_or_comes_and_goes_spoils_nothing() {
    let server = notiflux("true");
    let key = ["--key", "private.pem", "--subscribers", "10", "--topics", "2"];
    let run = on_notiflux(&server, &[&key[..], &["--messages", "40", "--slow", "3"]].concat());
    run.good();
    assert_eq!(run.count("/received/delivered"), 40 / 2 * 7);
    let run =
        on_notiflux(&server, &[&key[..], &["--messages", "40", "--reconnect-storm"]].concat());
    run.good();
    assert!(run.count("/reconnect_storm_ns") > 0);
    // Every topic has proof that all its subscribers are back.
    assert!(run.count("/published/unmeasured") == 2 && run.count("/received/delivered") >= 10);
    // It begins in the middle even if nothing is due there.
    let rare = ["--rate", "0.2", "--duration", "300ms", "--reconnect-storm"];
    let run =
        on_notiflux(&server, &["--key", "private.pem"].into_iter().chain(rare).collect::<Vec<_>>());
    run.good();
    assert!(run.count("/reconnect_storm_ns") > 0);
    let churn = ["--rate", "100", "--messages", "50", "--churn", "200"];
    let run = on_notiflux(&server, &[&key[..], &churn].concat());
    run.good();
    assert!(run.count("/churn/ns/count") > 0);
    assert_eq!(run.count("/received/delivered"), 250);
}

#[test]
fn idle_connections_are_weighed() {
    let server = notiflux("true");
    let run = on_notiflux(&server, &["--key", "private.pem", "--subscribers", "500", "--idle"]);
    run.good();
    let [start, connected, subscribed] = ["start", "connected", "subscribed"]
        .map(|name| run.count(&format!("/server/rss_bytes/{name}")));
    assert!(start < connected && connected <= subscribed, "{start} {connected} {subscribed}");
    assert!(run.stdout.contains("bytes for each connection"), "{}", run.stdout);
}

#[test]
fn browsers_of_openitcockpit_get_every_notification_once() {
    let (server, folder) = (oitc::on_sqlite(), tempfile::tempdir().unwrap());
    let url = format!("http://{}", server.address);
    let args = [
        &["oitc", "--url", &url, "--api-key", "env:BENCH_KEY", "--host-uuid", oitc::HOST][..],
        &["--users", "3", "--browsers-per-user", "4", "--messages", "30", "--warmup", "0s"],
        &["--json", "figures.json"],
    ]
    .concat();
    let run = bench(folder.path(), &args, oitc::KEY);
    run.good();
    assert_eq!(run.count("/received/delivered"), 120);
    // Each browser is greeted.
    assert!(run.count("/received/others") >= 12);
    let run = bench(folder.path(), &args, "another-key");
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("the server answered a handshake with 401"), "{}", run.stderr);
    let mut unknown = args;
    unknown[6] = "00000000-0000-0000-0000-000000000000";
    let run = bench(folder.path(), &unknown, oitc::KEY);
    assert!(
        run.stderr.contains("the server answered the first publish with 400"),
        "{}",
        run.stderr
    );
}

/// A run on a server with a mistake. Nothing is waited for, so that no clock has a say in
/// what comes; only a loss is known by its not coming.
fn on_stub(mistake: Mistake) -> Run {
    let args = ["--messages", "20", "--wait", "answered", "--settle", "3s"];
    on_stub_with(mistake, &args)
}

fn on_stub_with(mistake: Mistake, args: &[&str]) -> Run {
    let (stub, folder) = (Stub::start(mistake), tempfile::tempdir().unwrap());
    let subscribe = format!("ws://{}/sub/{{topic}}", stub.address);
    let publish = format!("http://{}/pub", stub.address);
    let all = [
        &["generic", "--subscribe", &subscribe, "--publish", &publish, "--subscribers", "4"][..],
        &["--warmup", "0s", "--json", "figures.json"],
        args,
    ]
    .concat();
    bench(folder.path(), &all, "")
}

#[test]
fn a_server_without_mistakes_is_good() {
    let run = on_stub(Mistake::None);
    run.good();
    assert_eq!(run.count("/received/delivered"), 80);
    assert_eq!(run.figures["server_says"], Value::Null);
    // A server may end a connection with its answer, as nginx does after a thousand.
    on_stub(Mistake::CloseAfter).good();
}

#[test]
fn every_mistake_is_found_and_named() {
    for (mistake, pointer, sentence) in [
        (Mistake::Lose, "/received/lost", "1 message was lost"),
        (Mistake::Duplicate, "/received/duplicated", "1 message came twice"),
        (Mistake::Swap, "/received/out_of_order", "1 message came out of order"),
        (Mistake::Refuse, "/published/refused/503", "1 publish was refused or failed"),
        (
            Mistake::Change,
            "/received/changed",
            "1 message was lost; 1 message was changed on its way",
        ),
        (
            Mistake::Restamp,
            "/received/changed",
            "1 message was lost; 1 message was changed on its way",
        ),
    ] {
        let run = on_stub(mistake);
        assert_eq!(run.code, Some(1), "{mistake:?}");
        assert_eq!(run.stderr.trim(), sentence, "{mistake:?}: {}", run.stdout);
        assert_eq!(run.count(pointer), 1, "{mistake:?}");
        let delivered = match mistake {
            Mistake::Lose | Mistake::Change | Mistake::Restamp => 79,
            Mistake::Refuse => 76,
            _ => 80,
        };
        assert_eq!(run.count("/received/delivered"), delivered, "{mistake:?}");
    }
    let run = on_stub(Mistake::Disconnect);
    assert_eq!(run.code, Some(1));
    // It has missed the rest, from the fifth message on.
    let sentence = "16 messages were lost; 1 healthy subscriber was disconnected";
    assert_eq!(run.stderr.trim(), sentence, "{}", run.stdout);
}

#[test]
fn what_nobody_gets_or_answers_any_more_is_not_waited_for_each_time() {
    let delivered = ["--messages", "20", "--wait", "delivered", "--settle", "2s"];
    let run = on_stub_with(Mistake::Forget, &delivered);
    assert_eq!(run.code, Some(1));
    let sentence = "3 messages were lost; the run ended early: 3 times in a row a message was not with everybody within 2s";
    assert_eq!(run.stderr.trim(), sentence, "{}", run.stdout);
    assert_eq!((run.count("/published/measured"), run.count("/published/given_up")), (7, 3));
    let run = on_stub(Mistake::Mute);
    assert_eq!(run.code, Some(1));
    let sentence = "1 publish was refused or failed; the run ended early: no publish had an answer for 10s: no answer to a publish within 10 s";
    assert_eq!(run.stderr.trim(), sentence, "{}", run.stdout);
    assert_eq!(run.count("/published/measured"), 4);
}

#[test]
fn publishers_wait_for_subscribers_that_are_too_far_behind() {
    // One subscriber gets nothing from the fifth message on.
    let args = ["--wait", "answered", "--undelivered", "3", "--duration", "500ms"];
    let run = on_stub_with(Mistake::Forget, &[&args[..], &["--settle", "3s"]].concat());
    assert_eq!(run.stderr.trim(), "3 messages were lost", "{}", run.stdout);
    assert_eq!(run.count("/published/measured"), 4 + 3);
    // What is refused is not waited for.
    let args = ["--messages", "20", "--wait", "answered", "--undelivered", "1"];
    let run = on_stub_with(Mistake::RefuseAll, &[&args[..], &["--settle", "60s"]].concat());
    assert_eq!(run.stderr.trim(), "16 publishes were refused or failed");
}

#[test]
fn at_a_rate_latency_counts_from_when_a_message_was_due() {
    let args = ["--messages", "20", "--wait", "answered", "--rate", "1000", "--settle", "3s"];
    let run = on_stub_with(Mistake::Pause, &args);
    run.good();
    // The 15 messages after the pause were due within it, and no later than 15 ms from its
    // start: most of the 80 are late by nearly all of it.
    let late = u64::try_from(PAUSE.as_nanos()).unwrap() / 2;
    assert!(run.count("/received/latency_ns/p50") > late, "{}", run.stdout);
    // What is refused is no matter of how many are in flight.
    let run = on_stub_with(Mistake::RefuseAll, &args);
    assert_eq!(run.stderr.trim(), "16 publishes were refused or failed");
    assert!(!run.stdout.contains("--in-flight"), "{}", run.stdout);
}

#[test]
fn passwords_and_tokens_in_urls_are_not_printed() {
    let folder = tempfile::tempdir().unwrap();
    for (args, found) in [
        (&["notiflux", "--key", "k", "--url", "https://u:s3cret@h"][..], "--url: found a URL with"),
        (&["notiflux", "--key", "k", "--url", "https://h/?token=s3cret"], "found \"https://h/\""),
        (&["generic", "--subscribe", "wss://u:s3cret@h/{topic}"], "--subscribe: found a URL with"),
        (&["generic", "--publish", "https://u:s3cret@h/{topic}"], "--publish: found a URL with"),
        (&["generic", "--topics", "2", "--publish", "http://u:s3cret@h"], "--publish: found a URL"),
        (&["generic", "--publish", "h/?token=s3cret"], "--publish: found \"h/\""),
        (
            &["generic", "--topics", "2", "--subscribe", "ws://h/?token=s3cret"],
            "no {topic} in \"ws://h/\"",
        ),
    ] {
        // It looks for the secret in all that is printed.
        let run = bench(folder.path(), args, "s3cret");
        assert_eq!(run.code, Some(2), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(found), "{args:?}: {}", run.stderr);
    }
}

#[test]
fn wrong_usage_names_the_flag_what_was_found_and_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("empty"), "").unwrap();
    let notiflux = ["notiflux", "--key", "private.pem"];
    let tokens = ["notiflux", "--broadcast-token", "env:BENCH_KEY", "--subscribe-token"];
    let oitc = ["oitc", "--api-key", "env:BENCH_KEY", "--host-uuid"];
    let two = ["generic", "--topics", "2", "--publish", "http://127.0.0.1/p/{topic}"];
    let case = |start: &[&'static str], rest: &[&'static str]| [start, rest].concat();
    for (args, found) in [
        (case(&notiflux, &[]), "--key: cannot read private.pem"),
        (case(&notiflux, &["--url", "https://x"]), "--url: found \"https://x\""),
        (case(&notiflux, &["--topic", "a b"]), "--topic: found \"a b\", expected letters"),
        (case(&notiflux, &["--rate", "fast"]), "'fast' for '--rate <N>': expected max"),
        (case(&notiflux, &["--payload", "43"]), "'43' for '--payload <BYTES>': 43 is not in 44"),
        (case(&notiflux, &["--in-flight", "0"]), "'0' for '--in-flight <N>'"),
        (case(&notiflux, &["--idle", "--slow", "1"]), "'--slow <N>'"),
        (case(&["notiflux"], &[]), "--key <FILE>"),
        (case(&tokens, &["tok"]), "--subscribe-token: found neither file: nor env:"),
        (case(&tokens, &["file:nowhere"]), "--subscribe-token: cannot read nowhere"),
        (case(&tokens, &["file:empty"]), "--subscribe-token: found nothing"),
        (case(&tokens, &["env:NO_SUCH"]), "--subscribe-token: the variable NO_SUCH is not set"),
        (case(&oitc, &["web-01"]), "--host-uuid: found \"web-01\", expected something like"),
        (case(&two, &["--subscribe", "ws://127.0.0.1/s"]), "--subscribe: found no {topic} in"),
        (case(&["generic", "--subscribers", "3"], &["--topics", "4"]), "--topics: found 4"),
        (case(&["generic", "--subscribers", "3"], &["--slow", "3"]), "--slow: found 3"),
        (case(&["generic", "--pid", "4194305"], &[]), "--pid: found 4194305, expected"),
        (case(&["generic", "--duration", "0s"], &[]), "--duration: found 0s"),
    ] {
        let run = bench(folder.path(), &args, "s3cret");
        assert_eq!(run.code, Some(2), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(found), "{args:?}: {}", run.stderr);
        assert!(!run.stderr.contains("tok\""), "{}", run.stderr);
    }
}

#[test]
fn a_server_that_is_not_there_is_a_failure_and_no_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    let run = bench(folder.path(), &["generic", "--subscribe", "ws://127.0.0.1:1/"], "");
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("cannot connect to 127.0.0.1:1"), "{}", run.stderr);
}
