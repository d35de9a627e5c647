use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RSA_PSS_SHA384, RsaEncoding, RsaPssSaltLength};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::runner_key::tests::{PAIR, XML, read_rsaparams};

const CLIENT: &str = "3c1d0a52-7d0e-4c4e-9f5a-2d6f1f0b8c11";
const AUDIENCE: &str = "https://ci.example.test/_runner/oauth2/token";
/// When the assertions are made, and how long they last.
const MADE: i64 = 1_777_629_600;
const LIFE: i64 = 300;

/// Assertions of [`CLIENT`] for [`AUDIENCE`] at [`MADE`], with the key of [`XML`]; made with OpenSSL.
const PS256: &str = "\
    eyJ0eXAiOiJKV1QiLCJhbGciOiJQUzI1NiJ9.eyJzdWIiOiIzYzFkMGE1Mi03ZDBlLTRjNGUtOWY1YS0yZDZmMWYwYjhjMTEiLCJqdGk\
    iOiIwZDdiNmIxZS01NmE1LTRhNWUtOGEzYi02ZjZmMmY2YzlhMTAiLCJpc3MiOiIzYzFkMGE1Mi03ZDBlLTRjNGUtOWY1YS0yZDZmMWY\
    wYjhjMTEiLCJhdWQiOiJodHRwczovL2NpLmV4YW1wbGUudGVzdC9fcnVubmVyL29hdXRoMi90b2tlbiIsIm5iZiI6MTc3NzYyOTYwMCw\
    iZXhwIjoxNzc3NjI5OTAwfQ.M6Gj8XLpyh1ToMeVuE744vJn2XtdZJTyQEMTFF3YhOKFfNdQzQcJ-OsvQ7Do0UmLlcz_wbY2bFO3WoBU\
    XUD13cJSESBEmQOsWurzoBfN5boXGJUFwgZ7GPcqQ8DfaaRwAIPrHg0rt1GQEHNBvor5AYF2bFzggn92lIr0PYyfBiic9zt_2s0monwi\
    DORgCkHQ8TMgZngaOAzPMhTSncHEhWwIktJoblalXJOGw_aNclMzQZoipuHYlwhMbNH3retoUIsSsLuaNniSmz1UbqGDwaBRcyUvOx5u\
    2ZLVsjx7TukWdroLBb_u_4_VUkg2qw-KQnwZR7s_qDHCXSEcRApwRw";
const RS256: &str = "\
    eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIzYzFkMGE1Mi03ZDBlLTRjNGUtOWY1YS0yZDZmMWYwYjhjMTEiLCJqdGk\
    iOiIwZDdiNmIxZS01NmE1LTRhNWUtOGEzYi02ZjZmMmY2YzlhMTAiLCJpc3MiOiIzYzFkMGE1Mi03ZDBlLTRjNGUtOWY1YS0yZDZmMWY\
    wYjhjMTEiLCJhdWQiOiJodHRwczovL2NpLmV4YW1wbGUudGVzdC9fcnVubmVyL29hdXRoMi90b2tlbiIsIm5iZiI6MTc3NzYyOTYwMCw\
    iZXhwIjoxNzc3NjI5OTAwfQ.GLFEuDJA31gtVR1jtOAusk9lzu0YkUDqxHW_uvQmE0ZmqoUWyBx3rB58I2x_1JdWIRmj5lfKrlS1bWux\
    ALFIt-fglUxa91RKIIPuie69AkD8OZiF8JC0VxaN3RDJ6mlwlOxKVKUgcfRfFTfZea5qWaptxln3_nqMfNdMfkKdaIns2mBJuqbeZin8\
    SOK9yo8y69dEbwioTphfaj_5R5eUwO64N18QoYi7UBsz5ldllLLzXZm4iXS7IG42hnUrb3z_K7ZOmADv2GvQew2UaGRfjHditUHU5yg-\
    GZdrZY_xcqttuTmiFfmHBPPUOu2iZIhM-daMRwX9v3gMJBonbQQXxA";
