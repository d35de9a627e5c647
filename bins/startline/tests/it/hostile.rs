//! Attacks on the service, one after the other: what is sent, and what becomes of it. After each the service is there for
//! everybody else, and nothing of it was the service's own fault.
//!
//! Peers that are slow, heads that are too large and connections that are too many are the accept loop's business
//! (`crates/daemon/tests/it`); who may do what is gone through in `matrix.rs`.

use std::time::Duration;

use http::Method;
use serde_json::json;
use startline_protocol::problem::kind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::cast;
use crate::harness::{DEADLINE, Service, eventually};
use crate::http::{Reply, Wire};

/// The value of a metric with these labels, in the service's own words.
pub(crate) async fn metric(wire: &mut Wire, sample: &str) -> Option<f64> {
    let text = wire.send(Method::GET, "/metrics", None, &[], b"").await.text();
    text.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
}

/// It is a problem with this status and kind, which names `what`.
fn refused(reply: &Reply, status: u16, kind: &str, what: &str) {
    assert_eq!(reply.code(), status, "{reply:?}");
    assert_eq!(reply.headers["content-type"], "application/problem+json", "{reply:?}");
    let problem = reply.json();
    assert_eq!(problem["type"], kind, "{problem}");
    let title = problem["title"].as_str().unwrap();
    assert!(title.contains(what), "`{what}` is not in `{title}`");
    let id = reply.headers["x-request-id"].to_str().unwrap();
    assert_eq!(problem["request_id"], id, "{problem}");
}

