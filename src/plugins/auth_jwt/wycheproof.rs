//! Project Wycheproof's signatures, which are wrong in every way that has fooled somebody.
//!
//! Their messages are no tokens, so they are given to what verifies the signature of a
//! token, with a key that came the way of the configuration.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use wycheproof::TestResult;
use wycheproof::ecdsa::{TestName, TestSet};

use super::keys::VerifyingKey;

/// Each signature, whether it verifies, and whether it should.
fn verdicts(name: TestName) -> Vec<(String, bool, bool)> {
    let set = TestSet::load(name).unwrap();
    let mut verdicts = Vec::new();
    for group in set.test_groups {
        let key = VerifyingKey::parse(None, &group.pem).unwrap().key;
        for test in group.tests {
            let signature = URL_SAFE_NO_PAD.encode(&test.sig);
            let verified =
                jsonwebtoken::crypto::verify(&signature, &test.msg, &key, Algorithm::ES256);
            let what = format!("{} {}", test.tc_id, test.comment);
            let valid = test.result == TestResult::Valid;
            verdicts.push((what, verified.is_ok_and(|good| good), valid));
        }
    }
    verdicts
}

/// r and s side by side, as in a token.
#[test]
fn every_signature_in_the_form_of_tokens_gets_its_verdict() {
    let verdicts = verdicts(TestName::EcdsaSecp256r1Sha256P1363);
    let wrong: Vec<_> = verdicts.iter().filter(|(_, found, expected)| found != expected).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(verdicts.len(), 262);
    assert!(verdicts.iter().any(|(_, _, valid)| *valid));
}

/// In DER, as elsewhere: no token may have one, however good it is.
#[test]
fn no_signature_in_der_counts() {
    let verdicts = verdicts(TestName::EcdsaSecp256r1Sha256);
    assert!(verdicts.len() > 400, "{}", verdicts.len());
    assert!(verdicts.iter().any(|(_, _, valid)| *valid));
    let found: Vec<_> = verdicts.iter().filter(|(_, verified, _)| *verified).collect();
    assert!(found.is_empty(), "{found:#?}");
}
