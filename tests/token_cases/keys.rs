//! The tokens at the doors of oitc: as API keys, which none of them is, and where
//! `auth = "jwt"` has them judged as tokens.

use std::collections::BTreeSet;

use serde_json::json;

use super::bench::leaks;
use super::case::{Case, Verdict};
use crate::support::eventually;
use crate::support::oitc::{KEY, knock, knock_with, serve, sqlite_file};
use crate::support::server::{Builder, Server};
use crate::support::token::Keys;
use crate::support::ws::{Frame, Ws};

/// Takes front ends of both kinds, and messages as long as any token of the list.
const BOTH_KINDS: &str = "export_interval = \"1h\"\nlegacy = true\nmax_message_bytes = 65536";

/// Presents `token` as a browser of user 5 does, and returns the status.
fn offered(server: &Server, token: &str) -> u16 {
    knock_with(server.address, token).status
}

/// Presents it in the message of a legacy front end; true when the client may stay.
fn sent(server: &Server, token: &str) -> bool {
    let mut ws = Ws::open_path(server.address, "/");
    let data = json!({ "userId": 5, "browserUuid": "b" });
    let message = json!({ "task": "register", "key": token, "uuid": "u", "data": data });
    ws.text(&message.to_string());
    !ws.drain().contains(&Frame::Eof)
}

/// Whether a token can be the value of a header at all.
fn is_header(token: &str) -> bool {
    !token.chars().any(char::is_control)
}

#[test]
fn no_token_is_a_key() {
    let builder = Builder::new().env("RUST_LOG", "trace");
    let file = builder.path().join("oitc.sqlite");
    sqlite_file(&file);
    let server = serve(builder, &format!("sqlite:{}", file.display()), BOTH_KINDS);
    let mut presented = BTreeSet::new();
    for case in Case::all() {
        let token = case.token(case.op);
        let status = if !is_header(&token) {
            400
        } else if token.len() > 15_000 {
            431
        } else {
            401
        };
        assert_eq!(offered(&server, &token), status, "{}", case.name);
        assert!(!sent(&server, &token), "{}", case.name);
        presented.insert(token);
    }
    assert_eq!(offered(&server, KEY), 101);
    assert!(sent(&server, KEY));
    clean(&server, &presented);
}

/// Where tokens say who may listen to which user, they get the verdict they have everywhere.
#[test]
fn a_token_for_a_user_gets_the_verdict_of_the_list() {
    let builder = Builder::new().env("RUST_LOG", "trace");
    let file = builder.path().join("oitc.sqlite");
    sqlite_file(&file);
    let public = Keys::server().public_base64();
    let keys = format!("{BOTH_KINDS}\nauth = \"jwt\"\n[auth.jwt]\npublic_key = \"{public}\"");
    let server = serve(builder, &format!("sqlite:{}", file.display()), &keys);
    let mut presented = BTreeSet::new();
    let (mut accepted, mut rejected) = (0, 0);
    for case in Case::all() {
        // The others are about topics that no user has.
        let Some(token) = case.token_for_user_5() else { continue };
        let expected = case.verdict_of_the_token() == Verdict::Accept;
        let status = offered(&server, &token);
        assert_eq!(status == 101, expected, "{} got {status}", case.name);
        assert_eq!(sent(&server, &token), expected, "{} in a message", case.name);
        presented.insert(token);
        if expected { accepted += 1 } else { rejected += 1 }
    }
    assert!(accepted >= 20 && rejected >= 120, "{accepted}, {rejected}");
    clean(&server, &presented);
}

/// Nothing of what was presented is in the log, and nothing has panicked.
fn clean(server: &Server, presented: &BTreeSet<String>) {
    // The last thing it is made to write of: what is read until then is whole.
    let last = knock(server.address, "/?userId=987654&browserUuid=b", Some("access_token, x"));
    assert_eq!(last.status, 401);
    eventually("the last refusal is in the log", || server.log().contains("987654"));
    let written = server.log() + &server.stdout();
    assert_eq!(leaks(presented, &written), Vec::<&str>::new());
    assert!(!written.contains("panicked"), "{written}");
}
