//! Tokens from recipes: a header and a payload as they are, a way to sign, and what is
//! done to the result. Made with the primitives alone, so that nothing here shares a
//! mistake with the code that verifies.

use std::io::Write;
use std::sync::OnceLock;

use aws_lc_rs::digest::{Digest, SHA256, SHA384, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256K1_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use flate2::Compression;
use flate2::write::DeflateEncoder;

use super::p256;
use crate::support::token::Keys;

/// What a token is made of.
pub(super) struct Recipe<'a> {
    /// Raw text: it need not be JSON, and is never written anew.
    pub(super) header: &'a str,
    /// Raw text, as the header.
    pub(super) payload: &'a str,
    /// `es256:<server|attacker>[:high_s|low_s|der|swap|sha384]`, `rs_const:<r>:<s>`,
    /// `hs256:<what of the public key is the secret>`, `es384`, `es256k`, `rs256`,
    /// `eddsa` (each by a key nobody knows), or `empty`.
    pub(super) sign: &'a str,
    /// Steps in order; see [`encoded_payload`] and [`finish`].
    pub(super) post: &'a [String],
}

impl Recipe<'_> {
    /// # Panics
    /// For a sign mode or a step that is not known: a recipe is never half followed.
    pub(super) fn build(&self) -> String {
        let header = URL_SAFE_NO_PAD.encode(self.header);
        let input = format!("{header}.{}", encoded_payload(self.payload, self.post));
        let mut token = format!("{input}.{}", self.signature(&input));
        for step in self.post {
            token = finish(step, token);
        }
        token
    }

    /// The third segment. One signature in fifteen has the same spelling in both
    /// alphabets of base64; where the alphabet matters such a one is no use.
    fn signature(&self, input: &str) -> String {
        let alphabet_matters = self.post.iter().any(|step| step == "sig_std_alphabet");
        loop {
            let signature = URL_SAFE_NO_PAD.encode(sign(self.sign, input.as_bytes()));
            if !alphabet_matters || signature.contains(['-', '_']) {
                return signature;
            }
        }
    }
}

/// The second segment, with those steps that come before the signature: what they
/// spoil is then the only thing wrong with the token.
fn encoded_payload(payload: &str, post: &[String]) -> String {
    let mut bytes = payload.as_bytes().to_vec();
    let mut padded = false;
    for step in post {
        match step.as_str() {
            "payload_deflate" => bytes = deflate(&bytes),
            "payload_bom" => bytes = [b"\xEF\xBB\xBF", bytes.as_slice()].concat(),
            "payload_pad" => padded = true,
            _ => {}
        }
    }
    if !padded {
        return URL_SAFE_NO_PAD.encode(bytes);
    }
    let segment = URL_SAFE.encode(bytes);
    assert!(segment.ends_with('='), "a payload of this length takes no padding");
    segment
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A step on the finished token.
fn finish(step: &str, token: String) -> String {
    let done = match step {
        // These came before the signature.
        "payload_deflate" | "payload_bom" | "payload_pad" => return token,
        "flip_payload_bit" => with_segment(&token, 1, |segment| reworded(segment, "foo", "fop")),
        "flip_header" => with_segment(&token, 0, |segment| reworded(segment, "JWT", "JWS")),
        "sig_truncate63" => with_signature(&token, |bytes| bytes[..63].to_vec()),
        "sig_extend65" => with_signature(&token, |bytes| [bytes, &[0]].concat()),
        "sig_pad" => token.clone() + "==",
        "sig_trailing_bits" => with_segment(&token, 2, trailing_bits),
        "sig_std_alphabet" => {
            with_segment(&token, 2, |segment| segment.replace('-', "+").replace('_', "/"))
        }
        // In the signature, which does not sign itself: a decoder that skips white
        // space would find nothing wrong.
        "inner_newline" => {
            with_segment(&token, 2, |segment| format!("{}\n{}", &segment[..43], &segment[43..]))
        }
        "drop_signature_segment" => token.rsplit_once('.').unwrap().0.to_owned(),
        "extra_segment" => token.clone() + ".e30",
        "leading_dot" => format!(".{token}"),
        "trailing_nul" => token.clone() + "\0",
        "trailing_newline" => token.clone() + "\n",
        "percent_dot" => token.replace('.', "%2E"),
        "fullwidth_dot" => token.replace('.', "\u{FF0E}"),
        "json_serialization" => json_serialization(&token),
        "literal_empty" => String::new(),
        "literal_dots" => "..".into(),
        "literal_null" => "null".into(),
        other => panic!("unknown post step {other}"),
    };
    assert_ne!(done, token, "{step} has changed nothing");
    done
}

fn with_segment(token: &str, index: usize, change: impl FnOnce(&str) -> String) -> String {
    let mut segments: Vec<_> = token.split('.').map(str::to_owned).collect();
    segments[index] = change(&segments[index]);
    segments.join(".")
}

fn with_signature(token: &str, change: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let changed = |segment: &str| change(&URL_SAFE_NO_PAD.decode(segment).unwrap());
    with_segment(token, 2, |segment| URL_SAFE_NO_PAD.encode(changed(segment)))
}

fn reworded(segment: &str, from: &str, to: &str) -> String {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(segment).unwrap()).unwrap();
    URL_SAFE_NO_PAD.encode(text.replacen(from, to, 1))
}

