//! Artifacts, caches and id tokens on the wire, where the official clients would not go.

#[cfg(feature = "s3")]
mod objects;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Value, json};
use startline_protocol::admin_api::GroupRequest;
use startline_protocol::runs_api::SubmitRequest;

use crate::harness::{Service, eventually};
use crate::http::{Reply, Wire};
use crate::official::client::{Held, Official, path, send};
use crate::official::{SHORT, listening};

const JOB: &str = "on: [push, pull_request]\njobs:\n  build: {runs-on: [self-hosted, linux], steps: [{run: 'true'}]}\n";

const ARTIFACTS: &str = "/twirp/github.actions.results.api.v1.ArtifactService";
const CACHES: &str = "/twirp/github.actions.results.api.v1.CacheService";

async fn job_of(service: &Service, name: &str, request: SubmitRequest) -> Held {
    let repository = Some("acme/demo".to_owned());
    let workflow = if request.workflow.is_empty() { JOB.to_owned() } else { request.workflow.clone() };
    let runner = if request.untrusted { ephemeral(service, name).await } else { listening(service, name).await };
    service.submit_with(SubmitRequest { workflow, repository, ..request }).await;
    runner.take(service).await
}

/// A runner that untrusted jobs may go to.
async fn ephemeral(service: &Service, name: &str) -> Official {
    let policy = GroupRequest { accepts_untrusted: true, ..GroupRequest::default() };
    service.client.put_group("default", None, &policy).await.unwrap();
    let body = json!({"name": name, "runner_group_id": 1, "labels": ["self-hosted", "linux"]});
    let jit = "/api/v3/orgs/acme/actions/runners/generate-jitconfig";
    let reply = send(service, Method::POST, jit, Some(&format!("token {}", service.token)), Some(&body)).await;
    let mut runner = Official::unpack(reply.json()["encoded_jit_config"].as_str().unwrap());
    runner.listen(service).await;
    runner
}

async fn job(service: &Service, name: &str) -> Held {
    job_of(service, name, SubmitRequest::default()).await
}

async fn call(service: &Service, held: &Held, method: &str, mut body: Value) -> Reply {
    if method.starts_with(ARTIFACTS) {
        body["workflow_run_backend_id"] = held.message["plan"]["planId"].clone();
        body["workflow_job_run_backend_id"] = held.message["jobId"].clone();
    }
    send(service, Method::POST, method, Some(&format!("Bearer {}", held.token)), Some(&body)).await
}

async fn put(service: &Service, url: &str, query: &str, bytes: &[u8]) -> Reply {
    let mut wire = Wire::open(&service.url).await;
    wire.send(Method::PUT, &format!("{}{query}", path(service, url)), None, &[], bytes).await
}

async fn get(service: &Service, url: &str, headers: &[(&str, &str)]) -> Reply {
    Wire::open(&service.url).await.send(Method::GET, path(service, url), None, headers, b"").await
}

/// Begins an artifact; the address of its upload.
async fn create(service: &Service, held: &Held, name: &str) -> String {
    let reply = call(service, held, &format!("{ARTIFACTS}/CreateArtifact"), json!({"name": name, "version": 4})).await;
    assert_eq!((reply.code(), &reply.json()["ok"]), (200, &json!(true)), "{reply:?}");
    reply.json()["signed_upload_url"].as_str().unwrap().to_owned()
}

async fn finalize(service: &Service, held: &Held, name: &str, size: usize) -> Reply {
    call(service, held, &format!("{ARTIFACTS}/FinalizeArtifact"), json!({"name": name, "size": size.to_string()})).await
}

async fn artifact(service: &Service, held: &Held, name: &str, bytes: &[u8]) -> String {
    let url = create(service, held, name).await;
    assert_eq!(put(service, &url, "", bytes).await.code(), 201);
    let reply = finalize(service, held, name, bytes.len()).await;
    assert_eq!(reply.code(), 200, "{reply:?}");
    reply.json()["artifact_id"].as_str().expect("64-bit numbers are text").to_owned()
}

async fn signed(service: &Service, held: &Held, name: &str) -> String {
    let reply = call(service, held, &format!("{ARTIFACTS}/GetSignedArtifactURL"), json!({"name": name})).await;
    reply.json()["signed_url"].as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned()
}

