//! Nothing that the server writes has a secret in it: not the log, however much is logged, not
//! an answer, not a metric, not what is said of a configuration that is no good.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::json;

use crate::support::eventually;
use crate::support::http::{Answer, post_json, request};
use crate::support::oitc::{self, KEY_NAME, alert, knock_with, mariadb, registered_with};
use crate::support::receiver::{self, Receiver};
use crate::support::server::{Builder, Server};
use crate::support::token::{Keys, claims};
use crate::support::ws::Ws;

/// As much as pushmux itself can log, and as much as the libraries can, too.
const LEVELS: [&str; 2] = ["trace", "trace,pushmux=trace"];

/// What must not be found, in each form in which it could be written.
#[derive(Default)]
struct Secrets {
    forms: BTreeSet<String>,
}

impl Secrets {
    fn of(secrets: &[&str]) -> Self {
        let mut all = Self::default();
        secrets.iter().for_each(|secret| all.add(secret));
        all
    }

    /// Adds a secret: as it is, percent-encoded, in hexadecimal digits, as a JSON text, and in
    /// base64 wherever it begins within what was encoded.
    fn add(&mut self, secret: &str) {
        assert!(secret.len() >= 10, "{secret} could be found by chance");
        let bytes = secret.as_bytes();
        let percent = |plain: fn(u8) -> bool| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = if plain(*byte) {
                    write!(text, "{}", char::from(*byte))
                } else {
                    write!(text, "%{byte:02X}")
                };
                text
            })
        };
        self.forms.insert(secret.to_owned());
        self.forms.insert(percent(|byte| byte.is_ascii_alphanumeric()));
        self.forms.insert(percent(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)));
        self.forms.insert(bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }));
        self.forms.insert(json!(secret).to_string().trim_matches('"').to_owned());
        for shift in 0..3 {
            // Of three bytes come four characters; what stands before and after it has a part
            // in those at its ends.
            let padded = [&vec![0; shift], bytes].concat();
            let whole = 4 * usize::from(shift > 0)..padded.len() / 3 * 4;
            for text in [STANDARD.encode(&padded), URL_SAFE.encode(&padded)] {
                self.forms.insert(text[whole.clone()].to_owned());
            }
        }
    }

    /// Fails when any of them is in `written`.
    fn assert_absent(&self, what: &str, written: &str) {
        assert!(!written.is_empty(), "{what}: nothing was written, so nothing is shown");
        for form in &self.forms {
            if let Some(place) = written.find(form.as_str()) {
                let line = written[..place].matches('\n').count();
                let line = written.lines().nth(line).unwrap_or_default();
                panic!("{what}: {form} is in it: {line}");
            }
        }
    }
}

/// An answer as text: all of it.
fn whole(answer: &Answer) -> String {
    let Answer { status_line, headers, body, .. } = answer;
    format!("{status_line} {headers:?} {}", String::from_utf8_lossy(body))
}

/// What it says of itself.
fn metrics(server: &Server) -> String {
    let answer = request(server.admin_address(), "GET", "/metrics", &[], b"");
    assert!(answer.status == 200 && answer.body.len() > 1000, "{answer:?}");
    whole(&answer)
}

/// What the server has written by the time it has ended.
fn written(mut server: Server) -> String {
    server.stop();
    let written = server.log() + &server.stdout();
    assert!(!written.contains("panicked"), "{written}");
    written
}

#[test]
fn a_secret_is_found_in_every_form() {
    let secret = "p@ss/w\"ord?8-_";
    let secrets = Secrets::of(&[secret]);
    for (form, prefix) in [(secret, "x="), ("p%40ss%2Fw%22ord%3F8%2D%5F", "mysql://u:")] {
        let written = format!("{prefix}{form} y");
        assert!(std::panic::catch_unwind(|| secrets.assert_absent("", &written)).is_err());
    }
    for prefix in ["", "u", "us", "use", "user:"] {
        let written = STANDARD.encode(format!("{prefix}{secret} and more"));
        assert!(std::panic::catch_unwind(|| secrets.assert_absent("", &written)).is_err());
    }
    secrets.assert_absent("", "p@ss");
}

