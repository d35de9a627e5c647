//! Actions: compiled, resolved, downloaded and unpacked as an official runner does it, and repositories checked out by a
//! real git. Nothing beyond this machine is asked.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Held, send};
use super::{JOB, SHORT, demo, listening, path};
use crate::harness::{Said, Service};
use crate::http::{Reply, Wire};

const MANIFEST: &str = "runs: {using: composite, steps: [{run: echo hi, shell: bash}]}\n";

fn git(directory: &Path, arguments: &[&str]) -> Said {
    Command::new("git")
        .current_dir(directory)
        .args([
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "-c",
            "init.defaultBranch=main",
            "-c",
            "protocol.version=2",
        ])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .output()
        .unwrap()
        .into()
}

fn done(directory: &Path, arguments: &[&str]) -> String {
    let said = git(directory, arguments);
    assert_eq!(said.code, Some(0), "git {arguments:?}: {said:?}");
    said.out.trim().to_owned()
}

/// A repository with an action, tagged `v1` (annotated), and a later commit on `main`. Both commits.
fn repository(directory: &Path) -> (String, String) {
    std::fs::create_dir_all(directory.join("lint")).unwrap();
    done(directory, &["init", "--quiet"]);
    std::fs::write(directory.join("action.yml"), MANIFEST).unwrap();
    std::fs::write(directory.join("lint/run.sh"), "#!/bin/sh\necho lint\n").unwrap();
    done(directory, &["add", "."]);
    done(directory, &["update-index", "--chmod=+x", "lint/run.sh"]);
    done(directory, &["commit", "--quiet", "-m", "one"]);
    done(directory, &["tag", "-a", "v1", "-m", "first"]);
    let first = done(directory, &["rev-parse", "HEAD"]);
    std::fs::write(directory.join("README"), "two").unwrap();
    done(directory, &["add", "."]);
    done(directory, &["commit", "--quiet", "-m", "two"]);
    (first, done(directory, &["rev-parse", "HEAD"]))
}

async fn held(service: &Service) -> Held {
    let runner = listening(service, "build-07").await;
    service.submit_with(demo(JOB)).await;
    runner.take(service).await
}

async fn resolve(service: &Service, held: &Held, asked: &[(&str, &str)]) -> Reply {
    let actions: Vec<Value> =
        asked.iter().map(|(action, version)| json!({"action": action, "version": version, "path": ""})).collect();
    resolve_body(service, held, &json!({ "actions": actions })).await
}

async fn resolve_body(service: &Service, held: &Held, body: &Value) -> Reply {
    let (plan, job) = (held.message["plan"]["planId"].as_str().unwrap(), held.message["jobId"].as_str().unwrap());
    // The path of the variable is dropped (`LaunchHttpClient.cs`).
    let launch = held.message["variables"]["system.github.launch_endpoint"]["value"].as_str().unwrap();
    assert!(launch.starts_with(&service.url), "{launch}");
    let path = format!("/actions/build/{plan}/jobs/{job}/runnerresolve/actions");
    send(service, Method::POST, &path, Some(&format!("Bearer {}", held.token)), Some(body)).await
}

/// The messages of a refusal.
async fn refused(service: &Service, held: &Held, action: &str, version: &str) -> String {
    let reply = resolve(service, held, &[(action, version)]).await;
    assert_eq!(reply.code(), 422, "{reply:?}");
    reply.json()["errors"][format!("{action}@{version}")]["message"].as_str().unwrap().to_owned()
}

async fn download(service: &Service, url: &str, token: &str, more: &[(&str, &str)]) -> Reply {
    let basic = format!("Basic {}", STANDARD.encode(format!("x-access-token:{token}")));
    let mut headers = vec![("authorization", basic.as_str())];
    headers.extend(more);
    Wire::open(&service.url).await.send(Method::GET, path(service, url), None, &headers, b"").await
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("no `{member}` in {value}"))
}

