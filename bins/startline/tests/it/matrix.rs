//! Every kind of bearer against every route, inside and outside its scope.
//!
//! [`ROUTES`] is the whole API; a route of the router that is not in it fails the test. What must be answered follows
//! from a route's line by the rule in [`Route::expects`], never from a list of cells.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};
use startline_protocol::permission::Permission;

use crate::cast::{self, Puppet, Taken};
use crate::harness::Service;
use crate::http::{Reply, Wire};

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// API tokens with this permission.
    Api(Permission),
    /// Those of the whole instance only.
    Instance(Permission),
    /// API tokens with this permission, and the runner that the path names.
    ApiOrRunner(Permission),
    /// API tokens with this permission, and every runner; each gets what is its own.
    ApiOrAnyRunner(Permission),
    Registrar,
    Runner,
    /// The job that the path names.
    Job,
    Anybody,
}

/// What a route is about, which decides what a token of another organization is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// One thing, or a scope named in the body: 404 from outside.
    Thing,
    /// A list: from outside it holds nothing of ours.
    List,
    /// The caller itself.
    Self_,
}

struct Route {
    method: &'static str,
    path: &'static str,
    who: Who,
    about: About,
    /// How the audit log calls it.
    audit: Option<&'static str>,
}

const fn route(method: &'static str, path: &'static str, who: Who, about: About) -> Route {
    Route { method, path, who, about, audit: None }
}

impl Route {
    const fn audited(mut self, action: &'static str) -> Self {
        self.audit = Some(action);
        self
    }
}

use About::{List, Self_, Thing};
use Permission as P;
use Who::{Anybody, Api, ApiOrAnyRunner, ApiOrRunner, Instance, Job, Registrar, Runner};

const ROUTES: &[Route] = &[
    route("POST", "/api/v1/runners/registration-token", Api(P::RunnersRegister), Thing).audited("token.create"),
    route("POST", "/api/v1/runners", Registrar, Self_).audited("runner.register"),
    route("GET", "/api/v1/runners", Api(P::RunnersRead), List),
    route("GET", "/api/v1/runners/{id}", ApiOrRunner(P::RunnersRead), Thing),
    route("DELETE", "/api/v1/runners/{id}", ApiOrRunner(P::RunnersWrite), Thing).audited("runner.delete"),
    route("POST", "/api/v1/runners/heartbeat", Runner, Self_),
    route("PATCH", "/api/v1/runners/capabilities", Runner, Self_).audited("runner.capabilities"),
    route("POST", "/api/v1/runners/token", Runner, Self_).audited("token.renew"),
    route("POST", "/api/v1/runners/jobs/poll", Runner, Self_),
    route("POST", "/api/v1/runners/jobs/{id}/acquire", Runner, Self_),
    route("POST", "/api/v1/runners/jobs/{id}/renew", Job, Thing),
    route("POST", "/api/v1/runners/jobs/{id}/status", Job, Thing),
    route("PATCH", "/api/v1/runners/jobs/{id}/logs", Job, Thing),
    route("POST", "/api/v1/runners/jobs/{id}/complete", Job, Thing).audited("job.complete"),
    route("POST", "/api/v1/runs", Api(P::JobsWrite), Thing).audited("run.submit"),
    route("GET", "/api/v1/runs", Api(P::JobsRead), List),
    route("GET", "/api/v1/runs/{id}", Api(P::JobsRead), Thing),
    route("POST", "/api/v1/runs/{id}/cancel", Api(P::JobsWrite), Thing).audited("run.cancel"),
    route("POST", "/api/v1/runs/{id}/rerun", Api(P::JobsWrite), Thing),
    route("POST", "/api/v1/jobs", Api(P::JobsWrite), Thing).audited("job.submit"),
    route("GET", "/api/v1/jobs", Api(P::JobsRead), List),
    route("GET", "/api/v1/jobs/{id}", Api(P::JobsRead), Thing),
    route("GET", "/api/v1/jobs/{id}/logs", Api(P::JobsRead), Thing),
    route("GET", "/api/v1/jobs/{id}/explain", Api(P::JobsRead), Thing),
    route("GET", "/api/v1/tokens", Api(P::TokensRead), List),
    route("POST", "/api/v1/tokens", Api(P::TokensWrite), Thing).audited("token.create"),
    route("DELETE", "/api/v1/tokens/{kind}/{id}", Api(P::TokensWrite), Thing).audited("token.revoke"),
    route("GET", "/api/v1/runner-groups", Api(P::GroupsRead), List),
    route("PUT", "/api/v1/runner-groups/{name}", Api(P::GroupsWrite), Thing).audited("runner_group.set"),
    route("DELETE", "/api/v1/runner-groups/{name}", Api(P::GroupsWrite), Thing).audited("runner_group.delete"),
    route("GET", "/api/v1/secrets", Api(P::SecretsRead), List),
    route("PUT", "/api/v1/secrets/{name}", Api(P::SecretsWrite), Thing).audited("secret.set"),
    route("DELETE", "/api/v1/secrets/{name}", Api(P::SecretsWrite), Thing).audited("secret.delete"),
    route("GET", "/api/v1/variables", Api(P::VariablesRead), List),
    route("PUT", "/api/v1/variables/{name}", Api(P::VariablesWrite), Thing).audited("variable.set"),
    route("DELETE", "/api/v1/variables/{name}", Api(P::VariablesWrite), Thing).audited("variable.delete"),
    route("GET", "/api/v1/audit", Api(P::AuditRead), List),
    route("GET", "/api/v1/audit/verify", Instance(P::AuditRead), Self_),
    route("GET", "/api/v1/events", ApiOrAnyRunner(P::EventsRead), Self_),
    route("GET", "/api/v1/openapi.json", Anybody, Self_),
];

