//! The command line as a user types it.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use serde_json::json;

use crate::support::http::post_json;
use crate::support::server::{Builder, program};
use crate::support::ws::Ws;

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs pushmux in a folder and expects success.
fn run(folder: &std::path::Path, args: &[&str]) -> String {
    let output = program().args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

/// Publishes and receives with tokens made by `token sign` for the key in `folder`.
fn round_trip(folder: &std::path::Path, public_base64: &str, key: &str) {
    let server = Builder::new().env("PORT", "0").env("JWT_PUBLIC_KEY_B64", public_base64).start();
    let sign = |scope| {
        let args =
            ["token", "sign", "--scope", scope, "--topic", "x", "--topic", "news", "--key", key];
        run(folder, &args).trim().to_owned()
    };
    let mut client = Ws::open(server.address);
    client.text(&format!("/subscribe news {}", sign("subscribe")));
    client.settle();
    let body = json!({ "topic": "news", "message": "hello", "token": sign("broadcast") });
    assert_eq!(post_json(server.address, "/broadcast", &body.to_string()).status, 200);
    assert_eq!(client.next_text(), "hello");
}

#[test]
fn keygen_and_sign_are_all_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    assert!(
        !run(folder.path(), &["token", "sign", "--help"]).contains("--port"),
        "only what matters there"
    );
    let line = run(folder.path(), &["token", "keygen"]);
    let base64 = line.trim().strip_prefix("JWT_PUBLIC_KEY_B64=").unwrap();
    let mode = std::fs::metadata(folder.path().join("private.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else may read the private key");
    round_trip(folder.path(), base64, "private.pem");
    // A second run must not take the key away from a running system.
    let before = std::fs::read(folder.path().join("private.pem")).unwrap();
    let again = program().args(["token", "keygen"]).current_dir(folder.path()).output();
    let again = again.unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("exists already"));
    assert_eq!(std::fs::read(folder.path().join("private.pem")).unwrap(), before);
}

/// The commands that the original's users have in their notes, word for word.
#[test]
fn keys_made_by_openssl_work() {
    let folder = tempfile::tempdir().unwrap();
    let script = "openssl ecparam -genkey -name prime256v1 -out es256_private.pem \
        && openssl ec -in es256_private.pem -pubout -out es256_public.pem && cat es256_public.pem | base64";
    let output =
        Command::new("sh").args(["-c", script]).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let base64 = stdout(&output);
    assert!(base64.trim().contains('\n'), "base64 wraps its lines");
    round_trip(folder.path(), &base64, "es256_private.pem");
    let pkcs8 = "openssl pkcs8 -topk8 -nocrypt -in es256_private.pem -out pkcs8.pem";
    assert!(
        Command::new("sh")
            .args(["-c", pkcs8])
            .current_dir(folder.path())
            .status()
            .unwrap()
            .success()
    );
    round_trip(folder.path(), &base64, "pkcs8.pem");
}

#[test]
fn what_cannot_be_signed_is_named() {
    for (args, expected) in [
        (
            vec!["token", "sign", "--scope", "subscribe", "--topic", "t"],
            "cannot read the key private.pem: No such file",
        ),
        (
            vec!["token", "sign", "--scope", "subscribe", "--topic", "t", "--key", "public.pem"],
            "public.pem: found a public key, expected the private one",
        ),
        (
            vec!["token", "sign", "--scope", "admin", "--topic", "t"],
            "possible values: subscribe, broadcast",
        ),
        (vec!["token", "sign", "--scope", "subscribe"], "--topic <TOPIC>"),
        (
            vec!["token", "sign", "--scope", "subscribe", "--topic", "t", "--expires", "soon"],
            "invalid value 'soon'",
        ),
        (vec!["--no-such-flag"], "unexpected argument '--no-such-flag'"),
    ] {
        let mut builder = Builder::new()
            .file("public.pem", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n");
        for arg in &args {
            builder = builder.args([arg]);
        }
        let output = builder.output();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn a_port_that_is_taken_is_a_failure_while_running() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = Builder::notiflux().args(["--port", &port]).output();
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "cannot listen on 127.0.0.1:{port} (server.host, server.port): Address already in use"
    );
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
}

#[test]
fn the_log_is_text_or_json() {
    let mut server = Builder::notiflux().args(["--log-format", "json", "-v"]).start();
    server.stop();
    let log = server.log();
    assert!(log.lines().count() >= 4);
    for line in log.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["level"].is_string() && event["message"].is_string(), "{line}");
    }
    let mut server =
        Builder::notiflux().env("RUST_LOG", "error").args(["--log-format", "text", "-v"]).start();
    server.stop();
    assert!(
        server.log().contains(" INFO ") && !server.log().contains('\u{1b}'),
        "plain text when it is no terminal"
    );
}

#[test]
fn help_completions_and_the_manual_page_know_every_command() {
    let text = |args: [&str; 2]| {
        let builder = Builder::new();
        stdout(
            &args
                .iter()
                .filter(|arg| !arg.is_empty())
                .fold(builder, |b, arg| b.args([arg]))
                .output(),
        )
    };
    let (help, man) = (text(["--help", ""]), text(["man", ""]));
    for word in
        ["run", "config", "token", "completions", "man", "--profile", "--log-format", "Exit codes"]
    {
        assert!(help.contains(word), "{word} in --help");
    }
    for words in [
        "EXIT STATUS",
        "JWT_PUBLIC_KEY_B64",
        "/etc/pushmux/config.toml",
        "pushmux token sign",
        "pushmux config check",
        "Sign a token",
        "expires",
    ] {
        assert!(man.to_lowercase().contains(&words.to_lowercase()), "{words} in the manual page");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(["completions", shell]).contains("keygen"), "{shell}");
    }
}

#[test]
fn the_demo_says_what_it_is_and_hands_out_tokens_that_work() {
    let server = Builder::new().args(["--profile", "demo", "--port", "0"]).start();
    crate::support::eventually("the greeting is complete", || {
        server.stdout().contains("/broadcast")
    });
    let greeting = server.stdout();
    assert!(greeting.contains("This is a demo"));
    assert!(server.address.ip().is_loopback());
    let mut client = Ws::open_path(server.address, "/ws?ack=true");
    let subscribe = greeting.lines().find(|line| line.starts_with("/subscribe ")).unwrap();
    client.text(subscribe);
    assert_eq!(client.next_text(), "/subscribed demo");
    let curl = greeting.lines().find(|line| line.starts_with("curl ")).unwrap();
    let body = curl.split('\'').find(|part| part.starts_with('{')).unwrap();
    assert_eq!(post_json(server.address, "/broadcast", body).status, 200);
    assert_eq!(client.next_text(), "hello");
    for secret in subscribe.split(' ').skip(2) {
        assert!(!server.log().contains(secret), "tokens go to the terminal, not into the log");
    }
}
