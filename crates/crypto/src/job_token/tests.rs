use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn key() -> JobTokenKey {
    JobTokenKey::from_bytes(&[7; 32])
}

/// The same key as another library takes it.
fn encoding() -> EncodingKey {
    EncodingKey::from_secret(&[7; 32])
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn claims() -> Claims {
    Claims {
        job: JobId(42),
        run: RunId(7),
        attempt: 2,
        epoch: Epoch(3),
        issued_at: at(1_000),
        expires_at: at(2_000),
        id: Uuid::from_u128(1),
        plan_id: Uuid::from_u128(2),
        job_guid: Uuid::from_u128(3),
    }
}

fn wire() -> Value {
    let token = key().mint(&claims());
    let payload = token.expose().split('.').nth(1).unwrap().to_owned();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// A token with these claims, properly signed.
fn signed(claims: &Value) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &encoding()).unwrap()
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn what_is_minted_is_verified() {
    let token = key().mint(&claims());
    assert_eq!(key().verify(token.expose(), at(1_500)), Ok(claims()));
}

#[test]
fn the_claims_are_those_of_the_wire() {
    let expected = json!({
        "iss": "startline", "aud": "startline-job", "sub": "42", "run": 7, "attempt": 2, "epoch": 3,
        "iat": 1000, "exp": 2000, "jti": "00000000-0000-0000-0000-000000000001",
        "scp": "Actions.Results:00000000-0000-0000-0000-000000000002:00000000-0000-0000-0000-000000000003",
    });
    assert_eq!(wire(), expected);
}

#[test]
fn expiry_is_measured_by_the_callers_clock() {
    let token = key().mint(&claims());
    assert!(key().verify(token.expose(), at(1_999)).is_ok());
    let expired = Err(JobTokenError::Expired { at: at(2_000) });
    assert_eq!(key().verify(token.expose(), at(2_000)), expired);
    assert_eq!(key().verify(token.expose(), at(9_000_000_000)), expired);
}

#[test]
fn another_key_is_refused() {
    let token = JobTokenKey::generate().mint(&claims());
    assert_eq!(key().verify(token.expose(), at(1_500)), Err(JobTokenError::Signature));
}

#[test]
fn changed_claims_are_refused() {
    let token = key().mint(&claims());
    let mut parts: Vec<&str> = token.expose().split('.').collect();
    let mut changed = wire();
    changed["epoch"] = json!(4);
    let changed = part(&changed);
    parts[1] = &changed;
    assert_eq!(key().verify(parts.join("."), at(1_500)), Err(JobTokenError::Signature));
}

#[test]
fn no_other_algorithm_is_believed() {
    let payload = part(&wire());
    for algorithm in ["none", "None", "NONE", "", "RS256", "ES256", "EdDSA", "HS384", "HS512", "PS256", "hs256"] {
        let header = part(&json!({"alg": algorithm, "typ": "JWT"}));
        for signature in ["", "AAAA"] {
            let error = key().verify(format!("{header}.{payload}.{signature}"), at(1_500)).unwrap_err();
            assert!(matches!(error, JobTokenError::Algorithm | JobTokenError::Malformed), "{algorithm:?}: {error}");
        }
    }
    // Properly signed with the right key, but with a longer hash.
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS512), &wire(), &encoding()).unwrap();
    assert_eq!(key().verify(token, at(1_500)), Err(JobTokenError::Algorithm));
}

#[test]
fn the_header_cannot_bring_its_own_key() {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("/dev/null".to_owned());
    header.jku = Some("https://attacker.example/keys".to_owned());
    let token = jsonwebtoken::encode(&header, &wire(), &EncodingKey::from_secret(&[9; 32])).unwrap();
    assert_eq!(key().verify(token, at(1_500)), Err(JobTokenError::Signature));
}

#[test]
fn issuer_and_audience_are_pinned() {
    for (claim, value, expected) in
        [("iss", json!("github"), JobTokenError::Issuer), ("aud", json!("startline-runner"), JobTokenError::Audience)]
    {
        let mut claims = wire();
        claims[claim] = value;
        assert_eq!(key().verify(signed(&claims), at(1_500)), Err(expected), "{claim}");
    }
}

#[test]
fn every_claim_must_be_there_and_make_sense() {
    for claim in ["iss", "aud", "sub", "run", "attempt", "epoch", "iat", "exp", "jti", "scp"] {
        let mut claims = wire();
        claims.as_object_mut().unwrap().remove(claim);
        assert_eq!(key().verify(signed(&claims), at(1_500)), Err(JobTokenError::Malformed), "without {claim}");
    }
    for (claim, value) in [
        ("sub", json!("x")),
        ("attempt", json!(-1)),
        ("exp", json!("tomorrow")),
        ("exp", json!(i64::MAX)),
        ("scp", json!("Actions.Results:1:2")),
        ("scp", json!("Actions.ResultsX:00000000-0000-0000-0000-000000000002")),
    ] {
        let mut claims = wire();
        claims[claim] = value.clone();
        assert_eq!(key().verify(signed(&claims), at(1_500)), Err(JobTokenError::Malformed), "{claim} = {value}");
    }
}

#[test]
fn the_key_file_is_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("job-token.key");
    let token = JobTokenKey::load_or_create(&path).unwrap().mint(&claims());
    assert!(JobTokenKey::load_or_create(&path).unwrap().verify(token.expose(), at(1_500)).is_ok());
    assert!(crate::SealingKey::load_or_create(&path).is_err(), "a key serves one purpose");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(JobTokenKey::load_or_create(&path), Err(KeyFileError::TooOpen { mode: 0o640, .. })));
}

#[test]
fn debug_does_not_print_the_key() {
    assert_eq!(format!("{:?}", key()), "JobTokenKey(…)");
}

proptest! {
    #[test]
    fn any_text_is_refused_without_a_panic(text in "\\PC*") {
        prop_assert!(key().verify(&text, at(1_500)).is_err());
    }

    #[test]
    fn anything_in_three_parts_is_refused_without_a_panic(parts: [Vec<u8>; 3], dots in "[.]{0,2}") {
        let text = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".") + &dots;
        prop_assert!(key().verify(text, at(1_500)).is_err());
    }

    #[test]
    fn any_signed_claims_are_read_without_a_panic(sub: String, exp: i64, iat: i64, scp: String) {
        let mut claims = wire();
        for (name, value) in [("sub", json!(sub)), ("exp", json!(exp)), ("iat", json!(iat)), ("scp", json!(scp))] {
            claims[name] = value;
        }
        let _ = key().verify(signed(&claims), at(1_500));
    }

    #[test]
    fn claims_survive_the_journey(job: i64, run: i64, attempt: u32, epoch: i64, id: u128, exp in 1i64..1 << 36) {
        let claims = Claims {
            job: JobId(job), run: RunId(run), attempt, epoch: Epoch(epoch), id: Uuid::from_u128(id),
            expires_at: at(exp), ..claims()
        };
        prop_assert_eq!(key().verify(key().mint(&claims).expose(), at(0)), Ok(claims));
    }
}
