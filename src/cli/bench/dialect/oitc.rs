//! The push server of openITCOCKPIT: browsers of users, and what Naemon posts.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use super::{Dialect, Request, upgrade};
use crate::cli::bench::credential;
use crate::cli::bench::options::Load;
use crate::cli::bench::settings::Settings;
use crate::cli::bench::target::Target;

/// What a browser says to get notifications.
const REGISTER: &str = r#"{"type":"RegisterBrowserPushNotification","message":"","payload":{"clientUuid":"bench","browserUuid":"bench"}}"#;

/// A user is a topic; subscribers are browsers, spread over the users.
struct Oitc {
    target: Target,
    key: String,
    first_user: i64,
    users: usize,
    host: String,
    payload: usize,
}

impl Oitc {
    fn user(&self, topic: usize) -> i64 {
        self.first_user.saturating_add(i64::try_from(topic).unwrap_or(i64::MAX))
    }
}

impl Dialect for Oitc {
    fn name(&self) -> &'static str {
        "oitc"
    }

    fn handshake(&self, subscriber: usize) -> Vec<u8> {
        // A browser gets a message once, however many connections it has: each subscriber is
        // a browser of its own.
        let path = format!(
            "{}/?userId={}&browserUuid=bench-{subscriber}",
            self.target.path,
            self.user(subscriber % self.users)
        );
        let key = format!("Sec-WebSocket-Protocol: access_token, {}\r\n", self.key);
        upgrade(&self.target.authority, &path, &key)
    }

    fn subscribe(&self, _: usize) -> Option<String> {
        Some(REGISTER.to_owned())
    }

    /// The output of the check becomes the text of the notification.
    fn publish(&self, topic: usize) -> Request {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let start = r#"{"timestamp":"#;
        let before = format!(
            r#"{start}{now:010},"userId":{},"type":"host","hostUuid":"{}","serviceUuid":"","icon":"","state":1,"notificationtype":"PROBLEM","output":""#,
            self.user(topic),
            self.host
        );
        let after = r#"","ackauthor":"","ackcomment":""}"#;
        let path = format!("{}/message", self.target.path);
        let mut request = Request::post(
            &self.target.authority,
            &path,
            "application/json",
            [&before, after],
            self.payload,
        );
        // What is old is dropped.
        request.time_at = Some(request.message_at - before.len() + start.len());
        request
    }

    /// 202 says that nobody listens.
    fn accepts(&self, status: u16) -> bool {
        status == 200
    }

    fn is_bare(&self) -> bool {
        false
    }
}

/// `pushmux bench oitc`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// The server, with its path prefix if it has one.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8083")]
    url: String,
    /// The API key of the browsers.
    #[arg(long, value_name = "file:PATH|env:NAME")]
    api_key: String,
    /// A host in the data base of the server, which the notifications are about.
    #[arg(long, value_name = "UUID")]
    host_uuid: String,
    /// Users; notifications go to one after the other.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    users: u16,
    /// Browsers of each user.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    browsers_per_user: u16,
    /// Number of the first user; the others follow. Far from those that exist, because a
    /// notification goes to the phones of its user as well.
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000, value_parser = clap::value_parser!(i64).range(1..))]
    first_user: i64,
    #[command(flatten)]
    load: Load,
}

impl Options {
    /// Reads what the run needs.
    ///
    /// # Errors
    /// Naming the flag, what was found and what would be right.
    pub(in crate::cli::bench) fn settings(self) -> Result<Settings, String> {
        let target = Target::parse("--url", &self.url, "http")?;
        let key = credential::read("--api-key", &self.api_key)?;
        if uuid::Uuid::parse_str(&self.host_uuid).is_err() {
            return Err(format!(
                "--host-uuid: found {:?}, expected something like 7d0da8f5-3284-4862-b0ba-d0efcc48f20d",
                self.host_uuid
            ));
        }
        let users = usize::from(self.users);
        let dialect = Oitc {
            target: target.clone(),
            key,
            first_user: self.first_user,
            users,
            host: self.host_uuid,
            payload: self.load.payload(),
        };
        let browsers = users * usize::from(self.browsers_per_user);
        self.load.settings(Box::new(dialect), [&target, &target], browsers, users)
    }
}