/// Seconds after which the service wants to be asked again.
fn retry_after(reply: &Reply) -> u64 {
    reply.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

/// What comes back for these bytes until the service closes the connection.
async fn raw(service: &Service, bytes: &[u8]) -> String {
    let talk = async {
        let mut socket = TcpStream::connect(service.url.trim_start_matches("http://")).await.unwrap();
        // The service may close before it has read all.
        drop(socket.write_all(bytes).await);
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = socket.read(&mut piece).await {
            answer.extend_from_slice(&piece[..count]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(DEADLINE, talk).await.expect("the service closes the connection")
}

/// The service still answers, and has not failed once.
async fn unharmed(service: &Service) {
    let mut wire = Wire::open(&service.url).await;
    let reply = wire.get("/api/v1/runs", &service.token).await;
    assert_eq!(reply.code(), 200, "{reply:?}");
    let metrics = wire.send(Method::GET, "/metrics", None, &[], b"").await.text();
    let failed = metrics.lines().find(|line| line.contains("http_requests_total") && line.contains("code=\"5"));
    assert_eq!(failed, None);
    let errors = service.process.errors();
    assert!(!errors.contains("panicked"), "{errors}");
}

#[tokio::test]
async fn who_floods_without_a_bearer_is_asked_to_wait_and_others_behind_the_address_are_not() {
    let service = Service::start(&["--address-rate", "1"]);
    let mut wire = Wire::open(&service.url).await;
    assert_eq!(wire.get("/api/v1/runs", &service.token).await.code(), 200);
    let mut replies = Vec::new();
    for path in ["/api/v1/runs", "/nowhere"].iter().cycle().take(100) {
        replies.push(wire.send(Method::GET, path, None, &[], b"").await);
    }
    let limited: Vec<&Reply> = replies.iter().filter(|reply| reply.code() == 429).collect();
    assert!(limited.len() > 50, "{} of 100", limited.len());
    assert!(replies[..10].iter().all(|reply| matches!(reply.code(), 401 | 404)), "ten may come at once");
    refused(limited[0], 429, kind::TOO_MANY_REQUESTS, "address_rate");
    assert_eq!(retry_after(limited[0]), 1);
    for _ in 0..50 {
        assert_eq!(wire.get("/api/v1/runs", &service.token).await.code(), 200);
        assert_eq!(wire.send(Method::GET, "/healthz", None, &[], b"").await.code(), 200);
    }
    let count = eventually("the metrics", async || {
        metric(&mut Wire::open(&service.url).await, "startline_rate_limited_total{limit=\"address\"}").await
    });
    assert!(count.await >= 50.0);
}

#[tokio::test]
async fn who_tries_bearer_after_bearer_is_asked_to_wait_and_its_neighbours_are_not() {
    let service = Service::start(&["--failed-auth-rate", "1"]);
    let mut wire = Wire::open(&service.url).await;
    let runner = cast::puppet(&mut wire, &service.token, "instance", "one").await;
    let poll = json!({ "timeout_seconds": 0 });
    let mut limited = Vec::new();
    for _ in 0..100 {
        let guess = startline_crypto::new_runner_token();
        let reply = wire.post("/api/v1/runners/jobs/poll", guess.expose(), &poll).await;
        match reply.code() {
            401 => {}
            _ => limited.push(reply),
        }
    }
    assert!((50..=90).contains(&limited.len()), "{} of 100", limited.len());
    refused(&limited[0], 429, kind::TOO_MANY_REQUESTS, "failed_auth_rate");
    assert_eq!(retry_after(&limited[0]), 1);
    // The runner has never shown its token; it was minted here.
    assert_eq!(wire.post("/api/v1/runners/jobs/poll", &runner.token, &poll).await.code(), 204);
    assert_eq!(wire.get("/api/v1/runs", &service.token).await.code(), 200);
    let count = metric(&mut wire, "startline_rate_limited_total{limit=\"auth_failures\"}").await;
    assert!(count.unwrap() >= 50.0);
    unharmed(&service).await;
}

#[tokio::test]
async fn a_client_of_ours_waits_as_long_as_a_rate_asks() {
    let service = Service::start(&["--bearer-rate", "2"]);
    let begin = Instant::now();
    // One is counted for its address, twenty may come at once.
    for _ in 0..25 {
        service.client.runs(None, None).await.unwrap();
    }
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    let mut wire = Wire::open(&service.url).await;
    let count = metric(&mut wire, "startline_rate_limited_total{limit=\"bearer\"}").await;
    assert!(count.unwrap() >= 1.0);
}

/// Submissions of one organization, over so many connections, until it is dropped.
struct Flood {
    tasks: tokio::task::JoinSet<()>,
}

impl Flood {
    async fn start(service: &Service, token: &str, repository: &str, connections: usize) -> Self {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let mut wire = Wire::open(&service.url).await;
            let (token, request) = (token.to_owned(), submission(repository));
            tasks.spawn(async move {
                loop {
                    let reply = wire.post("/api/v1/runs", &token, &request).await;
                    assert!(matches!(reply.code(), 201 | 503), "{reply:?}");
                }
            });
        }
        Self { tasks }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

fn submission(repository: &str) -> serde_json::Value {
    json!({ "workflow": cast::workflow("nobody"), "repository": repository })
}

#[tokio::test]
async fn a_noisy_tenant_slows_only_itself() {
    const NOISY: usize = 40;
    let service = Service::start(&["--concurrency", "1", "--bearer-rate", "0"]);
    let mut wire = Wire::open(&service.url).await;
    let (_, loud) = cast::api_token(&mut wire, &service.token, "organization:loud", "jobs:write").await;
    let (_, quiet) = cast::api_token(&mut wire, &service.token, "organization:quiet", "jobs:write").await;
    // A parked poll has no turn.
    let runner = cast::puppet(&mut wire, &service.token, "instance", "idle").await;
    let mut parked = tokio::task::JoinSet::new();
    let mut held = Wire::open(&service.url).await;
    parked.spawn(async move {
        held.post("/api/v1/runners/jobs/poll", &runner.token, &json!({ "timeout_seconds": 60 })).await
    });
    eventually("the poll is parked", async || {
        metric(&mut wire, "startline_polls_open").await.filter(|open| *open > 0.0)
    })
    .await;

    let flood = Flood::start(&service, &loud, "loud/a", NOISY).await;
    let mut gaps = Vec::new();
    while gaps.len() < 12 {
        eventually("many wait", async || {
            metric(&mut wire, "startline_turns_waiting").await.filter(|waiting| *waiting > 30.0)
        })
        .await;
        // Runs are numbered in the order of their turns. The instance has a turn of its own to ask.
        let before = wire.get("/api/v1/runs?limit=1", &service.token).await.json();
        let before = before["runs"][0]["id"].as_i64().unwrap();
        let reply = wire.post("/api/v1/runs", &quiet, &submission("quiet/a")).await;
        assert_eq!(reply.code(), 201, "{reply:?}");
        gaps.push(reply.json()["run"]["id"].as_i64().unwrap() - before);
    }
    drop(flood);
    // First come, first served would be more than thirty behind each time; on a busy machine some time passes between the
    // two requests, but not each time.
    gaps.sort_unstable();
    assert!(gaps[3] <= 10, "{gaps:?}");
}

#[tokio::test]
async fn a_tenant_whose_queue_is_full_is_told_so_and_no_other_is() {
    let service = Service::start(&["--concurrency", "1", "--tenant-queue", "2", "--bearer-rate", "0"]);
    let mut wire = Wire::open(&service.url).await;
    let (_, loud) = cast::api_token(&mut wire, &service.token, "organization:loud", "jobs:write").await;
    let (_, quiet) = cast::api_token(&mut wire, &service.token, "organization:quiet", "jobs:write").await;
    let flood = Flood::start(&service, &loud, "loud/a", 20).await;
    let full = eventually("a refusal", async || {
        let reply = wire.post("/api/v1/runs", &loud, &submission("loud/a")).await;
        (reply.code() == 503).then_some(reply)
    })
    .await;
    refused(&full, 503, kind::UNAVAILABLE, "tenant_queue");
    assert_eq!(retry_after(&full), 1);
    for _ in 0..10 {
        let reply = wire.post("/api/v1/runs", &quiet, &submission("quiet/a")).await;
        assert_eq!(reply.code(), 201, "{reply:?}");
    }
    drop(flood);
    assert!(metric(&mut wire, "startline_rate_limited_total{limit=\"tenant_queue\"}").await.unwrap() >= 1.0);
}

#[tokio::test]
async fn bodies_that_are_too_large_too_deep_or_no_text_are_refused() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let runner = cast::puppet(&mut wire, &service.token, "instance", "one").await;
    let taken = cast::taken(&service, &mut wire, "acme/a", &runner).await;
    let logs = format!("/api/v1/runners/jobs/{}/logs", taken.job);
    let range = [("content-range", "bytes 0-1/*")];
    let none: &[(&str, &str)] = &[];
    for (method, path, bearer, headers, limit) in [
        (Method::POST, "/api/v1/runners/heartbeat", &runner.token, none, 2 << 20),
        (Method::POST, "/api/v1/runners/jobs/poll", &runner.token, none, 256 << 10),
        (Method::POST, "/api/v1/runs", &service.token, none, 16 << 20),
        (Method::PATCH, logs.as_str(), &taken.token, &range, 4 << 20),
    ] {
        // Over a connection of its own, because the service need not read what it does not want.
        let mut wire = Wire::open(&service.url).await;
        let reply = wire.send(method, path, Some(bearer), headers, &vec![b' '; limit + 1]).await;
        refused(&reply, 413, kind::TOO_LARGE, "larger");
    }

    let nested = |levels: usize| {
        let event = "[".repeat(levels) + &"]".repeat(levels);
        format!(r#"{{"workflow":"on: push","event":{{"deep":{event}}}}}"#)
    };
    for levels in [63, 200, 100_000] {
        let deep = nested(levels);
        for (path, bearer) in [("/api/v1/runs", &service.token), ("/api/v1/runners/jobs/poll", &runner.token)] {
            let reply = wire.send(Method::POST, path, Some(bearer), &[], deep.as_bytes()).await;
            refused(&reply, 422, kind::INVALID, "64 levels");
        }
    }

    for body in [&b"\xff\xfe"[..], b"{\"workflow\":\"\xc3\x28\"}", b"{\"workflow\":\"\\ud800\"}", b"[", b"null", b"\0"]
    {
        let reply = wire.send(Method::POST, "/api/v1/runs", Some(&service.token), &[], body).await;
        refused(&reply, 422, kind::INVALID, "the body");
    }
    unharmed(&service).await;
}

#[tokio::test]
async fn labels_names_and_lists_are_bounded() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let token = cast::registration_token(&mut wire, &service.token, &json!({})).await;
    let machine = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut machine = cast::machine("vm", &["x"]);
        change(&mut machine);
        machine
    };
    let many: Vec<String> = (0..65).map(|number| format!("l{number}")).collect();
    let actions: Vec<String> = (0..257).map(|number| format!("a/b{number}")).collect();
    for (what, request) in [
        ("64", machine(&|machine| machine["labels"] = json!(many))),
        ("256", machine(&|machine| machine["labels"] = json!(["l".repeat(257)]))),
        ("256", machine(&|machine| machine["labels"] = json!(["l".repeat(1 << 20)]))),
        ("label", machine(&|machine| machine["labels"] = json!(["a\0b"]))),
        ("label", machine(&|machine| machine["labels"] = json!([""]))),
        ("name", machine(&|machine| machine["name"] = json!("a\0b"))),
        ("name", machine(&|machine| machine["name"] = json!("a\r\nb"))),
        ("name", machine(&|machine| machine["name"] = json!("n".repeat(65)))),
        ("version", machine(&|machine| machine["version"] = json!("v".repeat(257)))),
        ("256", machine(&|machine| machine["capabilities"]["supported_actions"] = json!(actions))),
        ("action", machine(&|machine| machine["capabilities"]["supported_actions"] = json!(["a".repeat(257)]))),
        ("the body", machine(&|machine| machine["capabilities"]["memory_gb"] = json!(-1))),
        ("the body", machine(&|machine| machine["capabilities"]["cpu_cores"] = json!(1e300))),
    ] {
        let reply = wire.post("/api/v1/runners", &token, &request).await;
        refused(&reply, 422, kind::INVALID, what);
        assert!(reply.body.len() < 2000, "the answer gives {} bytes back", reply.body.len());
    }
    // Of those that were refused the metrics know as well.
    let count = metric(&mut wire, r#"startline_registrations_total{kind="long_lived",outcome="refused"}"#).await;
    assert_eq!(count, Some(13.0));

    let runner = cast::puppet(&mut wire, &service.token, "instance", "one").await;
    let jobs: Vec<u32> = (1..=1001).collect();
    let heartbeat = json!({ "status": "online", "current_jobs": jobs });
    refused(&wire.post("/api/v1/runners/heartbeat", &runner.token, &heartbeat).await, 422, kind::INVALID, "1000");
    let query = format!("/api/v1/runs?{}", "a=b&".repeat(40));
    refused(&wire.get(&query, &service.token).await, 422, kind::INVALID, "32");
    for name in ["%00", "a%00b", "..%2f..%2fetc", "%ff", "a%0d%0ab", "%20"] {
        for path in [format!("/api/v1/secrets/{name}"), format!("/api/v1/runner-groups/{name}")] {
            let reply = wire.send(Method::PUT, &path, Some(&service.token), &[], br#"{"value":"x"}"#).await;
            assert!((400..500).contains(&reply.code()), "{path}: {reply:?}");
        }
    }
    unharmed(&service).await;
}

#[tokio::test]
async fn what_cannot_be_an_id_is_the_id_of_nothing() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    for id in
        ["0", "-1", "-9223372036854775808", "9223372036854775808", "1e3", "0x1", "%00", "1%00", "..%2f1", "%2e%2e", "١"]
    {
        for path in [
            format!("/api/v1/jobs/{id}"),
            format!("/api/v1/jobs/{id}/logs"),
            format!("/api/v1/runs/{id}"),
            format!("/api/v1/runners/{id}"),
        ] {
            let bytes = format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
                service.token
            );
            let answer = raw(&service, bytes.as_bytes()).await;
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(matches!(status, "400" | "404"), "{path}: {answer}");
        }
    }
    for path in ["/api/v1/../../etc/passwd", "/api/v1/jobs/1/logs/../../../secrets.key", "//etc/passwd", "/%2e%2e/x"] {
        let reply = wire.get(path, &service.token).await;
        refused(&reply, 404, kind::NOT_FOUND, "there is no");
    }
    unharmed(&service).await;
}

#[tokio::test]
async fn one_request_is_not_taken_for_two() {
    let service = Service::start(&[]);
    let admin = format!("Authorization: Bearer {}\r\n", service.token);
    let smuggled = format!("GET /api/v1/tokens HTTP/1.1\r\nHost: x\r\n{admin}\r\n");
    for framing in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", smuggled.len() + 5),
        format!("Content-Length: 4\r\nContent-Length: {}\r\n", smuggled.len()),
        "Content-Length: +4\r\n".to_owned(),
        "Content-Length: 4, 5\r\n".to_owned(),
        "Transfer-Encoding: identity\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n".to_owned(),
    ] {
        let bytes = format!("POST /api/v1/nowhere HTTP/1.1\r\nHost: x\r\n{framing}\r\n0\r\n\r\n{smuggled}");
        let answer = raw(&service, bytes.as_bytes()).await;
        assert!(!answer.contains("\"tokens\""), "{framing:?} lets a second request in: {answer}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{framing:?}: {answer}");
    }
    // Requests that stand one behind the other as they should are answered one after the other.
    let request = |close: &str| format!("GET /api/v1/runs?limit=1 HTTP/1.1\r\nHost: x\r\n{admin}{close}\r\n");
    let bytes = request("").repeat(20) + &request("Connection: close\r\n");
    let answer = raw(&service, bytes.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 21, "{answer}");
    unharmed(&service).await;
}

#[tokio::test]
async fn heads_that_are_odd_too_large_or_never_end_are_cut() {
    let service = Service::start(&["--header-timeout", "1s"]);
    let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
    let large = format!("X: {}\r\n", "y".repeat(100_000));
    for fields in [many, large] {
        let bytes = format!("GET /api/v1/runs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
        let answer = raw(&service, bytes.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    for bytes in [
        &b"GET / HTTP/1.1\r\nHo"[..],
        b"\x16\x03\x01\x02\x00",
        b"GET /\0 HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let answer = raw(&service, bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let mut wire = Wire::open(&service.url).await;
    for value in [&b"Bearer \xff\xfe"[..], b"Basic eDp5", b"Bearer", b"bearer  "] {
        let mut bytes = b"GET /api/v1/runs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: ".to_vec();
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n\r\n");
        let answer = raw(&service, &bytes).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    let odd = metric(&mut wire, r#"startline_auth_failures_total{plane="api",reason="scheme"}"#).await;
    assert!(odd.unwrap() >= 2.0, "{odd:?}");
    unharmed(&service).await;
}

#[tokio::test]
async fn nobody_takes_over_or_learns_of_a_runner_of_somebody_else() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let theirs = cast::puppet(&mut wire, &service.token, "organization:acme", "builder").await;
    let token = cast::registration_token(&mut wire, &service.token, &json!({ "scope": "organization:evil" })).await;
    let mut request = cast::machine("builder", &[]);
    request["replace"] = json!(true);
    assert_eq!(wire.post("/api/v1/runners", &token, &request).await.code(), 201);
    let found = wire.get(&format!("/api/v1/runners/{}", theirs.id), &service.token).await;
    assert_eq!(found.code(), 200, "{found:?}");
    assert_eq!(found.json()["scope"], "organization:acme");
    // Among their own it is taken.
    request["replace"] = json!(false);
    refused(&wire.post("/api/v1/runners", &token, &request).await, 409, kind::NAME_TAKEN, "builder");
}