/// The value of a secret, which must be found nowhere.
const SECRET: &str = "canary-5f1c-of-the-matrix";

/// A bearer of the cast.
#[derive(Clone, Debug)]
enum Bearer {
    None,
    Garbage,
    /// An API token of the organization that everything belongs to.
    Api(Vec<Permission>),
    /// One of the instance.
    Root,
    /// An API token of another organization with all permissions.
    Foreign,
    Registration,
    Runner,
    OtherRunner,
    Job,
    OtherJob,
    /// Expired, revoked, or for a runner that is gone.
    Dead,
    Gone,
}

/// What must be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Neither 401 nor 403 nor 404 nor a fault.
    LetIn,
    /// Let in, and nothing of ours in the answer.
    Nothing,
    Status(u16),
}

impl Route {
    /// The rule.
    fn expects(&self, bearer: &Bearer) -> Expected {
        let api = |permission: Permission, granted: &[Permission]| {
            if permission.is_in(granted) { Expected::LetIn } else { Expected::Status(403) }
        };
        let foreign = match self.about {
            Thing => Expected::Status(404),
            List => Expected::Nothing,
            Self_ => Expected::Status(403),
        };
        match (self.who, bearer) {
            (Anybody, _) => Expected::LetIn,
            (Api(permission) | ApiOrRunner(permission) | ApiOrAnyRunner(permission), Bearer::Api(granted)) => {
                api(permission, granted)
            }
            (ApiOrAnyRunner(_), Bearer::Root | Bearer::Foreign | Bearer::Runner | Bearer::OtherRunner) => {
                Expected::LetIn
            }
            (Instance(_), Bearer::Api(_)) => Expected::Status(403),
            (Api(_) | ApiOrRunner(_) | Instance(_), Bearer::Root) => Expected::LetIn,
            (Api(_) | ApiOrRunner(_) | Instance(_), Bearer::Foreign) => foreign,
            (ApiOrRunner(_) | Runner, Bearer::Runner) => Expected::LetIn,
            (ApiOrRunner(_), Bearer::OtherRunner) => Expected::Status(404),
            (Runner, Bearer::OtherRunner) => Expected::LetIn,
            (ApiOrRunner(_) | ApiOrAnyRunner(_) | Runner, Bearer::Gone) => Expected::Status(410),
            (Registrar, Bearer::Registration) | (Job, Bearer::Job) => Expected::LetIn,
            (Job, Bearer::OtherJob) => Expected::Status(404),
            _ => Expected::Status(401),
        }
    }
}

