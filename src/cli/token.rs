//! `pushmux token`: keys and tokens for auth type `jwt`.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use clap::builder::NonEmptyStringValueParser;

use super::{Failure, print, tell};
use crate::plugins::auth_jwt::keys::KeyPair;
use crate::plugins::auth_jwt::token::{Claims, TokenScope};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an ES256 key pair and print the line for the environment.
    Keygen {
        /// Folder for private.pem and public.pem. Existing files are never overwritten.
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Sign a token and print it.
    Sign {
        /// What the token allows.
        #[arg(long)]
        scope: TokenScope,
        /// A topic it is good for; repeat for more.
        #[arg(long, required = true, value_name = "TOPIC", value_parser = NonEmptyStringValueParser::new())]
        topic: Vec<String>,
        /// How long it is valid, such as 30s, 1h or 100years.
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
        expires: Duration,
        /// The private key, as keygen or openssl writes it; - for stdin.
        #[arg(long, value_name = "FILE", default_value = "private.pem")]
        key: PathBuf,
    },
}

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Keygen { out } => keygen(out),
        Command::Sign { scope, topic, expires, key } => sign(*scope, topic, *expires, key),
    }
}

fn keygen(out: &Path) -> Result<(), Failure> {
    let pair = KeyPair::generate().map_err(Failure::failed)?;
    let private = pair.private_pem().map_err(Failure::failed)?;
    let public = pair.public_pem().map_err(Failure::failed)?;
    let base64 = pair.public_base64().map_err(Failure::failed)?;
    fs::create_dir_all(out)
        .map_err(|error| Failure::failed(format!("cannot create {}: {error}", out.display())))?;
    let (private_path, public_path) = (out.join("private.pem"), out.join("public.pem"));
    // Both or none: half a pair, or a mixed one, is worse than an error.
    if public_path.exists() {
        return Err(exists(&public_path));
    }
    create(&private_path, &private, 0o600)?;
    create(&public_path, &public, 0o644)?;
    tell(&format!(
        "Wrote {} (keep it secret) and {}\n",
        private_path.display(),
        public_path.display()
    ));
    print(&format!("JWT_PUBLIC_KEY_B64={base64}\n"))
}

fn exists(path: &Path) -> Failure {
    Failure::misused(format!(
        "{} exists already and is not overwritten; choose another folder with --out",
        path.display()
    ))
}

fn create(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                return exists(path);
            }
            Failure::failed(format!("cannot create {}: {error}", path.display()))
        })?;
    file.write_all(text.as_bytes())
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}

fn sign(
    scope: TokenScope,
    topics: &[String],
    expires: Duration,
    key: &Path,
) -> Result<(), Failure> {
    let name = key.display();
    let pem = if key.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(key)
    };
    let pem =
        pem.map_err(|error| Failure::misused(format!("cannot read the key {name}: {error}")))?;
    let pair =
        KeyPair::parse(&pem).map_err(|error| Failure::misused(format!("{name}: {error}")))?;
    let claims = Claims::new(scope, topics.to_vec(), expires);
    let token = pair.sign(&claims).map_err(Failure::failed)?;
    print(&format!("{token}\n"))
}
