//! Tokens good and bad, each presented at both doors of a running server.
//!
//! The list is data, `tests/cases/jwt.json`; [`case`] reads it, [`recipe`] and [`p256`]
//! make its tokens, [`bench`] presents them at notiflux and [`keys`] at oitc. A verdict is what other clients see: whether
//! a message arrives.

mod bench;
mod case;
mod keys;
mod p256;
mod recipe;

use std::collections::HashSet;
use std::net::TcpListener;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, KeyPair, UnparsedPublicKey,
    VerificationAlgorithm,
};

use crate::support::server::Builder;
use crate::support::token::Keys;
use bench::Bench;
use case::{Case, Door, Verdict};

/// The key that the list was written for. Some recipes take this very text for a secret.
const SERVER_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEcaFBU5b4YyifHyiuEA6RZ6M878yN
UdY1eqo18+GCKg1LAZD2I/ZIm1W/ZBrN24VkUHDLzcvajti6L/A9an8TYw==
-----END PUBLIC KEY-----
";

#[test]
fn the_list_is_whole() {
    let cases = Case::all();
    let count = |verdict| cases.iter().filter(|case| case.expected == verdict).count();
    assert_eq!((cases.len(), count(Verdict::Accept), count(Verdict::Reject)), (169, 26, 143));
    let names: HashSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "a name occurs twice");
    let deviations = cases.iter().filter(|case| case.deviation);
    // Stricter than the original, never laxer.
    assert!(deviations.clone().all(|case| case.expected == Verdict::Reject));
    assert_eq!(deviations.count(), 10);
}

#[test]
fn the_server_has_the_key_of_the_list() {
    assert_eq!(Keys::server().public_pem(), SERVER_KEY);
}

/// A scope in a spelling that [`case::swap_scope`] does not know would quietly make a
/// case test something else at the other door. All spellings have these ends.
#[test]
fn each_word_for_a_scope_has_one_for_the_other_door() {
    let count = |text: &str, end| text.to_lowercase().matches(end).count();
    let mut swapped = 0;
    for case in Case::all() {
        let other = case::swap_scope(&case.payload);
        assert_eq!(count(&case.payload, "ubscribe"), count(&other, "adcast"), "{}", case.name);
        assert_eq!(count(&case.payload, "adcast"), count(&other, "ubscribe"), "{}", case.name);
        assert_eq!(case::swap_scope(&other), case.payload, "{}", case.name);
        swapped += usize::from(other != case.payload);
    }
    assert!(swapped > 150, "{swapped}");
}

/// Bad signatures must be bad in the way they are said to be, or they would be refused
/// for another reason than the one that is tested.
#[test]
fn signatures_are_what_they_claim() {
    let input = b"header.payload";
    let verifies = |algorithm: &'static dyn VerificationAlgorithm, signature: &[u8]| {
        let key = UnparsedPublicKey::new(algorithm, Keys::server().pair.public_key());
        key.verify(input, signature).is_ok()
    };
    for _ in 0..20 {
        assert!(verifies(&ECDSA_P256_SHA256_ASN1, &recipe::sign("es256:server:der", input)));
        for form in ["high_s", "low_s"] {
            let signature = recipe::sign(&format!("es256:server:{form}"), input);
            assert_eq!(signature[32] >= 0x80, form == "high_s");
            assert!(verifies(&ECDSA_P256_SHA256_ASN1, &p256::der(&signature)), "{form}");
        }
        let signature = p256::der(&recipe::sign("es256:server:sha384", input));
        assert!(verifies(&ECDSA_P256_SHA384_ASN1, &signature));
        assert!(!verifies(&ECDSA_P256_SHA256_ASN1, &signature));
    }
}

/// Every case at both doors of one server; and no key is fetched from where a header
/// says, no piece of a token gets into the log, nothing panics.
#[test]
fn both_doors_give_the_verdict_of_the_list() {
    let key_host = key_host();
    let cases = Case::all();
    let loud = Builder::notiflux().env("RUST_LOG", "trace").args(["-vvv"]);
    let mut bench = Bench::start(loud, &cases);
    for case in &cases {
        bench.play(case, Door::Subscribe);
        bench.play(case, Door::Broadcast);
    }
    if key_host.is_some_and(|listener| listener.accept().is_ok()) {
        bench.note("a key was fetched");
    }
    bench.finish();
}

/// A server that tells its verdict does so also for topics on which nothing can be
/// delivered, and where silence would prove nothing.
#[test]
fn a_server_that_tells_its_verdict_tells_that_of_the_list() {
    let config = "profile = \"notiflux\"\n[protocol.notiflux]\nstrict = true\nack = true\n";
    let cases = Case::all();
    // A list of directives counts for libraries too, which print what they write.
    let loudest = Builder::notiflux().env("RUST_LOG", "trace,pushmux=trace");
    let mut bench = Bench::start(loudest.file("config.toml", config), &cases);
    for case in &cases {
        bench.play_told(case, Door::Subscribe);
        bench.play_told(case, Door::Broadcast);
    }
    bench.finish();
}

/// The place where the list's `jku` and `x5u` headers point to. None where the port
/// cannot be had, which takes privileges: then it is not known whether anyone came.
fn key_host() -> Option<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:9").ok()?;
    listener.set_nonblocking(true).unwrap();
    Some(listener)
}