/// Everything that requests are about; all of it belongs to the organization `acme`.
struct Stage {
    service: Service,
    wire: Wire,
    runner: Puppet,
    taken: Taken,
    count: u32,
}

/// One request's thing, made afresh where the request may end it.
struct Subject {
    path: String,
    body: Value,
    /// In whose name a runner or a job is let in.
    bearer: Option<String>,
}

impl Stage {
    async fn open() -> Self {
        // Nothing may run out while the cells are gone through.
        let service = Service::start(&["--lease", "30m", "--offline-after", "30m", "--failed-auth-rate", "0"]);
        let mut wire = Wire::open(&service.url).await;
        let runner = cast::puppet(&mut wire, &service.token, "organization:acme", "own").await;
        let taken = cast::taken(&service, &mut wire, "acme/a", &runner).await;
        Self { service, wire, runner, taken, count: 0 }
    }

    fn name(&mut self) -> String {
        self.count += 1;
        format!("vm-{}", self.count)
    }

    /// A fresh runner of ours.
    async fn puppet(&mut self) -> Puppet {
        let name = self.name();
        cast::puppet(&mut self.wire, &self.service.token, "organization:acme", &name).await
    }

    async fn subject(&mut self, route: &Route, fresh: bool) -> Subject {
        let mut runner = self.runner.clone();
        let mut taken = self.taken.clone();
        let mut token = 1;
        match (route.method, route.path) {
            ("DELETE", "/api/v1/runners/{id}") if fresh => runner = self.puppet().await,
            ("POST", "/api/v1/runs/{id}/cancel" | "/api/v1/runners/jobs/{id}/complete") if fresh => {
                runner = self.puppet().await;
                taken = cast::taken(&self.service, &mut self.wire, "acme/a", &runner).await;
            }
            ("DELETE", "/api/v1/tokens/{kind}/{id}") => {
                token = cast::api_token(&mut self.wire, &self.service.token, "organization:acme", "").await.0;
            }
            ("POST", "/api/v1/runners/token") if fresh => runner = self.puppet().await,
            _ => {}
        }
        let id = match route.path {
            path if path.starts_with("/api/v1/runners/{id}") => runner.id,
            path if path.starts_with("/api/v1/runs/") => taken.run,
            _ => taken.job,
        };
        let path = match route.path {
            // Whoever is let in is told that this is no kind of event, instead of a stream without an end.
            "/api/v1/events" => "/api/v1/events?types=weather".to_owned(),
            "/api/v1/tokens/{kind}/{id}" => format!("/api/v1/tokens/api/{token}"),
            path if path.ends_with("/{name}") => path.replace("{name}", "MATRIX") + "?organization=acme",
            path => path.replace("{id}", &id.to_string()),
        };
        let body = match (route.method, route.path) {
            ("POST", "/api/v1/runners/registration-token") => json!({ "scope": "organization:acme" }),
            ("POST", "/api/v1/runners") => cast::machine(&self.name(), &["x"]),
            ("POST", "/api/v1/runners/heartbeat") => json!({ "status": "online" }),
            ("PATCH", "/api/v1/runners/capabilities") => cast::machine("x", &[])["capabilities"].clone(),
            ("POST", "/api/v1/runners/jobs/poll") => json!({ "timeout_seconds": 0 }),
            ("POST", "/api/v1/runners/jobs/{id}/acquire") => json!({ "epoch": 1 }),
            ("POST", "/api/v1/runners/jobs/{id}/status") => json!({ "steps": [] }),
            ("POST", "/api/v1/runners/jobs/{id}/complete") => json!({ "conclusion": "success" }),
            ("POST", "/api/v1/runs") => json!({ "workflow": cast::workflow("nobody"), "repository": "acme/a" }),
            ("POST", "/api/v1/jobs") => {
                let step = json!({
                    "type": "action", "id": "a0000000-0000-4000-8000-000000000004", "condition": "success()",
                    "reference": { "type": "script" }, "inputs": { "type": 2, "map": [] },
                });
                json!({
                    "repository": "acme/a", "job_definition": { "steps": [step] },
                    "requirements": { "labels": ["nobody"] },
                })
            }
            ("PUT", "/api/v1/secrets/{name}") => json!({ "value": SECRET }),
            ("PUT", "/api/v1/variables/{name}") => json!({ "value": "x" }),
            ("POST", "/api/v1/tokens") => json!({ "name": "x", "permissions": [], "scope": "organization:acme" }),
            _ => json!({}),
        };
        let bearer = match route.who {
            Runner | ApiOrRunner(_) => Some(runner.token),
            Job => Some(taken.token),
            _ => None,
        };
        Subject { path, body, bearer }
    }

