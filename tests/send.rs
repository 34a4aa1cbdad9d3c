//! `pushmux send`, alone and under the name of the program it replaces.

use std::ffi::{OsStr, OsString};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStringExt as _;
use std::process::Output;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::support::DEADLINE;
use crate::support::http::{Answer, parse_head, read_head};
use crate::support::server::{BINARY, program, program_at};

/// A server for one request: it reads it whole, sends `answer` as it is and closes.
struct Stub {
    address: SocketAddr,
    request: JoinHandle<Request>,
}

/// A request as it came.
struct Request {
    line: String,
    head: Answer,
    body: Vec<u8>,
}

fn stub(answer: &'static str) -> Stub {
    stub_at("127.0.0.1:0", answer)
}

fn stub_at(address: &str, answer: &'static str) -> Stub {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let request = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let (text, mut body) = read_head(&mut stream);
        let line = text.lines().next().unwrap().to_owned();
        // A request's headers, under a status line that the helper understands.
        let head = parse_head(&text.replacen(&line, "HTTP/1.1 000", 1));
        let missing = head.header("content-length").unwrap().parse::<usize>().unwrap() - body.len();
        let mut rest = vec![0; missing];
        stream.read_exact(&mut rest).unwrap();
        body.append(&mut rest);
        stream.write_all(answer.as_bytes()).unwrap();
        Request { line, head, body }
    });
    Stub { address, request }
}

impl Stub {
    fn request(self) -> Request {
        self.request.join().unwrap()
    }
}

/// Runs `pushmux send` with nothing in its environment but the server's address.
fn send<S: AsRef<OsStr>>(server: &str, args: &[S]) -> Output {
    let mut command = program();
    command.arg("send").args(args);
    command.env("OITC_ADDRESS", server).output().unwrap()
}

#[track_caller]
fn assert_output(output: &Output, code: i32, stdout: &str, stderr: &str) {
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
    assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
    assert_eq!(output.status.code(), Some(code));
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn naemons_call_arrives_as_the_original_would_send_it() {
    let stub = stub(OK);
    let address = stub.address.to_string();
    // A host's alert: no service, nobody acknowledged anything.
    let args = [
        "--type",
        "Host",
        "--notificationtype",
        "PROBLEM",
        "--hostuuid",
        "c36b",
        "--state",
        "1",
        "--output",
        "-down: \"50%\"\n",
        "--ackauthor",
        "",
        "--ackcomment",
        "",
        "--user-id",
        "7",
    ];
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert_output(&send(&address, &args), 0, "Response status: 200 OK\nok\n", "");
    let request = stub.request();
    assert_eq!(request.line, "POST /message HTTP/1.1");
    assert_eq!(request.head.header("content-type"), Some("application/json"));
    assert_eq!(request.head.header("host"), Some(address.as_str()));
    let sent: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    let timestamp = sent["timestamp"].as_u64().unwrap();
    assert!((before..=before + DEADLINE.as_secs()).contains(&timestamp));
    let expected = format!(
        r#"{{"timestamp":{timestamp},"userId":7,"type":"Host","hostUuid":"c36b","serviceUuid":"","icon":"","state":1,"notificationtype":"PROBLEM","output":"-down: \"50%\"\n","ackauthor":"","ackcomment":""}}"#
    );
    assert_eq!(String::from_utf8(request.body).unwrap(), expected);
}

#[test]
fn what_is_not_utf_8_is_sent_as_well_as_json_can() {
    let stub = stub(OK);
    let args = ["-user-id=1", "-output"].map(OsString::from).into_iter();
    let args: Vec<_> = args.chain([OsString::from_vec(b"a\xffb".to_vec())]).collect();
    assert_eq!(send(&stub.address.to_string(), &args).status.code(), Some(0));
    let sent: serde_json::Value = serde_json::from_slice(&stub.request().body).unwrap();
    assert_eq!(sent["output"], json!("a\u{fffd}b"));
}

#[test]
fn the_answer_is_printed_and_decides_the_exit_code() {
    let accepted = "HTTP/1.1 202 Accepted\r\nContent-Length: 48\r\n\r\nUser is not registered for push notifications :)";
    let printed =
        "Response status: 202 Accepted\nUser is not registered for push notifications :)\n";
    let bad = "HTTP/1.1 400 Bad Request\r\nContent-Length: 13\r\n\r\nInvalid JSON\n";
    let broken = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 29\r\n\r\nDB error while fetching host\n\n";
    let chunked = "HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let redirect = "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
    for (args, answer, code, stdout) in [
        (&["-user-id", "1"][..], accepted, 1, printed),
        (&["-user-id", "1", "--accept-202"], accepted, 0, printed),
        (&["-accept-202=false", "-user-id", "1"], accepted, 1, printed),
        (&["-user-id", "1"], bad, 1, "Response status: 400 Bad Request\nInvalid JSON\n\n"),
        (
            &["-user-id", "1", "-accept-202"],
            bad,
            1,
            "Response status: 400 Bad Request\nInvalid JSON\n\n",
        ),
        (
            &["-user-id", "1"],
            broken,
            1,
            "Response status: 500 Internal Server Error\nDB error while fetching host\n\n",
        ),
        (&["-user-id", "1"], chunked, 0, "Response status: 200 Fine\nok\n"),
        (&["-user-id", "1"], redirect, 1, "Response status: 302 Found\n\n"),
    ] {
        let stub = stub(answer);
        assert_output(&send(&stub.address.to_string(), args), code, stdout, "");
        stub.request();
    }
}

#[test]
fn without_an_answer_the_reason_is_told() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failed = |address: &str, reason: &str| {
        format!("HTTP request failed: Post \"http://{address}/message\": {reason}\n")
    };
    let refused = format!("dial tcp {unused}: connect: connection refused");
    let output = send(&unused.to_string(), &["-user-id", "1"]);
    assert_output(&output, 1, "", &failed(&unused.to_string(), &refused));
    // Servers that close too early: without a word, and in the middle of a body.
    for (answer, reason) in [
        ("", "no answer: connection closed before message completed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "broken answer: "),
        ("SSH-2.0-OpenSSH_9.6\r\n", "no answer: "),
    ] {
        let stub = stub(answer);
        let address = stub.address.to_string();
        let output = send(&address, &["-user-id", "1"]);
        let expected = failed(&address, reason);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with(expected.trim_end_matches('\n')), "{stderr}");
        assert!(stderr.ends_with('\n') && stderr.lines().count() == 1, "{stderr}");
        assert_eq!(output.status.code(), Some(1));
        stub.request();
    }
}

