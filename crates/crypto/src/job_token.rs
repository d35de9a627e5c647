//! The bearer of a job: a JWT that speaks for one attempt and dies with its lease.
//!
//! HS256 and nothing else, issuer and audience pinned. The claims name the fencing epoch, so that a token of an
//! earlier assignment is recognised; comparing it with the current epoch is the caller's part. The scope claim is what
//! the official toolkit reads to find its plan and job (actions/toolkit `packages/artifact/src/internal/shared/util.ts`,
//! `getBackendIdsFromToken`: a word `Actions.Results:<plan>:<job>` of `scp`).

use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use jsonwebtoken::DecodingKey;
use serde::{Deserialize, Serialize};
use startline_protocol::ids::{Epoch, JobId, RunId};
use startline_protocol::token::JobToken;
use uuid::Uuid;

use crate::hs256::{self, Refusal, SigningKey};
use crate::key_file::{self, KeyFileError};
use crate::random_bytes;

/// Who issues job tokens.
pub const ISSUER: &str = hs256::ISSUER;
/// Whom job tokens are for.
pub const AUDIENCE: &str = "startline-job";

const PURPOSE: &str = "startline-job-token-key";
const RESULTS_SCOPE: &str = "Actions.Results";

/// What a job token says. Times are whole seconds on the wire; fractions are cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The job.
    pub job: JobId,
    /// The run that it belongs to.
    pub run: RunId,
    /// Which attempt at the job, from 1.
    pub attempt: u32,
    /// The assignment; a token with an older epoch than the job's is void.
    pub epoch: Epoch,
    /// When the token was minted.
    pub issued_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Timestamp,
    /// The token's own id, for the audit log.
    pub id: Uuid,
    /// The GUID of the run attempt, as in the job message.
    pub plan_id: Uuid,
    /// The GUID of the job attempt, as in the job message.
    pub job_guid: Uuid,
}

/// The claims as they are written.
#[derive(Serialize, Deserialize)]
struct Wire {
    iss: String,
    aud: String,
    sub: String,
    run: i64,
    attempt: u32,
    epoch: i64,
    iat: i64,
    exp: i64,
    jti: Uuid,
    scp: String,
}

/// Why a job token is refused. No variant tells a part of the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobTokenError {
    /// Not a JWT, or one with other claims than ours.
    #[error("malformed job token")]
    Malformed,
    /// Signed by another algorithm than the one allowed, or by none.
    #[error("job token is not signed with HS256")]
    Algorithm,
    /// Signed by another key, or changed.
    #[error("job token has a wrong signature")]
    Signature,
    /// Issued by somebody else.
    #[error("job token has a wrong issuer (expected `{ISSUER}`)")]
    Issuer,
    /// Made for another purpose.
    #[error("job token has a wrong audience (expected `{AUDIENCE}`)")]
    Audience,
    /// Its time is over.
    #[error("job token expired at {at}")]
    Expired {
        /// When.
        at: Timestamp,
    },
}

/// The key that signs and verifies job tokens.
#[derive(Clone)]
pub struct JobTokenKey {
    signing: SigningKey,
    decoding: DecodingKey,
}

impl JobTokenKey {
    /// A new key.
    #[must_use]
    pub fn generate() -> Self {
        Self::from_bytes(&random_bytes())
    }

    /// The key with these bytes, which must be secret and random.
    #[must_use]
    pub fn from_bytes(key: &[u8; 32]) -> Self {
        Self { signing: SigningKey::new(key), decoding: DecodingKey::from_secret(key) }
    }

    /// The key in the file at `path`, which is created with mode 0600 if it does not exist.
    ///
    /// # Errors
    /// When the file can be read by others than its owner, is not a key file of this purpose, or cannot be read or
    /// created.
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let keys = key_file::load_or_create(path.as_ref(), PURPOSE)?;
        Ok(Self::from_bytes(&keys[0]))
    }

    /// Signs `claims`.
    #[must_use]
    pub fn mint(&self, claims: &Claims) -> JobToken {
        let wire = Wire {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: claims.job.to_string(),
            run: claims.run.0,
            attempt: claims.attempt,
            epoch: claims.epoch.0,
            iat: claims.issued_at.as_second(),
            exp: claims.expires_at.as_second(),
            jti: claims.id,
            scp: format!("{RESULTS_SCOPE}:{}:{}", claims.plan_id, claims.job_guid),
        };
        let text = hs256::encode(&wire, &self.signing).expect("a struct of numbers and text can be written");
        JobToken::parse(text).expect("the header of a JWT starts with `{\"`")
    }

    /// The claims of the token `text`, if this key signed it and it has not expired at `now`.
    ///
    /// The caller still compares the epoch with the job's current one.
    ///
    /// # Errors
    /// See [`JobTokenError`]; the signature is checked before any claim is believed.
    pub fn verify(&self, text: impl AsRef<str>, now: Timestamp) -> Result<Claims, JobTokenError> {
        let wire: Wire = hs256::decode(text.as_ref(), &self.decoding, AUDIENCE)?;
        let claims = wire.read().ok_or(JobTokenError::Malformed)?;
        if claims.expires_at <= now { Err(JobTokenError::Expired { at: claims.expires_at }) } else { Ok(claims) }
    }
}

impl fmt::Debug for JobTokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobTokenKey(…)")
    }
}

impl Wire {
    fn read(self) -> Option<Claims> {
        let results = self.scp.split(' ').find_map(|word| word.strip_prefix(RESULTS_SCOPE)?.strip_prefix(':'))?;
        let (plan, job) = results.split_once(':')?;
        Some(Claims {
            job: self.sub.parse().ok()?,
            run: RunId(self.run),
            attempt: self.attempt,
            epoch: Epoch(self.epoch),
            issued_at: Timestamp::from_second(self.iat).ok()?,
            expires_at: Timestamp::from_second(self.exp).ok()?,
            id: self.jti,
            plan_id: plan.parse().ok()?,
            job_guid: job.parse().ok()?,
        })
    }
}

impl From<Refusal> for JobTokenError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed => Self::Malformed,
            Refusal::Algorithm => Self::Algorithm,
            Refusal::Signature => Self::Signature,
            Refusal::Issuer => Self::Issuer,
            Refusal::Audience => Self::Audience,
        }
    }
}

#[cfg(test)]
mod tests;