#[tokio::test]
async fn blocks_come_in_any_order_are_answered_201_and_the_list_decides() {
    let mut service = Service::start(&SHORT);
    let held = job(&service, "one").await;
    let url = create(&service, &held, "dist").await;
    assert!(url.contains("?se=") && url.contains("&sig="), "{url}");
    for (id, bytes) in [("Yw==", "third"), ("YQ==", "first"), ("Yg==", "second "), ("eA==", "unused")] {
        let reply =
            put(&service, &url, &format!("&comp=block&blockid={}", id.replace('=', "%3D")), bytes.as_bytes()).await;
        assert_eq!(reply.code(), 201, "{reply:?}");
        assert!(reply.body.is_empty());
    }
    service.process.crash();
    service.restart();
    let list = |names: &str| format!("<?xml version=\"1.0\"?><BlockList>{names}</BlockList>");
    let unknown = put(&service, &url, "&comp=blocklist", list("<Latest>bm9uZQ==</Latest>").as_bytes()).await;
    assert_eq!(unknown.code(), 400, "{unknown:?}");
    let names = "<Latest>YQ==</Latest><Latest>Yg==</Latest><Latest>Yw==</Latest>";
    assert_eq!(put(&service, &url, "&comp=blocklist", list(names).as_bytes()).await.code(), 201);
    let short = finalize(&service, &held, "dist", 3).await;
    assert_eq!((short.code(), &short.json()["code"]), (400, &json!("invalid_argument")), "{short:?}");
    assert_eq!(finalize(&service, &held, "dist", 17).await.code(), 200);
    assert_eq!(finalize(&service, &held, "dist", 17).await.code(), 200, "its answer was lost");
    assert_eq!(put(&service, &url, "", b"late").await.code(), 409, "what is final stays as it is");

    let url = signed(&service, &held, "dist").await;
    let whole = get(&service, &url, &[]).await;
    assert_eq!((whole.code(), whole.text().as_str()), (200, "firstsecond third"));
    assert_eq!(whole.headers["content-length"], "17");
    assert_eq!(whole.headers["content-type"], "application/zip");
    assert!(whole.headers["content-disposition"].to_str().unwrap().contains("filename=\"dist.zip\""));
    let part = get(&service, &url, &[("range", "bytes=5-10")]).await;
    assert_eq!((part.code(), part.text().as_str()), (206, "second"));
    assert_eq!(part.headers["content-range"], "bytes 5-10/17");
    assert_eq!(get(&service, &url, &[("range", "bytes=17-")]).await.code(), 416);
}

#[tokio::test]
async fn an_address_opens_one_blob_for_one_purpose() {
    let service = Service::start(&SHORT);
    let held = job(&service, "one").await;
    let one = create(&service, &held, "one").await;
    let two = create(&service, &held, "two").await;
    let query = |url: &str| url.split_once('?').unwrap().1.to_owned();
    let mixed = format!("{}?{}", two.split_once('?').unwrap().0, query(&one));
    assert_eq!(put(&service, &mixed, "", b"x").await.code(), 403);
    assert_eq!(put(&service, two.split_once('?').unwrap().0, "", b"x").await.code(), 403);
    assert_eq!(get(&service, &two, &[]).await.code(), 403, "who may write may not read");
    artifact(&service, &held, "three", b"x").await;
    let read = signed(&service, &held, "three").await;
    assert_eq!(put(&service, &read, "", b"y").await.code(), 403, "who may read may not write");
    assert_eq!(get(&service, &read, &[]).await.text(), "x");
}

