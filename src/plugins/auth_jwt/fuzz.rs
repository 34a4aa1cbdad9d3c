//! Tokens as a function of bytes; see `crate::fuzz`.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "panics are what fuzzers look for"
)]

use std::sync::OnceLock;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::Config;
use super::keys::{KeyPair, VerifyingKey};
use super::token::now;
use super::verify::Verifier;

struct Fixture {
    pair: EcdsaKeyPair,
    verifier: Verifier,
}

/// A key whose private half is a hash of words, so that a corpus can hold tokens signed by it.
fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        // RFC 5915: SEQUENCE { 1, OCTET STRING key, [0] OID prime256v1 }
        let mut der = vec![0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20];
        der.extend_from_slice(digest(&SHA256, b"notify-test-server").as_ref());
        der.extend_from_slice(&[
            0xA0, 0x0A, 0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07,
        ]);
        let pem = pem::encode(&pem::Pem::new("EC PRIVATE KEY", der.clone()));
        let public = KeyPair::parse(&pem).and_then(|pair| pair.public_pem()).expect("a key");
        let key = VerifyingKey::parse(None, &public).expect("its public half");
        let verifier = Verifier::new(&Config::default(), vec![key]);
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, &der);
        Fixture { pair: pair.expect("the same key"), verifier }
    })
}

/// A token, or, where there is a line break, the header and the payload of one that is signed
/// well. What is taken is signed, with ES256, and has not expired.
pub fn token(data: &[u8]) {
    let Fixture { pair, verifier } = fixture();
    let text = String::from_utf8_lossy(data);
    let token = match text.split_once('\n') {
        None => text.into_owned(),
        Some((header, payload)) => {
            let encode = |part: &str| URL_SAFE_NO_PAD.encode(part);
            let input = format!("{}.{}", encode(header), encode(payload));
            let signature = pair.sign(&SystemRandom::new(), input.as_bytes()).expect("a signature");
            format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
        }
    };
    let first = verifier.verify(&token);
    assert_eq!(first.is_ok(), verifier.verify(&token).is_ok(), "remembered or not");
    if first.is_err() {
        return;
    }
    let (input, signature) = token.rsplit_once('.').expect("three parts");
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).expect("base64");
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key());
    assert!(key.verify(input.as_bytes(), &decode(signature)).is_ok());
    let (header, payload) = input.split_once('.').expect("two parts");
    // Not as a `Value`: what nobody asks for may be nested as deeply as it likes.
    let header: Header = serde_json::from_slice(&decode(header)).expect("a header");
    let payload: Payload = serde_json::from_slice(&decode(payload)).expect("a payload");
    assert_eq!(header.alg, "ES256");
    assert!(payload.exp.saturating_add(60 + 1) >= now());
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Payload {
    exp: u64,
}