#[test]
fn notiflux_writes_no_token_and_no_key_of_a_webhook() {
    let (path, bearer) = ("url-secret-5f3a9", "header-secret-77aa1");
    for level in LEVELS {
        let hook = Receiver::start(receiver::Answer::Status(500));
        let config = format!(
            "profile = \"notiflux\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"{level}\"\n[protocol.notiflux]\nstrict = true\nack = true\n[sink.hook]\ntype = \"webhook\"\nurl = \"{}?key={path}\"\nheaders = {{ Authorization = \"Bearer {bearer}\" }}\n[sink.gone]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:9/{path}\"\nheaders = {{ X-Api-Key = \"{bearer}\" }}\n",
            hook.url("/hook")
        );
        let server = Builder::notiflux().file("config.toml", &config).start();
        let keys = Keys::server();
        let mut expired = claims("broadcast", &["t"]);
        expired["exp"] = json!(1000);
        let tokens = [
            keys.broadcast(&["t"]),
            keys.subscribe(&["t"]),
            keys.broadcast(&["other"]),
            keys.token(&expired),
            Keys::attacker().broadcast(&["t"]),
            "no.token-at-all.but-somebodys-password".to_owned(),
            "x".repeat(9000),
        ];
        let mut secrets = Secrets::of(&[path, bearer]);
        let mut answers = String::new();
        for token in &tokens {
            secrets.add(token);
            // Pieces of it, such as a signature, are none the better.
            token.split('.').filter(|part| part.len() >= 20).for_each(|part| secrets.add(part));
            // A path has 8 KiB at most.
            let query = format!("/ws?ack=true&token={}", &token[..token.len().min(8000)]);
            let mut ws = Ws::open_path(server.address, &query);
            for text in [format!("/subscribe t {token}"), format!("/unsubscribe {token} x")] {
                ws.text(&text);
            }
            let said = ws.drain();
            answers += &format!("{:?}", said.first());
            for text in [token.clone(), format!("/{token}"), format!("/subscribe {token} t")] {
                ws.text(&text);
            }
            ws.drain();
            let body = json!({ "topic": "t", "message": "m", "token": token }).to_string();
            answers += &whole(&post_json(server.address, "/broadcast", &body));
            for (topic, message) in [(token.as_str(), "m"), ("t", token)] {
                let body = json!({ "topic": topic, "message": message, "token": token });
                post_json(server.address, "/broadcast", &body.to_string());
            }
            post_json(server.address, "/broadcast", &format!("{{\"token\":\"{token}\""));
            let authorization = [("Authorization", token.as_str()), ("Cookie", token.as_str())];
            answers += &whole(&request(server.address, "GET", "/health", &authorization, b""));
            answers += &whole(&request(server.address, "GET", &format!("/{token}"), &[], b""));
        }
        assert!(!hook.wait(1).is_empty());
        answers += &metrics(&server);
        eventually("the log says that the webhook failed", || {
            let log = server.log();
            log.contains("webhook") || log.contains("ebhook") || log.contains("hook")
        });
        secrets.assert_absent("answers", &answers);
        secrets.assert_absent(level, &written(server));
    }
}

#[test]
fn oitc_writes_no_key_no_password_and_no_key_of_the_relay() {
    let (key, rotated) = ("api-key-4be07c11", "api-key-after-that-99d2");
    let (relay, guessed) = ("relay-secret-61d0aa", "guessed-key-0c0c0c");
    for level in LEVELS {
        let mut db = mariadb();
        db.set(KEY_NAME, key);
        let gateway = Receiver::start(receiver::Answer::Status(403));
        oitc::relay(&db, gateway.address, relay);
        let config = format!(
            "profile = \"oitc\"\n[server]\nport = 0\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"{level}\"\n[database.main]\ncnf = \"{}\"\n[database.other]\nurl = \"{}\"\n[protocol.oitc]\nlegacy = true\nexport_interval = \"200ms\"\n",
            db.cnf().display(),
            db.url()
        );
        let builder = Builder::new().env("MYSQL_DEBUG", "1").file("config.toml", &config);
        let server = builder.start();
        let secrets = Secrets::of(&[key, rotated, relay, guessed, "p@ss:w/o#r;d"]);
        let mut answers = String::new();
        let mut ws = registered_with(server.address, key, 5, "b");
        let alerted = |body: &str| whole(&post_json(server.address, "/message", body));
        let body = alert(&json!({})).to_string();
        answers += &alerted(&body);
        gateway.wait(1);
        answers += &whole(&knock_with(server.address, guessed));
        answers += &whole(&request(server.address, "GET", &format!("/?key={key}"), &[], b""));
        answers += &alerted(&format!("{{\"key\":\"{key}\""));
        let mut legacy = Ws::open_path(server.address, "/");
        for key in [key, guessed] {
            let data = json!({ "userId": 5, "browserUuid": "c" });
            let message = json!({ "task": "register", "key": key, "uuid": "u", "data": data });
            legacy.text(&message.to_string());
        }
        answers += &format!("{:?}", legacy.drain());
        ws.text(&json!({ "type": key, "payload": key }).to_string());
        ws.drain();
        db.set(KEY_NAME, rotated);
        answers += &whole(&knock_with(server.address, rotated));
        answers += &whole(&knock_with(server.address, key));
        drop(gateway);
        answers += &alerted(&body);
        db.kill();
        for key in [rotated, guessed] {
            answers += &whole(&knock_with(server.address, key));
        }
        answers += &alerted(&alert(&json!({ "hostUuid": "unknown" })).to_string());
        answers += &metrics(&server);
        eventually("the log says that the data base is away", || {
            server.log().contains("Cannot read the keys")
        });
        secrets.assert_absent("answers", &answers);
        secrets.assert_absent(level, &written(server));
    }
}

