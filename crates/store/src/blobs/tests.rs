use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::*;

#[cfg(feature = "s3")]
mod object_store;
#[cfg(feature = "s3")]
mod s3_store;

const ANY: u64 = u64::MAX;

/// A blob store to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    #[cfg(feature = "s3")]
    S3,
}

struct Bench {
    directory: tempfile::TempDir,
    blobs: Arc<dyn BlobStore>,
    #[cfg(feature = "s3")]
    remote: Option<s3_store::Remote>,
}

async fn bench(kind: Kind) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("blobs");
    match kind {
        Kind::Directory => Bench {
            blobs: Arc::new(Directory::open(&root).unwrap()),
            directory,
            #[cfg(feature = "s3")]
            remote: None,
        },
        #[cfg(feature = "s3")]
        Kind::S3 => {
            let remote = s3_store::Remote::start();
            Bench { blobs: Arc::new(remote.open(&root).await.unwrap()), directory, remote: Some(remote) }
        }
    }
}

/// What every blob store keeps.
macro_rules! promises {
    ($($promise:ident),* $(,)?) => {
        mod directory_promises {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                super::$promise(super::bench(super::Kind::Directory).await).await;
            })*
        }

        #[cfg(feature = "s3")]
        mod s3_promises {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                super::$promise(super::bench(super::Kind::S3).await).await;
            })*
        }
    };
}

impl Bench {
    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("blobs")
    }

    fn place(&self, id: BlobId) -> files::Place {
        files::Place::new(&self.root(), id)
    }

    /// The blobs as the service finds them after it was killed.
    async fn restarted(mut self) -> Self {
        let root = self.root();
        self.blobs = match () {
            #[cfg(feature = "s3")]
            () if self.remote.is_some() => Arc::new(self.remote.as_ref().unwrap().open(&root).await.unwrap()),
            () => Arc::new(Directory::open(&root).unwrap()),
        };
        self
    }

    /// The files that a sealed blob has here.
    fn sealed_files(&self) -> &'static [&'static str] {
        #[cfg(feature = "s3")]
        if self.remote.is_some() {
            return &[];
        }
        &["sealed"]
    }

    async fn text(&self, id: BlobId) -> String {
        String::from_utf8(self.bytes(id, 0..ANY).await).unwrap()
    }

    async fn bytes(&self, id: BlobId, range: Range<u64>) -> Vec<u8> {
        let pieces: Vec<Bytes> = self.blobs.read(id, range).await.unwrap().try_collect().await.unwrap();
        pieces.concat()
    }

    async fn put(&self, id: BlobId, name: &str, text: &str) -> Result<u64, BlobError> {
        self.blobs.put_block(id, block(name), chunks(&[text]), ANY).await
    }

    async fn commit(&self, id: BlobId, names: &[&str]) -> Result<u64, BlobError> {
        self.blobs.commit_blocks(id, names.iter().map(|name| block(name)).collect(), ANY).await
    }

    /// The names of the files of a blob, in order.
    fn files(&self, id: BlobId) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.place(id).directory()) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn block(name: &str) -> BlockName {
    BlockName::new(name).unwrap()
}

fn chunks(texts: &[&str]) -> Chunks {
    let texts: Vec<_> = texts.iter().map(|text| Ok(Bytes::from((*text).to_owned()))).collect();
    stream::iter(texts).boxed()
}

fn broken_off(text: &str) -> Chunks {
    let ending = stream::iter([Ok(Bytes::from(text.to_owned())), Err(io::Error::other("gone"))]);
    ending.boxed()
}

promises! {
    a_new_blob_is_empty_and_open,
    a_blob_that_is_not_there_is_named_by_every_step,
    a_sealed_blob_is_not_changed_by_any_step,
    a_write_that_is_under_way_when_the_blob_is_sealed_changes_nothing,
    appends_are_like_those_of_a_log,
    parts_are_written_in_any_order,
    the_list_decides_the_order_of_the_blocks,
    a_repeated_commit_answers_the_same,
    an_upload_may_begin_anew_until_the_blob_is_sealed,
    an_upload_survives_a_crash_between_its_blocks_and_the_commit,
    a_crash_in_the_middle_of_a_commit_lets_it_be_repeated,
    an_upload_that_breaks_off_changes_nothing,
    blocks_are_limited_together,
    a_block_that_is_replaced_no_longer_counts,
    a_read_gives_a_range_in_bounded_pieces,
    a_reader_is_not_disturbed_by_a_deletion,
    all_that_is_kept_uses_space,
    blobs_that_nobody_wrote_to_are_listed_in_pages,
    names_of_clients_never_become_paths,
    files_are_for_the_owner_alone,
    many_blocks_at_once_make_one_blob,
}

