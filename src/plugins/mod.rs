//! The list of plugins. Adding one is a folder and its entry here.

pub mod auth_apikey;
pub mod auth_jwt;
pub mod proto_demo;
pub mod proto_notiflux;
pub mod proto_oitc;
pub mod sink_log;
pub mod sink_webhook;
pub mod sink_ws;

use crate::core::plugin::Plugin;

/// Every plugin, in the order the documentation lists them.
pub const ALL: &[Plugin] = &[
    auth_jwt::PLUGIN,
    auth_apikey::PLUGIN,
    sink_ws::PLUGIN,
    sink_webhook::PLUGIN,
    sink_log::PLUGIN,
    proto_notiflux::PLUGIN,
    proto_oitc::PLUGIN,
    proto_demo::PLUGIN,
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::ALL;

    #[test]
    fn names_are_unique_within_a_kind_and_folders_say_what_they_hold() {
        let names: HashSet<_> = ALL.iter().map(|plugin| (plugin.kind(), plugin.name)).collect();
        assert_eq!(names.len(), ALL.len());
        let folders =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/plugins")).unwrap();
        let folders = folders.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_dir());
        let folders: HashSet<_> =
            folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
        let expected: HashSet<_> = ALL
            .iter()
            .map(|plugin| match plugin.kind() {
                "protocol" => format!("proto_{}", plugin.name),
                kind => format!("{kind}_{}", plugin.name),
            })
            .collect();
        assert_eq!(folders, expected);
    }
}
