//! Tokens, scopes and the audit log, over a real socket, with those who try to get past them.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cast;
use crate::harness::{Service, eventually};
use crate::http::{Reply, Wire};

/// What reaches open answers may take: five seconds, and a busy machine's.
const REACH: Duration = Duration::from_secs(8);

fn kind(reply: &Reply) -> (u16, String) {
    (reply.code(), reply.json()["type"].as_str().unwrap().to_owned())
}

fn refused(status: u16, kind: &str) -> (u16, String) {
    (status, kind.to_owned())
}

#[tokio::test]
async fn a_token_makes_no_token_that_may_do_more_than_itself() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let (_, token) = cast::api_token(&mut wire, &service.token, "organization:acme", "tokens:write jobs:read").await;
    let more = |scope: &str, permission: &str| json!({ "name": "more", "scope": scope, "permissions": [permission] });

    let larger = wire.post("/api/v1/tokens", &token, &more("repository:acme/a", "jobs:write")).await;
    assert_eq!(kind(&larger), refused(403, "forbidden"));
    assert!(larger.text().contains("jobs:write"), "{larger:?}");
    for outside in ["instance", "organization:other", "repository:other/a"] {
        let reply = wire.post("/api/v1/tokens", &token, &more(outside, "jobs:read")).await;
        assert_eq!(kind(&reply), refused(404, "not-found"), "{outside}");
    }
    let (id, smaller) = cast::api_token(&mut wire, &token, "repository:acme/a", "jobs:read").await;
    assert_eq!(wire.get("/api/v1/jobs", &smaller).await.code(), 200);

    // The smaller one may not even list, and nobody is shown a text again.
    assert_eq!(kind(&wire.get("/api/v1/tokens", &smaller).await), refused(403, "forbidden"));
    let listed = wire.get("/api/v1/tokens", &token).await;
    assert!(!listed.text().contains("slp_"), "{listed:?}");
    let scopes: Vec<Value> =
        listed.json()["tokens"].as_array().unwrap().iter().map(|token| token["scope"].clone()).collect();
    assert_eq!(scopes, [json!("organization:acme"), json!("repository:acme/a")]);

    let path = format!("/api/v1/tokens/api/{id}");
    assert_eq!(wire.delete(&path, &token).await.code(), 204);
    assert_eq!(wire.delete(&path, &token).await.code(), 204, "a repeat changes nothing");
    assert_eq!(kind(&wire.get("/api/v1/jobs", &smaller).await), refused(401, "unauthenticated"));
    assert_eq!(wire.delete("/api/v1/tokens/api/1", &token).await.code(), 404, "the admin's own is out of reach");
}

#[tokio::test]
async fn a_token_that_ends_makes_none_that_does_not() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let request = json!({ "name": "hour", "permissions": ["tokens:write"], "expires_in_seconds": 3600 });
    let hour = wire.post("/api/v1/tokens", &service.token, &request).await.json();
    let token = hour["token"].as_str().unwrap();
    let longer = json!({ "name": "day", "permissions": [], "expires_in_seconds": 86400 });
    assert_eq!(kind(&wire.post("/api/v1/tokens", token, &longer).await), refused(403, "forbidden"));
    let unsaid = wire.post("/api/v1/tokens", token, &json!({ "name": "x", "permissions": [] })).await.json();
    assert_eq!(unsaid["view"]["expires_at"], hour["view"]["expires_at"]);
    for life in [0, 59, u64::MAX] {
        let request = json!({ "name": "x", "permissions": [], "expires_in_seconds": life });
        assert_eq!(kind(&wire.post("/api/v1/tokens", &service.token, &request).await), refused(422, "invalid"));
    }
}

#[tokio::test]
async fn a_revocation_reaches_open_answers_within_seconds() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let runner = cast::puppet(&mut wire, &service.token, "instance", "one").await;
    let taken = cast::taken(&service, &mut wire, "acme/a", &runner).await;
    let (id, token) = cast::api_token(&mut wire, &service.token, "instance", "jobs:read").await;

    let mut following = Wire::open(&service.url).await;
    let path = format!("/api/v1/jobs/{}/logs?follow=true", taken.job);
    let follow = async { following.get(&path, &token).await };
    let mut looking = Wire::open(&service.url).await;
    let version = looking.get(&format!("/api/v1/runs/{}", taken.run), &token).await.json()["version"].clone();
    let path = format!("/api/v1/runs/{}?after_version={version}&timeout_seconds=60", taken.run);
    let look = async { looking.get(&path, &token).await };
    let revoke = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(wire.delete(&format!("/api/v1/tokens/api/{id}"), &service.token).await.code(), 204);
        Instant::now()
    };
    let both = async { tokio::join!(follow, look, revoke) };
    let (log, run, since) = tokio::time::timeout(crate::harness::DEADLINE, both).await.unwrap();
    assert!(since.elapsed() < REACH, "{:?}", since.elapsed());
    assert_eq!(log.code(), 200, "it had begun");
    assert_eq!(kind(&run), refused(401, "unauthenticated"));
}

