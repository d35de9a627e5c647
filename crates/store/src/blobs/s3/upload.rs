//! The way of a blob's content into the object store.
//!
//! Large content goes in parts. A file beside the content, the *note*, has the upload and the parts that arrived, so that
//! whoever repeats it goes on there, also after a crash.

use std::io::Write as _;
use std::ops::Range;
use std::path::PathBuf;

use futures_util::{StreamExt as _, stream};

use super::http::{Failure, Sent};
use super::remote::Remote;
use crate::blobs::{BlobId, BlobStore as _, Directory, files};

/// How many parts are on their way at once. Each takes a piece of a file's bytes of memory.
const AT_ONCE: usize = 4;
/// How many parts an upload may have: a limit of the protocol.
const MOST_PARTS: u64 = 10_000;

/// What is known of an upload in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    upload: String,
    part_size: u64,
    /// The tags of the first parts, in order.
    tags: Vec<String>,
}

impl Note {
    /// The note, as far as it was written whole.
    fn parse(text: &str) -> Option<Self> {
        let (whole, _) = text.rsplit_once('\n')?;
        let mut lines = whole.lines();
        let (part_size, upload) = lines.next()?.split_once(' ')?;
        let tags = lines.map(str::to_owned).collect();
        Some(Self { upload: upload.to_owned(), part_size: part_size.parse().ok()?, tags })
    }

    fn text(&self) -> String {
        let mut text = format!("{} {}\n", self.part_size, self.upload);
        self.tags.iter().for_each(|tag| text.extend([tag, "\n"]));
        text
    }
}

/// One content that is to be uploaded.
pub(super) struct Upload<'a> {
    pub(super) remote: &'a Remote,
    pub(super) local: &'a Directory,
    pub(super) id: BlobId,
    pub(super) size: u64,
    /// How large a part is, at least.
    pub(super) part_size: u64,
}

impl Upload<'_> {
    /// Uploads the content; what was done of it before is not done again.
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let key = self.remote.key(self.id);
        if self.size <= self.part_size {
            return self.remote.put(&key, || self.sent(0..self.size)).await;
        }
        // The answer, or the service, was lost after the last step.
        if self.is_there(&key).await? {
            return Ok(());
        }
        if let Some(note) = self.note().await? {
            match self.parts(&key, note).await {
                // The store does not know the upload any more, or does not take its parts.
                Err(Failure::Absent | Failure::Lasting(_)) if !self.is_there(&key).await? => {}
                ended => return ended,
            }
        }
        let upload = self.remote.begin(&key).await?;
        let part_size = self.part_size.max(self.size.div_ceil(MOST_PARTS));
        let note = Note { upload, part_size, tags: Vec::new() };
        let path = self.note_path();
        write(path, note.text(), false).await?;
        self.parts(&key, note).await
    }

    async fn is_there(&self, key: &str) -> Result<bool, Failure> {
        match self.remote.size(key).await {
            Ok(size) => Ok(size == self.size),
            Err(Failure::Absent) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    async fn parts(&self, key: &str, note: Note) -> Result<(), Failure> {
        let Note { upload, part_size, mut tags } = note;
        let all = self.size.div_ceil(part_size);
        let left = (tags.len() as u64 + 1)..=all;
        let mut arriving = stream::iter(left)
            .map(|number| {
                let upload = &upload;
                async move {
                    let start = (number - 1) * part_size;
                    let range = start..(start + part_size).min(self.size);
                    let number =
                        u16::try_from(number).map_err(|_| Failure::Lasting("there are too many parts".into()))?;
                    self.remote.put_part(key, upload, number, || self.sent(range.clone())).await
                }
            })
            .buffered(AT_ONCE);
        while let Some(tag) = arriving.next().await {
            let tag = tag?;
            write(self.note_path(), format!("{tag}\n"), true).await?;
            tags.push(tag);
        }
        drop(arriving);
        match self.remote.complete(key, &upload, &tags).await {
            // An earlier try has done it, and its answer was lost.
            Err(_) if self.is_there(key).await? => Ok(()),
            Ok(()) if !self.is_there(key).await? => {
                Err(Failure::Passing("the object is not what was uploaded".to_owned()))
            }
            ended => ended,
        }
    }

    async fn sent(&self, range: Range<u64>) -> Result<Sent, Failure> {
        let length = range.end - range.start;
        let chunks = self.local.read(self.id, range).await.map_err(|error| Failure::Lasting(error.to_string()))?;
        Ok(Sent { chunks, length })
    }

    /// Gives up what was begun, for a blob that is deleted.
    pub(super) async fn give_up(&self) -> Result<(), Failure> {
        let Some(note) = self.note().await? else { return Ok(()) };
        match self.remote.abort(&self.remote.key(self.id), &note.upload).await {
            // It has become the object, or is gone.
            Err(Failure::Absent | Failure::Lasting(_)) => Ok(()),
            ended => ended,
        }
    }

    fn note_path(&self) -> PathBuf {
        self.local.note(self.id)
    }

    async fn note(&self) -> Result<Option<Note>, Failure> {
        let read = files::if_there(tokio::fs::read_to_string(self.note_path()).await);
        let text = read.map_err(|error| Failure::Lasting(format!("the upload's note cannot be read: {error}")))?;
        Ok(text.as_deref().and_then(Note::parse))
    }
}

/// Writes the note, or adds to it. It is not synced: what a loss of power takes is uploaded again.
async fn write(path: PathBuf, text: String, is_added: bool) -> Result<(), Failure> {
    let written = tokio::task::spawn_blocking(move || {
        let mut options = std::fs::OpenOptions::new();
        options.create(true).append(is_added).write(true).truncate(!is_added).open(path)?.write_all(text.as_bytes())
    });
    let written = written.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    written.map_err(|error| Failure::Lasting(format!("the upload's note cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_far_as_it_was_written() {
        let note = Note { upload: "an upload/id".to_owned(), part_size: 5, tags: vec!["\"a\"".into(), "\"b\"".into()] };
        assert_eq!(Note::parse(&note.text()), Some(note.clone()));
        let torn = format!("{}\"c", note.text());
        assert_eq!(Note::parse(&torn), Some(note));
        for broken in ["", "5 up", "x up\n", "5\n"] {
            assert_eq!(Note::parse(broken), None, "{broken:?}");
        }
    }
}