/// Says `RS256` and is PSS.
const WART: &str = "\
    eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIzYzFkMGE1Mi03ZDBlLTRjNGUtOWY1YS0yZDZmMWYwYjhjMTEiLCJqdGk\
    iOiIwZDdiNmIxZS01NmE1LTRhNWUtOGEzYi02ZjZmMmY2YzlhMTAiLCJpc3MiOiIzYzFkMGE1Mi03ZDBlLTRjNGUtOWY1YS0yZDZmMWY\
    wYjhjMTEiLCJhdWQiOiJodHRwczovL2NpLmV4YW1wbGUudGVzdC9fcnVubmVyL29hdXRoMi90b2tlbiIsIm5iZiI6MTc3NzYyOTYwMCw\
    iZXhwIjoxNzc3NjI5OTAwfQ.dVWWG9pSM8yncq2LcudnblYaUKPpz30xh9sw45TZ5SVgIQQz8C7vR8Kl1BrWrFzPqyYwbZ5F8iwOsqd5\
    7FBfc-pc4LG2PVLbMOq6wMxp36_AUY5t9x-Hxx_wPsC3knunxddVyt6pX5fC4vBT7Gcq1FV3pbw83nLdBZurlxzzFx1iCyEK-BHDNcAY\
    8J8lDbLwKloh27vM2jfXhh3x9alqRJsiZwoB9IMtp58EBNcEH6rchsnU9zYu5Z81S23gdOHvFFETzOtZvpxYriteiSTJO3_5_4axMQYz\
    1gLSl1QXdnqf4iavGbiP23ieOq8dcfctKTtDEVKr5UZ3ynff8-NqbQ";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn expected(padding: Padding) -> Expected<'static> {
    Expected { client_id: CLIENT, audiences: &[AUDIENCE], padding, leeway: LEEWAY }
}

