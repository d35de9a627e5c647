//! The RSA keys with which an official runner proves who it is.
//!
//! A runner that configures itself makes its key and registers the public half as .NET XML ([`RunnerPublicKey`];
//! actions/runner `RSAFileKeyManager.cs`, `ConfigurationManager.cs`). For a just-in-time runner the service makes the
//! pair and forgets the private half when it is handed out ([`RunnerKeyPair`], [`KeyPool`]).

mod pair;
mod pool;
mod xml;

use std::fmt;

pub use pair::RunnerKeyPair;
pub use pool::KeyPool;

use crate::{der, sha256};

/// The sizes of keys that are accepted, in bits.
const BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// Longest exponent, in bytes; 65537 has three.
const MAX_EXPONENT: usize = 4;

/// Why something is not a runner's public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunnerKeyError {
    /// The text is longer than any key that is accepted.
    #[error("RSA key has {length} bytes of XML (at most {limit})")]
    TooLong {
        /// Its length.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// Not the XML that .NET writes for a public key.
    #[error("RSA key is not `<RSAKeyValue>` with `<Modulus>` and `<Exponent>`: expected {expected}")]
    Xml {
        /// What should have come.
        expected: &'static str,
    },
    /// A number is not base64.
    #[error("`<{element}>` of the RSA key is not base64")]
    Base64 {
        /// Which number.
        element: &'static str,
    },
    /// Too small to be safe, or larger than is looked at.
    #[error("RSA key has {bits} bits (expected {} to {})", BITS.start(), BITS.end())]
    Size {
        /// How many it has.
        bits: usize,
    },
    /// The modulus cannot be the product of two large primes.
    #[error("modulus of the RSA key is not odd")]
    Modulus,
    /// The exponent is not one that anybody uses.
    #[error("exponent of the RSA key is not an odd number from 3 to 2^32")]
    Exponent,
    /// Stored bytes that this module did not write.
    #[error("not a stored RSA key ({length} bytes)")]
    Stored {
        /// How many bytes.
        length: usize,
    },
}

/// The public half of a runner's key: 2048 to 4096 bits, odd modulus, odd exponent from 3 on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RunnerPublicKey {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

impl RunnerPublicKey {
    /// The key of these big-endian numbers; leading zeros are cut.
    ///
    /// # Errors
    /// When the key's size, modulus or exponent is not as the type promises.
    pub fn new(modulus: &[u8], exponent: &[u8]) -> Result<Self, RunnerKeyError> {
        let (modulus, exponent) = (without_leading_zeros(modulus), without_leading_zeros(exponent));
        let bits = bits(modulus);
        if !BITS.contains(&bits) {
            return Err(RunnerKeyError::Size { bits });
        }
        if !is_odd(modulus) {
            return Err(RunnerKeyError::Modulus);
        }
        if exponent.len() > MAX_EXPONENT || !is_odd(exponent) || exponent == [1] {
            return Err(RunnerKeyError::Exponent);
        }
        Ok(Self { modulus: modulus.to_vec(), exponent: exponent.to_vec() })
    }

    /// The key in the XML of .NET's `RSA.ToXmlString(false)`: `<RSAKeyValue>` with `<Modulus>` and `<Exponent>`, in any
    /// order and with white space anywhere. Anything else in it, such as a private half, is refused.
    ///
    /// # Errors
    /// See [`RunnerKeyError`].
    pub fn from_xml(text: &str) -> Result<Self, RunnerKeyError> {
        let (modulus, exponent) = xml::read(text)?;
        Self::new(&modulus, &exponent)
    }

    /// The bytes to store: DER of `RSAPublicKey` (RFC 8017, appendix A.1.1), some 270 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        der::sequence(&[der::integer(&self.modulus), der::integer(&self.exponent)])
    }

    /// The key of what [`RunnerPublicKey::to_bytes`] gave.
    ///
    /// # Errors
    /// When it did not give these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RunnerKeyError> {
        let numbers = der::rsa_public_key(bytes);
        let (modulus, exponent) = numbers.ok_or(RunnerKeyError::Stored { length: bytes.len() })?;
        Self::new(modulus, exponent)
    }

    /// The modulus, big-endian without leading zeros.
    #[must_use]
    pub fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// The exponent, big-endian without leading zeros.
    #[must_use]
    pub fn exponent(&self) -> &[u8] {
        &self.exponent
    }

    /// Sixteen hexadecimal digits that tell this key from others in a log: the first bytes of the SHA-256 of
    /// [`RunnerPublicKey::to_bytes`].
    #[must_use]
    pub fn fingerprint(&self) -> String {
        sha256(&self.to_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for RunnerPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunnerPublicKey({} bits, {})", bits(&self.modulus), self.fingerprint())
    }
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|last| last & 1 == 1)
}

#[cfg(test)]
pub(crate) mod tests;
