//! One pooled HTTP client for each sink.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{ClientBuilder, Response, Url};
use tracing::warn;

use super::Config;
use crate::core::{BoxError, chain};

/// An answer is only read so that its connection can be used again; one that is longer,
/// or takes longer, costs its connection.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
const MAX_ANSWER_TIME: Duration = Duration::from_secs(1);

/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 3;

/// Posts. Uses no proxy from the environment, and reads no compressed answers.
pub(super) struct Client {
    http: reqwest::Client,
    timeout: Duration,
}

/// Why a request failed. Holds neither the URL nor anything that was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// An answer that is no success; redirects that are not followed included.
    #[error("the receiver answered {0}")]
    Status(StatusCode),
    /// No complete answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// No connection, no TLS, no HTTP.
    #[error("the request failed")]
    Failed(#[source] reqwest::Error),
}

/// What to do with a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redirects {
    /// A redirect is a failure.
    Refuse,
    /// 307 and 308 to the same scheme, host and port are followed, a few times: what is
    /// sent holds keys, which must not go anywhere else.
    SameOrigin,
}

impl Client {
    /// Costs some milliseconds: reads the certificates of the system.
    pub(super) fn build(config: &Config, redirects: Redirects) -> Result<Self, BoxError> {
        let http = if !config.verify_tls {
            builder(config, redirects).tls_danger_accept_invalid_certs(true).build()
        } else if config.url().is_ok_and(|url| url.scheme() == "https") {
            // Nothing could ever be sent to it without certificates to trust.
            builder(config, redirects).tls_certs_merge(config.certificates()?).build()
        } else {
            // What never meets TLS must not fail on a system without any certificates, such
            // as a container. Whether a gateway does is not known before its row was read.
            let trusting = builder(config, redirects).tls_certs_merge(config.certificates()?);
            trusting.build().or_else(|error| {
                warn!(
                    error = chain(&error),
                    "No certificates of the system: a receiver with https will be refused. Install ca-certificates, or name those to trust in ca_file"
                );
                builder(config, redirects).tls_certs_only(config.certificates().unwrap_or_default()).build()
            })
        };
        let http =
            http.map_err(|error| format!("cannot make an HTTP client: {}", chain(&error)))?;
        Ok(Self { http, timeout: config.timeout })
    }

    /// Posts JSON and judges the answer by its status. One attempt: what repeats stands
    /// around this.
    pub(super) async fn post(
        &self,
        url: Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(), SendError> {
        let json = HeaderValue::from_static("application/json");
        // `headers` comes second, so that what is configured wins.
        let request = self.http.post(url).header(CONTENT_TYPE, json).headers(headers).body(body);
        let response = request.send().await.map_err(|error| {
            if error.is_timeout() {
                SendError::TimedOut(self.timeout)
            } else {
                SendError::Failed(error.without_url())
            }
        })?;
        let status = response.status();
        finish(response).await;
        if status.is_success() { Ok(()) } else { Err(SendError::Status(status)) }
    }
}

/// How long an idle connection is used again: less than the 5 s after which some receivers
/// (Node.js, uvicorn) close one. A request that meets their end on its way is lost, since whether
/// it was taken cannot be known.
const IDLE: Duration = Duration::from_secs(3);

fn builder(config: &Config, redirects: Redirects) -> ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .referer(false)
        .redirect(match redirects {
            Redirects::Refuse => Policy::none(),
            Redirects::SameOrigin => Policy::custom(same_origin),
        })
        .timeout(config.timeout)
        .pool_max_idle_per_host(config.concurrency)
        .pool_idle_timeout(IDLE)
        .user_agent(concat!("pushmux/", env!("CARGO_PKG_VERSION")))
        .http1_title_case_headers()
}

/// Reads the rest of an answer, within limits. Its status has said it all.
async fn finish(mut response: Response) {
    let rest = async {
        let mut read = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            read += chunk.len();
            if read > MAX_ANSWER_BYTES {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(MAX_ANSWER_TIME, rest).await;
}

fn same_origin(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let repeats =
        matches!(attempt.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let before = attempt.previous();
    let same = before.iter().all(|url| url.origin() == attempt.url().origin());
    if repeats && same && before.len() <= MAX_REDIRECTS { attempt.follow() } else { attempt.stop() }
}
