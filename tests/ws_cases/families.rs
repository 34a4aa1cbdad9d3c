//! All the others of a kind, where the list has one or two.

use super::case::{PROFILES, Profile, end};
use super::{Target, asked, bytes};
use crate::support::ws::{Frame, Ws, encode};

/// What each profile says to a violation.
fn refused(profile: Profile, code: u16) -> String {
    match profile {
        Profile::Notiflux => format!("close {code}"),
        Profile::Oitc => "eof".into(),
    }
}

#[test]
fn first_bytes_that_no_frame_has() {
    for profile in PROFILES {
        let target = Target::start(profile, "");
        let reserved = (3..8).chain(11..16).flat_map(|opcode| [opcode, 0x80 | opcode]);
        let rsv = (1..8).flat_map(|bits| [1, 2, 8, 9, 10].map(|opcode| 0x80 | bits << 4 | opcode));
        let fragmented = [8, 9, 10];
        for first in reserved.chain(rsv).chain(fragmented).chain([0x00, 0x80]) {
            let found = target.end_after(&encode(first, b""));
            assert_eq!(found, refused(profile, 1002), "{profile:?}: {first:#x}");
        }
        for long in [126, 127, 65_536] {
            for first in [0x88, 0x89, 0x8A] {
                let found = target.end_after(&encode(first, &vec![b'a'; long]));
                assert_eq!(found, refused(profile, 1002), "{profile:?}: {first:#x} of {long}");
            }
        }
        for unmasked in [vec![0x81, 0], vec![0x82, 1, b'a'], vec![0x88, 0], vec![0x8A, 0]] {
            let found = target.end_after(&unmasked);
            assert_eq!(found, refused(profile, 1002), "{profile:?}: {unmasked:02x?}");
        }
    }
}

#[test]
fn statuses_at_every_edge() {
    let bad = [0, 1, 999, 1004, 1005, 1006, 1014, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 65_535];
    let good = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000];
    for profile in PROFILES {
        let target = Target::start(profile, "");
        for code in bad {
            let found = target.end_after(&encode(0x88, &u16::to_be_bytes(code)));
            assert_eq!(found, refused(profile, 1002), "{profile:?}: {code}");
        }
        for code in good {
            let found = target.end_after(&encode(0x88, &u16::to_be_bytes(code)));
            assert_eq!(found, format!("close {code}"), "{profile:?}");
        }
        // The longest reason that fits, and a Close within a message that is not finished.
        let longest = [&1000_u16.to_be_bytes()[..], "é".repeat(61).as_bytes(), b"x"].concat();
        assert_eq!(target.end_after(&encode(0x88, &longest)), "close 1000");
        let within = [encode(0x01, b"a"), encode(0x88, &longest)].concat();
        assert_eq!(target.end_after(&within), "close 1000");
    }
}

#[test]
fn texts_that_are_no_utf_8() {
    for profile in PROFILES {
        let target = Target::start(profile, "");
        for bad in [
            &b"\x80"[..],
            b"\xC3",
            b"\xE2\x82",
            b"\xF0\x9F\x92",
            b"\xC0\xAF",
            b"\xE0\x80\xAF",
            b"\xF0\x80\x80\xAF",
            b"\xED\xBF\xBF",
            b"\xF4\x90\x80\x80",
            b"\xF5\x80\x80\x80",
            b"\xFE",
            b"\xFF",
        ] {
            for first in 0..=bad.len() {
                let parts = [encode(0x01, &bad[..first]), encode(0x80, &bad[first..])].concat();
                let found = target.end_after(&parts);
                assert_eq!(found, refused(profile, 1007), "{profile:?}: {bad:02x?} at {first}");
            }
        }
    }
}

/// A conversation is the same wherever the bytes of it are cut.
#[test]
fn a_conversation_may_be_cut_at_each_byte() {
    for profile in PROFILES {
        let target = Target::start(profile, "");
        let frames = [
            encode(0x89, b"one"),
            encode(0x01, b"{\"type\":"),
            encode(0x89, b"two"),
            encode(0x80, "\"é\"}".as_bytes()),
            encode(0x8A, b""),
            encode(0x88, b"\x0F\xA0bye"),
        ];
        let bytes = [bytes::request("good", profile), frames.concat()].concat();
        let whole = conversation(&target, &[&bytes]);
        assert!(whole.starts_with("[Pong([111, 110, 101])"), "{whole}");
        for cut in 1..bytes.len() {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(conversation(&target, &[head, tail]), whole, "{profile:?} at {cut}");
        }
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(conversation(&target, &single), whole, "{profile:?}");
    }
}

/// What the server says, its greeting left out, to bytes that are sent in these parts.
fn conversation(target: &Target, parts: &[&[u8]]) -> String {
    let mut ws = Ws::start_in_parts(target.server.address, parts);
    assert_eq!(ws.answer.status, 101);
    let mut frames = ws.until(|_| false);
    frames.retain(
        |frame| !matches!(frame, Frame::Text(text) if text.contains("ConnectionEstablished")),
    );
    format!("{frames:?}")
}

#[test]
fn heads_in_which_others_may_read_something_else() {
    let good = String::from_utf8(bytes::request("good", Profile::Notiflux)).unwrap();
    let target = Target::start(Profile::Notiflux, "");
    let status =
        |request: &str| Ws::start_raw(target.server.address, request.as_bytes()).answer.status;
    assert_eq!(status(&good), 101);
    // Empty lines may come before a request.
    assert_eq!(status(&format!("\r\n\r\n{good}")), 101);
    // A bare LF in place of each line end, the last one too.
    for (place, _) in good.match_indices("\r\n") {
        let bare = format!("{}{}", &good[..place], &good[place + 1..]);
        assert_eq!(status(&bare), 400, "{bare:?}");
        assert_eq!(status(&format!("\r\n{bare}")), 400, "{bare:?}");
    }
    let with = |line: &str| good.replacen("\r\n", &format!("\r\n{line}\r\n"), 1);
    for line in [
        "Host: x",
        "HOST : x",
        "Content-Length: 5",
        "Content-Length: +0",
        "Content-Length: 0, 0",
        "Content-Length: 0\r\nContent-Length: 5",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "X y: z",
        ": z",
        "X\u{7}: z",
        "X: y\r Z: z",
        " X: y",
    ] {
        assert_eq!(status(&with(line)), 400, "{line:?}");
    }
    assert_eq!(status(&with("Content-Length: 0")), 101);
    for first in ["GET /ws", "GET /ws HTTP/1.1 x", "GET  /ws HTTP/1.1", "GET /w s HTTP/1.1"] {
        let request = good.replacen("GET /ws HTTP/1.1", first, 1);
        assert_eq!(status(&request), 400, "{first:?}");
    }
    let ended = end(asked(&mut Ws::open(target.server.address)));
    assert_eq!(ended, "open", "the server is none the worse");
}
