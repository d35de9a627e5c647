//! A client that speaks the wire as GitHub's scale set client does (`actions/scaleset`, `client.go`, `listener.go`), and
//! fails where that one does: at any other status than the one it expects, at statistics that are null, at a token
//! without `exp`, at a time that it cannot read.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{DEADLINE, Service};
use crate::http::{Reply, Wire};
use crate::official::client::{Official, path};

/// What a listener calls itself.
const AGENT: &str = r#"{"system":"actions-runner-controller","version":"0.14.2","commit_sha":"2ee6b3b","scale_set_id":1,"subsystem":"ghalistener","build_version":"0.4.0","build_commit_sha":"6ce0259","kind":"scaleset"}"#;
pub(crate) const VERSION: &str = "api-version=6.0-preview";

async fn send(
    service: &Service,
    method: Method,
    path: &str,
    authorization: &str,
    more: &[(&str, &str)],
    body: Option<&Value>,
) -> Reply {
    let text = body.map(Value::to_string).unwrap_or_default();
    let mut headers =
        vec![("user-agent", AGENT), ("content-type", "application/json"), ("authorization", authorization)];
    headers.extend_from_slice(more);
    let reply = Wire::open(&service.url).await.send(method, path, None, &headers, text.as_bytes()).await;
    // It logs them with every error; here they are of every answer.
    assert!(reply.headers.contains_key("activityid") && reply.headers.contains_key("x-github-request-id"), "{reply:?}");
    reply
}

/// The administration of scale sets in one place.
#[derive(Clone)]
pub(crate) struct Controller {
    pub base: String,
    pub token: String,
}

impl Controller {
    /// Steps 2 and 3 of the way in.
    pub(crate) async fn connect(service: &Service, place: &str) -> Self {
        let scope = if place.contains('/') { format!("repos/{place}") } else { format!("orgs/{place}") };
        let bearer = format!("Bearer {}", service.token);
        let path = format!("/api/v3/{scope}/actions/runners/registration-token");
        let chunked = [("transfer-encoding", "chunked")];
        let reply = send(service, Method::POST, &path, &bearer, &chunked, None).await;
        assert_eq!(reply.code(), 201, "200 is a failure to it: {reply:?}");
        Self::enter(service, place, reply.json()["token"].as_str().unwrap()).await
    }

    /// Step 3 with a token of any kind.
    pub(crate) async fn enter(service: &Service, place: &str, token: &str) -> Self {
        let body = json!({ "url": format!("{}/{place}", service.url), "runner_event": "register" });
        let bearer = format!("RemoteAuth {token}");
        let reply = send(service, Method::POST, "/api/v3/actions/runner-registration", &bearer, &[], Some(&body)).await;
        assert!(reply.status.is_success(), "{reply:?}");
        let connection = reply.json();
        let token = connection["token"].as_str().unwrap().to_owned();
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 3, "it is read as a JWT");
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        let left = claims["exp"].as_i64().expect("without `exp` it panics") - jiff::Timestamp::now().as_second();
        assert!((900..=3600).contains(&left), "with less than a minute left each call would cost three: {left}");
        Self { base: path(service, connection["url"].as_str().unwrap()).to_owned(), token }
    }

    pub(crate) async fn call(&self, service: &Service, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let mark = if path.contains('?') { '&' } else { '?' };
        self.call_raw(service, method, &format!("{path}{mark}{VERSION}"), body).await
    }

    pub(crate) async fn call_raw(&self, service: &Service, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let bearer = format!("Bearer {}", self.token);
        send(service, method, &format!("{}_apis/{path}", self.base), &bearer, &[], body).await
    }

    /// Makes a set and answers its id.
    pub(crate) async fn make(&self, service: &Service, name: &str) -> i64 {
        let body = json!({ "name": name, "runnerGroupId": 1, "labels": [{ "type": "System", "name": name }],
            "RunnerSetting": { "disableUpdate": true }, "createdOn": "0001-01-01T00:00:00Z" });
        let reply = self.call(service, Method::POST, "runtime/runnerscalesets", Some(&body)).await;
        assert_eq!(reply.code(), 200, "201 is a failure to it: {reply:?}");
        reply.json()["id"].as_i64().unwrap()
    }

    pub(crate) async fn try_jit(&self, service: &Service, set: i64, name: &str) -> Reply {
        let path = format!("runtime/runnerscalesets/{set}/generatejitconfig");
        self.call(service, Method::POST, &path, Some(&json!({ "name": name, "workFolder": "" }))).await
    }

    /// A pod: a runner that listens.
    pub(crate) async fn runner(&self, service: &Service, set: i64, name: &str) -> Official {
        let reply = self.try_jit(service, set, name).await;
        assert_eq!(reply.code(), 200, "{reply:?}");
        let answer = reply.json();
        assert_eq!((&answer["runner"]["name"], &answer["runner"]["runnerScaleSetId"]), (&json!(name), &json!(set)));
        let mut runner = Official::unpack(answer["encodedJITConfig"].as_str().unwrap());
        assert_eq!(answer["runner"]["id"], runner.id);
        assert!(runner.server_url.ends_with('/'), "or its last segment is lost");
        runner.listen(service).await;
        runner
    }

    pub(crate) async fn try_session(&self, service: &Service, set: i64, owner: &str) -> Reply {
        let body = json!({ "sessionId": "00000000-0000-0000-0000-000000000000", "ownerName": owner });
        self.call(service, Method::POST, &format!("runtime/runnerscalesets/{set}/sessions"), Some(&body)).await
    }

    /// A listener that begins.
    pub(crate) async fn listen(&self, service: &Service, set: i64, owner: &str) -> Listener {
        let reply = self.try_session(service, set, owner).await;
        assert_eq!(reply.code(), 200, "{reply:?}");
        let mut listener = Listener {
            controller: self.clone(),
            set,
            session: String::new(),
            token: String::new(),
            url: String::new(),
            last: 0,
            statistics: Value::Null,
        };
        listener.take(service, &reply.json());
        assert_eq!(reply.json()["ownerName"], owner);
        listener
    }
}

