//! What the blobs in an object store promise beyond, and what they do when it fails.

use std::path::{Path, PathBuf};

use http::Method;

use super::object_store::{BUCKET, Fault, KEY, ObjectStore, SECRET};
use super::*;
use crate::blobs::s3::{Credentials, OpenError, Options, Provider, S3};

/// The least that a part may have.
const PART: usize = 5 << 20;

/// An object store, and how a service speaks to it.
pub(super) struct Remote {
    pub(super) store: ObjectStore,
    state: tempfile::TempDir,
}

impl Remote {
    pub(super) fn start() -> Self {
        Self { store: ObjectStore::start(), state: tempfile::tempdir().unwrap() }
    }

    fn options(&self) -> Options {
        let credentials =
            Credentials { access_key_id: KEY.to_owned(), secret_access_key: SECRET.to_owned(), session_token: None };
        let provider = Provider(Arc::new(move || Ok(credentials.clone())));
        let owner = self.state.path().join("owner");
        Options {
            prefix: "ci/blobs".to_owned(),
            part_size: PART as u64,
            patience: Duration::from_secs(20),
            retries: 2,
            retry_delay: Duration::from_millis(1),
            ..Options::new(self.store.url(), "eu-test-1".to_owned(), BUCKET.to_owned(), provider, owner)
        }
    }

    pub(super) async fn open(&self, root: &Path) -> Result<S3, OpenError> {
        S3::open(root, &self.options()).await
    }

    fn object(&self, id: BlobId) -> PathBuf {
        self.store.objects().join("ci/blobs").join(id.to_string())
    }

    /// How many parts were put since the last look, and how many uploads were begun.
    fn parts(&self) -> (usize, usize) {
        let asked = self.store.asked();
        let count = |part: &str| asked.iter().filter(|asked| asked.contains(part)).count();
        (count("partNumber="), count("uploads="))
    }
}

impl Bench {
    fn remote(&self) -> &Remote {
        self.remote.as_ref().unwrap()
    }

    /// An open blob with this content.
    async fn filled(&self, content: &[u8]) -> BlobId {
        let id = self.blobs.create().await.unwrap();
        let pieces: Vec<_> = content.chunks(1 << 20).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        self.blobs.put_whole(id, stream::iter(pieces).boxed(), ANY).await.unwrap();
        id
    }

    async fn s3() -> Self {
        bench(Kind::S3).await
    }
}

/// Three parts, the last one short, of bytes that differ.
fn large() -> Vec<u8> {
    (0_u32..).flat_map(u32::to_le_bytes).take(2 * PART + 12_345).collect()
}

fn is_remote(error: &BlobError) -> bool {
    matches!(error, BlobError::Remote { .. }) && error.to_string().contains("it may be tried again")
}

#[tokio::test]
async fn sealed_content_is_in_the_object_store_and_no_longer_here() {
    let bench = Bench::s3().await;
    let id = bench.filled(b"hello").await;
    assert!(!bench.remote().object(id).exists());
    assert_eq!(bench.blobs.seal(id).await, Ok(5));
    assert_eq!(std::fs::read(bench.remote().object(id)).unwrap(), b"hello");
    assert!(!bench.place(id).directory().exists());
    let shard = bench.place(id).directory().parent().unwrap().to_owned();
    assert_eq!(std::fs::read_dir(shard).unwrap().count(), 0, "nothing of it is left");
    assert_eq!((bench.blobs.size(id).await, bench.blobs.usage().await), (Ok(5), Ok(5)));
    let bench = bench.restarted().await;
    assert_eq!(bench.text(id).await, "hello");
    assert_eq!(bench.blobs.delete(id).await, Ok(true));
    assert!(!bench.remote().object(id).exists());
}

#[tokio::test]
async fn large_content_goes_in_parts_and_is_read_in_ranges() {
    let bench = Bench::s3().await;
    let content = large();
    let id = bench.filled(&content).await;
    assert_eq!(bench.blobs.seal(id).await, Ok(content.len() as u64));
    assert_eq!(bench.remote().parts(), (3, 1));
    let pieces: Vec<Bytes> = bench.blobs.read(id, 0..ANY).await.unwrap().try_collect().await.unwrap();
    assert!(pieces.iter().all(|piece| piece.len() <= 256 << 10), "{}", pieces.len());
    assert!(pieces.concat() == content);
    let (start, end) = (PART - 3, 2 * PART + 7);
    assert!(bench.bytes(id, start as u64..end as u64).await == content[start..end]);
    assert_eq!(bench.blobs.seal(id).await, Ok(content.len() as u64));
    assert_eq!(bench.remote().parts(), (0, 0), "a repeat uploads nothing");
}

