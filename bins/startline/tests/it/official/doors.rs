//! Every route of the Actions protocol against every kind of bearer that is not the one it takes.

use base64::Engine as _;
use http::Method;
use serde_json::{Value, json};

use super::client::{Held, Official, send};
use super::{JOB, SHORT, demo, registration_token, rest};
use crate::harness::Service;

/// What a bearer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nothing,
    Garbage,
    /// An API token that may do nothing.
    Powerless,
    /// An API token of another organization.
    Foreign,
    Registration,
    /// A runner's token of the other front door.
    Runner,
    Remove,
    Listener,
    Job,
    /// What scale sets are administered with.
    Admin,
}

use Kind::{Admin, Foreign, Garbage, Job, Listener, Nothing, Powerless, Registration, Remove, Runner};

const PLACE: &str = "/api/v3/repos/acme/demo/actions";
const SERVICES: &str = "/twirp/github.actions.results.api.v1";
const RECEIVER: &str = "/twirp/results.services.receiver.Receiver";

/// Method, path, and which of these bearers it takes; API tokens with the permission are not among them.
fn routes() -> Vec<(&'static str, String, &'static [Kind])> {
    let place = |path: &str| format!("{PLACE}{path}");
    let mut routes: Vec<(&'static str, String, &'static [Kind])> = vec![
        ("POST", "/api/v3/actions/runner-registration".to_owned(), &[Powerless, Registration, Remove]),
        ("POST", "/api/v3/actions/runners/register".to_owned(), &[Registration]),
        ("GET", place("/runner-groups"), &[Registration, Remove]),
        ("GET", place("/runners"), &[Registration, Remove]),
        ("POST", place("/runners/registration-token"), &[]),
        ("POST", place("/runners/remove-token"), &[]),
        ("POST", place("/runners/generate-jitconfig"), &[]),
        ("GET", place("/runners/1"), &[]),
        ("DELETE", place("/runners/1"), &[Remove]),
        ("GET", place("/runners/1/labels"), &[]),
        ("POST", place("/runners/1/labels"), &[]),
        ("PUT", place("/runners/1/labels"), &[]),
        ("DELETE", place("/runners/1/labels"), &[]),
        ("DELETE", place("/runners/1/labels/gpu"), &[]),
        ("POST", "/_runner/session".to_owned(), &[Listener]),
        ("DELETE", "/_runner/session".to_owned(), &[Listener]),
        ("GET", "/_runner/message?status=Busy".to_owned(), &[Listener]),
        ("POST", "/_runner/acknowledge".to_owned(), &[Listener]),
        ("POST", "/_run/acquirejob".to_owned(), &[Listener]),
        ("POST", "/_run/renewjob".to_owned(), &[Job]),
        ("POST", "/_run/completejob".to_owned(), &[Job]),
        ("POST", format!("{SERVICES}.WorkflowStepUpdateService/WorkflowStepsUpdate"), &[Job]),
    ];
    for method in [
        "GetStepLogsSignedBlobURL",
        "CreateStepLogsMetadata",
        "GetJobLogsSignedBlobURL",
        "CreateJobLogsMetadata",
        "GetStepSummarySignedBlobURL",
        "CreateStepSummaryMetadata",
        "GetJobDiagLogsSignedBlobURL",
    ] {
        routes.push(("POST", format!("{RECEIVER}/{method}"), &[Job]));
    }
    for method in ["CreateArtifact", "FinalizeArtifact", "ListArtifacts", "GetSignedArtifactURL", "DeleteArtifact"] {
        routes.push(("POST", format!("{SERVICES}.ArtifactService/{method}"), &[Job]));
    }
    for method in ["CreateCacheEntry", "FinalizeCacheEntryUpload", "GetCacheEntryDownloadURL"] {
        routes.push(("POST", format!("{SERVICES}.CacheService/{method}"), &[Job]));
    }
    for (method, path) in
        [("GET", "cache?keys=a&version=b"), ("POST", "caches"), ("PATCH", "caches/1"), ("POST", "caches/1")]
    {
        routes.push((method, format!("/_cache/_apis/artifactcache/{path}"), &[Job]));
    }
    routes.push(("GET", "/_oidc/token?v=1&audience=x".to_owned(), &[Job]));
    let sets = "/_runner/_apis/runtime/runnerscalesets";
    for (method, path) in [
        ("GET", "/_runner/_apis/runtime/runnergroups/?groupName=x".to_owned()),
        ("GET", sets.to_owned()),
        ("POST", sets.to_owned()),
        ("GET", format!("{sets}/1")),
        ("PATCH", format!("{sets}/1")),
        ("DELETE", format!("{sets}/1")),
        ("POST", format!("{sets}/1/generatejitconfig")),
        ("POST", format!("{sets}/1/sessions")),
        ("GET", "/_runner/_apis/distributedtask/pools/0/agents/1".to_owned()),
        ("DELETE", "/_runner/_apis/distributedtask/pools/0/agents/1".to_owned()),
    ] {
        routes.push((method, path, &[Admin]));
    }
    // These take a queue token, or an address that was signed.
    for (method, path) in [
        ("POST", format!("{sets}/1/acquirejobs")),
        ("GET", "/_runner/scalesets/message?ss=1".to_owned()),
        ("DELETE", "/_runner/scalesets/message/1?ss=1".to_owned()),
    ] {
        routes.push((method, path, &[]));
    }
    routes
}

