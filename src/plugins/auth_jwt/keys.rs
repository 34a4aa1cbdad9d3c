//! P-256 keys: public ones to verify with, pairs to sign with.

use std::fs;
use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING};
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair as _, ParsedPublicKey};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};

use super::token::Claims;

/// With or without padding: both are found in the wild.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What is wrong with a key. Never holds any part of it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file of `file:…` could not be read.
    #[error("cannot read the key file {}: {source}", path.display())]
    File {
        /// As configured, made absolute: a relative one is looked for where pushmux was
        /// started.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Neither PEM nor base64 of PEM.
    #[error(
        "found neither PEM nor base64 of PEM, expected `-----BEGIN PUBLIC KEY-----`, or what `base64 < public.pem` prints, or file:/path/to/public.pem"
    )]
    NotPem,
    /// A private key where the public one belongs.
    #[error(
        "found a private key, expected the public one: `openssl ec -in private.pem -pubout` prints it"
    )]
    Private,
    /// More than one block, of which all but the first would not count.
    #[error(
        "found {0} PEM blocks, expected one key: several are an array, public_key = [\"file:a.pem\", …]"
    )]
    Several(usize),
    /// PEM, but not of an EC key on the right curve.
    #[error(
        "found a key that is no EC public key on the curve P-256 (prime256v1), which ES256 needs"
    )]
    NotP256,
    /// A public key where the private one belongs.
    #[error("found a public key, expected the private one")]
    Public,
    /// No usable private key in a PEM file.
    #[error(
        "found no EC private key on the curve P-256 (prime256v1), expected `BEGIN PRIVATE KEY` or `BEGIN EC PRIVATE KEY`"
    )]
    NotAPrivateKey,
    /// The crypto library failed.
    #[error("the crypto library could not make or use a key")]
    Crypto,
}

/// A public key, parsed once.
pub struct VerifyingKey {
    /// Compared with a token's `kid`; none takes tokens with any.
    pub id: Option<String>,
    /// First 16 hexadecimal digits of the SHA-256 of the point: to tell keys apart in a log.
    pub fingerprint: String,
    pub(super) key: DecodingKey,
}

impl VerifyingKey {
    /// From a configuration value: PEM, base64 of PEM, or `file:` and a path.
    pub(super) fn load(id: Option<String>, value: &str) -> Result<Self, KeyError> {
        let Some(path) = value.strip_prefix("file:") else {
            return Self::parse(id, value);
        };
        let text = fs::read_to_string(path).map_err(|source| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
            KeyError::File { path, source }
        })?;
        Self::parse(id, &text)
    }

    /// From PEM or base64 of PEM. Line breaks in the base64 are what `base64` prints.
    pub(super) fn parse(id: Option<String>, text: &str) -> Result<Self, KeyError> {
        let pem = if text.contains("-----BEGIN") {
            text.to_owned()
        } else {
            let bare: String = text.split_whitespace().collect();
            let bytes = BASE64.decode(bare).map_err(|_| KeyError::NotPem)?;
            String::from_utf8(bytes).map_err(|_| KeyError::NotPem)?
        };
        if pem.contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        match pem::parse_many(&pem).map_err(|_| KeyError::NotPem)?.len() {
            0 => return Err(KeyError::NotPem),
            1 => {}
            keys => return Err(KeyError::Several(keys)),
        }
        let key = DecodingKey::from_ec_pem(pem.as_bytes()).map_err(|_| KeyError::NotP256)?;
        let point = key.try_get_as_bytes().map_err(|_| KeyError::NotP256)?;
        // jsonwebtoken takes any curve here and would then refuse every token.
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| KeyError::NotP256)?;
        let hash = digest(&SHA256, point);
        let first = hash.as_ref().first_chunk().copied().unwrap_or_default();
        let fingerprint = format!("{:016x}", u64::from_be_bytes(first));
        Ok(Self { id, fingerprint, key })
    }
}

/// A private key with its public one.
#[derive(Debug)]
pub struct KeyPair(EcdsaKeyPair);

