//! Configuration: layers, faults, and what is told about both.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::http;
use crate::support::server::Builder;
use crate::support::token::Keys;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn check(builder: Builder) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = builder.args(["config", "check"]).output();
    (status.code(), text(&stderr))
}

pub fn show(builder: Builder) -> String {
    text(&builder.args(["config", "show"]).output().stdout)
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name)
}

/// Each invalid file stands beside the text a user must see for it. To accept a new
/// text, look at it first, then run with `UPDATE_GOLDEN=1`.
#[test]
fn every_invalid_file_gets_exactly_its_errors_and_exit_code_2() {
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(folder("invalid")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let content = std::fs::read_to_string(&path).unwrap();
        let run = |args: [&str; 3]| {
            let output = Builder::new().file(&name, &content).args(args).output();
            assert_eq!(output.status.code(), Some(2), "{name}");
            text(&output.stderr)
        };
        let found = run(["config", "check", &name]);
        assert_eq!(run(["run", "--config", &name]), found, "run and check differ: {name}");
        let expected = path.with_extension("error");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&expected, &found).unwrap();
        }
        let expected = std::fs::read_to_string(expected).unwrap_or_default();
        assert_eq!(found, expected, "the errors of {name} have changed");
        seen.insert(name);
    }
    assert!(seen.contains("ten-faults.toml") && seen.len() >= 5, "{seen:?}");
}

#[test]
fn what_is_shown_has_the_port_of_operators_and_no_line_that_a_variable_brought() {
    let shown = show(
        Builder::notiflux()
            .env("PUSHMUX_ADMIN__LISTEN", "127.0.0.1:0")
            .env("PUSHMUX_X\n[server]\nport", "1"),
    );
    let table: toml::Table = shown.parse().expect("it is a configuration");
    assert_eq!(table["admin"]["listen"].as_str(), Some("127.0.0.1:0"), "{shown}");
    assert!(shown.contains(r"# note: environment variable PUSHMUX_X\n[server]\nport"), "{shown}");
}

#[test]
fn ten_faults_are_ten_lines_with_key_and_place() {
    let content = std::fs::read_to_string(folder("invalid/ten-faults.toml")).unwrap();
    assert!(content.lines().count() >= 60);
    let (code, faults) = check(Builder::new().file("config.toml", &content));
    assert_eq!(code, Some(2));
    let lines: Vec<_> = faults.lines().collect();
    assert_eq!(lines.len(), 10, "{faults}");
    for (line, key) in lines.iter().zip([
        "server.port",
        "server.header_timeout",
        "server.max_haeders",
        "log.format",
        "auth.jwt.public_key",
        "auth.jwt.audience",
        "sink.ws.topics.0",
        "sink.audit.type",
        "protocol.notiflux.auth",
        "metrics",
    ]) {
        let (place, rest) = line.split_once(": ").unwrap();
        let number: usize = place.strip_prefix("./config.toml:").unwrap().parse().unwrap();
        let last = key.trim_end_matches(".0").rsplit('.').next().unwrap();
        let written = content.lines().nth(number - 1).unwrap();
        assert!(written.contains(last), "{line} does not point at {last}: {written}");
        assert!(rest.starts_with(&format!("{key}: ")), "{line}");
        assert!(rest.contains("found") || rest.contains("unknown") || rest.contains("no ["));
    }
}

#[test]
fn faults_of_variables_and_flags_name_them() {
    let (code, faults) = check(
        Builder::notiflux()
            .env("PORT", "lots")
            .env("WORKER_COUNT", "0")
            .env("PUSHMUX_PROTOCOL__NOTIFLUX__ACK", "maybe")
            .env("PUSHMUX_SERVER__PROT", "1")
            .env(&format!("PUSHMUX_A{}", "__A".repeat(16)), "1"),
    );
    assert_eq!(code, Some(2));
    for expected in [
        "environment variable PORT: server.port: found string \"lots\", expected a number from 0 to 65535",
        "environment variable WORKER_COUNT: server.workers: found 0, expected a number from 1 to 1024",
        "environment variable PUSHMUX_PROTOCOL__NOTIFLUX__ACK: protocol.notiflux.ack: found string \"maybe\", expected true or false",
        "environment variable PUSHMUX_SERVER__PROT: server.prot: unknown field `prot`, expected one of `host`, ",
        "__A__A: found a key of 17 names, expected PUSHMUX_<SECTION>__<NAME>__<KEY>, 16 names at most\n",
    ] {
        assert!(faults.contains(expected), "{expected}\nis not in\n{faults}");
    }
    let (_, faults) = check(Builder::new().args(["--profile", "demo", "--port", "99999"]));
    assert_eq!(
        faults,
        "flag --port: server.port: found 99999, expected a number from 0 to 65535\n"
    );
}

