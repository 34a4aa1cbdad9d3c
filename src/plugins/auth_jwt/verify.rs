//! A token in, a grant out.
//!
//! Order: size, memory, header, signature, time, audience, claims. Cheap checks stand
//! before dear ones, so that rubbish costs next to nothing.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::config::Config;
use super::keys::VerifyingKey;
use super::token::{Claims, TokenScope, now};
use crate::core::auth::{AuthError, Grant, Scope};

/// Tokens that were verified once: a look-up costs a thousandth of a signature.
///
/// Keyed by the exact bytes, never by the signature or a part: two spellings of one
/// signature are both valid (ECDSA is malleable), and a key must not be guessable from
/// another. Bounded in bytes; when full, the tokens least used go.
type Memory = Cache<Box<str>, Remembered, Bytes>;

#[derive(Clone)]
struct Remembered {
    grant: Arc<Grant>,
    /// Last second of validity, leeway included.
    until: u64,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Box<str>, Remembered> for Bytes {
    fn weight(&self, token: &Box<str>, remembered: &Remembered) -> u64 {
        // The grant repeats the topics, each an allocation and, where the set has just grown,
        // two places in it; the map has some overhead of its own.
        let topics = match (&remembered.grant.publish, &remembered.grant.subscribe) {
            (Scope::Topics(topics), _) | (_, Scope::Topics(topics)) => topics.len(),
            _ => 0,
        };
        2 * token.len() as u64 + 96 * topics as u64 + 256
    }
}

pub(super) struct Verifier {
    keys: Vec<VerifyingKey>,
    validation: Validation,
    reject_crit: bool,
    max_token_bytes: usize,
    memory: Option<Memory>,
}

impl Verifier {
    pub(super) fn new(config: &Config, keys: Vec<VerifyingKey>) -> Self {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.leeway = config.leeway.as_secs();
        validation.validate_nbf = config.check_nbf;
        if !config.audience.is_empty() {
            // Without an audience configured, jsonwebtoken refuses tokens that name one,
            // which is what notiflux does too.
            validation.set_audience(&config.audience);
            validation.set_required_spec_claims(&["exp", "aud"]);
        }
        let tokens = usize::try_from(config.cache_bytes / 1024).unwrap_or(usize::MAX);
        let memory = || Cache::with_weighter(tokens.max(16), config.cache_bytes, Bytes);
        Self {
            keys,
            validation,
            reject_crit: config.reject_crit,
            max_token_bytes: config.max_token_bytes,
            memory: (config.cache_bytes > 0).then(memory),
        }
    }

    pub(super) fn verify(&self, token: &str) -> Result<Arc<Grant>, AuthError> {
        if token.len() > self.max_token_bytes {
            return Err(AuthError::Denied("the token is too long"));
        }
        let now = now();
        if let Some(memory) = &self.memory
            && let Some(known) = memory.get(token)
            && now <= known.until
        {
            return Ok(known.grant);
        }
        let claims = self.decode(token)?;
        let until = claims.exp.saturating_add(self.validation.leeway);
        let grant = Arc::new(grant(claims));
        if let Some(memory) = &self.memory {
            memory.insert(token.into(), Remembered { grant: grant.clone(), until });
        }
        Ok(grant)
    }

    fn decode(&self, token: &str) -> Result<Claims, AuthError> {
        let header = header(token).ok_or(AuthError::Denied("not a token"))?;
        if self.reject_crit && header.crit.0 {
            return Err(AuthError::Denied("the token has critical headers that are not supported"));
        }
        let mut reason = "the token is signed by a key that is not known here";
        for key in self.candidates(header.kid.as_deref()) {
            match jsonwebtoken::decode::<Claims>(token, key, &self.validation) {
                Ok(data) => return Ok(data.claims),
                Err(error) => {
                    reason = in_words(error.kind());
                    // Another key may have signed it; any other fault is the token's.
                    if !matches!(error.kind(), ErrorKind::InvalidSignature) {
                        break;
                    }
                }
            }
        }
        Err(AuthError::Denied(reason))
    }