/// What a configuration says, and the secret in it.
const BAD: &[(&str, &str)] = &[
    ("[database.main]\nurl = \"postgres://u:S@h/d\"", "another scheme"),
    ("[database.main]\nurl = \"mysql://u:S/x#@h:1/d\"", "a password as it is"),
    ("[database.main]\nurl = 8765432109", "a number for a text"),
    ("[database.main]\nurl = 8765432.109", "a number for a text"),
    ("[database.main]\nurl = [\"S\"]", "an array for a text"),
    ("[database.main]\nurl = { S = \"S\" }", "a table for a text"),
    ("[database.main]\nurl = \"sqlite::memory:\"\nsetup = \"S\"", "a text for an array"),
    ("[database.main]\nurl = \"sqlite::memory:\"\nsetup = [8765432109]", "a number in an array"),
    ("[database.main]\nurl = \"sqlite:x\"\nsetup = [\"S\"]", "statements where none may be"),
    ("[database]\nmain = \"mysql://u:S@h/d\"", "a text for a table"),
    ("database = \"mysql://u:S@h/d\"", "a text for a section"),
    ("[database.main]\npasword = \"S\"\nurl = \"sqlite::memory:\"", "a key nobody knows"),
    ("[sink.webhook]\nurl = \"https://user:S@h/\"", "a password in a URL"),
    ("[sink.webhook]\nurl = \"ftp://h/S\"", "another scheme"),
    ("[sink.webhook]\nurl = \"https://h/\"\nheaders = \"S\"", "a text for a table"),
    ("[sink.webhook]\nurl = \"https://h/\"\nheaders = [\"S\"]", "an array for a table"),
    ("[sink.webhook]\nurl = \"https://h/\"\nheaders = { A = 8765432109 }", "a number for a text"),
    ("[sink.webhook]\nurl = \"https://h/\"\nheaders = { A = [\"S\"] }", "an array for a text"),
    ("[sink.webhook]\nurl = \"https://h/\"\nheaders = { A = \"S\\r\\nB: c\" }", "a line break"),
    ("[sink.webhook]\nurl = \"https://h/\"\nheaders = { \"A B\" = \"S\" }", "a bad name"),
    ("[auth.apikey]\nkeys = \"S\"", "a text for an array"),
    ("[auth.apikey]\nkeys = [\"S\"]", "a key for a hash"),
    ("[auth.apikey]\nkeys = [\"sha256:S\"]", "no hash"),
    ("[auth.apikey]\nkeys = [8765432109]", "a number for a text"),
    ("[auth.apikey]\nkeys = [{ S = \"S\" }]", "a table for a text"),
    ("[database.main]\nurl = \"S", "an open quote"),
    ("[database.main]\nurl = S", "no quotes"),
    ("[database.main]\nurl = \"a\" \"S\"", "two texts"),
    ("[database.main]\nurl = 'S\n'", "a text over two lines"),
    ("[database.main]\nurl = \"\\S\"", "an escape nobody knows"),
    ("[database.main]\nurl = \"a\"\nurl = \"S\"", "a key twice"),
];

