use std::fmt;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{RunnerPublicKey, without_leading_zeros};
use crate::der::Reader;

/// A runner's key with its private half, which leaves only through [`RunnerKeyPair::credentials_rsaparams`].
pub struct RunnerKeyPair {
    numbers: RsaNumbers,
}

impl RunnerKeyPair {
    /// A new key of 2048 bits.
    ///
    /// It costs tens of milliseconds of a core, sometimes hundreds: never call it on a thread of an async runtime.
    ///
    /// # Panics
    /// When the operating system has no random numbers to give.
    #[must_use]
    pub fn generate() -> Self {
        let key = KeyPair::generate(KeySize::Rsa2048).expect("the operating system gives random bytes");
        let der: Pkcs8V1Der<'_> = key.as_der().expect("a key that was just made can be written");
        Self { numbers: RsaNumbers::from_pkcs8(der.as_ref()).expect("the library writes PKCS #8 of two primes") }
    }

    /// The half that the service keeps.
    #[must_use]
    pub fn public(&self) -> RunnerPublicKey {
        RunnerPublicKey::new(&self.numbers.modulus, &self.numbers.exponent).expect("made with 2048 bits and 65537")
    }

    /// The JSON of the runner's file `.credentials_rsaparams` (actions/runner `RSAFileKeyManager.cs`,
    /// `RSAParametersSerializable`): eight numbers as base64 of big-endian bytes, of the fixed lengths that .NET asks
    /// for. A secret: never logged, never stored in clear.
    #[must_use]
    pub fn credentials_rsaparams(&self) -> String {
        let RsaNumbers { modulus, exponent, d, p, q, dp, dq, inverse_q } = &self.numbers;
        let [d, dp, dq, exponent, inverse_q, modulus, p, q] =
            [d, dp, dq, exponent, inverse_q, modulus, p, q].map(|number| STANDARD.encode(number));
        json!({
            "d": d, "dp": dp, "dq": dq, "exponent": exponent,
            "inverseQ": inverse_q, "modulus": modulus, "p": p, "q": q,
        })
        .to_string()
    }
}

impl fmt::Debug for RunnerKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunnerKeyPair({}, …)", self.public().fingerprint())
    }
}

/// The numbers of an RSA key, big-endian: `d` as long as the modulus, the five that belong to a prime half as long,
/// zeros in front.
struct RsaNumbers {
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    d: Vec<u8>,
    p: Vec<u8>,
    q: Vec<u8>,
    dp: Vec<u8>,
    dq: Vec<u8>,
    inverse_q: Vec<u8>,
}

impl RsaNumbers {
    /// Of a `PrivateKeyInfo` (RFC 5958) with an `RSAPrivateKey` (RFC 8017, appendix A.1.2) in it.
    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let mut outer = Reader::new(der);
        let mut info = outer.sequence()?;
        outer.end()?;
        let (version, _algorithm) = (info.integer()?, info.sequence()?);
        let mut octets = info.octets()?;
        let mut key = octets.sequence()?;
        octets.end()?;
        if !version.is_empty() || !key.integer()?.is_empty() {
            return None;
        }
        let (modulus, exponent) = (key.integer()?, key.integer()?);
        let half = modulus.len().is_multiple_of(2).then_some(modulus.len() / 2)?;
        let numbers = Self {
            d: fixed(key.integer()?, modulus.len())?,
            p: fixed(key.integer()?, half)?,
            q: fixed(key.integer()?, half)?,
            dp: fixed(key.integer()?, half)?,
            dq: fixed(key.integer()?, half)?,
            inverse_q: fixed(key.integer()?, half)?,
            modulus: modulus.to_vec(),
            exponent: exponent.to_vec(),
        };
        key.end()?;
        Some(numbers)
    }
}

/// `number` with zeros in front, `length` bytes in all.
fn fixed(number: &[u8], length: usize) -> Option<Vec<u8>> {
    let number = without_leading_zeros(number);
    let mut bytes = vec![0; length.checked_sub(number.len())?];
    bytes.extend_from_slice(number);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_numbers_get_zeros_in_front_and_long_ones_are_refused() {
        assert_eq!(fixed(&[1, 2], 4), Some(vec![0, 0, 1, 2]));
        assert_eq!(fixed(&[0, 1, 2], 2), Some(vec![1, 2]));
        assert_eq!(fixed(&[1, 2, 3], 2), None);
    }

    #[test]
    fn a_private_key_that_is_cut_or_continued_is_not_read() {
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
        let der = der.as_ref();
        assert!(RsaNumbers::from_pkcs8(der).is_some());
        for end in 0..der.len() {
            assert!(RsaNumbers::from_pkcs8(&der[..end]).is_none(), "cut at {end}");
        }
        assert!(RsaNumbers::from_pkcs8(&[der, &[0]].concat()).is_none(), "more behind it");
    }
}