impl KeyPair {
    /// A new pair.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        pair.map(Self).map_err(|_| KeyError::Crypto)
    }

    /// From a PEM file as openssl or [`Self::private_pem`] writes it: PKCS#8 or SEC1,
    /// with or without an `EC PARAMETERS` block before it.
    ///
    /// # Errors
    /// When there is no P-256 private key in it.
    pub fn parse(pem: &str) -> Result<Self, KeyError> {
        let blocks = pem::parse_many(pem).map_err(|_| KeyError::NotAPrivateKey)?;
        if blocks.iter().any(|block| block.tag() == "PUBLIC KEY") {
            return Err(KeyError::Public);
        }
        let is_key = |block: &&pem::Pem| matches!(block.tag(), "PRIVATE KEY" | "EC PRIVATE KEY");
        let block = blocks.iter().find(is_key).ok_or(KeyError::NotAPrivateKey)?;
        EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, block.contents())
            .map(Self)
            .map_err(|_| KeyError::NotAPrivateKey)
    }

    /// `BEGIN PRIVATE KEY`.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn private_pem(&self) -> Result<String, KeyError> {
        let der = self.0.to_pkcs8v1().map_err(|_| KeyError::Crypto)?;
        Ok(encode("PRIVATE KEY", der.as_ref()))
    }

    /// `BEGIN PUBLIC KEY`.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn public_pem(&self) -> Result<String, KeyError> {
        let der = self.0.public_key().as_der().map_err(|_| KeyError::Crypto)?;
        Ok(encode("PUBLIC KEY", der.as_ref()))
    }

    /// The public key as `JWT_PUBLIC_KEY_B64` takes it.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn public_base64(&self) -> Result<String, KeyError> {
        Ok(BASE64.encode(self.public_pem()?))
    }

    /// Signs a token.
    ///
    /// # Errors
    /// When the crypto library fails.
    pub fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        let der = self.0.to_pkcs8v1().map_err(|_| KeyError::Crypto)?;
        let key = EncodingKey::from_ec_der(der.as_ref());
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), claims, &key)
            .map_err(|_| KeyError::Crypto)
    }
}

fn encode(tag: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(tag, der), config)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING;

    use super::*;

    fn problem(text: &str) -> String {
        VerifyingKey::parse(None, text).err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn every_spelling_of_one_key_is_the_same_key() {
        let pair = KeyPair::generate().unwrap();
        let pem = pair.public_pem().unwrap();
        let base64 = pair.public_base64().unwrap();
        let wrapped: Vec<_> = base64.as_bytes().chunks(76).map(String::from_utf8_lossy).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &pem).unwrap();
        let fingerprint = VerifyingKey::load(None, &pem).unwrap().fingerprint;
        for spelling in [
            base64.clone(),
            wrapped.join("\n"),
            wrapped.join("\r\n") + "\r\n",
            base64.trim_end_matches('=').to_owned(),
            pem.trim_end().to_owned(),
            format!("file:{}", file.path().display()),
        ] {
            assert_eq!(VerifyingKey::load(None, &spelling).unwrap().fingerprint, fingerprint);
        }
        let again = KeyPair::parse(&pair.private_pem().unwrap()).unwrap();
        assert_eq!(again.public_pem().unwrap(), pem);
    }

    #[test]
    fn what_is_no_key_is_named() {
        let private = KeyPair::generate().unwrap().private_pem().unwrap();
        assert_eq!(problem("!"), KeyError::NotPem.to_string());
        assert_eq!(problem(&BASE64.encode("hello")), KeyError::NotPem.to_string());
        assert_eq!(problem(&private), KeyError::Private.to_string());
        assert_eq!(problem(&BASE64.encode(&private)), KeyError::Private.to_string());
        let public = KeyPair::generate().unwrap().public_pem().unwrap();
        let two = KeyError::Several(2).to_string();
        assert_eq!(problem(&public.repeat(2)), two);
        assert_eq!(problem(&BASE64.encode(public.repeat(2))), two);
        let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let p384 = encode("PUBLIC KEY", p384.public_key().as_der().unwrap().as_ref());
        assert_eq!(problem(&p384), KeyError::NotP256.to_string());
    }
}