async fn a_new_blob_is_empty_and_open(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    assert_ne!(bench.blobs.create().await.unwrap(), id);
    assert_eq!(bench.blobs.size(id).await, Ok(0));
    assert_eq!(bench.text(id).await, "");
    assert_eq!(bench.blobs.append(id, 0, Bytes::from("x"), ANY).await, Ok(1));
}

async fn a_blob_that_is_not_there_is_named_by_every_step(bench: Bench) {
    let id = BlobId::draw();
    let none = BlobError::NoBlob(id);
    assert_eq!(bench.blobs.append(id, 0, Bytes::from("x"), ANY).await, Err(none.clone()));
    assert_eq!(bench.blobs.write_at(id, 0, chunks(&["x"]), ANY).await, Err(none.clone()));
    assert_eq!(bench.put(id, "a", "x").await, Err(none.clone()));
    assert_eq!(bench.commit(id, &[]).await, Err(none.clone()));
    assert_eq!(bench.blobs.put_whole(id, chunks(&["x"]), ANY).await, Err(none.clone()));
    assert_eq!(bench.blobs.seal(id).await, Err(none.clone()));
    assert_eq!(bench.blobs.size(id).await, Err(none.clone()));
    assert_eq!(bench.blobs.read(id, 0..1).await.err(), Some(none));
    assert_eq!(bench.blobs.delete(id).await, Ok(false));
    assert_eq!(bench.blobs.usage().await, Ok(0));
}

async fn a_sealed_blob_is_not_changed_by_any_step(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    bench.blobs.put_whole(id, chunks(&["hello"]), ANY).await.unwrap();
    bench.put(id, "left", "over").await.unwrap();
    assert_eq!(bench.blobs.seal(id).await, Ok(5));
    let sealed = BlobError::Sealed(id);
    assert_eq!(bench.blobs.append(id, 5, Bytes::from("x"), ANY).await, Err(sealed.clone()));
    assert_eq!(bench.blobs.write_at(id, 0, chunks(&["x"]), ANY).await, Err(sealed.clone()));
    assert_eq!(bench.put(id, "a", "x").await, Err(sealed.clone()));
    assert_eq!(bench.commit(id, &[]).await, Err(sealed.clone()));
    assert_eq!(bench.blobs.put_whole(id, chunks(&["x"]), ANY).await, Err(sealed));
    assert_eq!(bench.blobs.seal(id).await, Ok(5));
    assert_eq!(bench.text(id).await, "hello");
    assert_eq!(bench.files(id), bench.sealed_files());
}

async fn a_write_that_is_under_way_when_the_blob_is_sealed_changes_nothing(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    bench.blobs.put_whole(id, chunks(&["hello"]), ANY).await.unwrap();
    let blobs = Arc::clone(&bench.blobs);
    let late = stream::once(async move {
        blobs.seal(id).await.unwrap();
        Ok(Bytes::from("late"))
    });
    assert_eq!(bench.blobs.write_at(id, 0, late.boxed(), ANY).await, Err(BlobError::Sealed(id)));
    assert_eq!(bench.text(id).await, "hello");
}

async fn appends_are_like_those_of_a_log(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    let append = |offset, text: &'static str| bench.blobs.append(id, offset, Bytes::from(text), 8);
    assert_eq!(append(0, "one ").await, Ok(4));
    assert_eq!(append(4, "two").await, Ok(7));
    assert_eq!(append(0, "one two").await, Ok(7), "a repeat changes nothing");
    assert_eq!(append(3, " two!").await, Ok(8), "an overlap adds what is new");
    assert_eq!(append(9, "x").await, Err(BlobError::Gap { wanted: 8 }));
    assert_eq!(append(8, "x").await, Err(BlobError::TooLarge { limit: 8 }));
    assert_eq!(bench.text(id).await, "one two!");
}

async fn parts_are_written_in_any_order(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    let write = |offset, text: &str| bench.blobs.write_at(id, offset, chunks(&[text]), 10);
    let (last, first, middle) = (write(6, "ghij"), write(0, "abc"), write(3, "def"));
    assert_eq!(tokio::join!(last, first, middle), (Ok(4), Ok(3), Ok(3)));
    assert_eq!(write(7, "hijk").await, Err(BlobError::TooLarge { limit: 10 }));
    assert_eq!(write(u64::MAX, "x").await, Err(BlobError::TooLarge { limit: 10 }));
    assert_eq!(write(3, "DEF").await, Ok(3), "a part may be sent again");
    assert_eq!(bench.blobs.seal(id).await, Ok(10));
    assert_eq!(bench.text(id).await, "abcDEFghij");
}