/// A body that the route takes, so that nothing but the bearer is wrong.
fn body(service: &Service, path: &str) -> Option<Value> {
    match path.rsplit('/').next() {
        Some("registration-token" | "remove-token") => None,
        Some("labels") => Some(json!({"labels": ["x"]})),
        Some("generate-jitconfig") => Some(json!({"name": "x"})),
        _ => Some(json!({
            "url": format!("{}/acme/demo", service.url), "runner_event": "register", "name": "x", "labels": [],
            "public_key": "",
        })),
    }
}

#[tokio::test]
async fn every_route_refuses_every_bearer_that_is_not_its_own() {
    // Refusals are the point here, and come by the thousand from one address.
    let service = Service::start(&[&SHORT[..], &["--failed-auth-rate", "0", "--address-rate", "0"]].concat());
    let registration = registration_token(&service, "repos/acme/demo").await;
    let mut runner = Official::configure(&service, "acme/demo", &registration, "build-07", &[]).await;
    runner.listen(&service).await;
    service.submit_with(demo(JOB)).await;
    let held: Held = runner.take(&service).await;
    let native = service.says(&["token", "registration", "--json"]).out;
    let native: Value = serde_json::from_str(&native).unwrap();
    let made = send(
        &service,
        Method::POST,
        "/api/v1/runners",
        Some(&format!("Bearer {}", native["token"].as_str().unwrap())),
        Some(&json!({"name": "native", "labels": [], "capabilities": {"architecture": "x64", "operating_system": "linux"}})),
    )
    .await;
    let mint = async |body: Value| {
        let authorization = format!("Bearer {}", service.token);
        let reply = send(&service, Method::POST, "/api/v1/tokens", Some(&authorization), Some(&body)).await;
        assert_eq!(reply.code(), 201, "{reply:?}");
        reply.json()["token"].as_str().unwrap().to_owned()
    };
    let remove = rest(&service, Method::POST, &format!("{PLACE}/runners/remove-token"), None).await.json();
    let connection = send(
        &service,
        Method::POST,
        "/api/v3/actions/runner-registration",
        Some(&format!("RemoteAuth {registration}")),
        Some(&json!({"url": format!("{}/acme/demo", service.url), "runner_event": "register"})),
    )
    .await
    .json();
    let cast: Vec<(Kind, String)> = vec![
        (Nothing, String::new()),
        (Garbage, "garbage".to_owned()),
        (Powerless, mint(json!({"name": "powerless", "scope": "repository:acme/demo", "permissions": []})).await),
        (Foreign, mint(json!({"name": "foreign", "scope": "organization:other", "permissions": ["runners:register", "runners:read", "runners:write", "groups:read"]})).await),
        (Registration, registration),
        (Runner, made.json()["runner_token"].as_str().unwrap().to_owned()),
        (Remove, remove["token"].as_str().unwrap().to_owned()),
        (Listener, runner.token.clone()),
        (Job, held.token.clone()),
        (Admin, connection["token"].as_str().unwrap().to_owned()),
    ];
    let mut wrong = Vec::new();
    for (method, path, takes) in routes() {
        for (kind, text) in &cast {
            if takes.contains(kind) {
                continue;
            }
            for scheme in ["Bearer", "RemoteAuth", "Basic"] {
                let authorization = match (kind, scheme) {
                    (Nothing, _) => None,
                    (_, "Basic") => {
                        let pair = base64::engine::general_purpose::STANDARD.encode(format!("github:{text}"));
                        Some(format!("Basic {pair}"))
                    }
                    _ => Some(format!("{scheme} {text}")),
                };
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                let body = (method != Method::GET).then(|| body(&service, &path)).flatten();
                let reply = send(&service, method.clone(), &path, authorization.as_deref(), body.as_ref()).await;
                if !matches!(reply.code(), 400 | 401 | 403 | 404) {
                    wrong.push(format!("{method} {path} with {kind:?} as {scheme}: {}", reply.code()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(held.renew(&service).await.code(), 200, "nothing of this has done anything to the job");
}