/// Unpacks an archive as the runner does, and gives the names at its top.
fn unpacked(archive: &[u8], program: &str) -> (TempDir, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("archive");
    std::fs::write(&file, archive).unwrap();
    let into = directory.path().join("into");
    std::fs::create_dir(&into).unwrap();
    let mut command = Command::new(program);
    match program {
        "tar" => command.arg("-xzf").arg(&file).arg("-C").arg(&into),
        _ => command.arg("-q").arg(&file).arg("-d").arg(&into),
    };
    let said: Said = command.output().unwrap().into();
    assert_eq!(said.code, Some(0), "{said:?}");
    let names = std::fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.collect();
    (directory, names)
}

fn offline(directory: &Path) -> Service {
    let mut flags = SHORT.to_vec();
    flags.extend(["--actions-offline", "--actions-dir", directory.to_str().unwrap()]);
    Service::start(&flags)
}

#[tokio::test]
async fn an_action_is_known_by_exactly_what_was_asked_and_its_archive_has_one_directory() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = repository(&directory.path().join("acme/tools"));
    let service = offline(directory.path());
    let held = held(&service).await;
    let body = json!({ "actions": [
        { "action": "acme/tools", "version": "v1", "path": "" },
        { "action": "acme/tools", "version": "v1", "path": "lint" },
        { "action": "acme/tools", "version": "main" },
        { "action": "acme/tools", "version": first, "path": null },
    ], "actions_dependencies": ["acme/tools@v1=sha256:00"] });
    let reply = resolve_body(&service, &held, &body).await;
    assert_eq!(reply.code(), 200, "{reply:?}");
    let actions = reply.json()["actions"].as_object().unwrap().clone();
    assert_eq!(actions.len(), 3, "paths share an entry: {actions:?}");
    let tagged = &actions["acme/tools@v1"];
    assert_eq!((text(tagged, "name"), text(tagged, "version")), ("acme/tools", "v1"));
    assert_eq!(text(tagged, "resolved_name"), "acme/tools");
    assert_eq!(text(tagged, "resolved_sha"), first, "an annotated tag is its commit");
    assert_eq!(text(&actions["acme/tools@main"], "resolved_sha"), second);
    assert_eq!(text(&actions[&format!("acme/tools@{first}")], "resolved_sha"), first);

    let token = text(&tagged["authentication"], "token");
    assert!(token.len() > 40 && token != held.token, "a throw-away token, or the job's own is sent to the archive");
    assert!(text(&tagged["authentication"], "expires_at").ends_with('Z'));
    let reply = download(&service, text(tagged, "tar_url"), token, &[]).await;
    assert_eq!(reply.code(), 200, "{reply:?}");
    let (place, names) = unpacked(&reply.body, "tar");
    assert_eq!(names, [format!("tools-{first}")]);
    let top = place.path().join("into").join(&names[0]);
    assert_eq!(std::fs::read_to_string(top.join("action.yml")).unwrap(), MANIFEST);
    let said: Said = Command::new(top.join("lint/run.sh")).output().unwrap().into();
    assert_eq!(said.out, "lint\n", "bits of execution are kept: {said:?}");
    assert!(!top.join("README").exists(), "that is a later commit");

    let reply = download(&service, text(tagged, "zip_url"), token, &[]).await;
    assert_eq!(reply.code(), 200, "{reply:?}");
    let (_place, names) = unpacked(&reply.body, "unzip");
    assert_eq!(names, [format!("tools-{first}")], "Windows takes the zip");
}