#[tokio::test]
async fn a_removed_runners_open_poll_ends_and_its_token_is_worth_nothing() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let runner = cast::puppet(&mut wire, &service.token, "instance", "one").await;
    let mut polling = Wire::open(&service.url).await;
    let poll =
        async { polling.post("/api/v1/runners/jobs/poll", &runner.token, &json!({ "timeout_seconds": 60 })).await };
    let remove = async {
        eventually("the poll is open", async || {
            let reply = wire.get("/metrics", &service.token).await.text();
            reply.contains("startline_polls_open 1").then_some(())
        })
        .await;
        assert_eq!(wire.delete(&format!("/api/v1/runners/{}", runner.id), &service.token).await.code(), 204);
        Instant::now()
    };
    let (ended, since) = tokio::join!(poll, remove);
    assert!(since.elapsed() < REACH, "{:?}", since.elapsed());
    assert_eq!(kind(&ended), refused(410, "runner-offline"));
    let reply = wire.post("/api/v1/runners/heartbeat", &runner.token, &json!({ "status": "online" })).await;
    assert_eq!(kind(&reply), refused(410, "runner-offline"));
}

#[tokio::test]
async fn a_registration_token_is_bound_to_networks_and_labels() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let root = service.token.clone();
    let mut register = async |token: &str, name: &str, labels: &[&str]| {
        wire.post("/api/v1/runners", token, &cast::machine(name, labels)).await
    };
    let mut minting = Wire::open(&service.url).await;
    let mut mint = async |request: Value| cast::registration_token(&mut minting, &root, &request).await;

    let here = mint(json!({ "cidr": ["192.0.2.0/24", "127.0.0.0/8"] })).await;
    assert_eq!(register(&here, "d", &[]).await.code(), 201);
    let elsewhere = mint(json!({ "cidr": ["10.0.0.0/8", "2001:db8::/32"] })).await;
    assert_eq!(kind(&register(&elsewhere, "e", &[]).await), refused(403, "forbidden"));

    let narrow = mint(json!({ "labels": ["linux"] })).await;
    let spoofed = register(&narrow, "f", &["linux", "prod"]).await;
    assert_eq!(kind(&spoofed), refused(422, "label-not-allowed"));
    assert!(spoofed.text().contains("prod") && !spoofed.text().contains("linux,"), "{spoofed:?}");
    assert_eq!(register(&narrow, "f", &["Linux"]).await.code(), 201, "a refusal was no use, and case does not matter");

    let database = rusqlite::Connection::open(service.data.path().join("startline.db")).unwrap();
    database.busy_timeout(crate::harness::DEADLINE).unwrap();
    let sql = "UPDATE runner_groups SET policy = '{\"protected_labels\":[\"prod\"]}' WHERE name = 'default'";
    assert_eq!(database.execute(sql, []).unwrap(), 1);
    let any = mint(json!({})).await;
    let spoofed = register(&any, "g", &["PROD"]).await;
    assert_eq!(kind(&spoofed), refused(422, "label-not-allowed"));
    let named = mint(json!({ "labels": ["prod"] })).await;
    assert_eq!(register(&named, "g", &["prod"]).await.code(), 201);

    for cidr in [json!([]), json!(["10.0.0.0/33"]), json!(["example.com"]), json!([""])] {
        let reply = minting.post("/api/v1/runners/registration-token", &root, &json!({ "cidr": cidr })).await;
        assert_eq!(kind(&reply), refused(422, "invalid"), "{cidr}");
    }
}

#[tokio::test]
async fn listings_show_what_lies_in_the_scope_and_their_pages_lose_nothing() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let mut ours = Vec::new();
    for number in 0..12 {
        let repository = if number % 3 == 0 { "acme/a" } else { "other/a" };
        let request = json!({ "workflow": cast::workflow("nobody"), "repository": repository });
        let run = wire.post("/api/v1/runs", &service.token, &request).await.json()["run"]["id"].as_i64().unwrap();
        if number % 3 == 0 {
            ours.push(run);
        }
    }
    ours.reverse();
    let (_, token) = cast::api_token(&mut wire, &service.token, "organization:acme", "jobs:read").await;
    for limit in [1, 2, 3, 4, 5, 500] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = wire.get(&format!("/api/v1/runs?limit={limit}{cursor}"), &token).await.json();
            let runs = page["runs"].as_array().unwrap();
            assert!(runs.len() <= limit, "{page}");
            seen.extend(runs.iter().map(|run| run["id"].as_i64().unwrap()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, ours, "limit {limit}");
    }
}

