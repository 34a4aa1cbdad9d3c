//! How connections end.

use crate::core::metrics;

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The socket is gone, or the client closed it.
    Lost,
    /// Nothing was heard for too long, not even a pong.
    Silent,
    /// The client did not read what waited for it.
    Stuck,
    /// The client did not answer our Close frame in time.
    CutOff,
    /// Both sides have said Close, or ours ends without a word.
    Closed,
    /// The client broke the protocol and was told so.
    Refused(&'static str),
    /// Something panicked.
    Failed,
}

impl End {
    /// Whether a Close frame is on its way that the client should get to see.
    pub(super) fn is_orderly(self) -> bool {
        matches!(self, Self::Closed | Self::Refused(_) | Self::Failed)
    }
}

impl From<End> for metrics::End {
    fn from(end: End) -> Self {
        match end {
            End::Lost => Self::Lost,
            End::Silent => Self::Silent,
            End::Stuck => Self::Stuck,
            End::CutOff => Self::Unanswered,
            End::Closed => Self::Closed,
            End::Refused(_) => Self::Refused,
            End::Failed => Self::Failed,
        }
    }
}
