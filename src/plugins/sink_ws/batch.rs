//! Messages that leave together: framed once, joined once, shared by every receiver.

use bytes::{BufMut, Bytes, BytesMut};

/// One frame or several, in the order in which they go out. Never empty.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Bytes,
    /// Where each frame ends. Empty for a single frame, which is the common case and then
    /// costs nothing.
    ends: Vec<usize>,
}

impl Batch {
    /// A single frame.
    pub(super) fn one(frame: Bytes) -> Self {
        Self { bytes: frame, ends: Vec::new() }
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
        Self { bytes: bytes.freeze(), ends }
    }

    /// How many frames there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len().max(1)
    }

    /// All of them, as they go onto the wire.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What is left of each frame once `written` bytes are gone; empty for those that are
    /// gone wholly.
    pub(super) fn rest(&self, written: usize) -> impl Iterator<Item = Bytes> {
        let all = [self.bytes.len()];
        let single = if self.ends.is_empty() { &all[..] } else { &[] };
        let ends: Vec<_> = single.iter().chain(&self.ends).copied().collect();
        let mut start = 0;
        ends.into_iter().map(move |end| {
            let from = start.max(written).min(end);
            start = end;
            self.bytes.slice(from..end)
        })
    }
}
