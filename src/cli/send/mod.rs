//! `pushmux send`: one alert from Naemon to the push server of openITCOCKPIT.
//!
//! Stands in for the program `send_push_notification`: same flags, same texts, same exit
//! codes, also under that name. Naemon starts it for every alert, so it comes before the
//! rest of the command line and needs no configuration, no threads and no TLS.
//!
//! Exit codes: 0 the server took the alert, 1 it did not, 2 wrong usage.

mod alert;
mod flags;
mod number;
mod post;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use thiserror::Error;

use self::alert::{Alert, NoTarget, Target};
use self::flags::Flags;
use self::post::{Answer, PostError};
use super::{FAILED, MISUSED};
use crate::core::chain;

/// The program that this command replaces; under its name the binary is that program.
const ORIGINAL: &str = "send_push_notification";
/// The command's own name.
const COMMAND: &str = "pushmux send";
/// For everything: look-up, connection, answer.
const TIME_OUT: Duration = Duration::from_secs(10);

/// Why the server has not taken the alert.
#[derive(Debug, Error)]
enum SendError {
    #[error(transparent)]
    Address(#[from] NoTarget),
    #[error(transparent)]
    Post(#[from] PostError),
    #[error("cannot write the request")]
    Json(#[from] serde_json::Error),
    #[error("cannot start")]
    Runtime(#[from] io::Error),
}

/// Runs this command if the program was called by the original's name or with `send` as
/// the first argument. clap is asked in all other cases; in these it would keep flags like
/// `-v` for itself, and building it costs a tenth of the time.
pub(super) fn dispatch(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter();
    let program = args.next()?;
    if Path::new(&program).file_stem().is_some_and(|name| name == ORIGINAL) {
        return Some(main(&program.to_string_lossy(), args));
    }
    (args.next()? == "send").then(|| main(COMMAND, args))
}

/// Runs this command with the arguments after its name.
pub(super) fn run(args: Vec<OsString>) -> ExitCode {
    main(COMMAND, args)
}

/// What `pushmux help send` and the manual page say.
pub(super) fn about() -> String {
    format!(
        "Send an alert to the push server of openITCOCKPIT, as Naemon does.\n\n\
         Replaces {ORIGINAL}, also when called by that name: `-name value`, `-name=value`, \
         `--name value` and `--name=value` are all the same. The server is the one at \
         OITC_ADDRESS (host, host:port), else 127.0.0.1, on port 8083.\n\n\
         Exit codes: 0 the server took the alert, 1 it did not or nobody listens (202), \
         2 wrong usage.\n\n{}",
        // The manual page knows no tabs.
        flags::list().replace('\t', "    ")
    )
}

fn main(program: &str, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Arguments that are not UTF-8 are sent as well as JSON can hold them.
    let args = args.into_iter().map(|arg| arg.to_string_lossy().into_owned());
    match flags::parse(args) {
        Ok(None) => {
            say(&flags::usage(program));
            ExitCode::SUCCESS
        }
        Ok(Some(flags)) if flags.user_id <= 0 => {
            say("user-id is required and must be > 0\n");
            FAILED.into()
        }
        Ok(Some(flags)) => send(&flags),
        Err(misuse) => {
            say(&format!("{misuse}\n{}", flags::usage(program)));
            MISUSED.into()
        }
    }
}

fn send(flags: &Flags) -> ExitCode {
    let address = std::env::var_os("OITC_ADDRESS").unwrap_or_default();
    let address = address.to_string_lossy();
    let target = Target::parse(&address);
    let url = alert::url(target.as_ref(), &address);
    match target.map_err(SendError::from).and_then(|target| exchange(&target, flags)) {
        Ok(answer) => {
            report(&answer);
            let good = answer.status == StatusCode::OK
                || (flags.accept_202 && answer.status == StatusCode::ACCEPTED);
            if good { ExitCode::SUCCESS } else { FAILED.into() }
        }
        Err(error) => {
            say(&format!("HTTP request failed: Post \"{url}\": {}\n", chain(&error)));
            FAILED.into()
        }
    }
}

fn exchange(target: &Target, flags: &Flags) -> Result<Answer, SendError> {
    let body = serde_json::to_vec(&Alert::new(flags, SystemTime::now()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(post::post(target, body, TIME_OUT));
    // A look-up that hangs in the system's resolver must not hold up the end.
    runtime.shutdown_background();
    Ok(answer?)
}

fn report(answer: &Answer) {
    let mut text = format!("Response status: {} ", answer.status.as_str()).into_bytes();
    text.extend_from_slice(&answer.reason);
    text.push(b'\n');
    text.extend_from_slice(&answer.body);
    text.push(b'\n');
    // Whether the alert was taken is what the exit code tells, read or not.
    let mut stdout = io::stdout();
    let _ = stdout.write_all(&text).and_then(|()| stdout.flush());
}

/// Writes to stderr; nobody may be there to read it.
fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