#[test]
fn the_address_may_be_ipv6_or_nonsense() {
    let stub = stub_at("[::1]:0", OK);
    let address = stub.address.to_string();
    assert_output(&send(&address, &["-user-id=1"]), 0, "Response status: 200 OK\nok\n", "");
    assert_eq!(stub.request().head.header("host"), Some(address.as_str()));
    let expected = "HTTP request failed: Post \"http://http://push:8083/message\": OITC_ADDRESS \
        must be a host name or an IP address, with or without a port\n";
    assert_output(&send("http://push", &["-user-id=1"]), 1, "", expected);
}

/// Proxies are for the web; the push server is next door.
#[test]
fn proxies_in_the_environment_are_not_asked() {
    let stub = stub(OK);
    let mut command = program();
    command.args(["send", "-user-id", "1"]);
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, "http://127.0.0.1:9");
    }
    // A name, because loopback addresses need no proxy anyway.
    let server = format!("localhost:{}", stub.address.port());
    let output = command.env("OITC_ADDRESS", server).output().unwrap();
    assert_output(&output, 0, "Response status: 200 OK\nok\n", "");
    assert_eq!(stub.request().line, "POST /message HTTP/1.1");
}

#[test]
fn wrong_usage_is_told_as_by_the_original() {
    let usage = String::from_utf8(send("", &["-h"]).stderr).unwrap();
    assert!(usage.starts_with("Usage of pushmux send:\n  -accept-202\n    \t"), "{usage}");
    for help in ["-h", "-help", "--help"] {
        assert_output(&send("", &[help]), 0, "", &usage);
    }
    for (args, error) in [
        // What an empty macro of Naemon leaves behind.
        (&["--state", "1", "--user-id"][..], "flag needs an argument: -user-id"),
        (&["-bogus"], "flag provided but not defined: -bogus"),
        (&["-user-id", "abc"], "invalid value \"abc\" for flag -user-id: parse error"),
        (
            &["-user-id=9223372036854775808"],
            "invalid value \"9223372036854775808\" for flag -user-id: value out of range",
        ),
        (&["---state", "1"], "bad flag syntax: ---state"),
    ] {
        assert_output(&send("", args), 2, "", &format!("{error}\n{usage}"));
    }
    for args in [&[][..], &["-user-id", "0"], &["-user-id=-1"], &["word", "-user-id", "1"]] {
        assert_output(&send("", args), 1, "", "user-id is required and must be > 0\n");
    }
}

#[test]
fn under_the_originals_name_it_is_the_original() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("send_push_notification");
    std::os::unix::fs::symlink(BINARY, &link).unwrap();
    let run = |server: &str, args: &[&str]| {
        program_at(&link).args(args).env("OITC_ADDRESS", server).output().unwrap()
    };
    let stub = stub(OK);
    let output = run(&stub.address.to_string(), &["-t", "Service", "-user-id", "0x10"]);
    assert_output(&output, 0, "Response status: 200 OK\nok\n", "");
    let sent: serde_json::Value = serde_json::from_slice(&stub.request().body).unwrap();
    assert_eq!((&sent["type"], &sent["userId"]), (&json!("Service"), &json!(16)));
    let usage = String::from_utf8(run("", &["--help"]).stderr).unwrap();
    assert!(usage.starts_with(&format!("Usage of {}:\n", link.display())), "{usage}");
    // Here `send` is no command but a word, and ends the flags.
    let output = run("", &["send", "-h"]);
    assert_output(&output, 1, "", "user-id is required and must be > 0\n");
}

#[test]
fn clap_knows_the_command_too() {
    let run = |args: &[&str]| {
        let mut command = program();
        let output = command.args(args).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (_, help) = run(&["help", "send"]);
    for word in ["OITC_ADDRESS", "-notificationtype string", "-accept-202", "Exit codes"] {
        assert!(help.contains(word), "{word}: {help}");
    }
    assert!(run(&["--help"]).1.contains("\n  send "));
    assert!(run(&["man"]).1.contains("user\\-id int"));
    assert!(run(&["completions", "bash"]).1.contains("pushmux__subcmd__send"));
    // Behind global flags the command is found by clap, and parsed as ever.
    let (code, text) = run(&["-v", "send", "-hostuuid", "x", "-bogus"]);
    assert_eq!(code, Some(2));
    assert!(text.starts_with("flag provided but not defined: -bogus\nUsage of pushmux send:"));
}
