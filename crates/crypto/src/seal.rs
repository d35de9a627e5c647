//! Secrets at rest: an AES-256-GCM envelope that names its key.
//!
//! ```text
//! version (1) | key id (8) | nonce (12) | ciphertext | tag (16)
//! ```
//!
//! The header and the caller's additional data are authenticated, so that an envelope moved to another row does not
//! open there. Nonces are random: one key must not seal more than 2^32 secrets, which no installation will.

use std::fmt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::key_file::{self, KeyFileError};
use crate::{random_bytes, sha256};

const PURPOSE: &str = "startline-sealing-key";
const VERSION: u8 = 1;
const HEADER: usize = 1 + KeyId::LENGTH;

/// Which key sealed an envelope: the first bytes of the key's SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; Self::LENGTH]);

impl KeyId {
    const LENGTH: usize = 8;
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// Why an envelope does not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Too short to be an envelope.
    #[error("not a sealed secret ({length} bytes)")]
    Malformed {
        /// Its length.
        length: usize,
    },
    /// Written by a newer release.
    #[error("sealed secret has format version {version}, this release knows version {VERSION}; upgrade to read it")]
    Version {
        /// The version it has.
        version: u8,
    },
    /// Sealed with a key that is not here.
    #[error("secret is sealed with key {wanted}, which is not among the loaded keys ({})", list(known))]
    UnknownKey {
        /// The key that sealed it.
        wanted: KeyId,
        /// The keys that are here.
        known: Vec<KeyId>,
    },
    /// The key is right, but the contents are damaged or belong to something else.
    #[error("sealed secret is damaged, or was sealed for something else")]
    Refused,
}

fn list(ids: &[KeyId]) -> String {
    ids.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", ")
}

/// A key that seals and opens secrets.
pub struct SealingKey {
    id: KeyId,
    key: LessSafeKey,
}

impl SealingKey {
    /// A new key.
    #[must_use]
    pub fn generate() -> Self {
        Self::from_bytes(&random_bytes())
    }

    /// The key with these bytes, which must be secret and random.
    #[must_use]
    pub fn from_bytes(key: &[u8; 32]) -> Self {
        let mut id = [0; KeyId::LENGTH];
        id.copy_from_slice(&sha256(key)[..KeyId::LENGTH]);
        let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes any 32 bytes");
        Self { id: KeyId(id), key: LessSafeKey::new(key) }
    }

    /// The first key in the file at `path`, which is created with mode 0600 if it does not exist.
    ///
    /// # Errors
    /// When the file can be read by others than its owner, is not a key file of this purpose, or cannot be read or
    /// created.
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let keys = key_file::load_or_create(path.as_ref(), PURPOSE)?;
        Ok(Self::from_bytes(&keys[0]))
    }

    /// The name that this key's envelopes bear.
    #[must_use]
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The envelope of `plaintext`. It opens only with the same `aad`, which says what the secret belongs to and
    /// is not stored in it.
    #[must_use]
    pub fn seal(&self, plaintext: &[u8], aad: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = random_bytes();
        let mut envelope = Vec::with_capacity(HEADER + NONCE_LEN + plaintext.len() + AES_256_GCM.tag_len());
        envelope.push(VERSION);
        envelope.extend_from_slice(&self.id.0);
        let aad = Aad::from([&envelope, aad].concat());
        let mut contents = plaintext.to_vec();
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut contents)
            .expect("AES-GCM seals anything below 64 GiB");
        envelope.extend_from_slice(&nonce);
        envelope.append(&mut contents);
        envelope
    }

    /// What [`seal`](Self::seal) put into `envelope` with the same `aad`.
    ///
    /// # Errors
    /// When another key sealed it, it is damaged, or `aad` differs.
    pub fn open(&self, envelope: &[u8], aad: &[u8]) -> Result<Vec<u8>, SealError> {
        let wanted = key_of(envelope)?;
        if wanted == self.id {
            self.open_unchecked(envelope, aad)
        } else {
            Err(SealError::UnknownKey { wanted, known: vec![self.id] })
        }
    }

    /// Opens an envelope that [`key_of`] has accepted.
    fn open_unchecked(&self, envelope: &[u8], aad: &[u8]) -> Result<Vec<u8>, SealError> {
        let (header, rest) = envelope.split_at(HEADER);
        let (nonce, contents) = rest.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Refused)?;
        let mut contents = contents.to_vec();
        let length = self
            .key
            .open_in_place(nonce, Aad::from([header, aad].concat()), &mut contents)
            .map_err(|_| SealError::Refused)?
            .len();
        contents.truncate(length);
        Ok(contents)
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.id)
    }
}

/// The key that sealed `envelope`, if it is one that this release can read.
fn key_of(envelope: &[u8]) -> Result<KeyId, SealError> {
    match envelope.first() {
        None => return Err(SealError::Malformed { length: 0 }),
        Some(&VERSION) => {}
        Some(&version) => return Err(SealError::Version { version }),
    }
    if envelope.len() < HEADER + NONCE_LEN + AES_256_GCM.tag_len() {
        return Err(SealError::Malformed { length: envelope.len() });
    }
    let mut id = [0; KeyId::LENGTH];
    id.copy_from_slice(&envelope[1..HEADER]);
    Ok(KeyId(id))
}

/// Several keys, for rotation: the first seals, every one opens.
///
/// To rotate, put a new line in front of the key file and restart; when everything has been sealed anew, take the old
/// line away.
#[derive(Debug)]
pub struct KeyRing {
    keys: Vec<SealingKey>,
}

impl KeyRing {
    /// The ring that seals with `current` and opens with `former` as well.
    #[must_use]
    pub fn new(current: SealingKey, former: impl IntoIterator<Item = SealingKey>) -> Self {
        Self { keys: std::iter::once(current).chain(former).collect() }
    }

    /// All keys in the file at `path`, which is created with one and mode 0600 if it does not exist.
    ///
    /// # Errors
    /// When the file can be read by others than its owner, is not a key file of this purpose, or cannot be read or
    /// created.
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let keys = key_file::load_or_create(path.as_ref(), PURPOSE)?;
        Ok(Self { keys: keys.iter().map(SealingKey::from_bytes).collect() })
    }

    /// How many keys there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key that seals.
    #[must_use]
    pub fn current(&self) -> &SealingKey {
        &self.keys[0]
    }

    /// The envelope of `plaintext`; see [`SealingKey::seal`].
    #[must_use]
    pub fn seal(&self, plaintext: &[u8], aad: &[u8]) -> Vec<u8> {
        self.current().seal(plaintext, aad)
    }

    /// What is in `envelope`, whichever key of the ring sealed it; see [`SealingKey::open`].
    ///
    /// # Errors
    /// When no key of the ring sealed it, it is damaged, or `aad` differs.
    pub fn open(&self, envelope: &[u8], aad: &[u8]) -> Result<Vec<u8>, SealError> {
        let wanted = key_of(envelope)?;
        match self.keys.iter().find(|key| key.id == wanted) {
            Some(key) => key.open_unchecked(envelope, aad),
            None => Err(SealError::UnknownKey { wanted, known: self.keys.iter().map(SealingKey::id).collect() }),
        }
    }

    /// Whether `envelope` was sealed with a former key and should be sealed anew.
    #[must_use]
    pub fn is_outdated(&self, envelope: &[u8]) -> bool {
        key_of(envelope).is_ok_and(|id| id != self.current().id)
    }
}

#[cfg(test)]
mod tests;
