//! A client that speaks the wire as the official runner does: headers, casing, byte order marks, and no manners beyond
//! those (actions/runner, `Runner.Listener` and `Sdk`).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::Service;
use crate::http::{Reply, Wire};

/// What a runner calls itself.
pub(crate) const AGENT: &str = "VSServices/1.0 GitHubActionsRunner-linux-x64/2.336.0 CommitSHA/258d6c857";

/// A service, in whatever process it runs.
pub(crate) trait At {
    /// Its address.
    fn url(&self) -> &str;
    /// The token of its administrator.
    fn admin(&self) -> &str;
}

impl At for Service {
    fn url(&self) -> &str {
        &self.url
    }

    fn admin(&self) -> &str {
        &self.token
    }
}

/// One request on a connection of its own, with what every request of the official runner carries.
pub(crate) async fn send(
    service: &impl At,
    method: Method,
    path: &str,
    authorization: Option<&str>,
    body: Option<&Value>,
) -> Reply {
    let text = body.map(Value::to_string).unwrap_or_default();
    let mut headers = vec![("user-agent", AGENT), ("accept", "application/json")];
    if body.is_some() {
        headers.push(("content-type", "application/json; charset=utf-8"));
    }
    if let Some(authorization) = authorization {
        headers.push(("authorization", authorization));
    }
    let mut wire = Wire::open(service.url()).await;
    wire.send(method, path, None, &headers, text.as_bytes()).await
}

/// The path of a URL below the service.
pub(crate) fn path<'a>(service: &impl At, url: &'a str) -> &'a str {
    url.strip_prefix(service.url()).unwrap_or_else(|| panic!("{url} is not below {}", service.url()))
}

/// How the client signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    Pss,
    Pkcs1,
}

/// A configured official runner.
pub(crate) struct Official {
    pub id: i64,
    pub client_id: String,
    pub authorization_url: String,
    pub server_url: String,
    pub padding: Padding,
    key: KeyPair,
    pub token: String,
    pub session: String,
    process: u32,
    pub name: String,
}

impl Official {
    /// `config.sh --unattended`, request by request.
    pub(crate) async fn configure(service: &impl At, place: &str, token: &str, name: &str, labels: &[&str]) -> Self {
        let made = Self::try_configure(service, place, token, name, labels, json!({})).await;
        made.unwrap_or_else(|reply| panic!("{reply:?}"))
    }

