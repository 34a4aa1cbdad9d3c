//! The list of cases, `tests/cases/ws.json`, and what its entries mean.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::support::ws::Frame;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Profile {
    Notiflux,
    Oitc,
}

pub(super) const PROFILES: [Profile; 2] = [Profile::Notiflux, Profile::Oitc];

/// One entry. The bytes that its name stands for are in [`bytes`](super::bytes).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) area: Area,
    /// In words.
    pub(super) sends: String,
    /// How it ends at each profile that it is for: `status <code>` for a handshake; for
    /// frames `open`, `text`, `eof` or `close <code>`, see [`end`]. Empty where another test
    /// has the case.
    #[serde(default)]
    pub(super) ends: BTreeMap<Profile, String>,
    /// The tests that have it, `<module>::<name>`, separated by blanks.
    #[serde(default)]
    pub(super) tested: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Area {
    Auth,
    Binary,
    Close,
    Control,
    Extension,
    Framing,
    Handshake,
    Limits,
    Origin,
    Query,
    Subprotocol,
    Timeouts,
    Utf8,
}

impl Case {
    pub(super) fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("../cases/ws.json")).unwrap()
    }

    /// Whether what is sent is a request, and no frames.
    pub(super) fn is_request(&self) -> bool {
        self.ends.values().any(|end| end.starts_with("status"))
    }
}

/// How a connection ended, or that it did not, by what came after an attack and up to the
/// answer to one more ping. `close` is a Close frame and then the end, `eof` the end without
/// a word, `text` a text and no end. Pongs do not count.
pub(super) fn end(frames: Vec<Frame>) -> String {
    let pong = |frame: &Frame| matches!(frame, Frame::Pong(_));
    let frames: Vec<_> = frames.into_iter().filter(|frame| !pong(frame)).collect();
    match &frames[..] {
        [] => "open".into(),
        [Frame::Text(_)] => "text".into(),
        [Frame::Eof] => "eof".into(),
        [Frame::Close(Some((code, _))), Frame::Eof] => format!("close {code}"),
        other => format!("{other:?}"),
    }
}