    async fn ask(&mut self, route: &Route, subject: &Subject, bearer: Option<&str>) -> Reply {
        let method: Method = route.method.parse().unwrap();
        if route.method == "PATCH" && route.path.ends_with("/logs") {
            let headers = [("content-range", "bytes 0-1/*")];
            return self.wire.send(method, &subject.path, bearer, &headers, b"x\n").await;
        }
        let body = if route.method == "GET" { String::new() } else { subject.body.to_string() };
        self.wire.send(method, &subject.path, bearer, &[], body.as_bytes()).await
    }
}

/// Who may call a route, as the document of the API says it: kinds of bearers, with a permission where one is needed.
fn documented() -> BTreeMap<String, BTreeMap<String, Vec<String>>> {
    let document: Value = serde_json::from_str(&startline_server::openapi()).unwrap();
    let mut routes = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let security: Vec<BTreeMap<String, Vec<String>>> =
                serde_json::from_value(operation["security"].clone()).unwrap();
            routes.insert(format!("{} {path}", method.to_uppercase()), security.into_iter().flatten().collect());
        }
    }
    routes
}

/// The router is built from the table that the document is made from, so what stands in one stands in the other.
#[test]
fn every_route_of_the_router_stands_in_the_matrix_and_says_who_may_call_it() {
    let bearers = |who: Who| -> BTreeMap<String, Vec<String>> {
        let api = |permission: Permission| ("apiToken".to_owned(), vec![permission.to_string()]);
        let other = |name: &str| (name.to_owned(), Vec::new());
        match who {
            Api(permission) | Instance(permission) => BTreeMap::from([api(permission)]),
            ApiOrRunner(permission) | ApiOrAnyRunner(permission) => {
                BTreeMap::from([api(permission), other("runnerToken")])
            }
            Registrar => BTreeMap::from([other("registrationToken")]),
            Runner => BTreeMap::from([other("runnerToken")]),
            Job => BTreeMap::from([other("jobToken")]),
            Anybody => BTreeMap::new(),
        }
    };
    let known: BTreeMap<_, _> =
        ROUTES.iter().map(|route| (format!("{} {}", route.method, route.path), bearers(route.who))).collect();
    assert_eq!(documented(), known);
}