    /// The same, with members put over those of the registration; the first refusal ends it.
    pub(crate) async fn try_configure(
        service: &impl At,
        place: &str,
        token: &str,
        name: &str,
        labels: &[&str],
        over: Value,
    ) -> Result<Self, Box<Reply>> {
        let url = format!("{}/{place}", service.url());
        let auth = format!("RemoteAuth {token}");
        let ok = |reply: Reply| if reply.status.is_success() { Ok(reply.json()) } else { Err(Box::new(reply)) };
        let body = json!({ "url": url, "runner_event": "register" });
        let connection =
            ok(send(service, Method::POST, "/api/v3/actions/runner-registration", Some(&auth), Some(&body)).await)?;
        assert_eq!(connection["token_schema"], "OAuthAccessToken");
        assert_eq!(connection["use_v2_flow"], true);
        assert!(!connection["token"].as_str().unwrap().is_empty());

        let scope = if place.contains('/') { format!("repos/{place}") } else { format!("orgs/{place}") };
        let groups =
            ok(send(service, Method::GET, &format!("/api/v3/{scope}/actions/runner-groups"), Some(&auth), None).await)?;
        let groups = groups["runner_groups"].as_array().unwrap();
        let group = groups.iter().find(|group| group["default"] == true).expect("a default group");
        assert_eq!(group["is_hosted"], false);
        let found =
            ok(send(service, Method::GET, &format!("/api/v3/{scope}/actions/runners?name={name}"), Some(&auth), None)
                .await)?;
        let found = found["runners"].as_array().unwrap().first().cloned();

        let pair = startline_crypto::RunnerKeyPair::generate();
        let (key, xml) = read_key(&pair.credentials_rsaparams());
        let mut all: Vec<Value> =
            ["self-hosted", "Linux", "X64"].map(|name| json!({"id": 0, "name": name, "type": "system"})).into();
        all.extend(labels.iter().map(|name| json!({"id": 0, "name": name, "type": "user"})));
        let mut body = json!({
            "url": url, "group_id": group["id"], "name": name, "version": "2.336.0", "updates_disabled": false,
            "ephemeral": false, "labels": all, "public_key": xml,
        });
        if let Some(found) = found {
            body["runner_id"] = found["id"].clone();
        }
        for (member, value) in over.as_object().unwrap() {
            body[member] = value.clone();
        }
        let made = ok(send(service, Method::POST, "/api/v3/actions/runners/register", Some(&auth), Some(&body)).await)?;
        let authorization = &made["authorization"];
        let text = |member: &str| authorization[member].as_str().unwrap().to_owned();
        assert_eq!(connection["url"], authorization["server_url"], "or the runner looks for an older service first");
        Ok(Self {
            id: made["id"].as_i64().unwrap(),
            client_id: text("client_id"),
            authorization_url: text("authorization_url"),
            server_url: text("server_url"),
            padding: Padding::Pss,
            key,
            token: String::new(),
            session: String::new(),
            process: 4711,
            name: name.to_owned(),
        })
    }