#[tokio::test]
async fn an_archive_opens_to_its_own_token_alone_and_in_parts() {
    let directory = tempfile::tempdir().unwrap();
    repository(&directory.path().join("acme/tools"));
    let service = offline(directory.path());
    let held = held(&service).await;
    let reply = resolve(&service, &held, &[("acme/tools", "v1"), ("acme/tools", "main")]).await.json();
    let (one, other) = (&reply["actions"]["acme/tools@v1"], &reply["actions"]["acme/tools@main"]);
    let (url, token) = (text(one, "tar_url"), text(&one["authentication"], "token"));
    for wrong in ["", "x", &held.token, &service.token, text(&other["authentication"], "token")] {
        assert_eq!(download(&service, url, wrong, &[]).await.code(), 401, "{wrong}");
    }
    assert_eq!(send(&service, Method::GET, path(&service, url), None, None).await.code(), 401);
    let signed = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).unwrap();
    let signed = format!("{}?{}", path(&service, url), String::from_utf8(signed).unwrap());
    let whole = send(&service, Method::GET, &signed, None, None).await;
    assert_eq!(whole.code(), 200, "the address itself may be signed: {whole:?}");
    let part = download(&service, url, token, &[("range", "bytes=10-19")]).await;
    assert_eq!((part.code(), &part.body[..]), (206, &whole.body[10..20]));
    assert_eq!(part.headers["content-range"], format!("bytes 10-19/{}", whole.body.len()));
    assert_eq!(download(&service, url, token, &[("range", "bytes=99999999-")]).await.code(), 416);
    let tag = whole.headers["etag"].to_str().unwrap();
    assert_eq!(download(&service, url, token, &[("if-none-match", tag)]).await.code(), 304);
    for odd in
        ["/_actions/acme/tools/v1.tar.gz", "/_actions/acme/..%2f..%2fx/aaaa.tar.gz", "/_actions/acme/tools/x.exe"]
    {
        let reply = download(&service, &format!("{}{odd}", service.url), token, &[]).await;
        assert!([400, 404].contains(&reply.code()), "{odd}: {reply:?}");
    }
}

#[tokio::test]
async fn an_action_that_nobody_has_is_a_422_that_says_where_was_looked_and_is_not_retried() {
    let directory = tempfile::tempdir().unwrap();
    let (first, _) = repository(&directory.path().join("acme/tools"));
    let service = offline(directory.path());
    let held = held(&service).await;
    let said = refused(&service, &held, "actions/checkout", "v4").await;
    assert!(said.contains(directory.path().to_str().unwrap()) && said.contains("--actions-offline"), "{said}");
    assert!(refused(&service, &held, "acme/tools", "v9").await.contains("acme/tools@v9"));
    assert!(refused(&service, &held, "acme/tools", &first[..10]).await.contains("40 digits"));
    for (action, version) in [
        ("acme", "v1"),
        ("../tools", "v1"),
        ("acme/../tools", "v1"),
        ("-o/tools", "v1"),
        ("acme/tools", "--upload-pack=id"),
        ("acme/tools", "../../x"),
        ("acme/tools", "v1^{tree}"),
        ("acme/tools", ""),
    ] {
        let said = refused(&service, &held, action, version).await;
        assert!(said.contains("is not a"), "{action}@{version}: {said}");
    }
    let reply = resolve(&service, &held, &[("acme/tools", "v1"), ("acme/tools", "v9")]).await;
    assert_eq!(reply.code(), 422, "one that is missing is enough");
    assert_eq!(reply.json()["errors"].as_object().unwrap().len(), 1);

    let (plan, job) = (held.message["plan"]["planId"].as_str().unwrap(), uuid::Uuid::new_v4());
    let path = format!("/actions/build/{plan}/jobs/{job}/runnerresolve/actions");
    let body = json!({ "actions": [] });
    let bearer = format!("Bearer {}", held.token);
    assert_eq!(send(&service, Method::POST, &path, Some(&bearer), Some(&body)).await.code(), 404, "another job");
    assert_eq!(send(&service, Method::POST, &path, None, Some(&body)).await.code(), 401);
}

#[tokio::test]
async fn directories_and_tarballs_are_taken_as_they_lie_there() {
    let directory = tempfile::tempdir().unwrap();
    let owner = directory.path().join("acme");
    for (place, content) in [("tools@v1", "at"), ("other/releases/v2", "below")] {
        std::fs::create_dir_all(owner.join(place)).unwrap();
        std::fs::write(owner.join(place).join("action.yml"), content).unwrap();
    }
    let made = tempfile::tempdir().unwrap();
    let (_, second) = repository(&made.path().join("x"));
    let file = owner.join("packed@v3.tar.gz");
    done(
        &made.path().join("x"),
        &["archive", "--format=tar.gz", "--prefix=any/", "-o", file.to_str().unwrap(), &second],
    );
    let service = offline(directory.path());
    let held = held(&service).await;
    let asked = [("acme/tools", "v1"), ("acme/other", "releases/v2"), ("acme/packed", "v3")];
    let reply = resolve(&service, &held, &asked).await;
    assert_eq!(reply.code(), 200, "{reply:?}");
    let actions = &reply.json()["actions"];
    for (key, content) in [("acme/tools@v1", "at"), ("acme/other@releases/v2", "below"), ("acme/packed@v3", MANIFEST)] {
        let found = &actions[key];
        let reply = download(&service, text(found, "tar_url"), text(&found["authentication"], "token"), &[]).await;
        let (place, names) = unpacked(&reply.body, "tar");
        assert_eq!(names.len(), 1, "{key}");
        let manifest = place.path().join("into").join(&names[0]).join("action.yml");
        assert_eq!(std::fs::read_to_string(manifest).unwrap(), content, "{key}");
    }
    let again = resolve(&service, &held, &asked).await.json();
    assert_eq!(again["actions"]["acme/tools@v1"]["resolved_sha"], actions["acme/tools@v1"]["resolved_sha"]);
    std::fs::write(owner.join("tools@v1/action.yml"), "changed").unwrap();
    let changed = resolve(&service, &held, &asked).await.json();
    assert_ne!(changed["actions"]["acme/tools@v1"]["resolved_sha"], actions["acme/tools@v1"]["resolved_sha"]);
}

