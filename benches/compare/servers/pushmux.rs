//! The release binary.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::process::{self, Process};
use super::{Dialect, PUSHMUX, Running, first_line};

/// What `pushmux token keygen` writes.
pub(super) const KEY_FILE: &str = "private.pem";

const HOST: &str = "7d0da8f5-3284-4862-b0ba-d0efcc48f20d";

/// A key that is worth nothing: it opens a server that lives for a round.
const API_KEY: &str = "benchbenchbenchbenchbenchbenchbenchbenchbenchbenchbenchbench";

/// The tables of openITCOCKPIT, with as few columns as will do. The key is left out. By default
/// a tenth of the open files that a process may have is kept back, which is more than a machine
/// needs to allow for this.
const OITC: &str = r#"profile = "oitc"
[server]
port = 0
max_connections = 19900
[database.main]
url = "sqlite::memory:"
setup = [
  "CREATE TABLE systemsettings (`key` TEXT, value TEXT)",
  "CREATE TABLE hosts (id INTEGER PRIMARY KEY, uuid TEXT, name TEXT)",
  "CREATE TABLE servicetemplates (id INTEGER PRIMARY KEY, name TEXT)",
  "CREATE TABLE services (id INTEGER PRIMARY KEY, uuid TEXT, host_id INTEGER, servicetemplate_id INTEGER, name TEXT)",
  "CREATE TABLE exports (id INTEGER PRIMARY KEY, task TEXT, finished INTEGER)",
  "CREATE TABLE mobile_devices (id INTEGER PRIMARY KEY, user_id INTEGER, device_id TEXT)",
  "CREATE TABLE push_notifications_relay (id INTEGER PRIMARY KEY, address TEXT, port INTEGER, auth_key TEXT, enabled INTEGER)",
"#;

/// As it is shipped: nothing is set but its key and a free port.
pub(super) fn notiflux() -> Result<Running, String> {
    let folder = process::folder()?;
    let keygen = command().args(["token", "keygen"]).current_dir(folder.path()).output();
    let output = keygen.map_err(|error| format!("cannot run {PUSHMUX}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let key = text.trim().strip_prefix("JWT_PUBLIC_KEY_B64=");
    let key = key.ok_or("`pushmux token keygen` prints no key")?;
    let mut command = command();
    command.env("JWT_PUBLIC_KEY_B64", key).env("PORT", "0");
    start(command, folder, Dialect::Notiflux)
}

/// Beside a data base in memory.
pub(super) fn oitc() -> Result<Running, String> {
    let folder = process::folder()?;
    let config = format!(
        "{OITC}  \"INSERT INTO systemsettings VALUES ('SUDO_SERVER.API_KEY', '{API_KEY}')\",\n  \"INSERT INTO hosts VALUES (1, '{HOST}', 'web-01')\",\n]\n"
    );
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    };
    write("config.toml", &config)?;
    start(command(), folder, Dialect::Oitc)
}

/// The arguments of `pushmux bench`, whose key is in `BENCH_KEY`.
pub(super) fn oitc_target(url: &str) -> Vec<String> {
    let host = format!("--host-uuid={HOST}");
    let key = "--api-key=env:BENCH_KEY".to_owned();
    vec!["oitc".into(), format!("--url={url}"), key, host]
}

/// A command of the binary with no configuration but what is added.
pub(crate) fn command() -> Command {
    let mut command = Command::new(PUSHMUX);
    command.env_clear().env("BENCH_KEY", API_KEY);
    command
}

fn start(command: Command, folder: tempfile::TempDir, speaks: Dialect) -> Result<Running, String> {
    let mut process = Process::start(command, folder)?;
    let address = process.announced()?;
    Ok(Running { process, address, speaks })
}

/// With the commit, where there is one.
pub(super) fn version() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = format!("--git-dir={}", folder.join(".git").display());
    let commit = first_line("git", &[&folder, "rev-parse", "--short", "HEAD"]);
    let commit = commit.map(|commit| format!(", commit {commit}")).unwrap_or_default();
    format!("{}{commit}, profile notiflux (oitc for O)", env!("CARGO_PKG_VERSION"))
}
