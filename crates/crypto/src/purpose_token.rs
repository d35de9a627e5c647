//! Signed bearers that need no look-up: one key file, several purposes, none of which passes for another.
//!
//! Each purpose has an audience and a key of its own, derived from the file's key (HKDF-SHA256, RFC 5869) under the
//! name of the audience. The text is always a JWT of three parts with a numeric `exp`, because the scale set client
//! reads that of every admin token without verifying it and ends without (actions/scaleset `client.go`).

use std::fmt;
use std::path::Path;

use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use jiff::Timestamp;
use jsonwebtoken::DecodingKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use crate::hs256::{self, ISSUER, MAX_LENGTH, Refusal, SigningKey};
use crate::key_file::{self, KeyFileError};
use crate::random_bytes;

const KEY_PURPOSE: &str = "startline-purpose-token-key";
/// Separates these keys from all that may ever be derived from a file's key otherwise.
const SALT: &[u8] = b"startline purpose token v1";

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A registered official runner listens for jobs.
    Listener,
    /// A client administers scale sets or registers a runner.
    Admin,
    /// A runner removes its registration.
    Remove,
    /// A scale set's listener reads its message queue.
    Queue,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Listener, Self::Admin, Self::Remove, Self::Queue];

    /// Whom tokens of this purpose are for: the claim `aud`.
    #[must_use]
    pub const fn audience(self) -> &'static str {
        match self {
            Self::Listener => "startline-listener",
            Self::Admin => "startline-admin",
            Self::Remove => "startline-remove",
            Self::Queue => "startline-queue",
        }
    }
}

/// The text of a token, which leaves only through [`PurposeToken::expose`]; `Debug` prints the purpose alone.
/// Serialisation writes the text, because the wire must carry it.
#[derive(Clone, PartialEq, Eq)]
pub struct PurposeToken {
    purpose: Purpose,
    text: String,
}

impl PurposeToken {
    /// The secret text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// What it is for.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }
}

impl fmt::Debug for PurposeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PurposeToken({:?}, eyJ…)", self.purpose)
    }
}

impl Serialize for PurposeToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Why a token is refused, or not made. No variant tells a part of the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurposeTokenError {
    /// Not a JWT, or one with other claims than ours.
    #[error("malformed token")]
    Malformed,
    /// Signed by another algorithm than the one allowed, or by none.
    #[error("token is not signed with HS256")]
    Algorithm,
    /// Signed for another purpose, by another key, or changed.
    #[error("token has a wrong signature")]
    Signature,
    /// Made by somebody else or for another purpose.
    #[error("token is for another purpose")]
    Purpose,
    /// Its time is over.
    #[error("token expired at {at}")]
    Expired {
        /// When.
        at: Timestamp,
    },
    /// What was to be put into it is too long or cannot be written as JSON.
    #[error("token of {length} bytes is too long (at most {MAX_LENGTH})")]
    TooLong {
        /// How long it would have been.
        length: usize,
    },
}

/// The claims as they are written. The payload has a name of its own, so that nothing in it can pass for one of ours.
#[derive(Serialize, Deserialize)]
struct Wire<T> {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
    ctx: T,
}

/// The keys that sign and verify: one of the file for signing, all of them for verifying, so that a replaced key's
/// tokens live to their end.
#[derive(Clone)]
pub struct PurposeKey {
    /// For each line of the file, the keys in the order of [`Purpose::ALL`].
    keys: Vec<[[u8; 32]; Purpose::ALL.len()]>,
}

impl PurposeKey {
    /// A new key.
    #[must_use]
    pub fn generate() -> Self {
        Self::from_bytes(&random_bytes())
    }

    /// The key with these bytes, which must be secret and random.
    #[must_use]
    pub fn from_bytes(key: &[u8; 32]) -> Self {
        Self { keys: vec![derive(key)] }
    }

    /// The keys in the file at `path`, which is created with mode 0600 if it does not exist. The first one signs, all
    /// verify.
    ///
    /// # Errors
    /// When the file can be read by others than its owner, is not a key file of this purpose, or cannot be read or
    /// created.
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        Ok(Self { keys: key_file::load_or_create(path.as_ref(), KEY_PURPOSE)?.iter().map(derive).collect() })
    }

    /// A token for `purpose` that says `payload`. Times are whole seconds on the wire; fractions are cut.
    ///
    /// # Errors
    /// [`PurposeTokenError::TooLong`] when the payload makes the text longer than 4096 bytes,
    /// [`PurposeTokenError::Malformed`] when it cannot be written as JSON.
    pub fn mint<T: Serialize>(
        &self,
        purpose: Purpose,
        payload: &T,
        issued_at: Timestamp,
        expires_at: Timestamp,
    ) -> Result<PurposeToken, PurposeTokenError> {
        let wire = Wire {
            iss: ISSUER.to_owned(),
            aud: purpose.audience().to_owned(),
            iat: issued_at.as_second(),
            exp: expires_at.as_second(),
            ctx: payload,
        };
        let key = SigningKey::new(&self.keys[0][purpose as usize]);
        let text = hs256::encode(&wire, &key).ok_or(PurposeTokenError::Malformed)?;
        if text.len() > MAX_LENGTH {
            return Err(PurposeTokenError::TooLong { length: text.len() });
        }
        Ok(PurposeToken { purpose, text })
    }

    /// What the token `text` says, if it was made for `purpose` and has not expired at `now`.
    ///
    /// # Errors
    /// See [`PurposeTokenError`]; the signature is checked before any claim is believed.
    pub fn verify<T: DeserializeOwned>(
        &self,
        purpose: Purpose,
        text: impl AsRef<str>,
        now: Timestamp,
    ) -> Result<T, PurposeTokenError> {
        let mut outcome = Err(Refusal::Signature);
        for keys in &self.keys {
            let key = DecodingKey::from_secret(&keys[purpose as usize]);
            outcome = hs256::decode::<Wire<T>>(text.as_ref(), &key, purpose.audience());
            if !matches!(outcome, Err(Refusal::Signature)) {
                break;
            }
        }
        let wire = outcome?;
        let at = Timestamp::from_second(wire.exp).map_err(|_| PurposeTokenError::Malformed)?;
        if at <= now { Err(PurposeTokenError::Expired { at }) } else { Ok(wire.ctx) }
    }
}

impl fmt::Debug for PurposeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PurposeKey(…)")
    }
}

fn derive(key: &[u8; 32]) -> [[u8; 32]; Purpose::ALL.len()] {
    let secret = Salt::new(HKDF_SHA256, SALT).extract(key);
    Purpose::ALL.map(|purpose| {
        let mut derived = [0; 32];
        let info = [purpose.audience().as_bytes()];
        let output = secret.expand(&info, HKDF_SHA256).expect("HKDF gives as many bytes as its hash has");
        output.fill(&mut derived).expect("SHA-256 has 32 bytes");
        derived
    })
}

impl From<Refusal> for PurposeTokenError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed => Self::Malformed,
            Refusal::Algorithm => Self::Algorithm,
            Refusal::Signature => Self::Signature,
            Refusal::Issuer | Refusal::Audience => Self::Purpose,
        }
    }
}

#[cfg(test)]
mod tests;