async fn the_list_decides_the_order_of_the_blocks(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    let (c, a, b) = (bench.put(id, "Yw==", "cc"), bench.put(id, "YQ==", "a"), bench.put(id, "Yg==", "bbb"));
    assert_eq!(tokio::join!(c, a, b), (Ok(2), Ok(1), Ok(3)));
    bench.put(id, "unlisted", "xxxx").await.unwrap();
    assert_eq!(bench.blobs.size(id).await, Ok(0), "nothing is committed yet");
    assert_eq!(bench.commit(id, &["YQ==", "Yg==", "Yw==", "YQ=="]).await, Ok(7));
    assert_eq!(bench.text(id).await, "abbbcca");
    assert_eq!(bench.commit(id, &["unlisted"]).await, Err(BlobError::NoBlock(block("unlisted"))), "it was dropped");
    assert_eq!(bench.blobs.seal(id).await, Ok(7));
}

async fn a_repeated_commit_answers_the_same(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    bench.put(id, "a", "aa").await.unwrap();
    bench.put(id, "b", "b").await.unwrap();
    assert_eq!(bench.commit(id, &["a", "b"]).await, Ok(3));
    assert_eq!(bench.commit(id, &["a", "b"]).await, Ok(3));
    assert_eq!(bench.commit(id, &["b", "a"]).await, Err(BlobError::NoBlock(block("b"))), "another list is no repeat");
    assert_eq!(bench.text(id).await, "aab");
}

async fn an_upload_may_begin_anew_until_the_blob_is_sealed(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    bench.put(id, "a", "old").await.unwrap();
    bench.commit(id, &["a"]).await.unwrap();
    bench.put(id, "a", "replaced").await.unwrap();
    bench.put(id, "a", "new one").await.unwrap();
    assert_eq!(bench.text(id).await, "old");
    assert_eq!(bench.commit(id, &["a"]).await, Ok(7));
    assert_eq!(bench.text(id).await, "new one");
    bench.put(id, "b", "x").await.unwrap();
    assert_eq!(bench.blobs.put_whole(id, chunks(&["who", "", "le"]), 5).await, Ok(5));
    assert_eq!(bench.text(id).await, "whole");
    assert_eq!(bench.commit(id, &["b"]).await, Err(BlobError::NoBlock(block("b"))));
    assert_eq!(bench.commit(id, &["a"]).await, Err(BlobError::NoBlock(block("a"))), "that list is forgotten");
    assert_eq!(bench.commit(id, &[]).await, Ok(0), "a list may be empty");
}

async fn an_upload_survives_a_crash_between_its_blocks_and_the_commit(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    bench.put(id, "b", "world").await.unwrap();
    // A block that was being written when the service died.
    std::fs::write(bench.place(id).directory().join("new-0"), "half").unwrap();
    let bench = bench.restarted().await;
    bench.put(id, "a", "hello ").await.unwrap();
    let bench = bench.restarted().await;
    assert_eq!(bench.commit(id, &["a", "b"]).await, Ok(11));
    let bench = bench.restarted().await;
    assert_eq!(bench.commit(id, &["a", "b"]).await, Ok(11), "its answer may have been lost");
    assert_eq!(bench.text(id).await, "hello world");
    assert_eq!(bench.blobs.seal(id).await, Ok(11));
    assert_eq!(bench.files(id), bench.sealed_files(), "what was left is cleared up");
}

async fn a_crash_in_the_middle_of_a_commit_lets_it_be_repeated(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    bench.put(id, "a", "aa").await.unwrap();
    bench.put(id, "b", "b").await.unwrap();
    bench.commit(id, &["a", "b"]).await.unwrap();
    // The content was in its place, the list was not, and the blocks were there still.
    let directory = bench.place(id).directory().to_owned();
    std::fs::remove_file(directory.join("list")).unwrap();
    bench.put(id, "a", "aa").await.unwrap();
    bench.put(id, "b", "b").await.unwrap();
    let bench = bench.restarted().await;
    assert_eq!(bench.commit(id, &["a", "b"]).await, Ok(3));
    // The list was in its place, and one of the blocks was gone.
    bench.put(id, "b", "b").await.unwrap();
    let bench = bench.restarted().await;
    assert_eq!(bench.commit(id, &["a", "b"]).await, Ok(3));
    assert_eq!(bench.text(id).await, "aab");
}

