//! What ends: listeners, sessions, tokens, keys and patience. By a clock that is turned, where it would take long.

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use startline_protocol::state::{Conclusion, JobStatus};
use startline_server::ServerConfig;

use super::client::Controller;
use super::{MANY, jobs, listening, type_name, with_set};
use crate::harness::{DEADLINE, Service, eventually};
use crate::here::Here;
use crate::http::Reply;
use crate::official::client::send;

fn quick(config: &mut ServerConfig) {
    config.broker_poll_timeout = "1s".parse().unwrap();
}

/// What a controller gets for a registration token.
async fn connect(service: &Service, url: &str, authorization: &str) -> Reply {
    let body = json!({ "url": url, "runner_event": "register" });
    send(service, Method::POST, "/api/v3/actions/runner-registration", Some(authorization), Some(&body)).await
}

/// A bearer of scale set calls that is fresh by the service's clock, whatever that is.
async fn fresh(service: &Service) -> Controller {
    let reply = connect(service, &format!("{}/acme", service.url), &format!("Bearer {}", service.token)).await;
    assert_eq!(reply.code(), 200, "{reply:?}");
    let base = reply.json()["url"].as_str().unwrap().strip_prefix(service.url.as_str()).unwrap().to_owned();
    Controller { base, token: reply.json()["token"].as_str().unwrap().to_owned() }
}

const SETS: &str = "runtime/runnerscalesets";

#[tokio::test]
async fn organizations_repositories_and_enterprises_have_their_routes_below_api_v3() {
    let service = Service::start(&[]);
    for (path, place) in [("orgs/acme", "acme"), ("repos/acme/app", "acme/app"), ("enterprises/big", "enterprises/big")]
    {
        let url = format!("/api/v3/{path}/actions/runners/registration-token");
        let bearer = format!("Bearer {}", service.token);
        let minted = send(&service, Method::POST, &url, Some(&bearer), None).await;
        assert_eq!(minted.code(), 201, "{path}: {minted:?}");
        let remote = format!("RemoteAuth {}", minted.json()["token"].as_str().unwrap());
        for slash in ["", "/"] {
            let reply = connect(&service, &format!("{}/{place}{slash}", service.url), &remote).await;
            assert_eq!(reply.code(), 200, "{place}{slash}: {reply:?}");
            assert!(reply.json()["url"].as_str().unwrap().ends_with('/'));
            let token = reply.json()["token"].as_str().unwrap().to_owned();
            let base = reply.json()["url"].as_str().unwrap().strip_prefix(service.url.as_str()).unwrap().to_owned();
            let listed = Controller { base, token }.call(&service, Method::GET, SETS, None).await;
            assert_eq!((listed.code(), &listed.json()["count"]), (200, &json!(0)), "{place}");
        }
    }
    let bearer = format!("Bearer {}", service.token);
    for none in ["", "a/b/c"] {
        let reply = connect(&service, &format!("{}/{none}", service.url), &bearer).await;
        assert!(reply.status.is_client_error(), "`{none}` is no place: {reply:?}");
    }
}

#[tokio::test]
async fn a_bearer_whose_exp_somebody_has_written_anew_is_refused_in_every_form() {
    let (service, controller, _) = with_set(&[]).await;
    let parts: Vec<&str> = controller.token.split('.').collect();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    let exp = claims["exp"].as_i64().expect("a whole number: Go reads nothing else without losing digits");
    let forms = [
        json!(exp + 3600),
        json!(exp.to_string()),
        json!(f64::from(u32::MAX) + 0.5),
        json!(null),
        json!([exp]),
        json!({ "exp": exp }),
        json!(-1),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e300),
        json!(true),
        json!(""),
    ];
    let mut texts: Vec<String> = forms
        .iter()
        .map(|form| {
            let mut claims = claims.clone();
            claims["exp"] = form.clone();
            claims.to_string()
        })
        .collect();
    let mut without = claims.clone();
    without.as_object_mut().unwrap().remove("exp");
    texts.extend([
        without.to_string(),
        claims.to_string().replace("\"exp\"", "\"EXP\""),
        "{}".to_owned(),
        String::new(),
    ]);
    for text in texts {
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        for token in [
            format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(&text), parts[2]),
            format!("{none}.{}.", URL_SAFE_NO_PAD.encode(&text)),
        ] {
            let forged = Controller { token, ..controller.clone() };
            let reply = forged.call(&service, Method::GET, SETS, None).await;
            assert_eq!(reply.code(), 401, "{text}: {reply:?}");
            assert!(type_name(&reply).contains("VssUnauthorizedException"));
        }
    }
    assert_eq!(controller.call(&service, Method::GET, SETS, None).await.code(), 200);
}

