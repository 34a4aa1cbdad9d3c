//! Option files as a function of bytes; see `crate::fuzz`.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "panics are what fuzzers look for"
)]

use std::path::Path;

use percent_encoding::percent_decode_str;

use super::cnf::Cnf;

/// A `mysql.cnf`: what is read of it is a URL that says the same.
pub fn mysql_cnf(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let cnf = match Cnf::parse(Path::new("mysql.cnf"), &text) {
        Ok(cnf) => cnf,
        Err(error) => {
            assert!(error.to_string().contains("mysql.cnf"));
            return;
        }
    };
    let url = cnf.url();
    let url = reqwest::Url::parse(url.expose()).expect("a URL");
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    assert_eq!(url.scheme(), "mysql");
    assert_eq!(decoded(url.username()), cnf.user);
    assert_eq!(decoded(url.password().unwrap_or_default()), cnf.password.expose());
    assert_eq!(decoded(url.path().trim_start_matches('/')), cnf.database);
    assert_eq!(url.port(), Some(cnf.port));
}
