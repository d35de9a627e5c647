use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use serde_json::{Value, json};
use startline_protocol::ids::{Epoch, JobId, RunId};
use uuid::Uuid;

use super::*;
use crate::{Claims, JobTokenError, JobTokenKey};

const BYTES: [u8; 32] = [7; 32];

fn key() -> PurposeKey {
    PurposeKey::from_bytes(&BYTES)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn mint(purpose: Purpose, payload: &Value) -> PurposeToken {
    key().mint(purpose, payload, at(1_000), at(2_000)).unwrap()
}

fn verify(purpose: Purpose, text: &str) -> Result<Value, PurposeTokenError> {
    key().verify(purpose, text, at(1_500))
}

fn payload(text: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// A token with these claims, signed with the key of `purpose`.
fn signed(purpose: Purpose, header: &Header, claims: &Value) -> String {
    let key = EncodingKey::from_secret(&derive(&BYTES)[purpose as usize]);
    jsonwebtoken::encode(header, claims, &key).unwrap()
}

#[test]
fn what_is_minted_is_verified_and_says_what_it_said() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Listener {
        runner: i64,
        session: Option<Uuid>,
    }
    let listener = Listener { runner: i64::MIN, session: Some(Uuid::from_u128(5)) };
    for purpose in Purpose::ALL {
        let token = key().mint(purpose, &listener, at(1_000), at(2_000)).unwrap();
        assert_eq!(token.purpose(), purpose);
        assert_eq!(key().verify::<Listener>(purpose, token.expose(), at(1_500)).as_ref(), Ok(&listener));
    }
}

#[test]
fn every_token_is_a_jwt_of_three_parts_with_a_numeric_end() {
    for (purpose, audience) in [
        (Purpose::Listener, "startline-listener"),
        (Purpose::Admin, "startline-admin"),
        (Purpose::Remove, "startline-remove"),
        (Purpose::Queue, "startline-queue"),
    ] {
        let token = mint(purpose, &json!({"exp": "never", "aud": "startline-job"}));
        assert_eq!(token.expose().split('.').count(), 3);
        let expected = json!({
            "iss": "startline", "aud": audience, "iat": 1000, "exp": 2000,
            "ctx": {"exp": "never", "aud": "startline-job"},
        });
        assert_eq!(payload(token.expose()), expected);
    }
}

#[test]
fn no_purpose_passes_for_another() {
    let job_key = JobTokenKey::from_bytes(&BYTES);
    let job = job_key.mint(&Claims {
        job: JobId(42),
        run: RunId(7),
        attempt: 1,
        epoch: Epoch(1),
        issued_at: at(1_000),
        expires_at: at(2_000),
        id: Uuid::from_u128(1),
        plan_id: Uuid::from_u128(2),
        job_guid: Uuid::from_u128(3),
    });
    for made_for in Purpose::ALL {
        let token = mint(made_for, &json!({}));
        for used_for in Purpose::ALL {
            let outcome = verify(used_for, token.expose());
            if made_for == used_for {
                assert_eq!(outcome, Ok(json!({})));
            } else {
                assert_eq!(outcome, Err(PurposeTokenError::Signature), "{made_for:?} for {used_for:?}");
                // The audience alone would be enough, too.
                let claims = payload(token.expose());
                let resigned = signed(used_for, &Header::new(Algorithm::HS256), &claims);
                assert_eq!(
                    verify(used_for, &resigned),
                    Err(PurposeTokenError::Purpose),
                    "{made_for:?} for {used_for:?}"
                );
            }
        }
        assert_eq!(job_key.verify(token.expose(), at(1_500)), Err(JobTokenError::Signature), "{made_for:?} for a job");
        assert_eq!(verify(made_for, job.expose()), Err(PurposeTokenError::Signature), "a job's for {made_for:?}");
    }
}

#[test]
fn the_keys_are_all_different_and_are_those_of_the_rfc() {
    let keys = derive(&BYTES);
    for (index, one) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(one) && *one != BYTES);
    }
    // RFC 5869 in two steps of RFC 2104: PRK = HMAC(salt, key), OKM = HMAC(PRK, info | 1).
    let hmac = |key: &[u8], text: &[u8]| {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
        aws_lc_rs::hmac::sign(&key, text).as_ref().to_vec()
    };
    let extracted = hmac(b"startline purpose token v1", &BYTES);
    assert_eq!(keys[Purpose::Admin as usize].to_vec(), hmac(&extracted, b"startline-admin\x01"));
}

#[test]
fn expiry_is_measured_by_the_callers_clock() {
    let token = mint(Purpose::Admin, &json!(1));
    let verify_at = |second| key().verify::<Value>(Purpose::Admin, token.expose(), at(second));
    assert!(verify_at(1_999).is_ok());
    assert_eq!(verify_at(2_000), Err(PurposeTokenError::Expired { at: at(2_000) }));
    assert_eq!(verify_at(9_000_000_000), Err(PurposeTokenError::Expired { at: at(2_000) }));
}

