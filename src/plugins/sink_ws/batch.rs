//! Messages that leave together: framed once, joined once, shared by every receiver.

use bytes::{BufMut, Bytes, BytesMut};

/// One frame or several, in the order in which they go out. Never empty.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Bytes,
    /// Where each frame ends. Empty for a single frame, which is the common case and then
    /// costs nothing.
    ends: Vec<usize>,
    /// Whether these are messages, which are counted one by one until they are written.
    counts: bool,
}

/// What is left of one frame of a batch.
#[derive(Debug)]
pub(super) struct Rest {
    /// Empty when nothing is left.
    pub bytes: Bytes,
    /// Whether a part of the frame is gone already, so that the rest has to follow.
    pub is_begun: bool,
}

impl Batch {
    /// A single message.
    pub(super) fn one(frame: Bytes) -> Self {
        Self { bytes: frame, ends: Vec::new(), counts: true }
    }

    /// A frame that is no message: a ping, or an answer to this client alone.
    pub(super) fn aside(frame: Bytes) -> Self {
        Self { counts: false, ..Self::one(frame) }
    }

    /// Several frames; copies them, once for all receivers.
    pub(super) fn join(frames: &[&Bytes]) -> Self {
        if let [only] = frames {
            return Self::one((*only).clone());
        }
        let mut bytes = BytesMut::with_capacity(frames.iter().map(|frame| frame.len()).sum());
        let mut ends = Vec::with_capacity(frames.len());
        for frame in frames {
            bytes.put_slice(frame);
            ends.push(bytes.len());
        }
        Self { bytes: bytes.freeze(), ends, counts: true }
    }

    /// How many frames there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len().max(1)
    }

    /// Whether they are messages.
    pub(super) fn counts(&self) -> bool {
        self.counts
    }

    /// All of them, as they go onto the wire.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What is left of each frame once `written` bytes are gone.
    pub(super) fn rest(&self, written: usize) -> impl Iterator<Item = Rest> {
        let all = [self.bytes.len()];
        let single = if self.ends.is_empty() { &all[..] } else { &[] };
        let ends: Vec<_> = single.iter().chain(&self.ends).copied().collect();
        let mut start = 0;
        ends.into_iter().map(move |end| {
            let from = start.max(written).min(end);
            let is_begun = from > start && from < end;
            start = end;
            Rest { bytes: self.bytes.slice(from..end), is_begun }
        })
    }
}
