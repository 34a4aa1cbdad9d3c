//! Tokens and keys. They are never printed, not even where one is wrong.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::plugins::auth_jwt::keys::KeyPair;
use crate::plugins::auth_jwt::token::{Claims, TokenScope};

/// How long the tokens of a run are good for.
const LIFETIME: Duration = Duration::from_hours(24);

/// Reads the value of a flag: `file:PATH` or `env:NAME`.
///
/// # Errors
/// Naming the flag, what was found and what would be right, without any part of a secret.
pub(super) fn read(flag: &str, source: &str) -> Result<String, String> {
    let text = if let Some(path) = source.strip_prefix("file:") {
        fs::read_to_string(path).map_err(|error| format!("{flag}: cannot read {path}: {error}"))?
    } else if let Some(name) = source.strip_prefix("env:") {
        std::env::var(name)
            .map_err(|_| format!("{flag}: the variable {name} is not set, or is no text"))?
    } else {
        return Err(format!(
            "{flag}: found neither file: nor env: before the value, which is not shown; expected file:PATH or env:NAME, because others can see the arguments of a program"
        ));
    };
    let text = text.trim();
    let printable = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
    if text.is_empty() || !text.chars().all(printable) {
        return Err(format!(
            "{flag}: found nothing, or characters that no token has, expected one line of letters, digits and marks"
        ));
    }
    Ok(text.to_owned())
}

/// Signs tokens for a run.
pub(super) struct Signer(KeyPair);

impl Signer {
    /// With the private key in a file.
    ///
    /// # Errors
    /// Naming the flag and the file.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let pem = fs::read_to_string(path)
            .map_err(|error| format!("--key: cannot read {name}: {error}"))?;
        KeyPair::parse(&pem).map(Self).map_err(|error| format!("--key: {name}: {error}"))
    }

    /// A token for these topics. No two are the same: a signature has chance in it.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub(super) fn sign(&self, scope: TokenScope, topics: &[String]) -> Result<String, String> {
        let claims = Claims::new(scope, topics.to_vec(), LIFETIME);
        self.0.sign(&claims).map_err(|error| format!("--key: {error}"))
    }
}