    /// `run.sh --jitconfig`.
    pub(crate) fn unpack(encoded: &str) -> Self {
        let files: Value = serde_json::from_slice(&STANDARD.decode(encoded).unwrap()).unwrap();
        let file = |name: &str| -> Value {
            serde_json::from_slice(&STANDARD.decode(files[name].as_str().unwrap()).unwrap()).unwrap()
        };
        let (settings, credentials) = (file(".runner"), file(".credentials"));
        assert_eq!(settings["UseV2Flow"], "True");
        assert_eq!(credentials["Scheme"], "OAuth");
        let (key, _) = read_key(&file(".credentials_rsaparams").to_string());
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            id: text(&settings["AgentId"]).parse().unwrap(),
            client_id: text(&credentials["Data"]["ClientId"]),
            authorization_url: text(&credentials["Data"]["AuthorizationUrl"]),
            server_url: text(&settings["ServerUrlV2"]),
            padding: if credentials["Data"]["requireFipsCryptography"] == "True" {
                Padding::Pss
            } else {
                Padding::Pkcs1
            },
            key,
            token: String::new(),
            session: String::new(),
            process: 4711,
            name: text(&settings["AgentName"]),
        }
    }

    /// A signed assertion that is fresh now.
    pub(crate) fn assertion(&self) -> String {
        self.assertion_with(&json!({}))
    }

    /// The same, with claims put over.
    pub(crate) fn assertion_with(&self, over: &Value) -> String {
        let now = jiff::Timestamp::now().as_second();
        let mut claims = json!({
            "sub": self.client_id, "jti": Uuid::new_v4().to_string(), "iss": self.client_id,
            "aud": self.authorization_url, "nbf": now, "exp": now + 300,
        });
        for (claim, value) in over.as_object().unwrap() {
            claims[claim] = value.clone();
        }
        let (alg, encoding): (_, &'static dyn RsaEncoding) = match self.padding {
            Padding::Pss => ("PS256", &RSA_PSS_SHA256),
            Padding::Pkcs1 => ("RS256", &RSA_PKCS1_SHA256),
        };
        let header = json!({ "typ": "JWT", "alg": alg }).to_string();
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(encoding, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The token exchange with this assertion.
    pub(crate) async fn exchange(&self, service: &impl At, assertion: &str) -> Reply {
        let form = format!(
            "grant_type=client_credentials&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion={assertion}"
        );
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")];
        let mut wire = Wire::open(service.url()).await;
        wire.send(Method::POST, path(service, &self.authorization_url), None, &headers, form.as_bytes()).await
    }

    /// Gets a token.
    pub(crate) async fn authorize(&mut self, service: &impl At) {
        let reply = self.exchange(service, &self.assertion()).await;
        assert_eq!(reply.code(), 200, "{reply:?}");
        assert_eq!(reply.headers["content-type"], "application/json");
        reply.json()["access_token"].as_str().unwrap().clone_into(&mut self.token);
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// Asks for a session, as a process of its own on this host.
    pub(crate) async fn try_session(&mut self, service: &impl At, host: &str) -> Reply {
        self.process += 1;
        let body = json!({
            "sessionId": "00000000-0000-0000-0000-000000000000", "ownerName": format!("{host} (PID: {})", self.process),
            "agent": { "id": self.id, "name": self.name, "version": "2.336.0", "osDescription": "Linux 6.8.0",
                       "ephemeral": null, "status": 0, "provisioningState": null },
            "useFipsEncryption": false,
        });
        let path = format!("{}session", path(service, &self.server_url));
        send(service, Method::POST, &path, Some(&self.bearer()), Some(&body)).await
    }

    /// Gets a token and a session.
    pub(crate) async fn listen(&mut self, service: &impl At) {
        self.authorize(service).await;
        let reply = self.try_session(service, "host-1").await;
        assert_eq!(reply.code(), 200, "{reply:?}");
        assert_eq!(reply.headers["content-type"], "application/json");
        let id: Uuid = reply.json()["sessionId"].as_str().unwrap().parse().expect("a GUID");
        self.session = id.to_string();
    }

    /// One poll.
    pub(crate) async fn poll(&self, service: &impl At, status: &str) -> Reply {
        self.poll_as(service, status, "2.336.0").await
    }

    pub(crate) async fn poll_as(&self, service: &impl At, status: &str, version: &str) -> Reply {
        let path = format!(
            "{}message?sessionId={}&status={status}&runnerVersion={version}&os=Linux&architecture=X64&disableUpdate=false",
            path(service, &self.server_url),
            self.session
        );
        send(service, Method::GET, &path, Some(&self.bearer()), None).await
    }

    /// Polls without a pause until there is a message, as the official runner does.
    pub(crate) async fn message(&self, service: &impl At, status: &str) -> (String, Value) {
        let until = tokio::time::Instant::now() + crate::harness::DEADLINE;
        loop {
            let reply = self.poll(service, status).await;
            assert!(reply.status.is_success(), "{reply:?}");
            if reply.code() == 200 {
                assert_eq!(reply.headers["content-type"], "application/json");
                let message = reply.json();
                assert!(message["messageId"].is_i64());
                let body = serde_json::from_str(message["body"].as_str().unwrap()).unwrap();
                return (message["messageType"].as_str().unwrap().to_owned(), body);
            }
            assert!(tokio::time::Instant::now() < until, "no message");
        }
    }

    /// Waits for a job offer.
    pub(crate) async fn offer(&self, service: &impl At) -> Value {
        let (kind, body) = self.message(service, "Online").await;
        assert_eq!(kind, "RunnerJobRequest");
        body
    }

    pub(crate) async fn acknowledge(&self, service: &impl At, offer: &Value) -> Reply {
        let path = format!(
            "{}acknowledge?sessionId={}&status=Online&runnerVersion=2.336.0&os=Linux&architecture=X64",
            path(service, &self.server_url),
            self.session
        );
        let body = json!({ "runnerRequestId": offer["runner_request_id"] });
        send(service, Method::POST, &path, Some(&self.bearer()), Some(&body)).await
    }

    pub(crate) async fn acquire(&self, service: &impl At, offer: &Value) -> Reply {
        let base = path(service, offer["run_service_url"].as_str().unwrap());
        assert!(base.ends_with('/'), "{base}");
        let body = json!({
            "jobMessageId": offer["runner_request_id"], "runnerOS": "Linux", "billingOwnerId": offer["billing_owner_id"],
        });
        send(service, Method::POST, &format!("{base}acquirejob"), Some(&self.bearer()), Some(&body)).await
    }

    /// Takes the next job, as far as the worker's start.
    pub(crate) async fn take(&self, service: &impl At) -> Held {
        let offer = self.offer(service).await;
        assert!(self.acknowledge(service, &offer).await.status.is_success());
        let reply = self.acquire(service, &offer).await;
        assert_eq!(reply.code(), 200, "{reply:?}");
        assert_eq!(reply.headers["content-type"], "application/json");
        let held = Held::new(service, reply.json());
        let renewed = held.renew(service).await;
        assert_eq!(renewed.code(), 200, "{renewed:?}");
        held
    }

    /// The clean way out.
    pub(crate) async fn leave(&self, service: &impl At) -> Reply {
        let path = format!("{}session", path(service, &self.server_url));
        send(service, Method::DELETE, &path, Some(&self.bearer()), None).await
    }
}

/// A job in a worker's hands.
pub(crate) struct Held {
    pub message: Value,
    pub(super) base: String,
    pub token: String,
}

impl Held {
    pub(crate) fn new(service: &impl At, message: Value) -> Self {
        let endpoints = message["resources"]["endpoints"].as_array().unwrap();
        let named: Vec<&Value> =
            endpoints.iter().filter(|endpoint| endpoint["name"] == "SystemVssConnection").collect();
        assert_eq!(named.len(), 1, "`SingleOrDefault` throws on two");
        assert_eq!(named[0]["authorization"]["scheme"], "OAuth");
        let url = named[0]["url"].as_str().unwrap();
        assert!(url.ends_with('/'), "{url}");
        let base = path(service, url).to_owned();
        let token = named[0]["authorization"]["parameters"]["AccessToken"].as_str().unwrap().to_owned();
        Self { message, base, token }
    }

    fn ids(&self) -> Value {
        json!({ "planId": self.message["plan"]["planId"], "jobId": self.message["jobId"] })
    }

    pub(crate) async fn renew(&self, service: &impl At) -> Reply {
        let bearer = format!("Bearer {}", self.token);
        send(service, Method::POST, &format!("{}renewjob", self.base), Some(&bearer), Some(&self.ids())).await
    }

    pub(crate) async fn complete(&self, service: &impl At, conclusion: &str, over: Value) -> Reply {
        let mut body = self.ids();
        body["conclusion"] = conclusion.into();
        body["stepResults"] = json!([]);
        for (member, value) in over.as_object().unwrap() {
            body[member] = value.clone();
        }
        let bearer = format!("Bearer {}", self.token);
        send(service, Method::POST, &format!("{}completejob", self.base), Some(&bearer), Some(&body)).await
    }
}

/// A key from the eight numbers of `.credentials_rsaparams`, and its public half as .NET writes it.
fn read_key(text: &str) -> (KeyPair, String) {
    let json: Value = serde_json::from_str(text).unwrap();
    let number = |name: &str| STANDARD.decode(json[name].as_str().unwrap()).unwrap();
    let xml = format!(
        "<RSAKeyValue><Modulus>{}</Modulus><Exponent>{}</Exponent></RSAKeyValue>",
        json["modulus"].as_str().unwrap(),
        json["exponent"].as_str().unwrap()
    );
    let key = KeyPair::from_components(&KeyPairComponents {
        public_key: PublicKeyComponents { n: number("modulus"), e: number("exponent") },
        d: number("d"),
        p: number("p"),
        q: number("q"),
        dP: number("dp"),
        dQ: number("dq"),
        qInv: number("inverseQ"),
    });
    (key.unwrap(), xml)
}