#[tokio::test]
async fn faults_that_pass_are_not_seen() {
    let bench = Bench::s3().await;
    let content = large();
    for fault in
        [Fault::Answer(500), Fault::Answer(503), Fault::CutRequest(2 << 20), Fault::CutRequest(0), Fault::LostAnswer]
    {
        let id = bench.filled(&content).await;
        bench.remote().store.fail_once(Method::PUT, "partNumber=2", fault);
        bench.remote().store.fail_once(Method::POST, "uploads=", fault);
        bench.remote().store.fail_once(Method::POST, "uploadId=", fault);
        assert_eq!(bench.blobs.seal(id).await, Ok(content.len() as u64), "{fault:?}");
        assert!(std::fs::read(bench.remote().object(id)).unwrap() == content, "{fault:?}");
        let id = bench.filled(b"short").await;
        bench.remote().store.fail_once(Method::PUT, "", fault);
        assert_eq!(bench.blobs.seal(id).await, Ok(5), "{fault:?}");
        bench.remote().store.fail_once(Method::HEAD, "", fault);
        assert_eq!(bench.blobs.size(id).await, Ok(5), "{fault:?}");
        bench.remote().store.fail_once(Method::GET, "list-type=2", fault);
        assert!(bench.blobs.usage().await.unwrap() > 5, "{fault:?}");
        bench.remote().store.fail_once(Method::DELETE, "", fault);
        assert_eq!(bench.blobs.delete(id).await, Ok(true), "{fault:?}");
    }
}

#[tokio::test]
async fn a_read_goes_on_where_it_was_cut() {
    let bench = Bench::s3().await;
    let content = large();
    let id = bench.filled(&content).await;
    bench.blobs.seal(id).await.unwrap();
    for fault in [Fault::Answer(503), Fault::CutAnswer(0), Fault::CutAnswer(1), Fault::CutAnswer(PART)] {
        bench.remote().store.fail_once(Method::GET, "", fault);
        bench.remote().store.fail_once(Method::GET, "", Fault::CutAnswer(77_777));
        assert!(bench.bytes(id, 1000..ANY).await == content[1000..], "{fault:?}");
    }
}

#[tokio::test]
async fn a_read_that_is_cut_again_and_again_ends_in_an_error() {
    let bench = Bench::s3().await;
    let id = bench.filled(&large()).await;
    bench.blobs.seal(id).await.unwrap();
    bench.remote().store.fail_once(Method::GET, "", Fault::CutAnswer(1 << 20));
    let chunks = bench.blobs.read(id, 0..ANY).await.unwrap();
    bench.remote().store.fail(Some(Fault::Answer(500)));
    let error = chunks.try_collect::<Vec<_>>().await.unwrap_err().to_string();
    assert!(error.contains(&id.to_string()), "{error}");
}

#[tokio::test]
async fn an_outage_makes_sealing_fail_and_loses_nothing() {
    let bench = Bench::s3().await;
    let content = large();
    for fault in [Fault::Answer(500), Fault::CutRequest(1 << 20), Fault::LostAnswer] {
        let (short, long) = (bench.filled(b"hello").await, bench.filled(&content).await);
        bench.remote().store.fail(Some(fault));
        for id in [short, long] {
            let error = bench.blobs.seal(id).await.unwrap_err();
            assert!(is_remote(&error), "{fault:?}: {error}");
        }
        assert_eq!(bench.text(short).await, "hello", "it can be read meanwhile");
        assert_eq!(bench.blobs.append(short, 5, Bytes::from("x"), ANY).await, Err(BlobError::Sealed(short)));
        bench.remote().store.fail(None);
        assert_eq!(bench.blobs.seal(short).await, Ok(5), "{fault:?}");
        assert_eq!(bench.blobs.seal(long).await, Ok(content.len() as u64), "{fault:?}");
        assert_eq!(bench.text(short).await, "hello");
        assert!(bench.bytes(long, 0..ANY).await == content);
    }
}