#[tokio::test]
async fn a_mirror_that_hangs_is_named_and_the_next_one_is_asked() {
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = hanging.local_addr().unwrap();
    let mirror = tempfile::tempdir().unwrap();
    let (first, second) = repository(&mirror.path().join("acme/tools"));
    let mirrors = format!(
        "http://{place}/{{owner}}/{{repo}}/{{ref}}.tgz,http://{place}/{{owner}}/{{repo}},file://{}/{{owner}}/{{repo}}",
        mirror.path().display()
    );
    let mut flags = SHORT.to_vec();
    flags.extend(["--actions-offline", "--actions-timeout", "1s", "--actions-mirror", &mirrors]);
    let service = Service::start(&flags);
    let held = held(&service).await;
    let reply = resolve(&service, &held, &[("acme/tools", "v1"), ("acme/tools", &second)]).await;
    assert_eq!(reply.code(), 200, "{reply:?}");
    assert_eq!(reply.json()["actions"]["acme/tools@v1"]["resolved_sha"], first);
    let said = refused(&service, &held, "acme/nothing", "v1").await;
    assert!(said.contains(&format!("mirror http://{place}")) && said.contains("longer than 1 s"), "{said}");

    // What was fetched once is had without anybody, by its commit.
    drop(hanging);
    drop(mirror);
    let reply = resolve(&service, &held, &[("acme/tools", &first), ("acme/tools", &second)]).await;
    assert_eq!(reply.code(), 200, "{reply:?}");
}

#[tokio::test]
async fn a_mirror_that_lies_is_refused_by_name() {
    let mirror = tempfile::tempdir().unwrap();
    let work = tempfile::tempdir().unwrap();
    let source = work.path().join("x");
    let (first, second) = repository(&source);
    let owner = mirror.path().join("acme");
    std::fs::create_dir_all(owner.join("tools")).unwrap();
    let place = |name: &str| owner.join("tools").join(format!("{name}.tgz")).display().to_string();
    // Another commit than the one that was asked for, and the right one.
    done(&source, &["archive", "--format=tar.gz", "--prefix=x/", "-o", &place(&first), &second]);
    done(&source, &["archive", "--format=tar.gz", "--prefix=x/", "-o", &place(&second), &second]);
    // Two directories, and an entry that climbs.
    done(&source, &["archive", "--format=tar.gz", "-o", &place("flat"), &second]);
    let two = work.path().join("two");
    for name in ["a", "b"] {
        std::fs::create_dir_all(two.join(name)).unwrap();
        std::fs::write(two.join(name).join("action.yml"), MANIFEST).unwrap();
    }
    let tar = |arguments: &[&str]| {
        let said: Said = Command::new("tar").args(arguments).current_dir(work.path()).output().unwrap().into();
        assert_eq!(said.code, Some(0), "{said:?}");
    };
    tar(&["-C", "two", "-czf", &place("two"), "a", "b"]);
    tar(&["-P", "-czf", &place("climbs"), "--transform=s,^two/a/action.yml,top/../../evil,", "two/a/action.yml"]);
    std::fs::write(place("text"), "<html>not here</html>").unwrap();
    let mut flags = SHORT.to_vec();
    let template = format!("file://{}/{{owner}}/{{repo}}/{{ref}}.tgz", mirror.path().display());
    flags.extend(["--actions-offline", "--actions-mirror", &template]);
    let service = Service::start(&flags);
    let held = held(&service).await;
    for (version, expected) in [
        (first.as_str(), format!("the archive is of {second}, not of {first}")),
        ("two", "several top-level directories (`a` and `b`)".to_owned()),
        ("climbs", "leads out of it".to_owned()),
        ("text", "archive".to_owned()),
    ] {
        let said = refused(&service, &held, "acme/tools", version).await;
        assert!(said.contains(&expected) && said.contains(&format!("mirror {template}")), "{version}: {said}");
    }
    let reply = resolve(&service, &held, &[("acme/tools", &second)]).await;
    assert_eq!(reply.json()["actions"][format!("acme/tools@{second}")]["resolved_sha"], second, "{reply:?}");
    assert!(!service.data.path().join("evil").exists());
}

