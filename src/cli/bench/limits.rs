//! Whether this machine has room for the run.

use super::settings::Settings;

/// Files that are open beside connections.
const OTHERS: u64 = 64;

/// Raises the limit of open files, and says so when it is not enough.
///
/// # Errors
/// What the limit allows, and how it is raised.
pub(super) fn raise(settings: &Settings) -> Result<(), String> {
    let needed = settings.subscribers as u64 + settings.lanes as u64 + OTHERS;
    let limit = rlimit::increase_nofile_limit(u64::MAX)
        .map_err(|error| format!("cannot raise the limit of open files: {error}"))?;
    if limit >= needed {
        return Ok(());
    }
    Err(format!(
        "--subscribers: {} connections need {needed} open files, and the hard limit is {limit}: it allows {}; raise it (ulimit -Hn, LimitNOFILE=) or ask for fewer",
        settings.subscribers,
        limit.saturating_sub(settings.lanes as u64 + OTHERS),
    ))
}