async fn an_upload_that_breaks_off_changes_nothing(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    bench.blobs.put_whole(id, chunks(&["before"]), ANY).await.unwrap();
    bench.put(id, "a", "block").await.unwrap();
    let broken = Err(BlobError::BrokenOff("gone".to_owned()));
    assert_eq!(bench.blobs.put_block(id, block("a"), broken_off("xx"), ANY).await, broken);
    assert_eq!(bench.blobs.put_block(id, block("b"), broken_off("xx"), ANY).await, broken);
    assert_eq!(bench.blobs.put_whole(id, broken_off("xx"), ANY).await, broken);
    // The client hangs up while the upload stalls.
    let stalled = stream::iter([Ok(Bytes::from("x"))]).chain(stream::pending());
    let upload = bench.blobs.put_block(id, block("c"), stalled.boxed(), ANY);
    let begun = async {
        while bench.files(id).len() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        ended = upload => panic!("the upload ended: {ended:?}"),
        begun = tokio::time::timeout(Duration::from_mins(1), begun) => begun.unwrap(),
    }
    assert_eq!(bench.text(id).await, "before");
    assert_eq!(bench.files(id), ["blocks", "open"]);
    assert_eq!(bench.blobs.usage().await, Ok(11));
    assert_eq!(bench.commit(id, &["a"]).await, Ok(5));
}

async fn blocks_are_limited_together(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    let put = |name: &str, text: &str| bench.blobs.put_block(id, block(name), chunks(&[text]), 10);
    let too_large = Err(BlobError::TooLarge { limit: 10 });
    assert_eq!(put("a", "12345").await, Ok(5));
    assert_eq!(put("b", "123456").await, too_large);
    assert_eq!(put("b", "12345").await, Ok(5), "what was refused does not count");
    assert_eq!(put("c", "1").await, too_large);
    let bench = bench.restarted().await;
    let put = |name: &str, text: &str| bench.blobs.put_block(id, block(name), chunks(&[text]), 10);
    assert_eq!(put("c", "1").await, too_large, "what was there before counts");
    assert_eq!(bench.blobs.commit_blocks(id, vec![block("a"); 3], 10).await, too_large);
    assert_eq!(bench.blobs.commit_blocks(id, vec![block("a")], 10).await, Ok(5));
    assert_eq!(put("c", "1234567890").await, Ok(10), "after a commit there is room again");
    assert_eq!(bench.blobs.put_whole(id, chunks(&["12345", "123456"]), 10).await, too_large);
    assert_eq!(bench.text(id).await, "12345");
}

async fn a_block_that_is_replaced_no_longer_counts(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    for _ in 0..5 {
        assert_eq!(bench.blobs.put_block(id, block("a"), chunks(&["12345"]), 10).await, Ok(5));
    }
    assert_eq!(bench.blobs.put_block(id, block("b"), chunks(&["12345"]), 10).await, Ok(5));
}

async fn a_read_gives_a_range_in_bounded_pieces(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    let all: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    // One large chunk, and the rest in crumbs.
    let (head, tail) = all.split_at(900_000);
    let parts: Vec<_> =
        [head].into_iter().chain(tail.chunks(1000)).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
    assert_eq!(bench.blobs.put_whole(id, stream::iter(parts).boxed(), ANY).await, Ok(1_200_000));
    bench.blobs.seal(id).await.unwrap();
    let pieces: Vec<Bytes> = bench.blobs.read(id, 0..ANY).await.unwrap().try_collect().await.unwrap();
    assert!(pieces.iter().all(|piece| piece.len() <= 256 << 10), "{}", pieces.len());
    assert!(pieces.concat() == all);
    assert!(bench.bytes(id, 123..700_001).await == all[123..700_001]);
    assert!(bench.bytes(id, 1_199_999..ANY).await == all[1_199_999..]);
    assert_eq!(bench.bytes(id, 1_200_000..ANY).await, [0_u8; 0]);
    assert_eq!(bench.bytes(id, 5..5).await, [0_u8; 0]);
}

async fn a_reader_is_not_disturbed_by_a_deletion(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    bench.blobs.put_whole(id, chunks(&["hello"]), ANY).await.unwrap();
    let chunks = bench.blobs.read(id, 1..4).await.unwrap();
    assert_eq!(bench.blobs.delete(id).await, Ok(true));
    assert_eq!(bench.blobs.delete(id).await, Ok(false));
    assert_eq!(chunks.try_collect::<Vec<_>>().await.unwrap(), ["ell"]);
    assert_eq!(bench.blobs.size(id).await, Err(BlobError::NoBlob(id)));
}

