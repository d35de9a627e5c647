//! The text of bearer tokens and what is stored of them.
//!
//! A token is its kind's prefix, 43 random letters and digits (256 bits) and 6 that are a checksum of what stands
//! before: a secret scanner finds tokens by the prefix and knows by the checksum that it found one, and a mistyped
//! token is refused without a look-up. Only the SHA-256 of the whole text is stored, and tokens are looked up by it;
//! with 256 random bits there is nothing for a slow password hash to protect.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use startline_protocol::token::{ApiToken, RegistrationToken, RunnerToken};

use crate::random::{base62, random_base62};
use crate::sha256;

/// Random characters of a token: 62^43 is just above 2^256.
const RANDOM: usize = 43;
/// Characters of the checksum: 62^6 is above 2^32.
const CHECKSUM: usize = 6;

/// A new token that administers.
#[must_use]
pub fn new_api_token() -> ApiToken {
    ApiToken::parse(new_text(ApiToken::PREFIX)).expect("made with the prefix of its kind")
}

/// A new token that registers runners.
#[must_use]
pub fn new_registration_token() -> RegistrationToken {
    RegistrationToken::parse(new_text(RegistrationToken::PREFIX)).expect("made with the prefix of its kind")
}

/// A new token that speaks for a runner.
#[must_use]
pub fn new_runner_token() -> RunnerToken {
    RunnerToken::parse(new_text(RunnerToken::PREFIX)).expect("made with the prefix of its kind")
}

fn new_text(prefix: &str) -> String {
    let body = format!("{prefix}{}", random_base62(RANDOM));
    let checksum = checksum(&body);
    body + &checksum
}

/// Whether `text` can be a token that this module made: known prefix, right length, right checksum.
///
/// It says nothing about whether the token is valid; it spares the look-up of one that cannot be.
#[must_use]
pub fn is_well_formed(text: &str) -> bool {
    let known = [ApiToken::PREFIX, RegistrationToken::PREFIX, RunnerToken::PREFIX];
    let Some(prefix) = known.into_iter().find(|prefix| text.starts_with(prefix)) else { return false };
    if !text.is_ascii() || text.len() != prefix.len() + RANDOM + CHECKSUM {
        return false;
    }
    let (body, sum) = text.split_at(prefix.len() + RANDOM);
    checksum(body) == sum
}

fn checksum(body: &str) -> String {
    let digest = sha256(body.as_bytes());
    base62(u64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])), CHECKSUM)
}

/// The SHA-256 of a token's whole text: what is stored instead of the token.
///
/// Comparison takes the same time wherever the hashes differ. `Display` and `FromStr` are 64 hexadecimal digits, for
/// storage only; `Debug` shows the first eight, enough to tell two tokens apart in a log.
#[derive(Clone, Copy)]
pub struct TokenHash(pub [u8; 32]);

/// The hash under which a token with this `text` is stored.
#[must_use]
pub fn hash(text: &str) -> TokenHash {
    TokenHash(sha256(text.as_bytes()))
}

impl TokenHash {
    /// The hash under which a token with this `text` is stored; the same as [`hash`].
    #[must_use]
    pub fn of(text: &str) -> Self {
        hash(text)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for TokenHash {}

impl Hash for TokenHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({:02x}{:02x}{:02x}{:02x}…)", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

/// The text is not a stored token hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token hash (expected 64 hexadecimal digits)")]
pub struct NotAHash;

impl FromStr for TokenHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(NotAHash);
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Ok(Self(hash))
    }
}

const fn hex_digit(digit: u8) -> Result<u8, NotAHash> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(NotAHash),
    }
}

#[cfg(test)]
mod tests;