#[tokio::test]
async fn a_listener_that_is_killed_in_its_poll_and_started_again_goes_on_within_seconds() {
    // With polls as long as they are.
    let service = Service::start(&[]);
    let controller = Controller::connect(&service, "acme").await;
    let set = controller.make(&service, "linux-x64").await;
    for life in 0..3 {
        let listener = controller.listen(&service, set, "linux-x64-listener").await;
        let killed = tokio::time::timeout(Duration::from_millis(200), listener.try_poll(&service, MANY)).await;
        assert!(killed.is_err(), "life {life}: the poll was held, and its connection is cut with it");
    }
    let started = tokio::time::Instant::now();
    let mut listener = controller.listen(&service, set, "linux-x64-listener").await;
    service.submit_with(jobs(1)).await;
    listener.read(&service, MANY, "JobAssigned").await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_session_that_nobody_polls_any_more_is_another_owners_after_two_minutes() {
    let here = Here::start(quick).await;
    let service = &here.service;
    let controller = Controller::connect(service, "acme").await;
    let set = controller.make(service, "linux-x64").await;
    let first = controller.listen(service, set, "one").await;
    here.turn(60);
    assert_eq!(first.try_poll(service, 1).await.code(), 202);
    here.turn(100);
    assert_eq!(controller.try_session(service, set, "two").await.code(), 409, "it was there a moment ago");
    here.turn(20);
    let second = controller.listen(service, set, "two").await;
    assert_eq!(first.try_poll(service, 1).await.code(), 401);
    assert_eq!(second.try_poll(service, 1).await.code(), 202);
}

#[tokio::test]
async fn a_listener_outlives_every_token_that_it_ever_had() {
    let here = Here::start(quick).await;
    let service = &here.service;
    let controller = Controller::connect(service, "acme").await;
    let set = controller.make(service, "linux-x64").await;
    let mut listener = controller.listen(service, set, "listener").await;
    let session = listener.session.clone();
    for hour in 0..12 {
        // 50 minutes of polls, and then its tokens run out.
        for _ in 0..2 {
            here.turn(25 * 60);
            assert_eq!(listener.try_poll(service, 1).await.code(), 202, "hour {hour}");
        }
        here.turn(11 * 60);
        assert_eq!(listener.try_poll(service, 1).await.code(), 401, "hour {hour}");
        listener.controller = fresh(service).await;
        listener.refresh(service).await;
        assert_eq!(listener.session, session, "never refused while it is alive");
        assert_eq!(listener.try_poll(service, 1).await.code(), 202);
    }
    service.submit_with(jobs(1)).await;
    listener.read(service, MANY, "JobAssigned").await;
}

#[tokio::test]
async fn a_bearer_of_scale_set_calls_is_good_until_its_exp_and_not_refused_before() {
    let here = Here::start(quick).await;
    let service = &here.service;
    let controller = fresh(service).await;
    // Its `exp` is an hour away; a 401 before that would end its holder, which does not ask for another.
    for _ in 0..59 {
        here.turn(60);
        assert_eq!(controller.call(service, Method::GET, SETS, None).await.code(), 200);
    }
    here.turn(61);
    let over = controller.call(service, Method::GET, SETS, None).await;
    assert_eq!(over.code(), 401, "{over:?}");
    assert_eq!(fresh(service).await.call(service, Method::GET, SETS, None).await.code(), 200);
}

#[tokio::test]
async fn bearers_that_an_older_key_signed_stay_good_when_the_keys_are_rotated() {
    let (mut service, controller, set) = with_set(&[]).await;
    let listener = controller.listen(&service, set, "listener").await;
    service.process.signal(Signal::SIGTERM);
    assert!(service.process.ended(DEADLINE).await.success());
    let path = service.data.path().join("bearers.key");
    let old = fs::read_to_string(&path).unwrap();
    // The first one signs from now on.
    let kind = old.split_once(" v1 ").unwrap().0;
    fs::write(&path, format!("{kind} v1 {}\n{old}", URL_SAFE_NO_PAD.encode([7_u8; 32]))).unwrap();
    service.restart();
    assert_eq!(controller.call(&service, Method::GET, SETS, None).await.code(), 200);
    // It is told the statistics after a restart, or nothing.
    let polled = listener.try_poll(&service, 1).await;
    assert!(polled.status.is_success(), "{polled:?}");
    let new = Controller::connect(&service, "acme").await;
    assert_eq!(new.call(&service, Method::GET, SETS, None).await.code(), 200);
    // When the old key is taken out, what it signed ends with it, and nothing else.
    service.process.signal(Signal::SIGTERM);
    assert!(service.process.ended(DEADLINE).await.success());
    let both = fs::read_to_string(&path).unwrap();
    fs::write(&path, both.lines().next().unwrap().to_owned() + "\n").unwrap();
    service.restart();
    assert_eq!(controller.call(&service, Method::GET, SETS, None).await.code(), 401);
    assert_eq!(new.call(&service, Method::GET, SETS, None).await.code(), 200);
}

/// Makes a key of an App and writes what the service reads; what signs in its name is `node`, with a library that is not
/// ours.
fn app_in(directory: &std::path::Path) -> std::path::PathBuf {
    let make = "const c=require('crypto'),fs=require('fs'),d=process.argv[1];\
                const k=c.generateKeyPairSync('rsa',{modulusLength:2048,publicKeyEncoding:{type:'spki',format:'pem'},\
                privateKeyEncoding:{type:'pkcs8',format:'pem'}});\
                fs.writeFileSync(d+'/app.pem',k.privateKey);fs.writeFileSync(d+'/app.pub.pem',k.publicKey)";
    let made = std::process::Command::new("node").args(["-e", make]).arg(directory).status().unwrap();
    assert!(made.success());
    let apps = directory.join("apps.toml");
    let text =
        "[[app]]\nid = \"77\"\ninstallation = 4711\nscope = \"organization:acme\"\npublic_key = \"app.pub.pem\"\n";
    fs::write(&apps, text).unwrap();
    apps
}

/// What an App sends: `issued` and `life` in seconds, from now.
fn word(directory: &std::path::Path, algorithm: &str, app: &str, issued: i64, life: i64) -> String {
    let sign = "const c=require('crypto'),fs=require('fs'),[d,alg,iss,at,life]=process.argv.slice(1);\
                const b=o=>Buffer.from(JSON.stringify(o)).toString('base64url');\
                const iat=Math.floor(Date.now()/1000)+Number(at);\
                const t=b({alg,typ:'JWT'})+'.'+b({iss,iat,exp:iat+Number(life)});\
                process.stdout.write(t+'.'+c.sign('sha256',Buffer.from(t),fs.readFileSync(d+'/app.pem')).toString('base64url'))";
    let mut command = std::process::Command::new("node");
    command.args(["-e", sign]).arg(directory).args([algorithm, app, &issued.to_string(), &life.to_string()]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn an_app_gets_a_token_for_its_installation_with_201_and_configures_a_set_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let apps = app_in(directory.path());
    let service = Service::start(&["--apps-file", apps.to_str().unwrap()]);
    let ask = async |installation: u64, word: &str| {
        let path = format!("/api/v3/app/installations/{installation}/access_tokens");
        send(&service, Method::POST, &path, Some(&format!("Bearer {word}")), None).await
    };
    let good = word(directory.path(), "RS256", "77", -60, 540);
    let reply = ask(4711, &good).await;
    assert_eq!(reply.code(), 201, "{reply:?}");
    assert!(reply.json()["expires_at"].as_str().unwrap().ends_with('Z'));
    let token = reply.json()["token"].as_str().unwrap().to_owned();
    let controller = Controller::enter(&service, "acme", &token).await;
    controller.make(&service, "linux-x64").await;
    let elsewhere = "/api/v3/orgs/other/actions/runners/registration-token";
    let foreign = send(&service, Method::POST, elsewhere, Some(&format!("Bearer {token}")), None).await;
    assert!([403, 404].contains(&foreign.code()), "of its installation alone: {foreign:?}");

    assert_eq!(ask(4712, &good).await.code(), 404, "the installation is another's");
    let (head, signature) = good.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    for (why, word) in [
        ("another App", word(directory.path(), "RS256", "78", -60, 540)),
        ("it lasts for too long", word(directory.path(), "RS256", "77", -60, 900)),
        ("it is over", word(directory.path(), "RS256", "77", -1000, 540)),
        ("it has not come", word(directory.path(), "RS256", "77", 200, 100)),
        ("the header names another algorithm", word(directory.path(), "none", "77", -60, 540)),
        ("the header names another algorithm", word(directory.path(), "HS256", "77", -60, 540)),
        ("the signature is another's", forged),
        ("an API token", service.token.clone()),
    ] {
        let reply = ask(4711, &word).await;
        assert_eq!(reply.code(), 401, "{why}: {reply:?}");
        assert!(reply.json()["message"].is_string(), "{reply:?}");
    }
}

#[tokio::test]
async fn a_job_that_is_queued_for_too_long_fails_says_so_and_leaves_its_set() {
    let (service, _, mut listener) = listening(&["--queue-timeout", "3s", "--housekeeping-interval", "1s"]).await;
    let run = service.submit_with(jobs(1)).await;
    listener.read(&service, MANY, "JobAssigned").await;
    let job = service.job(run, "the job has failed", |job| job.conclusion.is_some()).await;
    assert_eq!(job.conclusion, Some(Conclusion::Failure));
    assert_eq!(job.reason.as_deref(), Some("no runner took the job within 3s (--queue-timeout)"));
    let told = listener.read(&service, MANY, "JobCompleted").await;
    assert_eq!(told["jobId"].as_str().map(str::is_empty), Some(false));
    listener.read_until(&service, MANY, "nothing is wanted", |listener, _| listener.wants(9) == 0).await;
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Failure));
}

