//! What all JWTs that this room signs for itself have in common: HS256 and nothing else, issuer and audience pinned,
//! bounded length.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Who issues them.
pub(crate) const ISSUER: &str = "startline";
/// Longest text looked at: clients and proxies bound the size of a header.
pub(crate) const MAX_LENGTH: usize = 4096;

/// Why a token is refused, before its own claims are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Malformed,
    Algorithm,
    Signature,
    Issuer,
    Audience,
}

const HEADER: &[u8] = br#"{"typ":"JWT","alg":"HS256"}"#;

/// What signs, set up once: the library would do so for each token, which is most of what one costs.
#[derive(Clone)]
pub(crate) struct SigningKey(hmac::Key);

impl SigningKey {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }
}

/// The token that says `claims`, if they can be written as JSON.
pub(crate) fn encode(claims: &impl Serialize, key: &SigningKey) -> Option<String> {
    let claims = serde_json::to_vec(claims).ok()?;
    let mut text = String::with_capacity((HEADER.len() + claims.len() + 32) * 4 / 3 + 8);
    BASE64_URL_SAFE_NO_PAD.encode_string(HEADER, &mut text);
    text.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(claims, &mut text);
    let tag = hmac::sign(&key.0, text.as_bytes());
    text.push('.');
    BASE64_URL_SAFE_NO_PAD.encode_string(tag, &mut text);
    Some(text)
}

/// The claims of `text`, if `key` signed it for `audience`. The caller checks `exp`, which is there, against its clock.
pub(crate) fn decode<T: DeserializeOwned>(text: &str, key: &DecodingKey, audience: &str) -> Result<T, Refusal> {
    if text.len() > MAX_LENGTH {
        return Err(Refusal::Malformed);
    }
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&[audience]);
    validation.set_issuer(&[ISSUER]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    // Against `now`, by the caller: the library would ask the wall clock.
    validation.validate_exp = false;
    let token = jsonwebtoken::decode(text, key, &validation).map_err(|error| match error.kind() {
        ErrorKind::InvalidAlgorithm
        | ErrorKind::InvalidAlgorithmName
        | ErrorKind::MissingAlgorithm
        | ErrorKind::UnsupportedAlgorithm => Refusal::Algorithm,
        ErrorKind::InvalidSignature => Refusal::Signature,
        ErrorKind::InvalidIssuer => Refusal::Issuer,
        ErrorKind::InvalidAudience => Refusal::Audience,
        _ => Refusal::Malformed,
    })?;
    Ok(token.claims)
}
