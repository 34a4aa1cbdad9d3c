//! Attacks on the WebSocket side, each on the profiles notiflux and oitc.
//!
//! The list is data, `tests/cases/ws.json`; [`case`] reads it, [`bytes`] has what its names
//! stand for. [`families`] are all the others of a kind of which the list has some. oitc
//! never begins a closing handshake: there an attack ends the connection without a word.

mod bytes;
mod case;
mod families;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use crate::support::oitc::{connect, on_sqlite_with};
use crate::support::server::{Builder, Server};
use crate::support::ws::{Frame, Ws};
use case::{Area, Case, PROFILES, Profile, end};

#[test]
fn the_list_is_whole() {
    let cases = Case::all();
    let names: HashSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!((cases.len(), names.len()), (74, 74));
    for case in &cases {
        assert_eq!(case.ends.is_empty(), !case.tested.is_empty(), "{}", case.name);
        for test in case.tested.split_whitespace() {
            let (module, name) = test.split_once("::").unwrap();
            assert!(is_a_test(module, name), "{}: there is no test {test}", case.name);
        }
    }
}

/// Whether a module of the tests has a test of this name.
fn is_a_test(module: &str, name: &str) -> bool {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let file = tests.join(format!("{module}.rs"));
    let text = std::fs::read_to_string(file)
        .or_else(|_| std::fs::read_to_string(tests.join(module).join("mod.rs")));
    text.is_ok_and(|text| text.contains(&format!("#[test]\nfn {name}()")))
}

/// A server of a profile, and a way in.
struct Target {
    profile: Profile,
    server: Server,
}

impl Target {
    fn start(profile: Profile, keys: &str) -> Self {
        let server = match profile {
            Profile::Notiflux => {
                let config = format!("profile = \"notiflux\"\n[protocol.notiflux]\n{keys}\n");
                Builder::notiflux().file("config.toml", &config).start()
            }
            Profile::Oitc => on_sqlite_with(&format!("export_interval = \"1h\"\n{keys}")),
        };
        Self { profile, server }
    }

    fn open(&self) -> Ws {
        match self.profile {
            Profile::Notiflux => Ws::open(self.server.address),
            Profile::Oitc => connect(self.server.address, 5, "b"),
        }
    }

    /// How a connection ends on which this is sent.
    fn end_after(&self, bytes: &[u8]) -> String {
        let mut ws = self.open();
        ws.bytes(bytes);
        end(asked(&mut ws))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let log = self.server.log();
        assert!(std::thread::panicking() || !log.contains("panicked"), "{log}");
    }
}

/// What comes up to the answer to a ping that is sent now.
fn asked(ws: &mut Ws) -> Vec<Frame> {
    ws.frame(0x89, b"still there?");
    ws.until(|frame| *frame == Frame::Pong(b"still there?".to_vec()))
}

#[test]
fn frames_of_the_list_end_as_it_says() {
    for profile in PROFILES {
        let target = Target::start(profile, "");
        for case in Case::all() {
            let Some(expected) = case.ends.get(&profile) else { continue };
            if case.is_request() || case.area == Area::Timeouts {
                continue;
            }
            let found = target.end_after(&bytes::frames(&case.name));
            assert_eq!(&found, expected, "{profile:?}: {} ({})", case.name, case.sends);
        }
        // The server is none the worse.
        assert_eq!(target.end_after(b""), "open");
    }
}

#[test]
fn requests_of_the_list_are_answered_as_it_says() {
    for profile in PROFILES {
        let target = Target::start(profile, "");
        for case in Case::all().iter().filter(|case| case.is_request()) {
            let Some(expected) = case.ends.get(&profile) else { continue };
            let bytes = bytes::request(&case.name, profile);
            let mut ws = Ws::start_raw(target.server.address, &bytes);
            let what = format!("{profile:?}: {} ({})", case.name, case.sends);
            assert_eq!(&format!("status {}", ws.answer.status), expected, "{what}");
            assert_eq!(ws.answer.header("x-injected"), None, "{what}");
            if ws.answer.status != 101 {
                continue;
            }
            assert_eq!(ws.answer.header("sec-websocket-extensions"), None, "{what}");
            let protocol = (profile == Profile::Oitc).then_some("access_token");
            assert_eq!(ws.answer.header("sec-websocket-protocol"), protocol, "{what}");
            let frames = asked(&mut ws);
            assert!(!frames.contains(&Frame::Eof), "{what}: {frames:?}");
            let early = frames.contains(&Frame::Pong(b"early".to_vec()));
            assert_eq!(early, case.name == "frames-before-101", "{what}");
        }
    }
}

/// Half a frame is a sign of life, but not for long; answers to pings are, for ever.
#[test]
fn who_falls_silent_goes_and_who_answers_stays() {
    let heartbeat = "ping_interval = \"100ms\"\nidle_timeout = \"500ms\"";
    for profile in PROFILES {
        let target = Target::start(profile, heartbeat);
        for case in Case::all().iter().filter(|case| case.area == Area::Timeouts) {
            let Some(expected) = case.ends.get(&profile) else { continue };
            let mut ws = target.open();
            ws.bytes(&bytes::frames(&case.name));
            let found = match expected.as_str() {
                // Answers pings meanwhile.
                "open" => ws.next_within(Duration::from_secs(2)).map_or("open", |_| "not open"),
                _ => silent_to_the_end(&mut ws),
            };
            assert_eq!(found, expected, "{profile:?}: {} ({})", case.name, case.sends);
        }
    }
}

/// Reads without an answer to anything, which the server must have asked for.
fn silent_to_the_end(ws: &mut Ws) -> &'static str {
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut ws.stream, &mut rest).unwrap();
    let pings = !rest.is_empty() && rest.chunks(2).all(|frame| frame == [0x89, 0]);
    if pings { "eof" } else { "more than pings" }
}