#[tokio::test]
async fn checkout_fetches_a_commit_of_the_jobs_own_repository_and_of_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = repository(&directory.path().join("acme/demo"));
    repository(&directory.path().join("acme/other"));
    let mut flags = SHORT.to_vec();
    flags.extend(["--repositories-dir", directory.path().to_str().unwrap()]);
    let service = Service::start(&flags);
    let held = held(&service).await;
    let github = held.message["contextData"]["github"]["d"].as_array().unwrap();
    let member = |name: &str| github.iter().find(|entry| entry["k"] == name).unwrap()["v"].as_str().unwrap().to_owned();
    assert_eq!(member("server_url"), service.url);
    assert_eq!(member("api_url"), format!("{}/api/v3", service.url));
    assert_eq!(member("repositoryUrl"), format!("{}/acme/demo.git", service.url));

    // As `actions/checkout` does it (`git-auth-helper.ts`, `git-command-manager.ts`).
    let basic = |token: &str| {
        let encoded = STANDARD.encode(format!("x-access-token:{token}"));
        format!("http.{}/.extraheader=AUTHORIZATION: basic {encoded}", service.url)
    };
    let work = tempfile::tempdir().unwrap();
    let header = basic(&held.token);
    done(work.path(), &["init", "--quiet"]);
    let remote = format!("{}/{}", member("server_url"), "acme/demo");
    for commit in [&first, &second] {
        let fetch =
            ["-c", &header, "fetch", "--no-tags", "--prune", "--no-recurse-submodules", "--depth=1", &remote, commit];
        done(work.path(), &fetch);
        done(work.path(), &["checkout", "--quiet", "--force", commit]);
        assert_eq!(done(work.path(), &["rev-list", "--count", "HEAD"]), "1", "shallow");
    }
    assert_eq!(std::fs::read_to_string(work.path().join("README")).unwrap(), "two");

    // Whole, in both versions of the protocol, with the password in the URL, which git shows only when it is challenged.
    for version in ["protocol.version=2", "protocol.version=0"] {
        let into = tempfile::tempdir().unwrap();
        let url = service.url.replace("http://", &format!("http://x-access-token:{}@", held.token));
        done(into.path(), &["-c", version, "clone", "--quiet", &format!("{url}/acme/demo.git"), "clone"]);
        assert_eq!(done(&into.path().join("clone"), &["rev-parse", "v1^{commit}"]), first);
    }
    let admin = basic(&service.token);
    assert!(done(work.path(), &["-c", &admin, "ls-remote", &format!("{}/acme/other", service.url)]).contains("v1"));

    let refuse = |header: &str, url: &str| {
        let said = git(work.path(), &["-c", header, "ls-remote", url]);
        assert_eq!(said.code, Some(128), "{url}: {said:?}");
        said.err
    };
    assert!(refuse(&header, &format!("{}/acme/other", service.url)).contains("not found"), "another repository");
    assert!(refuse(&header, &format!("{}/acme/none", service.url)).contains("not found"));
    refuse("a.b=c", &remote);
    let pushed = git(work.path(), &["-c", &header, "push", &remote, "HEAD:refs/heads/evil"]);
    assert!(pushed.code == Some(128) && pushed.err.contains("403"), "{pushed:?}");
    let auth = format!("Basic {}", STANDARD.encode(format!("x-access-token:{}", service.token)));
    for odd in ["/acme/..%2fdemo", "/..%2f..%2fetc/demo", "/acme/.git", "/acme/%2e%2e", "/-x/demo"] {
        let path = format!("{odd}/info/refs?service=git-upload-pack");
        let reply = send(&service, Method::GET, &path, Some(&auth), None).await;
        assert_eq!(reply.code(), 404, "{odd}: {reply:?}");
    }
    assert_eq!(send(&service, Method::POST, "/acme/demo/git-receive-pack", Some(&auth), None).await.code(), 404);

    held.complete(&service, "succeeded", json!({})).await;
    refuse(&header, &remote);
}

