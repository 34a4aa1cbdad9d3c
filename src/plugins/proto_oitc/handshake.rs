//! Who knocks: user and browser from the query, the key from the subprotocols.

use http::HeaderMap;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use percent_encoding::percent_decode_str;

/// Somebody who wants a connection. The key is still to be checked.
pub(super) struct Visitor {
    pub user: i64,
    /// Not checked to be a UUID: the original takes any text.
    pub browser: String,
    pub key: String,
}

impl Visitor {
    /// None when something is missing or wrong; the original tells nobody what.
    pub(super) fn read(query: &str, headers: &HeaderMap) -> Option<Self> {
        let user = parameter(query, "userId")?.parse().ok().filter(|user| *user > 0)?;
        let browser = parameter(query, "browserUuid").filter(|text| !text.is_empty())?;
        // The first header line only, exactly two items, the first a fixed word.
        let offers = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
        let offers: Vec<_> = offers.split(',').map(str::trim).collect();
        match offers[..] {
            ["access_token", key] if !key.is_empty() => {
                Some(Self { user, browser, key: key.to_owned() })
            }
            _ => None,
        }
    }
}

/// Whether this is how clients of the PHP server come: no subprotocol, no `userId`.
pub(super) fn is_legacy(query: &str, headers: &HeaderMap) -> bool {
    !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) && parameter(query, "userId").is_none()
}

/// First value of a parameter, as Go's `url.ParseQuery` reads it: parts with a `;` or a
/// broken percent escape do not count.
fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').filter(|part| !part.contains(';')).find_map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(key)? == name).then(|| decode(value)).flatten()
    })
}

fn decode(text: &str) -> Option<String> {
    let whole = |escape: &str| {
        escape.len() >= 2 && escape.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit)
    };
    if !text.split('%').skip(1).all(whole) {
        return None;
    }
    let text = text.replace('+', " ");
    Some(percent_decode_str(&text).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, offers: &'static str) -> Option<(i64, String, String)> {
        let headers = HeaderMap::from_iter([(SEC_WEBSOCKET_PROTOCOL, offers.parse().unwrap())]);
        Visitor::read(query, &headers).map(|v| (v.user, v.browser, v.key))
    }

    #[test]
    fn queries() {
        let good = |query| read(query, "access_token, k").map(|(user, browser, _)| (user, browser));
        for (query, user, browser) in [
            ("userId=5&browserUuid=b", 5, "b"),
            ("browserUuid=b&userId=007", 7, "b"),
            ("userId=%2B5&browserUuid=a%20b", 5, "a b"),
            ("userId=1&userId=2&browserUuid=null", 1, "null"),
            ("userId=%zz&userId=5&browserUuid=b", 5, "b"),
            ("userId=9223372036854775807&browserUuid=+", i64::MAX, " "),
        ] {
            assert_eq!(good(query), Some((user, browser.to_owned())), "{query}");
        }
        for query in [
            "",
            "userId=5",
            "userId=5&browserUuid=",
            "browserUuid=b",
            "userId=0&browserUuid=b",
            "userId=-1&browserUuid=b",
            "userId=abc&browserUuid=b",
            "userId=5.0&browserUuid=b",
            "userId=1_000&browserUuid=b",
            "userId=+5&browserUuid=b",
            "userid=5&browserUuid=b",
            "userId=9223372036854775808&browserUuid=b",
            "userId=5;browserUuid=b",
            "userId=5&browserUuid=%",
        ] {
            assert_eq!(good(query), None, "{query}");
        }
    }

    #[test]
    fn offers() {
        let key = |offers| read("userId=5&browserUuid=b", offers).map(|(_, _, key)| key);
        assert_eq!(key("access_token, KEY").as_deref(), Some("KEY"));
        assert_eq!(key(" access_token,KEY ").as_deref(), Some("KEY"));
        for offers in [
            "access_token",
            "KEY, access_token",
            "access_token, KEY, x",
            "access_token, KEY,",
            "access_token, ",
            "Access_Token, KEY",
            "token, KEY",
        ] {
            assert_eq!(key(offers), None, "{offers}");
        }
        assert!(Visitor::read("userId=5&browserUuid=b", &HeaderMap::new()).is_none());
    }
}