#[test]
fn what_is_said_of_a_bad_configuration_does_not_quote_its_secrets() {
    let secret = "hunter2-hunter2-9c41";
    let secrets = Secrets::of(&[secret, "8765432109", "8765432.109"]);
    for (text, what) in BAD {
        let text = text.replace('S', secret);
        for command in [vec!["config", "check"], vec!["config", "show"], vec!["run"]] {
            let mut builder = Builder::new().env("PUSHMUX_PROFILE", "oitc");
            builder = command.iter().fold(builder, |builder, word| builder.args([*word]));
            let Output { status, stdout, stderr } = builder.file("config.toml", &text).output();
            assert_eq!(status.code(), Some(2), "{what} ({text}) is a fault");
            let said = [stdout, stderr].concat();
            secrets.assert_absent(what, &String::from_utf8_lossy(&said));
        }
    }
}

#[test]
fn what_is_said_of_bad_variables_and_files_does_not_quote_their_secrets() {
    let secret = "hunter2-hunter2-9c41";
    let private = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgc2VjcmV0c2VjcmV0";
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{private}\n-----END PRIVATE KEY-----\n");
    let secrets = Secrets::of(&[secret, private, "8765432109"]);
    let base64 = STANDARD.encode(&pem);
    for (name, value) in [
        ("PUSHMUX_DATABASE__MAIN__URL", &*format!("postgres://u:{secret}@h/d")),
        ("PUSHMUX_DATABASE__MAIN", &format!("mysql://u:{secret}@h/d")),
        ("PUSHMUX_DATABASE__MAIN__SETUP", secret),
        ("PUSHMUX_DATABASE__MAIN__SETUP", "8765432109"),
        ("PUSHMUX_SINK__WEBHOOK__HEADERS", secret),
        ("PUSHMUX_SINK__WEBHOOK__HEADERS", "8765432109"),
        ("PUSHMUX_SINK__WEBHOOK__HEADERS__A", &format!("{secret}\r\nB: c")),
        ("PUSHMUX_AUTH__APIKEY__KEYS", secret),
        ("PUSHMUX_AUTH__APIKEY__KEYS", "[8765432109]"),
        ("JWT_PUBLIC_KEY_B64", &pem),
        ("JWT_PUBLIC_KEY_B64", &base64),
        ("PUSHMUX_AUTH__JWT__PUBLIC_KEY", &pem),
    ] {
        let builder = Builder::new().args(["config", "show"]).env("PUSHMUX_SINK__WEBHOOK__URL", "");
        let Output { status, stdout, stderr } = builder.env(name, value).output();
        assert_eq!(status.code(), Some(2), "{name}={value} is a fault");
        secrets.assert_absent(name, &String::from_utf8_lossy(&[stdout, stderr].concat()));
    }
    for line in ["host = S:1", "port = S", "port = 8765432109", "user", "= S"] {
        let text = format!("[client]\npassword = {secret}\n{}\n", line.replace('S', secret));
        let builder = Builder::new().file("mysql.cnf", &text);
        let config = "profile = \"oitc\"\n[database.main]\ncnf = \"mysql.cnf\"\n";
        let Output { status, stdout, stderr } =
            builder.file("config.toml", config).args(["config", "check"]).output();
        assert_eq!(status.code(), Some(2), "{line} is a fault");
        secrets.assert_absent(line, &String::from_utf8_lossy(&[stdout, stderr].concat()));
    }
}

#[test]
fn a_good_configuration_is_shown_without_its_secrets() {
    let secret = "hunter2-hunter2-9c41";
    let config = format!(
        "profile = \"oitc\"\n[database.main]\nurl = \"mysql://u:{secret}@h/d\"\n[database.memory]\nurl = \"sqlite::memory:\"\nsetup = [\"INSERT INTO t VALUES ('{secret}')\"]\n[sink.webhook]\nurl = \"https://h/{secret}\"\nheaders = {{ Authorization = \"Bearer {secret}\" }}\n"
    );
    let builder = Builder::new().file("config.toml", &config).args(["config", "show"]);
    let Output { status, stdout, stderr } = builder.output();
    let shown = String::from_utf8([stdout, stderr].concat()).unwrap();
    assert_eq!(status.code(), Some(0), "{shown}");
    assert!(shown.matches("***").count() >= 4, "{shown}");
    Secrets::of(&[secret]).assert_absent("config show", &shown);
}