#[tokio::test]
async fn permissions_decide_whether_a_job_reads_its_repository() {
    let directory = tempfile::tempdir().unwrap();
    repository(&directory.path().join("acme/demo"));
    let mut flags = SHORT.to_vec();
    flags.extend(["--repositories-dir", directory.path().to_str().unwrap()]);
    let service = Service::start(&flags);
    for (number, (permissions, expected)) in [
        ("{contents: read}", 200),
        ("{contents: write, id-token: write}", 200),
        ("read-all", 200),
        ("{id-token: write}", 403),
        ("{contents: none}", 403),
        ("{}", 403),
    ]
    .into_iter()
    .enumerate()
    {
        let runner = listening(&service, &format!("build-{number}")).await;
        let workflow = format!("permissions: {permissions}\n{JOB}");
        service.submit_with(demo(&workflow)).await;
        let held = runner.take(&service).await;
        let auth = format!("Basic {}", STANDARD.encode(format!("x-access-token:{}", held.token)));
        let path = "/acme/demo/info/refs?service=git-upload-pack";
        let reply = send(&service, Method::GET, path, Some(&auth), None).await;
        assert_eq!(reply.code(), expected, "{permissions}: {reply:?}");
        assert!(expected == 200 || reply.text().contains("add `contents: read`"), "{reply:?}");
        held.complete(&service, "succeeded", json!({})).await;
    }
}

#[tokio::test]
async fn the_forge_may_be_elsewhere() {
    let service = Service::start(&[&SHORT[..], &["--git-url", "https://github.com"]].concat());
    let held = held(&service).await;
    let github = held.message["contextData"]["github"].to_string();
    for expected in ["\"https://github.com\"", "\"https://api.github.com\"", "https://github.com/acme/demo.git"] {
        assert!(github.contains(expected), "{expected}: {github}");
    }
}

const REMOTE: &str = "on: push\njobs:\n  build:\n    runs-on: [self-hosted, linux]\n    steps:\n      - uses: actions/checkout@v4\n      - uses: acme/tools/lint@main\n      - uses: docker://alpine:3\n      - uses: actions/checkout@v4\n";

#[tokio::test]
async fn actions_of_others_reach_an_official_runner_as_references() {
    let service = Service::start(&SHORT);
    let runner = listening(&service, "build-07").await;
    service.submit_with(demo(REMOTE)).await;
    let held = runner.take(&service).await;
    let steps = held.message["steps"].as_array().unwrap();
    let kind = |step: &Value| step["reference"]["type"].clone();
    assert_eq!(
        steps[0]["reference"],
        json!({ "type": kind(&steps[0]), "name": "actions/checkout", "ref": "v4", "repositoryType": "GitHub" })
    );
    assert_eq!(
        steps[1]["reference"],
        json!({ "type": kind(&steps[1]), "name": "acme/tools", "ref": "main", "repositoryType": "GitHub", "path": "lint" })
    );
    assert_eq!(steps[2]["reference"], json!({ "type": kind(&steps[2]), "image": "alpine:3" }));
    let names: Vec<&str> = steps.iter().map(|step| text(step, "contextName")).collect();
    assert_eq!(names, ["__actions_checkout", "__acme_tools", "__alpine_3", "__actions_checkout_2"]);
    let kinds: Vec<Value> = steps.iter().map(kind).collect();
    assert_eq!(kinds, ["repository", "repository", "containerRegistry", "repository"].map(Value::from));
}
