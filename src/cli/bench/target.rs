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
        let wrong = |why: &str| {
            format!(
                "{flag}: found {url:?}, {why}, expected something like {scheme}://127.0.0.1:8080"
            )
        };
        let uri: Uri = url.parse().map_err(|_| wrong("which is no URL"))?;
        if uri.scheme_str() != Some(scheme) {
            return Err(wrong("and only plain TCP can be measured"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("without a host"))?;
        if authority.as_str().contains('@') {
            // It may have a password in it.
            return Err(format!("{flag}: found a user name, which nobody would be told"));
        }
        let port = authority.port_u16().unwrap_or(80);
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
        let fault = Target::parse("--url", "http://a:secret@127.0.0.1", "http").unwrap_err();
        assert!(!fault.contains("secret"), "{fault}");
    }
}
