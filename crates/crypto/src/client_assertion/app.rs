//! The signed word with which a GitHub App asks for an installation token: a JWT in the App's own name, always `RS256`.
//!
//! Source: GitHub's documentation of App authentication and `actions/scaleset`, `client.go`: `iat` a minute back, `exp`
//! nine minutes after it, `iss` the App's id or client id. There is no audience and no `jti`.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{AssertionError, JoseHeader, MAX_LIFE, Parts, read};

/// How far an App's clock may be wrong, in either direction.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);
/// What a public key's text begins and ends with.
const FENCES: [(&str, &str); 2] = [
    ("-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"),
    ("-----BEGIN RSA PUBLIC KEY-----", "-----END RSA PUBLIC KEY-----"),
];

/// An App's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppKey(Vec<u8>);

impl AppKey {
    /// Reads a PEM file with one public key; none when it is something else. Whether it is an RSA key of 2048 to 8192 bits
    /// is seen when it is used.
    #[must_use]
    pub fn from_pem(text: &str) -> Option<Self> {
        let (begin, end) = FENCES.into_iter().find(|(begin, _)| text.contains(begin))?;
        let body: String = text.split_once(begin)?.1.split_once(end)?.0.split_whitespace().collect();
        STANDARD.decode(body).ok().filter(|bytes| !bytes.is_empty()).map(Self)
    }
}

#[derive(Deserialize)]
struct Claims {
    iss: Issuer,
    iat: i64,
    exp: i64,
}

/// An App's id may be written as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Issuer {
    Text(String),
    Number(i64),
}

impl Issuer {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

#[derive(Deserialize)]
struct Of {
    iss: Issuer,
}

/// Which App the word `text` claims to be of, to find the key by; nothing is verified.
#[must_use]
pub fn peek_app(text: &str) -> Option<String> {
    read::<Of>(Parts::of(text)?.payload).map(|claims| claims.iss.into_text())
}

/// Checks the word `text` of the App `id` against its key at `now`.
///
/// # Errors
/// See [`AssertionError`]; the signature is checked before any claim is believed.
pub fn verify_app(text: &str, key: &AppKey, id: &str, now: Timestamp) -> Result<(), AssertionError> {
    let parts = Parts::of(text).ok_or(AssertionError::Malformed)?;
    let header: JoseHeader = read(parts.header).ok_or(AssertionError::Malformed)?;
    if header.crit.is_some() {
        return Err(AssertionError::Malformed);
    }
    // The kind of key decides about the algorithm; the header may only agree.
    if header.alg != "RS256" {
        return Err(AssertionError::Algorithm);
    }
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &key.0)
        .verify(parts.signed.as_bytes(), &parts.signature)
        .map_err(|_| AssertionError::Signature)?;
    let claims: Claims = read(parts.payload).ok_or(AssertionError::Malformed)?;
    if claims.iss.into_text() != id {
        return Err(AssertionError::Client);
    }
    let at = |seconds| Timestamp::from_second(seconds).map_err(|_| AssertionError::Malformed);
    let (not_before, expires_at) = (at(claims.iat)?, at(claims.exp)?);
    let life = expires_at.duration_since(not_before);
    if life <= SignedDuration::ZERO || life > MAX_LIFE {
        return Err(AssertionError::Life { seconds: life.as_secs() });
    }
    if now.duration_since(not_before) < -LEEWAY || now.duration_since(expires_at) >= LEEWAY {
        return Err(AssertionError::Clock { not_before, expires_at, now });
    }
    Ok(())
}