    /// Keys that may have signed a token with this `kid`: the one of that name; without
    /// a `kid` all of them; with an unknown one those that have no name.
    fn candidates(&self, kid: Option<&str>) -> impl Iterator<Item = &DecodingKey> {
        let named =
            kid.is_some_and(|kid| self.keys.iter().any(|key| key.id.as_deref() == Some(kid)));
        let fits = move |key: &&VerifyingKey| match (kid, named) {
            (None, _) => true,
            (Some(kid), true) => key.id.as_deref() == Some(kid),
            (Some(_), false) => key.id.is_none(),
        };
        self.keys.iter().filter(fits).map(|key| &key.key)
    }
}

/// The parts of the header that jsonwebtoken leaves to us.
#[derive(Deserialize)]
struct Protected {
    #[serde(default)]
    crit: Present,
    kid: Option<String>,
}

/// Whether a member is there at all, `null` included.
#[derive(Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self(true))
    }
}

fn header(token: &str) -> Option<Protected> {
    let (header, _) = token.split_once('.')?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()
}

fn grant(claims: Claims) -> Grant {
    let topics = Scope::Topics(claims.topics.into_iter().collect());
    match claims.scope {
        TokenScope::Subscribe => Grant { subscribe: topics, ..Grant::default() },
        TokenScope::Broadcast => Grant { publish: topics, ..Grant::default() },
    }
}