/// The last of the 86 characters holds two bits of the signature and four of nothing;
/// sets one of the latter.
fn trailing_bits(segment: &str) -> String {
    let (rest, last) = segment.split_at(85);
    let other = match last {
        "A" => "B",
        "Q" => "R",
        "g" => "h",
        "w" => "x",
        other => panic!("{other} does not end 64 bytes"),
    };
    format!("{rest}{other}")
}

fn json_serialization(token: &str) -> String {
    let segments: Vec<_> = token.split('.').collect();
    let [protected, payload, signature] = segments[..] else { panic!("three segments") };
    format!(r#"{{"protected":"{protected}","payload":"{payload}","signature":"{signature}"}}"#)
}

/// The bytes of the signature.
pub(super) fn sign(mode: &str, input: &[u8]) -> Vec<u8> {
    match *mode.split(':').collect::<Vec<_>>() {
        ["es256", key] => es256(keys(key), input),
        ["es256", key, "high_s"] => p256::with_s(&es256(keys(key), input), Ord::max),
        ["es256", key, "low_s"] => p256::with_s(&es256(keys(key), input), Ord::min),
        ["es256", key, "der"] => p256::der(&es256(keys(key), input)),
        ["es256", key, "swap"] => {
            let signature = es256(keys(key), input);
            [&signature[32..], &signature[..32]].concat()
        }
        ["es256", key, "sha384"] => over_sha384(keys(key), input),
        ["rs_const", r, s] => [p256::constant(r), p256::constant(s)].concat(),
        ["hs256", secret] => hs256(&public_key(secret), input),
        ["es384"] => by_a_stranger(&ECDSA_P384_SHA384_FIXED_SIGNING, input),
        ["es256k"] => by_a_stranger(&ECDSA_P256K1_SHA256_FIXED_SIGNING, input),
        ["rs256"] => rs256(input),
        ["eddsa"] => Ed25519KeyPair::generate().unwrap().sign(input).as_ref().to_vec(),
        ["empty"] => vec![],
        _ => panic!("unknown sign mode {mode}"),
    }
}

/// The key pair that recipes call by this name.
pub(super) fn keys(name: &str) -> &'static Keys {
    match name {
        "server" => Keys::server(),
        "attacker" => Keys::attacker(),
        other => panic!("unknown key {other}"),
    }
}

fn es256(keys: &Keys, input: &[u8]) -> Vec<u8> {
    keys.pair.sign(&SystemRandom::new(), input).unwrap().as_ref().to_vec()
}

/// ECDSA takes as many bits of a hash as its order has: for P-256 the first 32 bytes of
/// a SHA-384. The pair signs no hash that is not called a SHA-256, so these are.
fn over_sha384(keys: &Keys, input: &[u8]) -> Vec<u8> {
    let hash = digest(&SHA384, input);
    let hash = Digest::import_less_safe(&hash.as_ref()[..32], &SHA256).unwrap();
    keys.pair.sign_digest(&hash).unwrap().as_ref().to_vec()
}

fn by_a_stranger(algorithm: &'static EcdsaSigningAlgorithm, input: &[u8]) -> Vec<u8> {
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    pair.sign(&SystemRandom::new(), input).unwrap().as_ref().to_vec()
}

fn rs256(input: &[u8]) -> Vec<u8> {
    static PAIR: OnceLock<RsaKeyPair> = OnceLock::new();
    let pair = PAIR.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input, &mut signature).unwrap();
    signature
}

fn hs256(secret: &[u8], input: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input).as_ref().to_vec()
}

/// What of the server's public key is taken for a secret.
fn public_key(form: &str) -> Vec<u8> {
    let server = Keys::server();
    match form {
        "pem" => server.public_pem().into_bytes(),
        "pem_strip" => server.public_pem().trim().as_bytes().to_vec(),
        "rawpoint" => server.pair.public_key().as_ref().to_vec(),
        "empty" => vec![],
        other => panic!("unknown form of the public key {other}"),
    }
}
