//! The signed word with which an official runner asks for its access token: a JWT client assertion (RFC 7523).
//!
//! The runner signs with the key that it registered and names itself as issuer and subject; the header has no `kid`,
//! so the key is found by [`peek_issuer`] (actions/runner `VssOAuthJwtBearerAssertion.cs`, `JsonWebToken.cs`,
//! `VssSigningCredentials.cs`). An assertion is good once: [`ReplayCache`].

mod app;
mod audience;
mod replay;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::runner_key::RunnerPublicKey;

pub use app::{AppKey, peek_app, verify_app};
pub use replay::ReplayCache;

/// Longest text looked at. With a key of 4096 bits and long ids an assertion has some 1300 bytes.
const MAX_LENGTH: usize = 4096;
/// Longest `jti`; the runner's is a GUID.
const MAX_ID: usize = 200;
/// How long an assertion may last; the runner's last five minutes.
const MAX_LIFE: SignedDuration = SignedDuration::from_mins(10);

/// How far a runner's clock may be wrong, in either direction.
pub const LEEWAY: SignedDuration = SignedDuration::from_mins(5);

/// Which paddings of RSA signatures are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// PSS alone, honestly announced (`PS256`): what a runner with `requireFipsCryptography` does.
    PssOnly,
    /// `PS256` and `RS256`; and `RS256` that is PSS in truth, as runners up to 2.323 with `requireFipsCryptography`
    /// write it (actions/runner#3789).
    Any,
}

/// What an assertion must say to be accepted.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The client id of the runner whose key it is.
    pub client_id: &'a str,
    /// The addresses of the token endpoint that were ever given to runners. Compared as .NET's `Uri` normalises them.
    pub audiences: &'a [&'a str],
    /// How it may be signed.
    pub padding: Padding,
    /// How far the runner's clock may be wrong; [`LEEWAY`] where nothing speaks for less.
    pub leeway: SignedDuration,
}

/// An assertion that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// Its own id, good once.
    pub jti: String,
    /// From when on it holds by the runner's clock, which is when it was made.
    pub not_before: Timestamp,
    /// Until when it holds by the runner's clock.
    pub expires_at: Timestamp,
    /// Until when it is accepted with the leeway: how long [`ReplayCache`] must remember it.
    pub accepted_until: Timestamp,
}

/// Why an assertion is refused. No variant tells a part of it other than times.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// Not a JWT, or without the claims of an assertion.
    #[error("malformed client assertion")]
    Malformed,
    /// Announces another algorithm than those accepted.
    #[error("client assertion is not signed with an accepted algorithm")]
    Algorithm,
    /// Signed by another key, or changed.
    #[error("client assertion has a wrong signature")]
    Signature,
    /// Issuer or subject is not the client whose key it is.
    #[error("client assertion is of another client")]
    Client,
    /// Made for somebody else.
    #[error("client assertion has a wrong audience")]
    Audience,
    /// Lasts longer than allowed, or not at all.
    #[error("client assertion lasts {seconds} s (1 to {} expected)", MAX_LIFE.as_secs())]
    Life {
        /// How long.
        seconds: i64,
    },
    /// Its time is over or has not come: somebody's clock is wrong. Runners look for the words `Current server time
    /// is` (actions/runner `BrokerMessageListener.cs`) and tell their user about the clock.
    #[error("client assertion is valid from {not_before} to {expires_at}. Current server time is {now}.")]
    Clock {
        /// From when on it holds.
        not_before: Timestamp,
        /// Until when it holds.
        expires_at: Timestamp,
        /// The time that it was compared with.
        now: Timestamp,
    },
}

#[derive(Deserialize)]
struct JoseHeader {
    alg: String,
    /// Extensions that must be understood (RFC 7515, 4.1.11); none is.
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Wire {
    iss: String,
    sub: String,
    aud: Audiences,
    jti: String,
    nbf: i64,
    exp: i64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Issuer {
    iss: String,
}

/// A JWT in its parts, nothing of it believed.
struct Parts<'a> {
    signed: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        if payload.contains('.') {
            return None;
        }
        Some(Self { signed, header, payload, signature: URL_SAFE_NO_PAD.decode(signature).ok()? })
    }
}

fn read<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Whom the assertion `text` claims to be of, to find the key by; nothing is verified.
#[must_use]
pub fn peek_issuer(text: &str) -> Option<String> {
    read::<Issuer>(Parts::of(text)?.payload).map(|claims| claims.iss)
}

/// Checks the assertion `text` against the key and everything else that is `expected` at `now`.
///
/// The caller still asks [`ReplayCache::check_and_insert`] whether it was used before.
///
/// # Errors
/// See [`AssertionError`]; the signature is checked before any claim is believed.
pub fn verify(
    text: &str,
    key: &RunnerPublicKey,
    expected: &Expected<'_>,
    now: Timestamp,
) -> Result<Assertion, AssertionError> {
    let parts = Parts::of(text).ok_or(AssertionError::Malformed)?;
    let header: JoseHeader = read(parts.header).ok_or(AssertionError::Malformed)?;
    if header.crit.is_some() {
        return Err(AssertionError::Malformed);
    }
    verify_signature(&parts, &header.alg, key, expected.padding)?;

    let claims: Wire = read(parts.payload).ok_or(AssertionError::Malformed)?;
    if claims.iss != expected.client_id || claims.sub != expected.client_id {
        return Err(AssertionError::Client);
    }
    let accepted = |claimed: &String| expected.audiences.iter().any(|one| audience::same(claimed, one));
    let for_us = match &claims.aud {
        Audiences::One(claimed) => accepted(claimed),
        Audiences::Several(claimed) => claimed.iter().any(accepted),
    };
    if !for_us {
        return Err(AssertionError::Audience);
    }
    if claims.jti.is_empty() || claims.jti.len() > MAX_ID {
        return Err(AssertionError::Malformed);
    }
    let at = |seconds| Timestamp::from_second(seconds).map_err(|_| AssertionError::Malformed);
    let (not_before, expires_at) = (at(claims.nbf)?, at(claims.exp)?);
    let life = expires_at.duration_since(not_before);
    if life <= SignedDuration::ZERO || life > MAX_LIFE {
        return Err(AssertionError::Life { seconds: life.as_secs() });
    }
    let (Ok(accepted_from), Ok(accepted_until)) =
        (not_before.checked_sub(expected.leeway), expires_at.checked_add(expected.leeway))
    else {
        return Err(AssertionError::Malformed);
    };
    if now < accepted_from || accepted_until <= now {
        return Err(AssertionError::Clock { not_before, expires_at, now });
    }
    Ok(Assertion { jti: claims.jti, not_before, expires_at, accepted_until })
}

fn verify_signature(
    parts: &Parts<'_>,
    algorithm: &str,
    key: &RunnerPublicKey,
    padding: Padding,
) -> Result<(), AssertionError> {
    let key = key.to_bytes();
    let signed = parts.signed.as_bytes();
    // The salt must be as long as the hash, 32 bytes, which is what .NET makes.
    let pss = || UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &key).verify(signed, &parts.signature);
    let pkcs1 = || UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &key).verify(signed, &parts.signature);
    let verified = match (algorithm, padding) {
        ("PS256", _) => pss(),
        ("RS256", Padding::Any) => pkcs1().or_else(|_| pss()),
        _ => return Err(AssertionError::Algorithm),
    };
    verified.map_err(|_| AssertionError::Signature)
}

#[cfg(test)]
mod tests;
