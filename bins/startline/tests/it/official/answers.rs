//! What every answer of the protocol carries, whoever makes it: the ids by which clients name a request, and a body that
//! the clients of that part interpret.

use http::Method;
use serde_json::Value;

use crate::harness::{Service, eventually};
use crate::http::{Reply, Wire};
use crate::traces::collector::{Collector, Span};

/// The same id under each name, and in the audit log and traces under it.
fn id_of(reply: &Reply) -> String {
    let ids = ["x-request-id", "x-github-request-id", "activityid"].map(|name| {
        let value = reply.headers.get(name).unwrap_or_else(|| panic!("no {name}: {reply:?}"));
        value.to_str().unwrap().to_owned()
    });
    assert!(ids.iter().all(|id| *id == ids[0] && !id.is_empty()), "{ids:?}");
    ids[0].clone()
}

/// The member by which clients of a part know an error of it.
fn speaks(reply: &Reply, member: &str, value: Option<&str>) {
    let kind = if member == "type" { "application/problem+json" } else { "application/json" };
    assert_eq!(reply.headers["content-type"], kind, "{reply:?}");
    match (reply.json().get(member), value) {
        (Some(Value::String(said)), Some(value)) => assert_eq!(said, value, "{reply:?}"),
        (said, _) => assert!(said.is_some_and(Value::is_string), "no {member}: {reply:?}"),
    }
}

#[tokio::test]
async fn every_answer_carries_the_ids_and_every_error_the_body_of_its_part() {
    let service = Service::start(&["--address-rate", "0", "--failed-auth-rate", "0"]);
    // By one byte, so that the service has read all of it before it answers.
    let (large, long) = (vec![b'x'; (8 << 20) + 1], vec![b'x'; (32 << 10) + 1]);
    let (none, broken): (&[u8], &[u8]) = (b"", b"{\"url\":");
    let connect = "/api/v3/actions/runner-registration";
    let token = Some(service.token.as_str());
    for (method, path, bearer, body, status, member, value) in [
        ("GET", "/api/v3/nothing", None, none, 404, "message", None),
        ("GET", "/api/v3/orgs/acme/actions/nothing", None, none, 404, "message", None),
        ("DELETE", "/api/v3/meta", None, none, 405, "message", None),
        ("POST", connect, None, none, 401, "message", None),
        ("POST", connect, token, broken, 422, "message", None),
        ("POST", connect, token, &large, 413, "message", None),
        ("GET", "/_runner/nothing", None, none, 404, "source", Some("actions-broker-listener")),
        ("PUT", "/_runner/message", None, none, 405, "source", Some("actions-broker-listener")),
        ("GET", "/_runner/message", None, none, 401, "source", Some("actions-broker-listener")),
        ("GET", "/_runner/oauth/token", None, none, 400, "error", Some("invalid_request")),
        ("POST", "/_runner/oauth/token", None, broken, 400, "error", Some("invalid_request")),
        ("POST", "/_runner/oauth/token", None, &long, 400, "error", Some("invalid_request")),
        ("GET", "/_runner/_apis/nothing", None, none, 404, "typeKey", Some("VssServiceException")),
        ("PUT", "/_runner/_apis/runtime/runnerscalesets", None, none, 405, "typeKey", Some("VssServiceException")),
        ("GET", "/_runner/scalesets/message?ss=1", None, none, 401, "typeKey", Some("VssUnauthorizedException")),
        ("POST", "/_run/nothing", None, none, 404, "source", Some("actions-run-service")),
        ("GET", "/_run/renewjob", None, none, 405, "source", Some("actions-run-service")),
        ("POST", "/_run/renewjob", None, broken, 401, "source", Some("actions-run-service")),
        ("POST", "/twirp/some.Service/Method", None, none, 404, "code", Some("not_found")),
        (
            "GET",
            "/twirp/results.services.receiver.Receiver/GetJobLogsSignedBlobURL",
            None,
            none,
            405,
            "code",
            Some("bad_route"),
        ),
        ("PUT", "/_results/1/log/1", None, none, 404, "code", None),
        ("GET", "/_cache/nothing", None, none, 404, "message", None),
        ("GET", "/acme/app/info/refs", None, none, 401, "type", None),
        ("GET", "/nothing", None, none, 404, "type", None),
    ] {
        let mut wire = Wire::open(&service.url).await;
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let reply = wire.send(method.clone(), path, bearer, &[("x-request-id", "from-the-caller")], body).await;
        assert_eq!(reply.code(), status, "{method} {path}: {reply:?}");
        assert_eq!(id_of(&reply), "from-the-caller", "{method} {path}");
        speaks(&reply, member, value);
    }
    let mut wire = Wire::open(&service.url).await;
    for path in ["/api/v3/meta", "/_runner/_apis/connectionData", "/.well-known/jwks"] {
        let reply = wire.send(Method::GET, path, None, &[], b"").await;
        assert_eq!((reply.code(), id_of(&reply).len()), (200, 36), "made up where the caller has none");
    }
    let api = wire.get("/api/v1/nothing", &service.token).await;
    assert!(!api.headers.contains_key("x-github-request-id"), "no part of the protocol: {api:?}");
}

#[tokio::test]
async fn who_comes_too_often_is_told_so_in_every_dialect_with_ids_and_a_time_to_wait() {
    let service = Service::start(&["--address-rate", "1"]);
    let mut wire = Wire::open(&service.url).await;
    let mut heard = 0;
    while wire.send(Method::GET, "/api/v3/meta", None, &[], b"").await.code() == 200 {
        heard += 1;
        assert!(heard < 1000, "nobody is told to wait");
    }
    for (path, member, status) in [
        ("/api/v3/meta", "message", 429),
        ("/_runner/message", "source", 429),
        ("/_run/nothing", "source", 429),
        ("/twirp/some.Service/Method", "code", 429),
        ("/_runner/_apis/nothing", "typeKey", 429),
        // Any other status would make a runner go on without a token, and `invalid_client` end it.
        ("/_runner/oauth/token", "error", 400),
    ] {
        // A moment later one more may be heard.
        let reply = eventually("too many", async || {
            let mut wire = Wire::open(&service.url).await;
            let reply = wire.send(Method::POST, path, None, &[("x-request-id", "again")], b"").await;
            reply.headers.contains_key("retry-after").then_some(reply)
        })
        .await;
        assert_eq!(reply.code(), status, "{path}: {reply:?}");
        assert_eq!(id_of(&reply), "again");
        assert!(reply.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
        speaks(&reply, member, (member == "error").then_some("server_error"));
    }
}

#[tokio::test]
async fn the_id_of_an_answer_is_in_the_log_and_in_the_trace() {
    let collector = Collector::start();
    let service = Service::start(&["--otlp-endpoint", &collector.url, "--log", "debug"]);
    let mut wire = Wire::open(&service.url).await;
    for (path, route) in [("/_run/renewjob", "POST /_run/renewjob"), ("/_runner/nothing", "none")] {
        let reply = wire.send(Method::POST, path, None, &[], b"{}").await;
        let id = id_of(&reply);
        eventually("the log has it", async || {
            let log = service.process.errors();
            log.lines().any(|line| line.contains("request answered") && line.contains(&id)).then_some(())
        })
        .await;
        let spans = eventually("the trace has it", async || {
            let spans = collector.spans();
            let named = |span: &&Span| span.attributes.get("startline.request.id") == Some(&id);
            let found: Vec<String> = spans.iter().filter(named).map(|span| span.name.clone()).collect();
            (!found.is_empty()).then_some(found)
        })
        .await;
        assert_eq!(spans, [route]);
    }
}
