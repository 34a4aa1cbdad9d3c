//! A key pair for the run, and the two tokens it takes.
//!
//! One token for all subscribers and one for all publishers: the server verifies each once
//! and knows it from then on, as with a real publisher that keeps its token for minutes.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

/// The only topic there is.
pub(crate) const TOPIC: &str = "bench";

pub(crate) struct Keys {
    pair: EcdsaKeyPair,
}

impl Keys {
    pub(crate) fn generate() -> Self {
        Self { pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap() }
    }

    /// The value of `JWT_PUBLIC_KEY_B64`: base64 of the PEM text.
    pub(crate) fn public_base64(&self) -> String {
        let der = STANDARD.encode(self.pair.public_key().as_der().unwrap().as_ref());
        let lines: Vec<_> =
            der.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
        let lines = lines.join("\n");
        STANDARD.encode(format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n"))
    }

    /// A token for [`TOPIC`], good for longer than any run.
    pub(crate) fn token(&self, scope: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims =
            json!({ "sub": "bench", "exp": now + 24 * 3600, "topics": [TOPIC], "scope": scope });
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","typ":"JWT"}"#);
        let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}