#[test]
fn a_missing_key_says_which_variable_it_is_and_a_bad_one_stops_the_start() {
    let (code, faults) = check(Builder::new().args(["--profile", "notiflux"]));
    assert_eq!(code, Some(2));
    assert!(faults.starts_with("auth.jwt.public_key: missing: expected "), "{faults}");
    assert!(faults.contains("JWT_PUBLIC_KEY_B64"), "{faults}");
    // The original starts with this one and then refuses every token.
    let output = Builder::new().env("JWT_PUBLIC_KEY_B64", "aGVsbG8=").output();
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(error.starts_with(
        "environment variable JWT_PUBLIC_KEY_B64: auth.jwt.public_key: found neither PEM"
    ));
    assert!(!error.contains("aGVsbG8"), "a key is never repeated: {error}");
}

#[test]
fn without_anything_configured_the_way_on_is_named() {
    let (code, faults) = check(Builder::new());
    assert_eq!(code, Some(2));
    assert!(faults.contains("--profile notiflux"), "{faults}");
    let (_, faults) = check(Builder::new().env("PUSHMUX_PROFILE", "notifluxx"));
    assert!(
        faults.contains("unknown profile `notifluxx`, expected one of: notiflux, oitc, demo"),
        "{faults}"
    );
    let (_, faults) = check(Builder::new().args(["--config", "missing.toml"]));
    assert!(faults.contains("missing.toml: cannot be read: No such file"), "{faults}");
}

#[test]
fn the_environment_alone_runs_it_and_wrapped_base64_is_fine() {
    let base64 = Keys::server().public_base64();
    let lines: Vec<_> = base64.as_bytes().chunks(76).map(text).collect();
    for key in [base64, lines.join("\n") + "\n", Keys::server().public_pem()] {
        let server = Builder::new()
            .env("HOST", "127.0.0.1")
            .env("PORT", "0")
            .env("JWT_PUBLIC_KEY_B64", &key)
            .start();
        assert_eq!(http::request(server.address, "GET", "/health", &[], b"").status, 200);
    }
}

/// A port that nobody else is about to take.
fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    // Below the range from which the system hands out ports to everybody else.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) + (std::process::id() % 5_000) as u16;
        let port = 20_000 + offset % 10_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

#[test]
fn the_file_beats_the_environment_and_a_flag_beats_both() {
    let (by_env, by_file, by_flag) = (free_port(), free_port(), free_port());
    let good = Keys::server().public_base64();
    let other = Keys::attacker().public_base64();
    let build = || {
        Builder::new()
            .env("HOST", "localhost")
            .env("PORT", &by_env.to_string())
            .env("JWT_PUBLIC_KEY_B64", &other)
            .file(
                "config.toml",
                &format!("[server]\nhost = \"127.0.0.1\"\nport = {by_file}\n[auth.jwt]\npublic_key = \"{good}\"\n"),
            )
    };
    let shown = show(build());
    for expected in [
        "# shadowed: environment variable PORT (server.port) is overridden by ./config.toml:3\n",
        "# shadowed: environment variable HOST (server.host) is overridden by ./config.toml:2\n",
        "# shadowed: environment variable JWT_PUBLIC_KEY_B64 (auth.jwt.public_key) is overridden by ./config.toml:5\n",
        "# profile: notiflux (from environment variable JWT_PUBLIC_KEY_B64)\n",
    ] {
        assert!(shown.contains(expected), "{expected}\nis not in\n{shown}");
    }
    let line = |shown: &str, key: &str| {
        let found = shown.lines().find(|line| line.starts_with(&format!("{key} = ")));
        found.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line(&shown, "port"), format!("port = {by_file} # ./config.toml:3"));
    assert_eq!(line(&shown, "public_key"), "public_key = \"***\" # ./config.toml:5");
    assert_eq!(line(&shown, "ping_interval"), "ping_interval = \"15s\" # default");
    assert_eq!(line(&shown, "sink"), "sink = \"ws\" # profile notiflux");
    assert!(!shown.contains(&good) && !shown.contains(&other), "keys are masked");

    // And for real: the port, and whose tokens count.
    let server = build().start();
    assert_eq!(server.address.port(), by_file);
    assert!(server.log().contains("environment variable PORT (server.port) is overridden by"));
    let mut client = crate::support::ws::Ws::open(server.address);
    client.subscribe("t");
    let body = |keys: &Keys, message: &str| {
        serde_json::json!({ "topic": "t", "message": message, "token": keys.broadcast(&["t"]) })
            .to_string()
    };
    http::post_json(server.address, "/broadcast", &body(Keys::attacker(), "by the variable's key"));
    http::post_json(server.address, "/broadcast", &body(Keys::server(), "by the file's key"));
    assert_eq!(client.next_text(), "by the file's key");
    drop(server);

    let flags = ["--port", &by_flag.to_string()];
    let shown = show(build().args(flags));
    assert_eq!(line(&shown, "port"), format!("port = {by_flag} # flag --port"));
    assert!(shown.contains("PORT (server.port) is overridden by flag --port"));
    assert_eq!(build().args(flags).start().address.port(), by_flag);
}

