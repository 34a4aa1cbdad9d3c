//! Who is compared.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A server under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Server {
    Floor,
    Joining,
    Pushmux,
    Nchan,
    Ws,
}

impl Server {
    pub(crate) const ALL: [Self; 5] =
        [Self::Floor, Self::Joining, Self::Pushmux, Self::Nchan, Self::Ws];

    /// As options and the JSON call it.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Joining => "joining",
            Self::Pushmux => "pushmux",
            Self::Nchan => "nchan",
            Self::Ws => "ws",
        }
    }

    /// Whether it is ours: then a message that it loses ends the run.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Floor | Self::Joining | Self::Pushmux)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Floor => "floor",
            Self::Joining => "joining floor",
            Self::Pushmux => "pushmux",
            Self::Nchan => "nginx + nchan",
            Self::Ws => "Node.js + ws",
        })
    }
}