#[tokio::test]
async fn jobs_that_no_runner_starts_and_runners_that_fall_silent_are_told_with_their_reason() {
    let here = Here::start(quick).await;
    let service = &here.service;
    let controller = Controller::connect(service, "acme").await;
    let set = controller.make(service, "linux-x64").await;
    let mut listener = controller.listen(service, set, "listener").await;

    // A runner dies with its job: after the lease, and the job is another's.
    let run = service.submit_with(jobs(1)).await;
    listener.read(service, MANY, "JobAssigned").await;
    let dead = controller.runner(service, set, "dead").await;
    dead.take(service).await;
    let started = listener.read(service, MANY, "JobStarted").await;
    here.turn(5 * 60 + 1);
    let job = service.job(run, "the job is queued again", |job| job.attempt == 2).await;
    assert_eq!(job.status, JobStatus::Queued);
    let reason = job.reason.clone().unwrap_or_default();
    assert!(reason.contains("dead"), "the runner is named: {reason}");
    let again = listener.read(service, MANY, "JobAssigned").await;
    assert_eq!(again["jobId"], started["jobId"], "the set is told to start another");
    assert_eq!((listener.wants(9), listener.number("totalRunningJobs")), (1, 0));

    // Nobody starts the next runner: assigned anew after five minutes, three times, and then said.
    let explained = eventually("its patience is over", async || {
        here.turn(60);
        while let Some((id, _)) = listener.poll(service, MANY).await {
            listener.acknowledge(service, id).await;
        }
        let summary = service.client.explain(job.id).await.unwrap().summary;
        summary.contains("assigned the job 3 times").then_some(summary)
    })
    .await;
    assert!(explained.contains("linux-x64"), "the set is named: {explained}");
    assert_eq!(listener.wants(9), 0);
}