async fn all_that_is_kept_uses_space(bench: Bench) {
    let (one, two) = (bench.blobs.create().await.unwrap(), bench.blobs.create().await.unwrap());
    bench.blobs.put_whole(one, chunks(&["12345"]), ANY).await.unwrap();
    bench.put(two, "a", "123").await.unwrap();
    assert_eq!(bench.blobs.usage().await, Ok(8));
    bench.blobs.seal(two).await.unwrap();
    assert_eq!(bench.blobs.usage().await, Ok(5));
    bench.blobs.delete(one).await.unwrap();
    assert_eq!(bench.blobs.usage().await, Ok(0));
}

async fn blobs_that_nobody_wrote_to_are_listed_in_pages(bench: Bench) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(bench.blobs.create().await.unwrap());
    }
    ids.sort();
    let old = std::time::UNIX_EPOCH + Duration::from_secs(1000);
    let age = |path: &Path| std::fs::File::open(path).unwrap().set_modified(old).unwrap();
    ids.iter().for_each(|id| age(bench.place(*id).directory()));
    std::fs::write(bench.root().join("stray"), "of somebody").unwrap();
    // One is written to though its directory has not changed, one was so long ago.
    for id in [ids[1], ids[3]] {
        bench.blobs.append(id, 0, Bytes::from("x"), ANY).await.unwrap();
        age(bench.place(id).directory());
    }
    age(&bench.place(ids[3]).directory().join("open"));
    let list =
        |before, after, limit| bench.blobs.untouched_since(Timestamp::from_second(before).unwrap(), after, limit);
    assert_eq!(list(1000, None, 10).await, Ok(vec![]));
    let untouched = vec![ids[0], ids[2], ids[3], ids[4]];
    assert_eq!(list(1001, None, 10).await, Ok(untouched));
    assert_eq!(list(1001, None, 2).await, Ok(vec![ids[0], ids[2]]));
    assert_eq!(list(1001, Some(ids[2]), 2).await, Ok(vec![ids[3], ids[4]]));
    assert_eq!(list(1001, Some(ids[4]), 2).await, Ok(vec![]));
}

async fn names_of_clients_never_become_paths(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    let names = ["../../escape", "/etc/passwd", "..", ".", "a/b", "\0", "\u{e4}\u{1f600}", "A", "a"];
    for name in names {
        assert_eq!(bench.put(id, name, name).await, Ok(name.len() as u64));
    }
    assert_eq!(bench.commit(id, &names).await, Ok(names.concat().len() as u64));
    assert_eq!(bench.text(id).await, names.concat());
    assert_eq!(bench.files(id), ["list", "open"]);
    assert_eq!(std::fs::read_dir(bench.directory.path()).unwrap().count(), 1);
    assert!(BlockName::new("").is_err() && BlockName::new("x".repeat(97)).is_err());
    assert_eq!(bench.put(id, &"x".repeat(96), "x").await, Ok(1));
}

#[test]
fn a_name_of_a_blob_has_one_spelling() {
    let id = BlobId::draw();
    let text = id.to_string();
    assert_eq!((text.len(), text.parse()), (32, Ok(id)));
    let hyphenated = format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]);
    for other in [hyphenated, format!("{{{text}}}"), text[1..].to_owned(), "../..".to_owned(), String::new()] {
        assert!(other.parse::<BlobId>().is_err(), "{other}");
    }
    assert!("ABCDEFABCDEFABCDEFABCDEFABCDEFAB".parse::<BlobId>().is_err());
}

async fn files_are_for_the_owner_alone(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    bench.put(id, "a", "x").await.unwrap();
    bench.commit(id, &["a"]).await.unwrap();
    bench.put(id, "a", "x").await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let directory = bench.place(id).directory().to_owned();
    for path in [&bench.root(), directory.parent().unwrap(), &directory, &directory.join("blocks")] {
        assert_eq!(mode(path), 0o700, "{}", path.display());
    }
    for path in [directory.join("open"), directory.join("list"), directory.join("blocks").join("61")] {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

async fn many_blocks_at_once_make_one_blob(bench: Bench) {
    let id = bench.blobs.create().await.unwrap();
    let names: Vec<String> = (0..100).map(|number| format!("block-{number}")).collect();
    let mut uploads = tokio::task::JoinSet::new();
    for name in names.iter().rev() {
        drop(uploads.spawn(bench.blobs.put_block(id, block(name), chunks(&[name.as_str(), "\n"]), 2000)));
    }
    while let Some(ended) = uploads.join_next().await {
        ended.unwrap().unwrap();
    }
    bench.blobs.commit_blocks(id, names.iter().map(|name| block(name)).collect(), 2000).await.unwrap();
    assert_eq!(bench.text(id).await, names.join("\n") + "\n");
}
