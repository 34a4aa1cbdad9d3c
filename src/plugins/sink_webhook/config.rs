//! The keys of `[sink.<name>]` with `type = "webhook"`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Url};
use serde::{Deserialize, Serialize};

use crate::core::BoxError;
use crate::core::config::{Check, Secret, duration};

/// Headers that belong to the connection and not to us.
const NOT_OURS: [&str; 3] = ["connection", "content-length", "transfer-encoding"];

/// `[sink.<name>]`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What messages are sent to.
    pub target: Target,
    /// Where messages are posted to. Hidden: many receivers put a key into the path.
    pub url: Secret,
    /// More headers for each request.
    pub headers: BTreeMap<String, Secret>,
    /// The `[database.<name>]` that holds the relay's settings and the devices.
    pub database: String,
    /// How old the relay's settings may be.
    #[serde(with = "duration")]
    pub settings_cache: Duration,
    /// How long a request may take, from connecting to the end of the answer.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Most requests at a time.
    pub concurrency: usize,
    /// Most messages that wait.
    pub queue_messages: usize,
    /// Most bytes that wait. One message may always wait, whatever its size.
    pub queue_bytes: usize,
    /// Refuse receivers whose certificate is not good.
    pub verify_tls: bool,
    /// PEM file with certificates that are trusted besides those of the system.
    pub ca_file: PathBuf,
}

/// What messages are sent to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One request for each message, to `url`.
    #[default]
    Url,
    /// One request for each phone of a user, to the gateway named in `database`.
    Relay,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            target: Target::Url,
            url: Secret::default(),
            headers: BTreeMap::new(),
            database: "main".into(),
            settings_cache: Duration::from_secs(5),
            timeout: Duration::from_secs(15),
            concurrency: 8,
            queue_messages: 10_000,
            queue_bytes: 64 * 1024 * 1024,
            verify_tls: true,
            ca_file: PathBuf::new(),
        }
    }
}

impl Config {
    pub(super) fn check(&self, check: &mut Check<'_>) {
        match self.target {
            Target::Url => self.check_url(check),
            Target::Relay => self.check_relay(check),
        }
        let allowed = Duration::from_millis(10)..=Duration::from_hours(1);
        check.duration("settings_cache", self.settings_cache, allowed.clone());
        check.duration("timeout", self.timeout, allowed);
        check.range("concurrency", self.concurrency, 1..=1000);
        check.range("queue_messages", self.queue_messages, 1..=10_000_000);
        check.range("queue_bytes", self.queue_bytes, 1024..=1 << 40);
        if let Err(error) = self.certificates() {
            check.fault("ca_file", &error.to_string());
        } else if !self.verify_tls && !self.ca_file.as_os_str().is_empty() {
            check.fault("ca_file", "has no meaning with verify_tls = false: leave one of them out");
        }
    }

    fn check_url(&self, check: &mut Check<'_>) {
        if let Err(message) = self.url() {
            check.fault("url", message);
        }
        for (name, value) in &self.headers {
            if let Err(message) = header(name, value) {
                check.fault(&format!("headers.{name}"), message);
            }
        }
    }

    fn check_relay(&self, check: &mut Check<'_>) {
        check.database("database", &self.database);
        let message = "belongs to target = \"url\": the relay has its own";
        if !self.url.expose().is_empty() {
            check.fault("url", message);
        }
        if !self.headers.is_empty() {
            check.fault("headers", message);
        }
    }

    /// The URL, or what is wrong with it. Never quotes it.
    pub(super) fn url(&self) -> Result<Url, &'static str> {
        if self.url.expose().is_empty() {
            return Err("missing: expected where to post to, such as https://example.org/hook");
        }
        let expected = "found no URL with a host and http or https in front, expected one such as https://example.org/hook";
        let url = Url::parse(self.url.expose()).map_err(|_| expected)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(expected);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "found a user or password in the URL, expected them in `headers`, as Authorization",
            );
        }
        Ok(url)
    }

    /// The headers that are in order; [`Self::check`] has named the others.
    pub(super) fn headers(&self) -> HeaderMap {
        self.headers.iter().filter_map(|(name, value)| header(name, value).ok()).collect()
    }

    /// What `ca_file` holds.
    pub(super) fn certificates(&self) -> Result<Vec<Certificate>, BoxError> {
        if self.ca_file.as_os_str().is_empty() {
            return Ok(vec![]);
        }
        let path = self.ca_file.display();
        let pem = std::fs::read(&self.ca_file)
            .map_err(|error| format!("cannot read the certificates in {path}: {error}"))?;
        match Certificate::from_pem_bundle(&pem) {
            Ok(found) if !found.is_empty() => Ok(found),
            _ => Err(format!("found no certificate in {path}, expected PEM").into()),
        }
    }
}

/// One header line, or what is wrong with it. Never quotes the value.
fn header(name: &str, value: &Secret) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| "found a name that no header can have, expected one such as X-Api-Key")?;
    if NOT_OURS.contains(&name.as_str()) {
        return Err("found a header that belongs to the connection, expected another");
    }
    let mut value = HeaderValue::from_str(value.expose()).map_err(
        |_| "found a value with characters that no header can have, expected printable ASCII",
    )?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(url: &str) -> Option<&'static str> {
        Config { url: url.to_owned().into(), ..Config::default() }.url().err()
    }

    #[test]
    fn only_http_and_https_with_a_host_and_without_credentials() {
        for good in [
            "https://example.org/hook",
            "http://127.0.0.1:8080/",
            "https://[2606:4700:4700::1111]/x?key=1",
            "HTTPS://Example.ORG",
        ] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in [
            "",
            "file:///etc/passwd",
            "gopher://127.0.0.1:6379/_x",
            "ftp://example.com/",
            "javascript:1",
            "//example.com/",
            "example.com",
            "http://",
            "http://[fe80::1%25eth0]/",
            "http://256.256.256.256/",
            "https://user@example.org/",
            "https://user:secret@example.org/",
        ] {
            let fault = fault(bad).unwrap_or_else(|| panic!("{bad} was taken"));
            assert!(!fault.contains("secret"));
        }
    }

    #[test]
    fn a_header_cannot_smuggle_another_one_in() {
        let header = |name: &str, value: &str| header(name, &value.to_owned().into()).is_ok();
        assert!(header("X-Api-Key", "k"));
        assert!(!header("X-Api-Key", "k\r\nX-Other: v"));
        assert!(!header("X Api Key", "k"));
        assert!(!header("Content-Length", "5"));
    }
}