/// An inner message.
pub(crate) type Inner = Value;

/// A listener with its session.
pub(crate) struct Listener {
    pub controller: Controller,
    pub set: i64,
    pub session: String,
    pub token: String,
    url: String,
    /// The last message that it has read.
    pub last: i64,
    pub statistics: Value,
}

fn check_statistics(statistics: &Value) {
    assert!(statistics.is_object(), "null is a crash to it: {statistics}");
    let names = ["Available", "Acquired", "Assigned", "Running"].map(|name| format!("total{name}Jobs"));
    let runners = ["Registered", "Busy", "Idle"].map(|name| format!("total{name}Runners"));
    for name in names.iter().chain(&runners) {
        assert!(statistics[name].is_i64(), "{name}: {statistics}");
    }
}

fn check_inner(inner: &Inner) {
    for name in ["runnerRequestId", "workflowRunId"] {
        assert!(inner[name].is_i64(), "{name} is a number: {inner}");
    }
    assert_ne!(inner["runnerRequestId"], 0);
    inner["jobId"].as_str().unwrap().parse::<uuid::Uuid>().unwrap();
    for (name, value) in inner.as_object().unwrap() {
        if name.ends_with("Time") {
            value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        if name == "runnerId" {
            assert!(value.is_i64(), "{inner}");
        }
    }
}

impl Listener {
    fn take(&mut self, service: &Service, session: &Value) {
        check_statistics(&session["statistics"]);
        self.statistics = session["statistics"].clone();
        let text = |name: &str| session[name].as_str().unwrap().to_owned();
        (self.session, self.token) = (text("sessionId"), text("messageQueueAccessToken"));
        self.url = path(service, &text("messageQueueUrl")).to_owned();
    }

    pub(crate) fn number(&self, name: &str) -> i64 {
        self.statistics[name].as_i64().unwrap()
    }

    /// How many runners it wants, of at most so many.
    pub(crate) fn wants(&self, most: i64) -> i64 {
        self.number("totalAssignedJobs").min(most)
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    pub(crate) async fn try_refresh(&self, service: &Service) -> Reply {
        let path = format!("runtime/runnerscalesets/{}/sessions/{}", self.set, self.session);
        self.controller.call(service, Method::PATCH, &path, None).await
    }

    pub(crate) async fn refresh(&mut self, service: &Service) {
        let reply = self.try_refresh(service).await;
        assert_eq!(reply.code(), 200, "{reply:?}");
        self.take(service, &reply.json());
    }

    pub(crate) async fn end(&self, service: &Service) -> Reply {
        let path = format!("runtime/runnerscalesets/{}/sessions/{}", self.set, self.session);
        self.controller.call(service, Method::DELETE, &path, None).await
    }

    /// One poll as it stands on the wire.
    pub(crate) async fn try_poll(&self, service: &Service, capacity: i64) -> Reply {
        let url = match self.last {
            0 => self.url.clone(),
            last => format!("{}&lastMessageId={last}", self.url),
        };
        let capacity = capacity.to_string();
        let headers =
            [("accept", "application/json; api-version=6.0-preview"), ("X-Scalesetmaxcapacity", capacity.as_str())];
        send(service, Method::GET, &url, &self.bearer(), &headers, None).await
    }

    /// One poll: the id and the inner messages, or nothing.
    pub(crate) async fn poll(&mut self, service: &Service, capacity: i64) -> Option<(i64, Vec<Inner>)> {
        let mut reply = self.try_poll(service, capacity).await;
        if reply.code() == 401 {
            self.refresh(service).await;
            reply = self.try_poll(service, capacity).await;
        }
        if reply.code() == 202 {
            return None;
        }
        assert_eq!(reply.code(), 200, "any other status ends it: {reply:?}");
        let message = reply.json();
        assert_eq!(message["messageType"], "RunnerScaleSetJobMessages");
        let id = message["messageId"].as_i64().unwrap();
        assert!(id > self.last, "ids grow");
        check_statistics(&message["statistics"]);
        let inner: Vec<Inner> = serde_json::from_str(message["body"].as_str().expect("a string")).unwrap();
        assert!(inner.len() <= 50, "{}", inner.len());
        inner.iter().for_each(check_inner);
        self.statistics = message["statistics"].clone();
        self.last = id;
        Some((id, inner))
    }

    pub(crate) async fn acknowledge(&self, service: &Service, id: i64) {
        let (path, query) = self.url.split_once('?').unwrap();
        let reply = send(service, Method::DELETE, &format!("{path}/{id}?{query}"), &self.bearer(), &[], None).await;
        assert_eq!(reply.code(), 204, "404 ends it: {reply:?}");
    }

    /// Reads and acknowledges until `enough` is true of what it has read and of what it knows.
    pub(crate) async fn read_until(
        &mut self,
        service: &Service,
        capacity: i64,
        what: &str,
        mut enough: impl FnMut(&Self, &[Inner]) -> bool,
    ) -> Vec<Inner> {
        let until = tokio::time::Instant::now() + DEADLINE;
        let mut all = Vec::new();
        while !enough(self, &all) {
            assert!(tokio::time::Instant::now() < until, "{what}: {all:?}, {}", self.statistics);
            if let Some((id, inner)) = self.poll(service, capacity).await {
                self.acknowledge(service, id).await;
                all.extend(inner);
            }
        }
        all
    }

    /// Reads until a message of this kind has come.
    pub(crate) async fn read(&mut self, service: &Service, capacity: i64, kind: &str) -> Inner {
        let all = self.read_until(service, capacity, kind, |_, all| find(all, kind).is_some()).await;
        find(&all, kind).unwrap().clone()
    }

    /// The same as actions-runner-controller did it until 0.13, with its path behind the address as text.
    pub(crate) async fn acquire_as_of_old(&self, service: &Service, ids: &Value) -> Reply {
        let sets = format!("{}/_apis/runtime/runnerscalesets/{}", self.controller.base, self.set);
        send(service, Method::POST, &format!("{sets}/acquirejobs?{VERSION}"), &self.bearer(), &[], Some(ids)).await
    }

    pub(crate) async fn acquire(&self, service: &Service, ids: &Value, bearer: &str) -> Reply {
        let path = format!("{}_apis/runtime/runnerscalesets/{}/acquirejobs?{VERSION}", self.controller.base, self.set);
        send(service, Method::POST, &path, bearer, &[], Some(ids)).await
    }
}

/// The first inner message of a kind.
pub(crate) fn find<'a>(all: &'a [Inner], kind: &str) -> Option<&'a Inner> {
    all.iter().find(|inner| inner["messageType"] == kind)
}