#[test]
fn a_profile_can_be_named_in_the_file_by_variable_and_by_flag() {
    let profile = |builder: Builder| show(builder).lines().nth(1).unwrap().to_owned();
    let file = |name: &str| Builder::new().file("config.toml", &format!("profile = \"{name}\"\n"));
    assert_eq!(profile(file("demo")), "# profile: demo (from ./config.toml)");
    let both = file("demo").env("PUSHMUX_PROFILE", "notiflux");
    assert_eq!(profile(both), "# profile: demo (from ./config.toml)");
    let flag = file("demo").args(["--profile", "notiflux"]);
    assert_eq!(profile(flag), "# profile: notiflux (from flag --profile)");
    let variable = Builder::new().env("PUSHMUX_PROFILE", "demo");
    assert_eq!(profile(variable), "# profile: demo (from environment variable PUSHMUX_PROFILE)");
}

#[test]
fn any_key_can_be_set_by_a_variable_and_what_is_set_for_nothing_is_said() {
    let shown = show(
        Builder::notiflux()
            .env("PUSHMUX_AUTH__JWT__AUDIENCE", r#"["a", "b"]"#)
            .env("PUSHMUX_PROTOCOL__NOTIFLUX__MAX_TOPIC_BYTES", "99")
            .env("PUSHMUX_PROTOCOL__NOTIFLUX__STRICT", "true")
            .env("PUSHMUX_SINK__DEBUG__TYPE", "log")
            .env("PUSHMUX_SINK__DEBUG__PATH", "12345"),
    );
    for expected in
        ["audience = [\"a\", \"b\"]", "max_topic_bytes = 99", "strict = true", "path = \"12345\""]
    {
        assert!(shown.contains(expected), "{expected}\nis not in\n{shown}");
    }
    let shown = show(Builder::notiflux().file(
        "config.toml",
        "[protocol.demo]\nauth = \"a\"\n[auth.a]\ntype = \"jwt\"\ngenerate = true\n",
    ));
    assert!(
        shown.contains(
            "# note: environment variable JWT_PUBLIC_KEY_B64 is ignored: there is no [auth.jwt]"
        ),
        "{shown}"
    );
}

/// Perhaps it is the name of another program; nobody is refused for it.
#[test]
fn a_level_with_a_mistake_is_told() {
    let level = |level: &str| show(Builder::notiflux().env("RUST_LOG", level));
    for odd in ["inof", "info,debgu", "info;debug"] {
        let word = odd.rsplit(',').next().unwrap();
        let note = format!("environment variable RUST_LOG (log.level): `{word}` is no level");
        assert!(level(odd).contains(&note), "{odd}: {}", level(odd));
    }
    for good in ["info", "", "WARN", "pushmux", "info,hyper=debug", "a::b,off", "pushmux=trace,"] {
        assert!(!level(good).contains("is no level"), "{good}: {}", level(good));
    }
}

#[test]
fn an_address_where_nothing_is_served_is_told() {
    let own = "[protocol.notiflux]\nlisten = \"127.0.0.1:0\"\n";
    let server = "[server]\nhost = \"127.0.0.1\"\n";
    let told = |more: &str| {
        let config = format!("profile = \"notiflux\"\n{own}{more}{server}");
        show(Builder::notiflux().env("PORT", "8081").file("config.toml", &config))
    };
    let shown = told("");
    for note in [
        "# note: environment variable PORT (server.port) is ignored: each protocol has its own `listen`",
        "# note: ./config.toml:5 (server.host) is ignored: each protocol has its own `listen`",
    ] {
        assert!(shown.contains(note), "{note}\nis not in\n{shown}");
    }
    // Nor is it a fault there, whatever it says.
    let config = format!("profile = \"notiflux\"\n{own}");
    let foreign = Builder::notiflux().env("HOST", "https://example.org");
    assert_eq!(check(foreign.file("config.toml", &config)).0, Some(0));
    let shown = told("[protocol.second]\ntype = \"notiflux\"\npath_prefix = \"/b\"\n");
    assert!(!shown.contains("is ignored"), "{shown}");
}

#[test]
fn what_kubernetes_puts_into_a_container_is_ignored_aloud() {
    let mut server = Builder::notiflux()
        .env("PUSHMUX_SERVICE_HOST", "10.0.0.1")
        .env("PUSHMUX_PORT", "tcp://10.0.0.1:80")
        .env("PUSHMUX_PORT_80_TCP_PROTO", "tcp")
        .start();
    server.stop();
    assert!(
        server.log().contains("environment variable PUSHMUX_PORT is ignored"),
        "{}",
        server.log()
    );
}

#[test]
fn several_keys_fit_into_one_variable() {
    let keys = [Keys::attacker().public_base64(), Keys::server().public_base64()];
    let list = serde_json::to_string(&keys).unwrap();
    let server = Builder::new().env("PORT", "0").env("JWT_PUBLIC_KEY_B64", &list).start();
    let mut client = crate::support::ws::Ws::open(server.address);
    client.subscribe("t");
    let token = Keys::attacker().broadcast(&["t"]);
    let body = serde_json::json!({ "topic": "t", "message": "m", "token": token }).to_string();
    http::post_json(server.address, "/broadcast", &body);
    assert_eq!(client.next_text(), "m");
}

#[test]
fn two_protocols_need_different_paths_and_get_different_topics() {
    let config = |more: &str| {
        format!(
            "profile = \"notiflux\"\n[protocol.second]\ntype = \"notiflux\"\nstrict = true\n{more}\n"
        )
    };
    let (code, faults) = check(Builder::notiflux().file("config.toml", &config("")));
    assert_eq!(code, Some(2));
    let expected = "./config.toml:2: protocol.second.path_prefix: [protocol.notiflux] answers on /broadcast already, expected another path, or another `listen`\n";
    assert_eq!(faults, expected);
    let server = Builder::notiflux().file("config.toml", &config("path_prefix = \"/two\"")).start();
    let mut first = crate::support::ws::Ws::open(server.address);
    let mut second = crate::support::ws::Ws::open_path(server.address, "/two/ws");
    first.subscribe("t");
    second.subscribe("t");
    let token = Keys::server().broadcast(&["t"]);
    let body = serde_json::json!({ "topic": "t", "message": "m", "token": token }).to_string();
    let answer = http::post_json(server.address, "/two/broadcast", &body);
    assert_eq!(answer.text(), r#"{"accepted":1,"dropped":0}"#);
    assert_eq!(second.next_text(), "m");
    assert!(first.drain().is_empty());
}

#[test]
fn directives_for_another_program_do_not_silence_this_one() {
    for level in ["notiflux=debug,actix=info", "inof"] {
        let mut server = Builder::notiflux().env("RUST_LOG", level).start();
        server.stop();
        assert!(server.log().contains("Stopped"), "{level}: {}", server.log());
    }
}

#[test]
fn a_bad_value_of_a_key_of_core_is_told_once_and_with_its_variable() {
    let (_, faults) = check(Builder::notiflux().env("PUSHMUX_SINK__LOG__TOPICS", "notiflux/*"));
    assert_eq!(
        faults,
        "environment variable PUSHMUX_SINK__LOG__TOPICS: sink.log.topics: found a text, expected an array, such as [\"a\", \"b\"]\n"
    );
    let shown = show(Builder::notiflux().env("PORT", "lots"));
    assert!(shown.contains("# not good, see the fault (environment variable PORT)"), "{shown}");
}