#[tokio::test]
async fn artifacts_belong_to_the_run_and_a_bearer_ends_with_its_job() {
    let service = Service::start(&SHORT);
    let (held, other) = (job(&service, "one").await, job(&service, "two").await);
    let first = artifact(&service, &held, "dist", b"1").await;
    artifact(&service, &held, "docs", b"22").await;
    let again =
        call(&service, &held, &format!("{ARTIFACTS}/CreateArtifact"), json!({"name": "dist", "version": 7})).await;
    assert_eq!((again.code(), &again.json()["code"]), (409, &json!("already_exists")), "{again:?}");
    let old = call(&service, &held, &format!("{ARTIFACTS}/CreateArtifact"), json!({"name": "x", "version": 3})).await;
    assert_eq!(old.json()["code"], "invalid_argument");

    let list = call(&service, &held, &format!("{ARTIFACTS}/ListArtifacts"), json!({})).await.json();
    let names: Vec<&str> = list["artifacts"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["docs", "dist"], "newest first");
    assert_eq!((&list["artifacts"][1]["database_id"], &list["artifacts"][0]["size"]), (&json!(first), &json!("2")));
    let found = call(&service, &held, &format!("{ARTIFACTS}/ListArtifacts"), json!({"idFilter": first})).await.json();
    assert_eq!(found["artifacts"].as_array().unwrap().len(), 1);
    let none = call(&service, &other, &format!("{ARTIFACTS}/ListArtifacts"), json!({})).await.json();
    assert_eq!(none["artifacts"], json!([]));
    let foreign = json!({"workflow_run_backend_id": held.message["plan"]["planId"], "name": "dist"});
    let bearer = format!("Bearer {}", other.token);
    let method = format!("{ARTIFACTS}/GetSignedArtifactURL");
    let refused = send(&service, Method::POST, &method, Some(&bearer), Some(&foreign)).await;
    assert_eq!((refused.code(), &refused.json()["code"]), (404, &json!("not_found")), "{refused:?}");

    let gone = call(&service, &held, &format!("{ARTIFACTS}/DeleteArtifact"), json!({"name": "dist"})).await;
    assert_eq!(gone.json(), json!({"ok": true, "artifact_id": first}));
    assert_eq!(held.complete(&service, "succeeded", json!({})).await.code(), 204);
    let over = call(&service, &held, &format!("{ARTIFACTS}/ListArtifacts"), json!({})).await;
    assert_eq!((over.code(), &over.json()["code"]), (401, &json!("unauthenticated")), "{over:?}");
}

#[tokio::test]
async fn a_repository_has_only_so_much_room() {
    let service = Service::start(&[SHORT[0], SHORT[1], "--artifact-quota", "10B", "--cache-quota", "10B"]);
    let held = job(&service, "one").await;
    artifact(&service, &held, "five", b"12345").await;
    let url = create(&service, &held, "six").await;
    assert_eq!(put(&service, &url, "&comp=block&blockid=YQ%3D%3D", b"1234").await.code(), 201);
    let over = put(&service, &url, "&comp=block&blockid=Yg%3D%3D", b"12").await;
    assert_eq!(over.code(), 413, "{over:?}");
    assert!(over.text().contains("acme/demo"), "{over:?}");
    let reply = call(&service, &held, &format!("{ARTIFACTS}/DeleteArtifact"), json!({"name": "five"})).await;
    assert_eq!(reply.code(), 200);
    assert_eq!(put(&service, &url, "&comp=block&blockid=Yg%3D%3D", b"12").await.code(), 201, "there is room again");

    // Caches give way to each other.
    for key in ["a", "b", "c"] {
        save(&service, &held, key, b"1234").await;
    }
    assert_eq!(restore(&service, &held, "a", &[]).await, None, "it was not used for longest");
    assert_eq!(restore(&service, &held, "b", &[]).await.as_deref(), Some("b"));
    assert_eq!(restore(&service, &held, "c", &[]).await.as_deref(), Some("c"));
}

async fn save(service: &Service, held: &Held, key: &str, bytes: &[u8]) {
    let reply = call(service, held, &format!("{CACHES}/CreateCacheEntry"), json!({"key": key, "version": "v"})).await;
    let url = reply.json()["signed_upload_url"].as_str().unwrap().to_owned();
    assert_eq!(put(service, &url, "", bytes).await.code(), 201);
    let body = json!({"key": key, "version": "v", "sizeBytes": bytes.len().to_string()});
    let reply = call(service, held, &format!("{CACHES}/FinalizeCacheEntryUpload"), body).await;
    assert_eq!(reply.json()["ok"], true, "{reply:?}");
}

