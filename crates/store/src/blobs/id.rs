//! Names of blobs and blocks, which become names of files.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// The name of a blob: 32 hexadecimal digits that the store has drawn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(Uuid);

/// What is not the name of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not the name of a blob")]
pub struct NotABlobId;

impl BlobId {
    pub(super) fn draw() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.simple(), f)
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobId({self})")
    }
}

impl FromStr for BlobId {
    type Err = NotABlobId;

    /// Reads the one spelling that [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, NotABlobId> {
        let id = Uuid::try_parse(text).map(Self).map_err(|_| NotABlobId)?;
        if id.to_string() == text { Ok(id) } else { Err(NotABlobId) }
    }
}

/// The name of a block, which the client chose: any text of 1 to 96 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BlockName(String);

/// What cannot be the name of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of a block has 1 to 96 bytes")]
pub struct NotABlockName;

impl BlockName {
    /// Takes a text as a name.
    ///
    /// # Errors
    /// [`NotABlockName`].
    pub fn new(text: impl Into<String>) -> Result<Self, NotABlockName> {
        let text = text.into();
        if (1..=96).contains(&text.len()) { Ok(Self(text)) } else { Err(NotABlockName) }
    }

    /// A file's name, different for different blocks: hexadecimal digits.
    pub(super) fn file_name(&self) -> String {
        let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
        self.0.bytes().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
    }
}

impl fmt::Display for BlockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
