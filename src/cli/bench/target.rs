//! Where a server is.

use std::net::{SocketAddr, ToSocketAddrs as _};

use http::Uri;

/// What a URL says, looked up.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// For the header `Host`.
    pub(super) authority: String,
    /// Path and query, without the slash that means nothing.
    pub(super) path: String,
}

impl Target {
    /// What a request line needs.
    pub(super) fn path_or_root(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }

    /// Reads the URL of `flag`, which must have this scheme.
    ///
    /// # Errors
    /// Naming the flag, what was found and what would be right.
    pub(super) fn parse(flag: &str, url: &str, scheme: &str) -> Result<Self, String> {
        let quoted = quoted(flag, url)?;
        let wrong = |why: &str| {
            format!(
                "{flag}: found {quoted}, {why}, expected something like {scheme}://127.0.0.1:8080"
            )
        };
        let uri: Uri = url.parse().map_err(|_| wrong("which is no URL"))?;
        if uri.scheme_str() != Some(scheme) {
            return Err(wrong("and only plain TCP can be measured"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("without a host"))?;
        let port = authority.port_u16().unwrap_or(80);
        if authority.port_u16().is_none() && authority.as_str() != authority.host() {
            return Err(wrong("with a port that is no number up to 65535"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let found = (host, port).to_socket_addrs();
        let address = found.ok().and_then(|mut found| found.next());
        let address = address.ok_or_else(|| wrong("a host that has no address"))?;
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        Ok(Self {
            address,
            authority: authority.to_string(),
            path: path.strip_suffix('/').unwrap_or(path).to_owned(),
        })
    }
}

/// A URL as an error may show it: without its query, which may have a token in it.
///
/// # Errors
/// An `@`, wherever it is: before it there may be a password, and what is no URL does not say
/// where that begins.
pub(super) fn quoted(flag: &str, url: &str) -> Result<String, String> {
    if url.contains('@') {
        return Err(format!(
            "{flag}: found a URL with `@`, expected one without a user name, which nobody would be told, and %40 elsewhere"
        ));
    }
    let end = url.find(['?', '#']).unwrap_or(url.len());
    Ok(format!("{:?}", &url[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (url, address, path) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", ""),
            ("http://127.0.0.1:8080/", "127.0.0.1:8080", ""),
            ("http://127.0.0.1/a/b?c=d", "127.0.0.1:80", "/a/b?c=d"),
            ("http://[::1]:1", "[::1]:1", ""),
        ] {
            let target = Target::parse("--url", url, "http").unwrap();
            assert_eq!(
                (target.address.to_string().as_str(), target.path.as_str()),
                (address, path)
            );
        }
        for url in ["https://127.0.0.1", "127.0.0.1:8080", "/x", ""] {
            let fault = Target::parse("--url", url, "http").unwrap_err();
            assert!(fault.starts_with(&format!("--url: found {url:?}")), "{fault}");
        }
    }

    #[test]
    fn no_secret_is_quoted() {
        for url in [
            "http://a:secret@127.0.0.1",
            "https://a:secret@127.0.0.1",
            "http://a:1/secret@127.0.0.1",
            "https://a:1?secret@127.0.0.1",
            "a:secret@",
            "http://a:\u{7f}secret@x y",
            "https://127.0.0.1/x?token=secret",
            "127.0.0.1?token=secret",
            "http://127.0.0.1:port/?token=secret",
            "http://[::1?token=secret",
            "https://127.0.0.1/x#secret",
        ] {
            let fault = Target::parse("--url", url, "http").unwrap_err();
            assert!(fault.starts_with("--url: found ") && !fault.contains("secret"), "{fault}");
        }
    }
}