fn claims() -> Value {
    json!({"sub": CLIENT, "jti": "one", "iss": CLIENT, "aud": AUDIENCE, "nbf": MADE, "exp": MADE + LIFE})
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn sign(header: &Value, payload: &str, padding: &'static dyn RsaEncoding) -> String {
    let signed = format!("{}.{payload}", part(header));
    let key = read_rsaparams(&PAIR.credentials_rsaparams());
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(padding, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn signed(claims: &Value) -> String {
    sign(&json!({"typ": "JWT", "alg": "PS256"}), &part(claims), &RSA_PSS_SHA256)
}

/// With the key of [`PAIR`], in the middle of the assertion's life.
fn check(text: &str) -> Result<Assertion, AssertionError> {
    verify(text, &PAIR.public(), &expected(Padding::Any), at(MADE + 10))
}

#[test]
fn assertions_of_another_implementation_are_verified() {
    let key = RunnerPublicKey::from_xml(XML).unwrap();
    let accepted = Ok(Assertion {
        jti: "0d7b6b1e-56a5-4a5e-8a3b-6f6f2f6c9a10".to_owned(),
        not_before: at(MADE),
        expires_at: at(MADE + LIFE),
        accepted_until: at(MADE + LIFE + 300),
    });
    for text in [PS256, RS256, WART] {
        assert_eq!(verify(text, &key, &expected(Padding::Any), at(MADE + 10)), accepted);
        assert_eq!(peek_issuer(text).as_deref(), Some(CLIENT));
    }
    assert_eq!(verify(PS256, &key, &expected(Padding::PssOnly), at(MADE + 10)), accepted);
    for text in [RS256, WART] {
        let refused = verify(text, &key, &expected(Padding::PssOnly), at(MADE + 10));
        assert_eq!(refused, Err(AssertionError::Algorithm));
    }
    assert_eq!(check(PS256), Err(AssertionError::Signature), "another key");
}

#[test]
fn a_key_pair_that_was_handed_out_signs_what_its_public_half_verifies() {
    assert_eq!(check(&signed(&claims())).unwrap().jti, "one");
}

#[test]
fn no_other_algorithm_is_believed() {
    let payload = part(&claims());
    for algorithm in ["none", "None", "", "HS256", "ES256", "RS384", "PS384", "PS512", "ps256", "PS256 "] {
        let text = sign(&json!({"typ": "JWT", "alg": algorithm}), &payload, &RSA_PSS_SHA256);
        assert_eq!(check(&text), Err(AssertionError::Algorithm), "{algorithm:?}");
        let (unsigned, _) = text.rsplit_once('.').unwrap();
        assert_eq!(check(&format!("{unsigned}.")), Err(AssertionError::Algorithm), "{algorithm:?} without a signature");
    }
    let header = json!({"typ": "JWT", "alg": "PS256"});
    let longer_hash = sign(&header, &payload, &RSA_PSS_SHA384);
    let other_padding = sign(&header, &payload, &RSA_PKCS1_SHA256);
    let other_salt = const { &RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(20)) };
    let other_salt = sign(&header, &payload, other_salt);
    for text in [longer_hash, other_padding, other_salt] {
        assert_eq!(check(&text), Err(AssertionError::Signature));
    }
    // The public key as the secret of an HMAC, which a verifier that believes the header would accept.
    let secret = jsonwebtoken::EncodingKey::from_secret(&PAIR.public().to_bytes());
    let text = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims(), &secret).unwrap();
    assert_eq!(check(&text), Err(AssertionError::Algorithm));
}

#[test]
fn the_header_cannot_bring_its_own_key_and_nothing_that_must_be_understood() {
    let payload = part(&claims());
    let foreign = json!({"typ": "JWT", "alg": "PS256", "jwk": {"kty": "RSA"}, "jku": "https://attacker.example/"});
    let other = RunnerPublicKey::from_xml(XML).unwrap();
    let text = sign(&foreign, &payload, &RSA_PSS_SHA256);
    let refused = verify(&text, &other, &expected(Padding::Any), at(MADE + 10));
    assert_eq!(refused, Err(AssertionError::Signature));
    let critical = json!({"typ": "JWT", "alg": "PS256", "crit": ["b64"], "b64": false});
    assert_eq!(check(&sign(&critical, &payload, &RSA_PSS_SHA256)), Err(AssertionError::Malformed));
}

#[test]
fn a_changed_claim_is_refused() {
    let text = signed(&claims());
    let mut parts: Vec<&str> = text.split('.').collect();
    let mut changed = claims();
    changed["jti"] = json!("two");
    let changed = part(&changed);
    parts[1] = &changed;
    assert_eq!(check(&parts.join(".")), Err(AssertionError::Signature));
}

#[test]
fn issuer_and_subject_are_the_client_and_the_audience_is_ours() {
    for (claim, value, error) in [
        ("iss", json!("somebody"), AssertionError::Client),
        ("sub", json!("somebody"), AssertionError::Client),
        ("sub", json!(CLIENT.to_uppercase()), AssertionError::Client),
        ("aud", json!("https://elsewhere.example/token"), AssertionError::Audience),
        ("aud", json!([]), AssertionError::Audience),
        ("aud", json!(["https://elsewhere.example/token"]), AssertionError::Audience),
    ] {
        let mut claims = claims();
        claims[claim] = value.clone();
        assert_eq!(check(&signed(&claims)), Err(error), "{claim} = {value}");
    }
    for audience in [json!("HTTPS://ci.EXAMPLE.test:443/_runner/oauth2/token"), json!(["x", AUDIENCE])] {
        let mut claims = claims();
        claims["aud"] = audience.clone();
        assert!(check(&signed(&claims)).is_ok(), "{audience}");
    }
}

#[test]
fn every_claim_must_be_there_and_make_sense() {
    for claim in ["iss", "sub", "aud", "jti", "nbf", "exp"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(claim);
        assert_eq!(check(&signed(&claims)), Err(AssertionError::Malformed), "without {claim}");
    }
    for (claim, value) in [
        ("jti", json!("")),
        ("jti", json!("x".repeat(201))),
        ("jti", json!(null)),
        ("aud", json!(7)),
        ("nbf", json!("now")),
        ("exp", json!(i64::MAX)),
        ("exp", json!(1.5)),
        ("nbf", json!(i64::MIN)),
    ] {
        let mut claims = claims();
        claims[claim] = value.clone();
        assert_eq!(check(&signed(&claims)), Err(AssertionError::Malformed), "{claim} = {value}");
    }
    let twice = claims().to_string().replacen('{', "{\"iss\":\"somebody\",", 1);
    let text = sign(&json!({"alg": "PS256"}), &URL_SAFE_NO_PAD.encode(twice), &RSA_PSS_SHA256);
    assert_eq!(check(&text), Err(AssertionError::Malformed), "one claim twice");
}

#[test]
fn the_clock_may_be_wrong_by_the_leeway_and_the_refusal_tells_the_time() {
    let text = signed(&claims());
    let verify_at = |second| verify(&text, &PAIR.public(), &expected(Padding::Any), at(second));
    for second in [MADE - 300, MADE, MADE + LIFE, MADE + LIFE + 299] {
        assert!(verify_at(second).is_ok(), "at {}", second - MADE);
    }
    for second in [MADE - 301, MADE + LIFE + 300, 0, 9_000_000_000] {
        let error = verify_at(second).unwrap_err();
        let clock = AssertionError::Clock { not_before: at(MADE), expires_at: at(MADE + LIFE), now: at(second) };
        assert_eq!(error, clock, "at {}", second - MADE);
        // The words that the runner looks for.
        assert!(error.to_string().contains(&format!("Current server time is {}", at(second))), "{error}");
    }
}

#[test]
fn an_assertion_lasts_ten_minutes_at_most() {
    for (life, accepted) in [(600, true), (601, false), (0, false), (-5, false), (86_400, false)] {
        let mut claims = claims();
        claims["exp"] = json!(MADE + life);
        let outcome = check(&signed(&claims));
        assert_eq!(outcome.is_ok(), accepted, "{life} s");
        if !accepted {
            assert_eq!(outcome, Err(AssertionError::Life { seconds: life }));
        }
    }
}

#[test]
fn long_text_is_not_looked_at() {
    let mut claims = claims();
    claims["more"] = json!("x".repeat(4096));
    let text = signed(&claims);
    assert_eq!(check(&text), Err(AssertionError::Malformed));
    assert_eq!(peek_issuer(&text), None);
}

#[test]
fn only_three_parts_are_an_assertion() {
    let text = signed(&claims());
    for text in
        [format!("{text}."), format!(".{text}"), format!("{text}.AAAA"), text.replacen('.', "", 1), ".".to_owned()]
    {
        assert_eq!(check(&text), Err(AssertionError::Malformed), "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_refused_without_a_panic(text in "\\PC*") {
        prop_assert!(check(&text).is_err());
        let _ = peek_issuer(&text);
    }

    #[test]
    fn anything_in_three_parts_is_refused_without_a_panic(parts: [Vec<u8>; 3], dots in "[.]{0,2}") {
        let text = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".") + &dots;
        prop_assert!(check(&text).is_err());
        prop_assert_eq!(peek_issuer(&text), None);
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused(position in 0..PS256.len(), bit in 0u8..7) {
        let mut bytes = PS256.as_bytes().to_vec();
        bytes[position] ^= 1 << bit;
        let text = String::from_utf8(bytes).unwrap();
        let key = RunnerPublicKey::from_xml(XML).unwrap();
        prop_assert!(verify(&text, &key, &expected(Padding::Any), at(MADE + 10)).is_err());
    }
}
