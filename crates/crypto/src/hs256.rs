//! What all JWTs that this room signs for itself have in common: HS256 and nothing else, issuer and audience pinned,
//! bounded length.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
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

/// The token that says `claims`, if they can be written as JSON.
pub(crate) fn encode(claims: &impl Serialize, key: &EncodingKey) -> Option<String> {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, key).ok()
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