#[tokio::test]
async fn every_bearer_gets_at_every_route_what_the_rule_says_and_the_audit_log_has_it_all() {
    let mut stage = Stage::open().await;
    let root = stage.service.token.clone();
    let data = stage.service.data.path().to_owned();
    let all: Vec<&str> = Permission::ALL.iter().map(|permission| permission.as_str()).collect();
    let all = all.join(" ");

    // The cast: a name for failures, what it is, and its text.
    let mut cast: Vec<(String, Bearer, Option<String>)> = vec![
        ("nobody".to_owned(), Bearer::None, None),
        ("garbage".to_owned(), Bearer::Garbage, Some("garbage".to_owned())),
        ("three words with dots".to_owned(), Bearer::Garbage, Some("a.b.c".to_owned())),
        ("root".to_owned(), Bearer::Root, Some(root.clone())),
        ("unknown API token".to_owned(), Bearer::Dead, Some(startline_crypto::new_api_token().expose().to_owned())),
    ];
    for permission in Permission::ALL {
        let (_, token) = cast::api_token(&mut stage.wire, &root, "organization:acme", permission.as_str()).await;
        cast.push((format!("only {permission}"), Bearer::Api(vec![*permission]), Some(token)));
    }
    let (_, token) = cast::api_token(&mut stage.wire, &root, "organization:acme", "").await;
    cast.push(("no permission".to_owned(), Bearer::Api(Vec::new()), Some(token)));
    let (_, token) = cast::api_token(&mut stage.wire, &root, "organization:acme", &all).await;
    cast.push(("all permissions".to_owned(), Bearer::Api(Permission::ALL.to_vec()), Some(token)));
    let (_, token) = cast::api_token(&mut stage.wire, &root, "organization:other", &all).await;
    cast.push(("another organization's".to_owned(), Bearer::Foreign, Some(token)));
    let (id, token) = cast::api_token(&mut stage.wire, &root, "instance", &all).await;
    assert_eq!(stage.wire.delete(&format!("/api/v1/tokens/api/{id}"), &root).await.code(), 204);
    cast.push(("revoked API token".to_owned(), Bearer::Dead, Some(token)));
    let (_, token) = cast::api_token(&mut stage.wire, &root, "instance", &all).await;
    expire_and_push(&mut cast, &data, "api_tokens", "expired API token", token);

    let acme = json!({ "scope": "organization:acme" });
    let token = cast::registration_token(&mut stage.wire, &root, &acme).await;
    cast.push(("registration token".to_owned(), Bearer::Registration, Some(token)));
    let token = cast::registration_token(&mut stage.wire, &root, &acme).await;
    expire_and_push(&mut cast, &data, "registration_tokens", "expired registration token", token);
    let token = cast::registration_token(&mut stage.wire, &root, &acme).await;
    let listed = stage.wire.get("/api/v1/tokens", &root).await.json();
    let last = listed["tokens"].as_array().unwrap().iter().rfind(|token| token["kind"] == "registration").unwrap();
    let path = format!("/api/v1/tokens/registration/{}", last["id"]);
    assert_eq!(stage.wire.delete(&path, &root).await.code(), 204);
    cast.push(("revoked registration token".to_owned(), Bearer::Dead, Some(token)));

    cast.push(("the runner".to_owned(), Bearer::Runner, None));
    let other = cast::puppet(&mut stage.wire, &root, "organization:other", "other").await;
    let other_taken = cast::taken(&stage.service, &mut stage.wire, "other/b", &other).await;
    cast.push(("another runner".to_owned(), Bearer::OtherRunner, Some(other.token)));
    let token = cast::puppet(&mut stage.wire, &root, "organization:acme", "old").await.token;
    expire_and_push(&mut cast, &data, "runner_tokens", "expired runner token", token);
    let gone = cast::puppet(&mut stage.wire, &root, "organization:acme", "gone").await;
    assert_eq!(stage.wire.delete(&format!("/api/v1/runners/{}", gone.id), &root).await.code(), 204);
    cast.push(("removed runner".to_owned(), Bearer::Gone, Some(gone.token)));

    cast.push(("the job".to_owned(), Bearer::Job, None));
    cast.push(("another job".to_owned(), Bearer::OtherJob, Some(other_taken.token)));
    let token = cast::expired_job_token(&data, stage.taken.job, stage.taken.run);
    cast.push(("expired job token".to_owned(), Bearer::Dead, Some(token)));

    let mut wrong = Vec::new();
    let mut cells = 0;
    for route in ROUTES {
        for (name, bearer, text) in &cast {
            let expected = route.expects(bearer);
            let subject = stage.subject(route, expected == Expected::LetIn).await;
            let own = match bearer {
                Bearer::Runner => Some(if matches!(route.who, Runner | ApiOrRunner(_)) {
                    subject.bearer.clone().unwrap()
                } else {
                    stage.runner.token.clone()
                }),
                Bearer::Job => {
                    Some(if route.who == Job { subject.bearer.clone().unwrap() } else { stage.taken.token.clone() })
                }
                _ => text.clone(),
            };
            let reply = stage.ask(route, &subject, own.as_deref()).await;
            cells += 1;
            let holds = match expected {
                Expected::LetIn => !matches!(reply.code(), 401 | 403 | 404 | 410) && reply.code() < 500,
                Expected::Nothing => reply.code() == 200 && !reply.text().contains("acme"),
                Expected::Status(status) => reply.code() == status,
            };
            if !holds {
                wrong.push(format!(
                    "{} {} by {name}: expected {expected:?}, got {} {}",
                    route.method,
                    route.path,
                    reply.code(),
                    reply.text().chars().take(200).collect::<String>()
                ));
            }
            if reply.code() >= 400 {
                let problem = reply.headers.get("content-type").is_some_and(|kind| kind == "application/problem+json");
                assert!(problem && reply.json()["title"].is_string(), "{reply:?}");
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {cells} cells: {wrong:#?}", wrong.len());
    assert_eq!(cells, ROUTES.len() * cast.len());

    let lines = audit_log(&mut stage.wire, &root).await;
    for route in ROUTES {
        if let Some(action) = route.audit {
            let done = lines.iter().any(|line| line["action"] == action && line["outcome"] == "success");
            assert!(done, "{} {} left no line `{action}`", route.method, route.path);
        }
    }
    for reason in ["unknown", "malformed", "wrong_kind", "expired", "revoked", "other_job"] {
        let outcome = format!("refused: {reason}");
        let line = lines.iter().find(|line| line["action"] == "authenticate" && line["outcome"] == outcome.as_str());
        let line = line.unwrap_or_else(|| panic!("no line says `{outcome}`"));
        assert!(line["address"] == "127.0.0.1" && line["request_id"].is_string(), "{line}");
    }
    let log: String = lines.iter().map(Value::to_string).collect();
    let bytes = everything_kept(&data);
    for (name, bearer, text) in &cast {
        let Some(text) = text.as_deref().filter(|_| !matches!(bearer, Bearer::Garbage)) else { continue };
        assert!(!log.contains(text), "the audit log holds the text of: {name}");
        let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!found, "the data directory holds the text of: {name}");
    }
    let found = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
    assert!(!found && !log.contains(SECRET), "a secret's value is kept in the open");
    let verified = stage.wire.get("/api/v1/audit/verify", &root).await.json();
    assert_eq!(verified["valid"], true, "{verified}");
}

fn expire_and_push(
    cast: &mut Vec<(String, Bearer, Option<String>)>,
    data: &std::path::Path,
    table: &str,
    name: &str,
    token: String,
) {
    cast::expire(data, table, &token);
    cast.push((name.to_owned(), Bearer::Dead, Some(token)));
}

/// The whole log, as an export has it.
async fn audit_log(wire: &mut Wire, bearer: &str) -> Vec<Value> {
    let headers = [("accept", "application/x-ndjson")];
    let reply = wire.send(Method::GET, "/api/v1/audit", Some(bearer), &headers, b"").await;
    assert_eq!(reply.headers["content-type"], "application/x-ndjson");
    reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// All bytes of the database and the logs.
fn everything_kept(data: &std::path::Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut open = vec![data.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                open.push(entry.path());
            } else {
                bytes.extend(std::fs::read(entry.path()).unwrap());
            }
        }
    }
    bytes
}
