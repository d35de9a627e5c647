//! OIDC id tokens: RS256 with a key whose public half the service publishes, so that clouds can trust a job's identity
//! without a secret. What the claims say is the caller's.

use std::fmt;
use std::path::Path;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::key_file::{self, KeyFileError, Kind};
use crate::{der, sha256};

/// The one algorithm that these tokens are signed with; the discovery document names it.
pub const ALGORITHM: &str = "RS256";
/// How many keys stay published behind the one that signs.
const PREVIOUS: usize = 1;

const KIND: Kind<SigningKey> = Kind {
    purpose: "startline-id-token-key",
    key: "PKCS #8 of an RSA key as base64url",
    read: |pkcs8| SigningKey::from_pkcs8(&pkcs8),
    make: new_pkcs8,
};

/// The keys of the issuer: one that signs, and earlier ones whose tokens may still be about.
#[derive(Clone)]
pub struct IdTokenKey {
    signing: SigningKey,
    previous: Vec<SigningKey>,
}

#[derive(Clone)]
struct SigningKey {
    pair: KeyPair,
    /// The RFC 7638 thumbprint.
    id: String,
    modulus: String,
    exponent: String,
}

impl IdTokenKey {
    /// The keys in the file at `path`, which is created with a new key of 2048 bits and mode 0600 if it does not
    /// exist. The first one signs; all are published.
    ///
    /// Making one takes tens to hundreds of milliseconds.
    ///
    /// # Errors
    /// When the file can be read by others than its owner, is not a key file of this purpose, or cannot be read or
    /// created.
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let mut keys = key_file::load_or_create_kind(path.as_ref(), &KIND)?.into_iter();
        let signing = keys.next().expect("a key file has a key");
        Ok(Self { signing, previous: keys.collect() })
    }

    /// Replaces the signing key of the file at `path` by a new one and keeps the last for verification; those before it
    /// are forgotten. Answers the new keys.
    ///
    /// Whoever has cached the published keys refuses the new key's tokens until he asks again, as verifiers do for an
    /// unknown `kid`. Must not be called twice within the life of a token, nor from two processes at once.
    ///
    /// # Errors
    /// As [`IdTokenKey::load_or_create`]; and when there is no file. The old keys are in force then.
    pub fn rotate(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        key_file::rotate(path.as_ref(), &KIND, PREVIOUS)?;
        Self::load_or_create(path)
    }

    /// The `kid` of the tokens that are minted now: the RFC 7638 thumbprint of the signing key.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.signing.id
    }

    /// A token with exactly these claims; `iss`, `exp` and all others are the caller's to put there. About a millisecond
    /// of work.
    #[must_use]
    pub fn mint(&self, claims: &Map<String, Value>) -> String {
        let header = json!({"typ": "JWT", "alg": ALGORITHM, "kid": self.signing.id});
        let claims = serde_json::to_vec(claims).expect("a JSON object can be written");
        let mut text = URL_SAFE_NO_PAD.encode(header.to_string());
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut text);
        let mut signature = vec![0; self.signing.pair.public_modulus_len()];
        let signed = self.signing.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature);
        signed.expect("a key that was checked when it was read can sign");
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        text
    }

    /// The key set to publish (RFC 7517): public halves alone, the signing key first.
    #[must_use]
    pub fn jwks(&self) -> Value {
        let keys = [&self.signing].into_iter().chain(&self.previous);
        json!({ "keys": keys.map(SigningKey::jwk).collect::<Vec<_>>() })
    }
}

impl fmt::Debug for IdTokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdTokenKey({}, …)", self.signing.id)
    }
}

impl SigningKey {
    fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let pair = KeyPair::from_pkcs8(pkcs8).ok()?;
        let (modulus, exponent) = der::rsa_public_key(pair.public_key().as_ref())?;
        let [modulus, exponent] = [modulus, exponent].map(|number| URL_SAFE_NO_PAD.encode(number));
        let id = thumbprint(&modulus, &exponent);
        Some(Self { pair, id, modulus, exponent })
    }

    fn jwk(&self) -> Value {
        json!({
            "kty": "RSA", "use": "sig", "alg": ALGORITHM, "kid": self.id, "n": self.modulus, "e": self.exponent,
        })
    }
}

/// RFC 7638: the hash of the required members in the order of their names, without white space.
fn thumbprint(modulus: &str, exponent: &str) -> String {
    URL_SAFE_NO_PAD.encode(sha256(format!(r#"{{"e":"{exponent}","kty":"RSA","n":"{modulus}"}}"#).as_bytes()))
}

fn new_pkcs8() -> Vec<u8> {
    let pair = KeyPair::generate(KeySize::Rsa2048).expect("the operating system gives random bytes");
    let der: Pkcs8V1Der<'_> = pair.as_der().expect("a key that was just made can be written");
    der.as_ref().to_vec()
}

#[cfg(test)]
mod tests;
