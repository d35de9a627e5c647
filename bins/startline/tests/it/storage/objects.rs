//! Artifacts in an object store, which fails, and a service that is killed meanwhile.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::*;
use crate::harness::run;
use crate::object_store::{BUCKET, Fault, KEY, ObjectStore, SECRET};

/// The flags of a service that uses the object store, but for the times.
fn flags(store: &ObjectStore, directory: &Path) -> Vec<String> {
    let credentials = directory.join("credentials");
    let text = format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n");
    std::fs::write(&credentials, text).unwrap();
    std::fs::set_permissions(&credentials, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = credentials.display().to_string();
    let flags =
        ["--blobs", &format!("s3://{BUCKET}/ci"), "--s3-endpoint", &store.url(), "--s3-credentials-file", &file];
    flags.map(str::to_owned).to_vec()
}

fn start(store: &ObjectStore, directory: &Path) -> Service {
    let flags = flags(store, directory);
    Service::start(&SHORT.iter().copied().chain(flags.iter().map(String::as_str)).collect::<Vec<_>>())
}

/// All files below, with their sizes, but for the object that says whose the prefix is.
fn files(directory: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if !path.ends_with("startline-owner") {
                found.push((path, entry.metadata().unwrap().len()));
            }
        }
    }
    found
}

#[tokio::test]
async fn an_artifact_comes_into_the_object_store_through_outages_and_kills() {
    let (store, directory) = (ObjectStore::start(), tempfile::tempdir().unwrap());
    let mut service = start(&store, directory.path());
    let held = job(&service, "one").await;
    let url = create(&service, &held, "dist").await;
    let content: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(20 << 20).collect();
    assert_eq!(put(&service, &url, "", &content).await.code(), 201);

    store.fail(Some(Fault::Answer(500)));
    let refused = finalize(&service, &held, "dist", content.len()).await;
    assert_eq!((refused.code(), &refused.json()["code"]), (503, &json!("unavailable")), "{refused:?}");
    // Killed while the second part is on its way.
    store.fail(None);
    store.fail_once(Method::PUT, "partNumber=2", Fault::Silence);
    store.asked();
    let mut asked = Vec::new();
    tokio::select! {
        ended = finalize(&service, &held, "dist", content.len()) => panic!("it did not wait: {ended:?}"),
        () = eventually("the second part is sent", async || {
            asked.extend(store.asked());
            asked.iter().any(|asked| asked.contains("partNumber=2")).then_some(())
        }) => {}
    }
    service.process.crash();
    service.restart();
    assert_eq!(finalize(&service, &held, "dist", content.len()).await.code(), 200);
    assert_eq!(finalize(&service, &held, "dist", content.len()).await.code(), 200, "its answer was lost");

    let url = signed(&service, &held, "dist").await;
    let whole = get(&service, &url, &[]).await;
    assert!(whole.code() == 200 && whole.body == content, "{} bytes", whole.body.len());
    store.fail_once(Method::GET, "", Fault::CutAnswer(100_000));
    let part = get(&service, &url, &[("range", "bytes=1000-9999999")]).await;
    assert!(part.code() == 206 && part.body == content[1000..10_000_000], "{} bytes", part.body.len());
    let kept: Vec<u64> = files(&store.objects()).into_iter().map(|(_, size)| size).collect();
    assert_eq!(kept, [content.len() as u64]);
    assert_eq!(files(&service.data.path().join("blobs")), [], "nothing is here any more");

    let deleted = call(&service, &held, &format!("{ARTIFACTS}/DeleteArtifact"), json!({"name": "dist"})).await;
    assert_eq!(deleted.code(), 200, "{deleted:?}");
    assert_eq!(files(&store.objects()), []);
}

#[tokio::test]
async fn a_service_that_cannot_use_its_object_store_says_what_to_do() {
    let (store, directory) = (ObjectStore::start(), tempfile::tempdir().unwrap());
    let refused = |flags: &[String]| {
        let data = directory.path().join("data").display().to_string();
        let mut all = vec!["server", "--listen", "127.0.0.1:0", "--data-dir", &data];
        all.extend(flags.iter().map(String::as_str));
        let said = run(&all);
        assert!(!matches!(said.code, Some(0) | None), "{said:?}");
        said.err
    };
    let good = flags(&store, directory.path());
    let said = refused(&good[..4]);
    assert!(said.contains("--s3-credentials-file") && said.contains("AWS_ACCESS_KEY_ID"), "{said}");
    let mut none = good.clone();
    none[1] = "s3://none/ci".to_owned();
    let said = refused(&none);
    assert!(said.contains("the bucket `none`") && said.contains(&store.url()), "{said}");
    std::fs::write(&good[5], "aws_access_key_id = startline\naws_secret_access_key = wrong\n").unwrap();
    let said = refused(&good);
    assert!(said.contains("SignatureDoesNotMatch") && !said.contains("wrong\n"), "{said}");
}