#[test]
fn no_other_algorithm_is_believed() {
    let token = mint(Purpose::Admin, &json!({}));
    let claims = token.expose().split('.').nth(1).unwrap();
    for algorithm in ["none", "None", "", "RS256", "ES256", "HS384", "PS256", "hs256"] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": algorithm, "typ": "JWT"}).to_string());
        for signature in ["", "AAAA"] {
            let error = verify(Purpose::Admin, &format!("{header}.{claims}.{signature}")).unwrap_err();
            assert!(
                matches!(error, PurposeTokenError::Algorithm | PurposeTokenError::Malformed),
                "{algorithm:?}: {error}"
            );
        }
    }
    let longer_hash = signed(Purpose::Admin, &Header::new(Algorithm::HS512), &payload(token.expose()));
    assert_eq!(verify(Purpose::Admin, &longer_hash), Err(PurposeTokenError::Algorithm));
}

#[test]
fn every_claim_must_be_there_and_make_sense() {
    let token = mint(Purpose::Queue, &json!({}));
    for claim in ["iss", "aud", "iat", "exp", "ctx"] {
        let mut claims = payload(token.expose());
        claims.as_object_mut().unwrap().remove(claim);
        let text = signed(Purpose::Queue, &Header::default(), &claims);
        // `null` is a payload like any other where the type allows it; a missing one is not.
        let error = key().verify::<String>(Purpose::Queue, &text, at(1_500)).unwrap_err();
        assert_eq!(error, PurposeTokenError::Malformed, "without {claim}");
    }
    for (claim, value, error) in [
        ("iss", json!("github"), PurposeTokenError::Purpose),
        ("exp", json!("tomorrow"), PurposeTokenError::Malformed),
        ("exp", json!(i64::MAX), PurposeTokenError::Malformed),
    ] {
        let mut claims = payload(token.expose());
        claims[claim] = value.clone();
        let text = signed(Purpose::Queue, &Header::default(), &claims);
        assert_eq!(verify(Purpose::Queue, &text), Err(error), "{claim} = {value}");
    }
}

#[test]
fn a_token_that_no_header_could_carry_is_not_made() {
    let made = |length: usize| key().mint(Purpose::Admin, &"x".repeat(length), at(1_000), at(2_000));
    let longest = made(2_800).unwrap();
    assert!(longest.expose().len() <= 4096);
    assert!(key().verify::<String>(Purpose::Admin, longest.expose(), at(1_500)).is_ok());
    assert!(matches!(made(3_000), Err(PurposeTokenError::TooLong { length }) if length > 4096));
}

#[test]
fn tokens_of_a_replaced_key_live_to_their_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("purpose.key");
    let old = PurposeKey::load_or_create(&path).unwrap().mint(Purpose::Admin, &json!(1), at(1_000), at(2_000)).unwrap();
    let line = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, key_file::line(KEY_PURPOSE, &BYTES) + &line).unwrap();
    let both = PurposeKey::load_or_create(&path).unwrap();
    assert_eq!(both.verify(Purpose::Admin, old.expose(), at(1_500)), Ok(json!(1)));
    let new = both.mint(Purpose::Admin, &json!(2), at(1_000), at(2_000)).unwrap();
    assert_eq!(verify(Purpose::Admin, new.expose()), Ok(json!(2)), "the first key signs");
    assert_eq!(verify(Purpose::Admin, old.expose()), Err(PurposeTokenError::Signature));
    assert!(JobTokenKey::load_or_create(&path).is_err(), "a key serves one purpose");
}

#[test]
fn debug_prints_neither_key_nor_token() {
    assert_eq!(format!("{:?}", key()), "PurposeKey(…)");
    assert_eq!(format!("{:?}", mint(Purpose::Remove, &json!({}))), "PurposeToken(Remove, eyJ…)");
}

proptest! {
    #[test]
    fn any_text_is_refused_without_a_panic(text in "\\PC*") {
        for purpose in Purpose::ALL {
            prop_assert!(verify(purpose, &text).is_err());
        }
    }

    #[test]
    fn anything_in_three_parts_is_refused_without_a_panic(parts: [Vec<u8>; 3], dots in "[.]{0,2}") {
        let text = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".") + &dots;
        prop_assert!(verify(Purpose::Listener, &text).is_err());
    }

    #[test]
    fn payloads_survive_the_journey(text in "\\PC{0,200}", number: i64, end in 1i64..1 << 36) {
        let payload = (text, number);
        let token = key().mint(Purpose::Queue, &payload, at(0), at(end)).unwrap();
        prop_assert_eq!(key().verify::<(String, i64)>(Purpose::Queue, token.expose(), at(0)), Ok(payload));
    }
}