#[tokio::test]
async fn no_url_is_built_from_what_a_request_says_of_its_host() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let runner = cast::puppet(&mut wire, &service.token, "instance", "one").await;
    let evil = [
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "host=evil.example;proto=https"),
    ];
    let request = json!({ "workflow": cast::workflow("one") }).to_string();
    let bearer = Some(service.token.as_str());
    let run = wire.send(Method::POST, "/api/v1/runs", bearer, &evil, request.as_bytes()).await;
    assert_eq!(run.code(), 201, "{run:?}");
    let poll = br#"{"timeout_seconds":5,"auto_acquire":true}"#;
    let job = wire.send(Method::POST, "/api/v1/runners/jobs/poll", Some(&runner.token), &evil, poll).await;
    assert_eq!(job.code(), 200, "{job:?}");
    for reply in [&run, &job] {
        assert!(!reply.text().contains("evil.example"), "{reply:?}");
        assert!(reply.headers.values().all(|value| value != "evil.example"), "{reply:?}");
    }
    assert!(job.json()["urls"]["complete"].as_str().unwrap().starts_with(&service.url), "{job:?}");
}

#[tokio::test]
async fn a_flood_of_wrong_tokens_fills_no_disk() {
    let service = Service::start(&["--failed-auth-rate", "0"]);
    let mut wire = Wire::open(&service.url).await;
    for _ in 0..300 {
        let unknown = startline_crypto::new_api_token();
        assert_eq!(wire.get("/api/v1/runs", unknown.expose()).await.code(), 401);
    }
    let lines = wire.get("/api/v1/audit?action=authenticate", &service.token).await.json();
    let lines = lines["records"].as_array().unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["outcome"], "refused: unknown");
    assert_eq!(lines[0]["subject"], "GET /api/v1/runs");
    // What was only counted is written when the service stops.
    let mut service = service;
    service.process.signal(nix::sys::signal::Signal::SIGTERM);
    service.process.ended(crate::harness::DEADLINE).await;
    service.restart();
    let mut wire = Wire::open(&service.url).await;
    let lines = wire.get("/api/v1/audit?action=authenticate", &service.token).await.json();
    assert_eq!(lines["records"][1]["details"]["repeats"], "299", "{lines}");
}

#[tokio::test]
async fn the_audit_log_tells_who_did_what_from_where_and_only_to_those_who_may_know() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let runner = cast::puppet(&mut wire, &service.token, "organization:acme", "one").await;
    let taken = cast::taken(&service, &mut wire, "acme/a", &runner).await;
    let done = format!("/api/v1/runners/jobs/{}/complete", taken.job);
    let body = br#"{"conclusion":"success"}"#;
    let id = [("x-request-id", "mine-7")];
    assert_eq!(wire.send(Method::POST, &done, Some(&taken.token), &id, body).await.code(), 200);

    let lines = wire.get("/api/v1/audit", &service.token).await.json();
    let lines = lines["records"].as_array().unwrap().clone();
    let told: Vec<(String, String)> = lines
        .iter()
        .map(|line| (line["action"].as_str().unwrap().to_owned(), line["actor"].as_str().unwrap().to_owned()))
        .collect();
    let told: Vec<(&str, &str)> = told.iter().map(|(action, actor)| (action.as_str(), actor.as_str())).collect();
    let (job, runner) = (format!("job:{}", taken.job), format!("runner:{} (one)", runner.id));
    assert_eq!(
        told,
        [
            ("token.create", "service"),
            ("token.create", "api_token:1 (admin)"),
            ("runner.register", "registration_token:1"),
            ("run.submit", "api_token:1 (admin)"),
            ("job.acquire", runner.as_str()),
            ("job.complete", job.as_str()),
        ]
    );
    let last = lines.last().unwrap();
    assert_eq!((last["request_id"].as_str(), last["address"].as_str()), (Some("mine-7"), Some("127.0.0.1")));
    assert_eq!((last["scope"].as_str(), last["outcome"].as_str()), (Some("repository:acme/a"), Some("success")));

    let (_, inside) = cast::api_token(&mut wire, &service.token, "repository:acme/a", "audit:read").await;
    let seen = wire.get("/api/v1/audit?action=job.", &inside).await.json();
    assert_eq!(seen["records"].as_array().unwrap().len(), 2, "{seen}");
    let (_, outside) = cast::api_token(&mut wire, &service.token, "repository:acme/b", "audit:read").await;
    let seen = wire.get("/api/v1/audit?action=job.", &outside).await.json();
    assert_eq!(seen["records"].as_array().unwrap().len(), 0, "{seen}");
    assert_eq!(wire.get("/api/v1/audit?scope=repository:acme/a", &outside).await.code(), 404);

    // Page by page it is the same log.
    let (mut paged, mut cursor) = (0, String::new());
    loop {
        let page = wire.get(&format!("/api/v1/audit?limit=2{cursor}"), &service.token).await.json();
        paged += page["records"].as_array().unwrap().len();
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(paged, lines.len() + 2, "the two tokens made since");
}