#[tokio::test]
async fn an_object_store_that_is_silent_is_given_up() {
    let remote = Remote::start();
    let directory = tempfile::tempdir().unwrap();
    let options = Options { patience: Duration::from_millis(200), retries: 1, ..remote.options() };
    let blobs = S3::open(directory.path(), &options).await.unwrap();
    let id = blobs.create().await.unwrap();
    blobs.put_whole(id, chunks(&["hello"]), ANY).await.unwrap();
    remote.store.fail(Some(Fault::Silence));
    let error = blobs.seal(id).await.unwrap_err();
    assert!(is_remote(&error) && error.to_string().contains("silent"), "{error}");
    assert!(is_remote(&blobs.size(BlobId::draw()).await.unwrap_err()), "absent is not the same as unknown");
    // On a busy machine silence is easily mistaken.
    let options = Options { patience: Duration::from_secs(20), ..options };
    remote.store.fail(None);
    assert_eq!(S3::open(directory.path(), &options).await.unwrap().seal(id).await, Ok(5));
}

#[tokio::test]
async fn an_upload_goes_on_after_a_crash_with_the_parts_that_are_missing() {
    let bench = Bench::s3().await;
    let content = large();
    let id = bench.filled(&content).await;
    for _ in 0..3 {
        bench.remote().store.fail_once(Method::PUT, "partNumber=3", Fault::Answer(503));
    }
    assert!(is_remote(&bench.blobs.seal(id).await.unwrap_err()));
    assert_eq!(bench.remote().parts(), (5, 1));
    let bench = bench.restarted().await;
    assert_eq!(bench.blobs.seal(id).await, Ok(content.len() as u64));
    assert_eq!(bench.remote().parts(), (1, 0), "the others were there");
    assert!(bench.bytes(id, 0..ANY).await == content);
}

#[tokio::test]
async fn a_crash_between_the_upload_and_the_local_mark_is_harmless() {
    let bench = Bench::s3().await;
    let content = large();
    for content in [&b"hello"[..], &content] {
        let id = bench.filled(content).await;
        let kept = bench.directory.path().join("kept");
        let directory = bench.place(id).directory().to_owned();
        // What is here after the content was sealed, and before it was dropped.
        let local = Directory::open(&bench.root()).unwrap();
        local.seal(id).await.unwrap();
        std::fs::create_dir(&kept).unwrap();
        std::fs::copy(directory.join("sealed"), kept.join("sealed")).unwrap();
        assert_eq!(bench.blobs.seal(id).await, Ok(content.len() as u64));
        std::fs::rename(&kept, &directory).unwrap();
        bench.remote().parts();
        assert!(bench.bytes(id, 0..ANY).await == *content);
        assert_eq!(bench.blobs.seal(id).await, Ok(content.len() as u64));
        assert_eq!(bench.remote().parts(), (0, 0), "it is there");
        assert!(!directory.exists());
        assert!(bench.bytes(id, 0..ANY).await == *content);
    }
}

#[tokio::test]
async fn an_upload_that_the_object_store_has_forgotten_begins_anew() {
    let bench = Bench::s3().await;
    let content = large();
    let id = bench.filled(&content).await;
    let local = Directory::open(&bench.root()).unwrap();
    local.seal(id).await.unwrap();
    let note = format!("{PART} 00000000-0000-4000-8000-000000000000\n\"tag\"\n");
    std::fs::write(bench.place(id).directory().join("upload"), note).unwrap();
    assert_eq!(bench.blobs.seal(id).await, Ok(content.len() as u64));
    assert!(bench.bytes(id, 0..ANY).await == content);
}

