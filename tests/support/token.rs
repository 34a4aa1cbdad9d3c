//! ES256 keys and tokens, made with the primitives and not with pushmux's own code.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A P-256 key pair for tests. Its private key is the hash of a word: never for use.
pub struct Keys {
    pub pair: EcdsaKeyPair,
}

impl Keys {
    /// The pair whose public key the server under test is given.
    pub fn server() -> &'static Self {
        static KEYS: OnceLock<Keys> = OnceLock::new();
        KEYS.get_or_init(|| Self::derive("notify-test-server"))
    }

    /// A pair the server has never heard of.
    pub fn attacker() -> &'static Self {
        static KEYS: OnceLock<Keys> = OnceLock::new();
        KEYS.get_or_init(|| Self::derive("notify-test-attacker"))
    }

    pub fn derive(word: &str) -> Self {
        // RFC 5915: SEQUENCE { 1, OCTET STRING key, [0] OID prime256v1 }
        let mut der = vec![0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20];
        der.extend_from_slice(digest(&SHA256, word.as_bytes()).as_ref());
        der.extend_from_slice(&[
            0xA0, 0x0A, 0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07,
        ]);
        let pair = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, &der);
        Self { pair: pair.unwrap() }
    }

    pub fn public_pem(&self) -> String {
        let der = self.pair.public_key().as_der().unwrap();
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<_> =
            text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    pub fn public_base64(&self) -> String {
        STANDARD.encode(self.public_pem())
    }

    /// Signs a header and a payload as they are.
    pub fn sign(&self, header: &str, payload: &str) -> String {
        let input =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    pub fn token(&self, claims: &Value) -> String {
        self.sign(r#"{"alg":"ES256","typ":"JWT"}"#, &claims.to_string())
    }

    pub fn subscribe(&self, topics: &[&str]) -> String {
        self.token(&claims("subscribe", topics))
    }

    pub fn broadcast(&self, topics: &[&str]) -> String {
        self.token(&claims("broadcast", topics))
    }
}

/// Good claims for five minutes; change what a test needs changed.
pub fn claims(scope: &str, topics: &[&str]) -> Value {
    json!({ "sub": "test", "exp": now() + 300, "topics": topics, "scope": scope })
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