fn in_words(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidSignature => "the token is signed by a key that is not known here",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "the token is not signed with ES256"
        }
        ErrorKind::MissingRequiredClaim(_)
        | ErrorKind::InvalidClaimFormat(_)
        | ErrorKind::Json(_) => "the token lacks a claim or has one of the wrong type",
        _ => "not a token",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::super::keys::KeyPair;
    use super::*;

    fn verifier(config: &Config, pairs: &[(Option<&str>, &KeyPair)]) -> Verifier {
        let key = |(id, pair): &(Option<&str>, &KeyPair)| {
            VerifyingKey::parse(id.map(Into::into), &pair.public_pem().unwrap()).unwrap()
        };
        Verifier::new(config, pairs.iter().map(key).collect())
    }

    fn token(pair: &KeyPair, seconds: u64) -> String {
        let claims =
            Claims::new(TokenScope::Subscribe, vec!["t".into()], Duration::from_secs(seconds));
        pair.sign(&claims).unwrap()
    }

    #[test]
    fn during_a_rotation_both_keys_count() {
        let (old, new, other) = (
            KeyPair::generate().unwrap(),
            KeyPair::generate().unwrap(),
            KeyPair::generate().unwrap(),
        );
        let verifier = verifier(&Config::default(), &[(None, &old), (Some("2026"), &new)]);
        assert!(verifier.verify(&token(&old, 60)).is_ok());
        assert!(verifier.verify(&token(&new, 60)).unwrap().subscribe.covers("t"));
        assert!(verifier.verify(&token(&other, 60)).is_err());
    }

    #[test]
    fn with_names_for_all_keys_an_unknown_kid_is_refused() {
        let pair = KeyPair::generate().unwrap();
        let verifier = verifier(&Config::default(), &[(Some("a"), &pair)]);
        assert_eq!(verifier.candidates(Some("a")).count(), 1);
        assert_eq!(verifier.candidates(Some("b")).count(), 0);
        assert_eq!(verifier.candidates(None).count(), 1);
    }

    #[test]
    fn each_reason_has_words_of_its_own() {
        let claim = || "exp".to_owned();
        for (kind, words) in [
            (ErrorKind::ExpiredSignature, "has expired"),
            (ErrorKind::ImmatureSignature, "is not valid yet"),
            (ErrorKind::InvalidSignature, "is signed by a key that is not known here"),
            (ErrorKind::InvalidAudience, "is for another audience"),
            (ErrorKind::InvalidAlgorithm, "is not signed with ES256"),
            (ErrorKind::InvalidAlgorithmName, "is not signed with ES256"),
            (
                ErrorKind::MissingRequiredClaim(claim()),
                "lacks a claim or has one of the wrong type",
            ),
            (ErrorKind::InvalidClaimFormat(claim()), "lacks a claim or has one of the wrong type"),
        ] {
            assert_eq!(in_words(&kind), format!("the token {words}"));
        }
        assert_eq!(in_words(&ErrorKind::InvalidToken), "not a token");
    }

    #[test]
    fn what_is_critical_is_seen_whatever_it_is() {
        for (json, critical) in
            [("{}", false), (r#"{"crit":null}"#, true), (r#"{"crit":[]}"#, true)]
        {
            let token = format!("{}.", URL_SAFE_NO_PAD.encode(json));
            assert_eq!(header(&token).unwrap().crit.0, critical, "{json}");
        }
    }

    #[test]
    fn a_remembered_token_still_expires() {
        let pair = KeyPair::generate().unwrap();
        let config = Config { leeway: Duration::ZERO, ..Config::default() };
        let verifier = verifier(&config, &[(None, &pair)]);
        let token = token(&pair, 300);
        assert!(verifier.verify(&token).is_ok());
        let memory = verifier.memory.as_ref().unwrap();
        let mut remembered = memory.get(token.as_str()).unwrap();
        assert!(verifier.verify(&token).is_ok());
        // Its time runs out while it is remembered: it is verified again, not believed.
        remembered.until = now() - 1;
        remembered.grant = Arc::default();
        memory.insert(token.as_str().into(), remembered);
        assert!(verifier.verify(&token).unwrap().subscribe.covers("t"));
    }

    #[test]
    fn a_token_may_be_so_long_and_no_longer() {
        let pair = KeyPair::generate().unwrap();
        let token = token(&pair, 60);
        for (less, allowed) in [(0, true), (1, false)] {
            let max_token_bytes = token.len() - less;
            let config = Config { max_token_bytes, ..Config::default() };
            assert_eq!(verifier(&config, &[(None, &pair)]).verify(&token).is_ok(), allowed);
        }
    }

    /// What the example configuration says of one topic, and never less than is in memory.
    #[test]
    fn a_remembered_token_weighs_what_it_takes() {
        let weight = |token: &str, grant: Grant| {
            let remembered = Remembered { grant: Arc::new(grant), until: 0 };
            usize::try_from(Bytes.weight(&token.into(), &remembered)).unwrap()
        };
        let pair = KeyPair::generate().unwrap();
        for scope in [TokenScope::Subscribe, TokenScope::Broadcast] {
            // Sets have just grown at 57 and at 225.
            for count in [1, 10, 57, 200, 225] {
                let topics: Vec<_> = (0..count).map(|number| format!("{number:03}")).collect();
                let claims = Claims::new(scope, topics.clone(), Duration::from_mins(1));
                let token = pair.sign(&claims).unwrap();
                let found = weight(&token, grant(claims));
                let places = HashSet::<String>::from_iter(topics).capacity() * 8 / 7;
                // With glibc no allocation takes less than 32 bytes.
                let set = places * (size_of::<String>() + 1) + count * 32;
                let least = token.len() + set + size_of::<Grant>();
                assert!((least..3 * least).contains(&found), "{count}: {found}, least {least}");
                assert!(count > 1 || (700..950).contains(&found), "{found}");
            }
        }
        assert!(weight("", Grant::default()) >= size_of::<Grant>());
    }

    #[test]
    fn memory_is_bounded() {
        let pair = KeyPair::generate().unwrap();
        let config = Config { cache_bytes: 64 * 1024, ..Config::default() };
        let verifier = verifier(&config, &[(None, &pair)]);
        for seconds in 0..500 {
            verifier.verify(&token(&pair, 1000 + seconds)).unwrap();
        }
        let memory = verifier.memory.as_ref().unwrap();
        assert!(memory.weight() <= 64 * 1024, "{} bytes", memory.weight());
        assert!(memory.len() > 10);
    }
}