#[tokio::test]
async fn a_deletion_gives_the_upload_up() {
    let bench = Bench::s3().await;
    let id = bench.filled(&large()).await;
    bench.remote().store.fail_once(Method::PUT, "partNumber=2", Fault::Answer(403));
    assert!(is_remote(&bench.blobs.seal(id).await.unwrap_err()));
    bench.remote().store.asked();
    assert_eq!(bench.blobs.delete(id).await, Ok(true));
    let asked = bench.remote().store.asked();
    assert!(asked.iter().any(|asked| asked.starts_with("DELETE ") && asked.contains("uploadId=")), "{asked:?}");
    assert_eq!((bench.blobs.delete(id).await, bench.blobs.usage().await), (Ok(false), Ok(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_seal_at_once_share_one_upload_which_ends_without_them() {
    let bench = Bench::s3().await;
    let content = large();
    let id = bench.filled(&content).await;
    // Whoever began has gone before the upload was over.
    let began = bench.blobs.seal(id);
    assert!(
        tokio::time::timeout(Duration::from_millis(1), began).await.is_err() || !bench.place(id).directory().exists()
    );
    let (one, two) = tokio::join!(bench.blobs.seal(id), bench.blobs.seal(id));
    assert_eq!((one, two), (Ok(content.len() as u64), Ok(content.len() as u64)));
    assert_eq!(bench.remote().parts(), (3, 1));
}

#[tokio::test]
async fn abandoned_blobs_are_listed_from_both_places() {
    let bench = Bench::s3().await;
    let (open, sealed, young) =
        (bench.filled(b"open").await, bench.filled(b"sealed").await, bench.filled(b"young").await);
    bench.blobs.seal(sealed).await.unwrap();
    bench.blobs.seal(young).await.unwrap();
    std::fs::write(bench.remote().store.objects().join("ci/blobs/stray"), "of somebody").unwrap();
    let old = std::time::UNIX_EPOCH + Duration::from_secs(1000);
    let age = |path: &Path| std::fs::File::open(path).unwrap().set_modified(old).unwrap();
    age(&bench.remote().object(sealed));
    age(&bench.place(open).directory().join("open"));
    age(bench.place(open).directory());
    let list = |after, limit| bench.blobs.untouched_since(Timestamp::from_second(2000).unwrap(), after, limit);
    let mut all = [open, sealed];
    all.sort();
    assert_eq!(list(None, 10).await, Ok(all.to_vec()));
    assert_eq!(list(None, 1).await, Ok(vec![all[0]]));
    assert_eq!(list(Some(all[0]), 10).await, Ok(vec![all[1]]));
    assert_eq!(list(Some(all[1]), 10).await, Ok(vec![]));
}

#[tokio::test]
async fn what_was_sealed_before_there_was_an_object_store_stays_readable() {
    let remote = Remote::start();
    let directory = tempfile::tempdir().unwrap();
    let local = Directory::open(directory.path()).unwrap();
    let id = local.create().await.unwrap();
    local.put_whole(id, chunks(&["hello"]), ANY).await.unwrap();
    local.seal(id).await.unwrap();
    let blobs = remote.open(directory.path()).await.unwrap();
    let pieces: Vec<Bytes> = blobs.read(id, 0..ANY).await.unwrap().try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"hello");
    assert_eq!((blobs.delete(id).await, blobs.size(id).await), (Ok(true), Err(BlobError::NoBlob(id))));
}

#[tokio::test]
async fn what_a_crash_left_of_a_dropped_copy_is_swept() {
    let bench = Bench::s3().await;
    let id = bench.filled(b"hello").await;
    bench.blobs.seal(id).await.unwrap();
    let gone = bench.place(id).directory().with_file_name(format!("gone-{id}"));
    std::fs::create_dir(&gone).unwrap();
    std::fs::write(gone.join("sealed"), "hello").unwrap();
    let bench = bench.restarted().await;
    assert!(!gone.exists());
    assert_eq!(bench.text(id).await, "hello");
}

#[tokio::test]
async fn a_prefix_belongs_to_one_service() {
    let bench = Bench::s3().await;
    let id = bench.filled(b"hello").await;
    bench.blobs.seal(id).await.unwrap();
    let other = tempfile::tempdir().unwrap();
    let owner = other.path().join("owner");
    let options = Options { owner, ..bench.remote().options() };
    let error = S3::open(other.path(), &options).await.unwrap_err().to_string();
    assert!(error.contains("ci/blobs/startline-owner") && error.contains("another service"), "{error}");
    let options = Options { prefix: "ci/others".to_owned(), ..options };
    S3::open(other.path(), &options).await.unwrap();
}

#[tokio::test]
async fn a_start_needs_no_object_store_but_names_what_will_never_work() {
    let remote = Remote::start();
    let directory = tempfile::tempdir().unwrap();
    let wrong = Provider(Arc::new(|| {
        let text = |text: &str| text.to_owned();
        Ok(Credentials { access_key_id: text(KEY), secret_access_key: text("wrong"), session_token: None })
    }));
    let error = S3::open(directory.path(), &Options { credentials: wrong, ..remote.options() }).await.unwrap_err();
    assert!(error.to_string().contains("SignatureDoesNotMatch"), "{error}");
    let options = Options { bucket: "none".to_owned(), ..remote.options() };
    let error = S3::open(directory.path(), &options).await.unwrap_err();
    assert!(error.to_string().contains("the bucket `none`"), "{error}");
    remote.store.fail(Some(Fault::Answer(503)));
    let blobs = remote.open(directory.path()).await.unwrap();
    let id = blobs.create().await.unwrap();
    assert!(is_remote(&blobs.seal(id).await.unwrap_err()));
    remote.store.fail(None);
    assert_eq!(blobs.seal(id).await, Ok(0));
    assert_eq!(blobs.read(id, 0..ANY).await.unwrap().count().await, 0, "an empty object has no range");
}
