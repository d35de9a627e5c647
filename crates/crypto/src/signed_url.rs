//! Signatures in the query of an address: who has the address may read or write this one path until a time.
//!
//! Clients of blob storage send no bearer. They append parameters of their own (`comp`, `blockid`, …), which are not
//! signed. The parameter is called `sig`, as Azure's is, because the official toolkit masks its value in logs
//! (actions/toolkit `packages/artifact/src/internal/shared/util.ts`, `maskSigUrl`); there is no `sv`, so that no client
//! takes the rest for Azure's.

use std::fmt;
use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use crate::key_file::{self, KeyFileError};
use crate::random_bytes;

const PURPOSE: &str = "startline-url-key";
/// What every signed text begins with: the format's version.
const CONTEXT: &str = "startline-url v1";

/// What an address lets one do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UrlAccess {
    /// `GET` and `HEAD`.
    Read,
    /// `PUT` and its like; not reading.
    Write,
}

impl UrlAccess {
    const fn letter(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Write => "w",
        }
    }
}

/// Why an address is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// One of the three parameters is missing, there twice, or not as they are written.
    #[error("address has no proper `{parameter}`")]
    Parameter {
        /// Which.
        parameter: &'static str,
    },
    /// For another path, another access, by another key, or changed.
    #[error("address has a wrong signature")]
    Signature,
    /// Its time is over.
    #[error("address expired at {at}")]
    Expired {
        /// When.
        at: Timestamp,
    },
}

/// The keys that sign addresses: the first one signs, all verify.
#[derive(Clone)]
pub struct UrlKey {
    keys: Vec<hmac::Key>,
}

impl UrlKey {
    /// A new key.
    #[must_use]
    pub fn generate() -> Self {
        Self::from_bytes(&random_bytes())
    }

    /// The key with these bytes, which must be secret and random.
    #[must_use]
    pub fn from_bytes(key: &[u8; 32]) -> Self {
        Self { keys: vec![hmac::Key::new(hmac::HMAC_SHA256, key)] }
    }

    /// The keys in the file at `path`, which is created with mode 0600 if it does not exist.
    ///
    /// # Errors
    /// When the file can be read by others than its owner, is not a key file of this purpose, or cannot be read or
    /// created.
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let keys = key_file::load_or_create(path.as_ref(), PURPOSE)?;
        Ok(Self { keys: keys.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key)).collect() })
    }

    /// The query, `se=<unix seconds>&sp=r|w&sig=<base64url>`, that opens `path` for `access` until `expires_at`. A
    /// secret; it needs no percent-encoding.
    ///
    /// `path` is any text that names the thing; verifying needs exactly the same, so sign what the router will hand
    /// over, decoded or not.
    #[must_use]
    pub fn sign(&self, access: UrlAccess, path: &str, expires_at: Timestamp) -> String {
        let end = expires_at.as_second().to_string();
        let signature = hmac::sign(&self.keys[0], &signed(access, &end, path));
        format!("se={end}&sp={}&sig={}", access.letter(), URL_SAFE_NO_PAD.encode(signature))
    }

    /// Until when the `query` opens `path` for `access`; its pairs are decoded, and those that are not ours are passed
    /// over.
    ///
    /// # Errors
    /// See [`UrlError`]; the signature is checked, in the same time wherever it differs, before the expiry.
    pub fn verify<K: AsRef<str>, V: AsRef<str>>(
        &self,
        access: UrlAccess,
        path: &str,
        query: impl IntoIterator<Item = (K, V)>,
        now: Timestamp,
    ) -> Result<Timestamp, UrlError> {
        let (mut end, mut letter, mut signature) = (None, None, None);
        for (name, value) in query {
            let (parameter, place) = match name.as_ref() {
                "se" => ("se", &mut end),
                "sp" => ("sp", &mut letter),
                "sig" => ("sig", &mut signature),
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(UrlError::Parameter { parameter });
            }
        }
        let missing = |parameter| UrlError::Parameter { parameter };
        let end = end.ok_or_else(|| missing("se"))?;
        let letter = letter.ok_or_else(|| missing("sp"))?;
        let signature = signature.ok_or_else(|| missing("sig"))?;
        let end = end.as_ref();
        let at = end.parse().ok().and_then(|end| Timestamp::from_second(end).ok()).ok_or_else(|| missing("se"))?;
        let signature = URL_SAFE_NO_PAD.decode(signature.as_ref()).map_err(|_| missing("sig"))?;
        let signed = signed(access, end, path);
        let known = self.keys.iter().any(|key| hmac::verify(key, &signed, &signature).is_ok());
        if letter.as_ref() != access.letter() || !known {
            return Err(UrlError::Signature);
        }
        if at <= now { Err(UrlError::Expired { at }) } else { Ok(at) }
    }
}

impl fmt::Debug for UrlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UrlKey(…)")
    }
}

/// What is signed. Only the path can contain a line feed, and it comes last.
fn signed(access: UrlAccess, end: &str, path: &str) -> Vec<u8> {
    format!("{CONTEXT}\n{}\n{end}\n{path}", access.letter()).into_bytes()
}

#[cfg(test)]
mod tests;
