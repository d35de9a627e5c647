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

/// Below which the same resources are.
const PLACES: [&str; 3] =
    ["/api/v3/repos/acme/demo/actions", "/api/v3/orgs/acme/actions", "/api/v3/enterprises/all/actions"];
const PLACE: &str = PLACES[0];
const SERVICES: &str = "/twirp/github.actions.results.api.v1";
const RECEIVER: &str = "/twirp/results.services.receiver.Receiver";
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// Routes that everybody may ask.
const OPEN: [(&str, &str); 5] = [
    ("GET", "/api/v3"),
    ("GET", "/api/v3/meta"),
    ("GET", "/_runner/_apis/connectionData"),
    ("GET", "/.well-known/openid-configuration"),
    ("GET", "/.well-known/jwks"),
];

type Route = (&'static str, String, &'static [Kind]);

/// Method, path, and which of these bearers it takes; API tokens with the permission are not among them.
fn routes() -> Vec<Route> {
    let mut routes: Vec<Route> = vec![
        ("POST", "/api/v3/actions/runner-registration".to_owned(), &[Powerless, Registration, Remove]),
        ("POST", "/api/v3/actions/runners/register".to_owned(), &[Registration]),
        // An App's signed word.
        ("POST", "/api/v3/app/installations/1/access_tokens".to_owned(), &[]),
        ("POST", "/_runner/session".to_owned(), &[Listener]),
        ("DELETE", "/_runner/session".to_owned(), &[Listener]),
        ("GET", "/_runner/message?status=Busy".to_owned(), &[Listener]),
        ("DELETE", "/_runner/message".to_owned(), &[Listener]),
        ("POST", "/_runner/acknowledge".to_owned(), &[Listener]),
        ("POST", "/_run/acquirejob".to_owned(), &[Listener]),
        ("POST", "/_run/renewjob".to_owned(), &[Job]),
        ("POST", "/_run/completejob".to_owned(), &[Job]),
        ("POST", format!("{SERVICES}.WorkflowStepUpdateService/WorkflowStepsUpdate"), &[Job]),
        ("POST", format!("/actions/build/{NOBODY}/jobs/{NOBODY}/runnerresolve/actions"), &[Job]),
        ("GET", format!("/_feed/{NOBODY}"), &[Job]),
        ("GET", "/_oidc/token?v=1&audience=x".to_owned(), &[Job]),
        // A bearer of its own, for archives alone.
        ("GET", "/_actions/actions/checkout/abc.tar.gz".to_owned(), &[]),
        ("GET", "/acme/demo/info/refs?service=git-upload-pack".to_owned(), &[Job]),
        ("POST", "/acme/demo/git-upload-pack".to_owned(), &[Job]),
        // A signed assertion.
        ("POST", "/_runner/oauth/token".to_owned(), &[]),
        // Signed addresses.
        ("PUT", format!("/_results/{NOBODY}/log/{NOBODY}"), &[]),
        ("GET", "/_blob/artifact/1/x".to_owned(), &[]),
        ("PUT", "/_blob/artifact/1/x".to_owned(), &[]),
    ];
    routes.extend(PLACES.into_iter().flat_map(places));
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
    for base in ["/_cache/_apis/artifactcache", "/_apis/artifactcache"] {
        for (method, path) in [
            ("GET", "cache?keys=a&version=b"),
            ("GET", "caches?key=a"),
            ("POST", "caches"),
            ("PATCH", "caches/1"),
            ("POST", "caches/1"),
        ] {
            routes.push((method, format!("{base}/{path}"), &[Job]));
        }
    }
    routes.extend(sets());
    routes
}

/// What is below each place.
fn places(place: &str) -> Vec<Route> {
    let at = |path: &str| format!("{place}{path}");
    vec![
        ("GET", at("/runner-groups"), &[Registration, Remove]),
        ("GET", at("/runners"), &[Registration, Remove]),
        ("POST", at("/runners/registration-token"), &[]),
        ("POST", at("/runners/remove-token"), &[]),
        ("POST", at("/runners/generate-jitconfig"), &[]),
        ("GET", at("/runners/1"), &[]),
        ("DELETE", at("/runners/1"), &[Remove]),
        ("GET", at("/runners/1/labels"), &[]),
        ("POST", at("/runners/1/labels"), &[]),
        ("PUT", at("/runners/1/labels"), &[]),
        ("DELETE", at("/runners/1/labels"), &[]),
        ("DELETE", at("/runners/1/labels/gpu"), &[]),
    ]
}

/// What controllers and listeners of scale sets ask.
fn sets() -> Vec<Route> {
    let sets = "/_runner/_apis/runtime/runnerscalesets";
    let agents = "/_runner/_apis/distributedtask/pools/0/agents";
    vec![
        ("GET", "/_runner/_apis/runtime/runnergroups/?groupName=x".to_owned(), &[Admin]),
        ("GET", "/_runner/_apis/runtime/runnergroups?groupName=x".to_owned(), &[Admin]),
        ("GET", sets.to_owned(), &[Admin]),
        ("POST", sets.to_owned(), &[Admin]),
        ("GET", format!("{sets}/1"), &[Admin]),
        ("PATCH", format!("{sets}/1"), &[Admin]),
        ("DELETE", format!("{sets}/1"), &[Admin]),
        ("POST", format!("{sets}/1/generatejitconfig"), &[Admin]),
        ("POST", format!("{sets}/1/sessions"), &[Admin]),
        ("PATCH", format!("{sets}/1/sessions/{NOBODY}"), &[Admin]),
        ("DELETE", format!("{sets}/1/sessions/{NOBODY}"), &[Admin]),
        ("GET", format!("{sets}/1/acquirablejobs"), &[Admin]),
        ("GET", agents.to_owned(), &[Admin]),
        ("GET", format!("{agents}/1"), &[Admin]),
        ("DELETE", format!("{agents}/1"), &[Admin]),
        // These take a queue token.
        ("POST", format!("{sets}/1/acquirejobs"), &[]),
        ("POST", "/_runner//_apis/runtime/runnerscalesets/1/acquirejobs".to_owned(), &[]),
        ("GET", "/_runner/scalesets/message?ss=1".to_owned(), &[]),
        ("DELETE", "/_runner/scalesets/message/1?ss=1".to_owned(), &[]),
    ]
}

/// Whether a path is one of those that a door stands for.
fn is_at(path: &str, door: &startline_server::Door) -> bool {
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let (path, pattern) = (path.split('/'), door.path.split('/'));
    path.clone().count() == pattern.clone().count()
        && path.zip(pattern).all(|(path, pattern)| path == pattern || (pattern.starts_with('{') && !path.is_empty()))
}

#[test]
fn every_route_of_the_protocol_stands_here_and_says_who_may_call_it() {
    let mut known: Vec<(&str, String)> = routes().into_iter().map(|(method, path, _)| (method, path)).collect();
    known.extend(OPEN.map(|(method, path)| (method, path.to_owned())));
    let doors = startline_server::doors();
    for door in &doors {
        assert!(
            known.iter().any(|(method, path)| door.method == *method && is_at(path, door)),
            "{} {} has no entry in this file",
            door.method,
            door.path
        );
    }
    for (method, path) in known {
        assert!(
            doors.iter().any(|door| door.method == method && is_at(&path, door)),
            "{method} {path} is no route any more"
        );
    }
}

/// A body that the route takes, so that nothing but the bearer is wrong.
fn body(service: &Service, path: &str) -> Option<Value> {
    match path.rsplit('/').next() {
        Some("registration-token" | "remove-token") => None,
        Some("git-upload-pack") => None,
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
