use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::LazyLock;

use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use super::*;
use crate::runner_key::tests::XML;

/// One file for all tests that only read it: making a key costs much.
static FILE: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("id-token.key");
    IdTokenKey::load_or_create(&path).unwrap();
    (directory, path)
});

fn key() -> IdTokenKey {
    IdTokenKey::load_or_create(&FILE.1).unwrap()
}

fn claims() -> Map<String, Value> {
    let claims = json!({
        "iss": "https://ci.example.test", "sub": "repo:acme/app:ref:refs/heads/main", "aud": "https://cloud.example",
        "jti": "one", "iat": 1000, "nbf": 1000, "exp": 1300, "run_id": "7",
    });
    claims.as_object().unwrap().clone()
}

/// What a cloud does: it finds the key by `kid` in the published set and verifies with it.
fn verify(token: &str, jwks: &Value) -> Option<Map<String, Value>> {
    let header = jsonwebtoken::decode_header(token).unwrap();
    let keys = jwks["keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["kid"].as_str() == header.kid.as_deref())?;
    let key = DecodingKey::from_rsa_components(key["n"].as_str().unwrap(), key["e"].as_str().unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&["https://cloud.example"]);
    // The test's times are long past.
    validation.validate_exp = false;
    Some(jsonwebtoken::decode(token, &key, &validation).unwrap().claims)
}

#[test]
fn a_token_is_verified_with_the_published_keys_and_says_exactly_the_claims() {
    let token = key().mint(&claims());
    assert_eq!(verify(&token, &key().jwks()), Some(claims()));
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header, json!({"typ": "JWT", "alg": "RS256", "kid": key().key_id()}));
}

#[test]
fn the_key_id_is_the_thumbprint_of_the_rfc() {
    // RFC 7638, section 3.1.
    let modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCi\
                   FV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb\
                   9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls\
                   1jF44-csFCur-kEgU8awapJzKnqDKgw";
    assert_eq!(thumbprint(modulus, "AQAB"), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    // Of the key in XML, with OpenSSL.
    let modulus = XML.split("Modulus>").nth(1).unwrap().trim_end_matches("</");
    let modulus = URL_SAFE_NO_PAD.encode(STANDARD.decode(modulus).unwrap());
    assert_eq!(thumbprint(&modulus, "AQAB"), "L7qdT2KGZJp85VVmQ2Q8OorT7kfhlhDn8DGT4ysbR7A");
}

#[test]
fn only_public_halves_are_published() {
    let jwks = key().jwks();
    let keys = jwks["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1);
    let members: Vec<&str> = keys[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["kty", "use", "alg", "kid", "n", "e"]);
    assert_eq!(keys[0]["kid"], key().key_id());
    assert_eq!(URL_SAFE_NO_PAD.decode(keys[0]["n"].as_str().unwrap()).unwrap().len(), 256);
    assert_eq!(keys[0]["e"], "AQAB");
}

#[test]
fn the_key_file_is_made_once_and_is_private() {
    assert_eq!(fs::metadata(&FILE.1).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(key().key_id(), key().key_id());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("id-token.key");
    fs::copy(&FILE.1, &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(IdTokenKey::load_or_create(&path), Err(KeyFileError::TooOpen { mode: 0o644, .. })));
}

#[test]
fn tokens_of_the_last_key_are_verified_after_a_rotation_and_those_before_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("id-token.key");
    fs::copy(&FILE.1, &path).unwrap();
    let first = key().mint(&claims());
    let rotated = IdTokenKey::rotate(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    assert_ne!(rotated.key_id(), key().key_id());
    assert_eq!(IdTokenKey::load_or_create(&path).unwrap().jwks(), rotated.jwks(), "what is in force is in the file");
    assert_eq!(verify(&first, &rotated.jwks()), Some(claims()));
    assert_eq!(verify(&rotated.mint(&claims()), &rotated.jwks()), Some(claims()));
    let again = IdTokenKey::rotate(&path).unwrap();
    assert_eq!(verify(&first, &again.jwks()), None, "two rotations old");
    assert_eq!(verify(&rotated.mint(&claims()), &again.jwks()), Some(claims()));
}

#[test]
fn what_is_not_a_key_is_refused_by_line_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("id-token.key");
    assert!(IdTokenKey::rotate(&path).is_err(), "there is no key to keep");
    let good = fs::read_to_string(&FILE.1).unwrap();
    let cut = &good[..good.len() - 100];
    for (text, line) in [
        (String::new(), 1),
        ("startline-id-token-key v1 AAAA\n".to_owned(), 1),
        (format!("{good}{cut}\n"), 2),
        (key_file::line("startline-url-key", &[7; 32]), 1),
    ] {
        fs::write(&path, &text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for error in [IdTokenKey::load_or_create(&path).unwrap_err(), IdTokenKey::rotate(&path).unwrap_err()] {
            let error = error.to_string();
            assert!(error.contains(&format!("line {line} ")) && error.contains("PKCS #8"), "{error}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn debug_does_not_print_the_key() {
    assert_eq!(format!("{:?}", key()), format!("IdTokenKey({}, …)", key().key_id()));
}
