//! Built-in configurations. A profile is a TOML file like any user's.

use crate::core::config::Profile;

/// Every profile.
pub const ALL: &[Profile] = &[
    Profile { name: "notiflux", toml: include_str!("notiflux.toml") },
    Profile { name: "oitc", toml: include_str!("oitc.toml") },
    Profile { name: "demo", toml: include_str!("demo.toml") },
];