/// The content of what is found.
async fn restored(service: &Service, held: &Held, key: &str) -> Option<String> {
    let reply =
        call(service, held, &format!("{CACHES}/GetCacheEntryDownloadURL"), json!({"key": key, "version": "v"})).await;
    let url = reply.json()["signed_download_url"].as_str().filter(|url| !url.is_empty())?.to_owned();
    Some(get(service, &url, &[]).await.text())
}

async fn restore(service: &Service, held: &Held, key: &str, restore_keys: &[&str]) -> Option<String> {
    let body = json!({"key": key, "version": "v", "restore_keys": restore_keys});
    let reply = call(service, held, &format!("{CACHES}/GetCacheEntryDownloadURL"), body).await;
    assert_eq!(reply.code(), 200, "a miss is no error: {reply:?}");
    let reply = reply.json();
    (reply["ok"] == true).then(|| reply["matched_key"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn what_untrusted_code_caches_never_reaches_trusted_code() {
    let service = Service::start(&SHORT);
    let trusted = job(&service, "one").await;
    let request = SubmitRequest { untrusted: true, ..SubmitRequest::default() };
    let untrusted = job_of(&service, "two", request).await;
    save(&service, &trusted, "deps", b"good").await;
    assert_eq!(restored(&service, &untrusted, "deps").await.as_deref(), Some("good"));
    // The same key is free in a place of its own, and found there first.
    save(&service, &untrusted, "deps", b"evil").await;
    assert_eq!(restored(&service, &untrusted, "deps").await.as_deref(), Some("evil"));
    assert_eq!(restored(&service, &trusted, "deps").await.as_deref(), Some("good"));
    save(&service, &untrusted, "deps-2", b"evil").await;
    assert_eq!(restore(&service, &trusted, "deps-2", &["deps-"]).await, None);
}

#[tokio::test]
async fn a_branch_reads_the_default_branch_and_its_base_but_not_its_siblings() {
    let service = Service::start(&SHORT);
    let on = |git_ref: &str| SubmitRequest { git_ref: Some(git_ref.to_owned()), ..SubmitRequest::default() };
    let main = job(&service, "one").await;
    let topic = job_of(&service, "two", on("refs/heads/topic")).await;
    let event = json!({"pull_request": {"base": {"ref": "topic"}, "head": {"ref": "fix"}}});
    let request =
        SubmitRequest { event_name: Some("pull_request".to_owned()), event: Some(event), ..on("refs/pull/7/merge") };
    let pull = job_of(&service, "three", request).await;
    save(&service, &main, "of-main", b"1").await;
    save(&service, &topic, "of-topic", b"2").await;
    save(&service, &pull, "of-pull", b"3").await;
    let mut seen = Vec::new();
    for held in [&main, &topic, &pull] {
        for key in ["of-main", "of-topic", "of-pull"] {
            seen.push(restore(&service, held, key, &[]).await.is_some());
        }
    }
    assert_eq!(seen, [true, false, false, true, true, false, true, true, true]);
    assert_eq!(restore(&service, &pull, "of", &["of-"]).await.as_deref(), Some("of-pull"), "the nearest first");
}

#[tokio::test]
async fn parts_of_the_older_cache_service_come_in_any_order() {
    let service = Service::start(&SHORT);
    let held = job(&service, "one").await;
    let bearer = held.token.clone();
    let mut wire = Wire::open(&service.url).await;
    // Below the results URL, where clients look that know of no cache URL.
    let base = "/_apis/artifactcache";
    let begin = json!({"key": "deps", "version": "v", "cacheSize": 10});
    let reply = wire.post(&format!("{base}/caches"), &bearer, &begin).await;
    assert_eq!(reply.code(), 201, "{reply:?}");
    let id = reply.json()["cacheId"].as_i64().unwrap();
    assert_eq!(wire.post(&format!("{base}/caches"), &bearer, &begin).await.code(), 409);
    for (range, bytes) in [("bytes 6-9/*", "seat"), ("bytes 0-5/*", "car in")] {
        let path = format!("{base}/caches/{id}");
        let reply = wire.send(Method::PATCH, &path, Some(&bearer), &[("content-range", range)], bytes.as_bytes()).await;
        assert_eq!(reply.code(), 204, "{reply:?}");
    }
    let path = format!("{base}/caches/{id}");
    let long = wire.send(Method::PATCH, &path, Some(&bearer), &[("content-range", "bytes 0-1/*")], b"abc").await;
    assert_eq!(long.code(), 400, "{long:?}");
    assert_eq!(
        wire.send(Method::PATCH, &path, Some(&bearer), &[("content-range", "bytes 0-1/*")], b"ca").await.code(),
        204
    );
    let missed = format!("/_cache{base}/cache?keys=deps&version=v");
    assert_eq!(wire.get(&missed, &bearer).await.code(), 204, "not yet");
    assert_eq!(wire.post(&path, &bearer, &json!({"size": 10})).await.code(), 204);
    let found = wire.get(&format!("/_cache{base}/cache?keys=other%2Cde&version=v"), &bearer).await;
    assert_eq!((found.code(), &found.json()["cacheKey"]), (200, &json!("deps")), "{found:?}");
    let location = found.json()["archiveLocation"].as_str().unwrap().to_owned();
    assert_eq!(get(&service, &location, &[]).await.text(), "car inseat");
    let other = job_of(&service, "two", SubmitRequest { untrusted: true, ..SubmitRequest::default() }).await;
    let foreign = wire.send(Method::PATCH, &path, Some(&other.token), &[("content-range", "bytes 0-1/*")], b"xx").await;
    assert_eq!(foreign.code(), 404, "{foreign:?}");
}

#[tokio::test]
async fn id_tokens_are_for_trusted_jobs_that_ask_and_only_while_they_run() {
    let service = Service::start(&SHORT);
    let asking = |trusted: bool| SubmitRequest {
        workflow: JOB.replace("runs-on", "permissions: {id-token: write}, environment: Production, runs-on"),
        untrusted: !trusted,
        ..SubmitRequest::default()
    };
    let plain = job(&service, "one").await;
    let untrusted = job_of(&service, "two", asking(false)).await;
    let granted = job_of(&service, "three", asking(true)).await;
    let url = |held: &Held| held.message["resources"]["endpoints"][0]["data"]["GenerateIdTokenUrl"].clone();
    assert_eq!((url(&plain), url(&untrusted)), (Value::Null, Value::Null), "its presence alone makes workers wait");
    let url = format!("{}&audience=sts", url(&granted).as_str().unwrap());
    let mut wire = Wire::open(&service.url).await;
    for held in [&plain, &untrusted] {
        let refused = wire.get(path(&service, &url), &held.token).await;
        assert_eq!(refused.code(), 403, "{refused:?}");
    }
    let reply = wire.get(path(&service, &url), &granted.token).await;
    assert_eq!(reply.code(), 200, "{reply:?}");
    let value = reply.json()["value"].as_str().unwrap().to_owned();
    let parts: Vec<&str> = value.split('.').collect();
    let [_, claims, _] = parts[..] else { panic!("{value}") };
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!((&claims["environment"], &claims["aud"]), (&json!("Production"), &json!("sts")));
    let subject = claims["sub"].as_str().unwrap();
    assert!(subject.starts_with("repo:") && subject.ends_with(":environment:Production"), "{claims}");
    assert_eq!(granted.complete(&service, "succeeded", json!({})).await.code(), 204);
    assert_eq!(wire.get(path(&service, &url), &granted.token).await.code(), 401, "it has ended");
}

#[tokio::test]
async fn what_has_expired_is_cleared_away() {
    let service = Service::start(&[
        SHORT[0],
        SHORT[1],
        "--artifact-retention",
        "2s",
        "--cache-retention",
        "2s",
        "--housekeeping-interval",
        "1s",
    ]);
    let held = job(&service, "one").await;
    artifact(&service, &held, "dist", b"1").await;
    save(&service, &held, "deps", b"2").await;
    let blobs = service.data.path().join("blobs");
    let count = || {
        let shards = std::fs::read_dir(&blobs).unwrap().flatten();
        shards.filter_map(|shard| std::fs::read_dir(shard.path()).ok()).map(Iterator::count).sum::<usize>()
    };
    assert!(count() > 0);
    eventually("both blobs are gone", async || (count() == 0).then_some(())).await;
    assert_eq!(restore(&service, &held, "deps", &[]).await, None);
}
