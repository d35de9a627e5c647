//! `config.sh`: the connection, and the registration of a runner that made its key itself.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use startline_crypto::purpose_token::Purpose;
use startline_crypto::runner_key::RunnerPublicKey;
use startline_protocol::actions::configuration::{
    Authorization, Connection, ConnectionRequest, Label, RegisterRequest, Registration,
};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::permission::Permission;
use startline_protocol::problem::kind;
use startline_protocol::scope::Scope;
use startline_store::{ActionsRunner, Answer, NewRunner, Registered, RunnerRecord};
use uuid::Uuid;

use crate::audit::Record;
use crate::auth::{Configurer, Registrar};
use crate::problem::{ApiError, ApiResult};
use crate::routes::{Body, runners};
use crate::{App, views};

/// Life of the bearer of scale set calls. Clients fetch a new one when less than a minute is left of it.
const ADMIN_LIFE: SignedDuration = SignedDuration::from_mins(60);

/// What the bearer of scale set calls says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AdminClaims {
    pub scope: Scope,
    /// Who asked for it, for the audit log.
    pub by: String,
    /// The group that a registration token is bound to.
    pub group: Option<String>,
    /// The labels that a registration token allows; `None` is any that its group does not protect.
    #[serde(default)]
    pub labels: Option<Vec<String>>,
    /// Scale sets may be administered with it.
    #[serde(default)]
    pub scale_sets: bool,
}

/// What a URL means that a user gave as `--url`: one segment is an organization, two are a repository, and
/// `enterprises/<name>` is the whole instance (actions/runner `RunnerDotcomServer.cs`, `GetEntityUrl`).
pub(super) fn scope_of_url(url: &str) -> ApiResult<Scope> {
    let wrong = || {
        ApiError::invalid(format!("`{}` names neither an organization nor a repository", url.escape_debug()))
            .detail("write https://HOST/ORGANIZATION or https://HOST/OWNER/REPOSITORY")
    };
    let uri: http::Uri = url.parse().map_err(|_| wrong())?;
    let mut segments = uri.path().split('/').filter(|segment| !segment.is_empty());
    match (segments.next(), segments.next(), segments.next()) {
        (Some("enterprises"), Some(_), None) => Ok(Scope::Instance),
        (Some(organization), None, None) => Scope::organization(organization).map_err(|_| wrong()),
        (Some(owner), Some(name), None) => Scope::repository(&format!("{owner}/{name}")).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// `POST /api/v3/actions/runner-registration`: where the services are.
pub(super) async fn connect(
    State(app): State<Arc<App>>,
    caller: Configurer,
    Body(request): Body<ConnectionRequest>,
) -> ApiResult<Json<Connection>> {
    let scope = scope_of_url(&request.url)?;
    caller.within(&scope)?;
    let by = crate::audit::Principal::actor(&caller);
    let claims = match &caller {
        Configurer::Registrar(registrar) => {
            runners::check_network(registrar)?;
            let token = &registrar.record.token;
            let (group, labels) = (Some(token.group.clone()), token.labels.clone());
            // A scale set makes any number of runners, which cannot be counted for the token.
            AdminClaims { scope, by, group, labels, scale_sets: token.max_uses.is_none() }
        }
        Configurer::Admin(admin) => {
            let scale_sets = admin.need(Permission::RunnersRegister).is_ok();
            AdminClaims { scope, by, group: None, labels: None, scale_sets }
        }
        Configurer::Remover(..) => AdminClaims { scope, by, group: None, labels: None, scale_sets: false },
    };
    let (token, _) = app.mint(Purpose::Admin, &claims, ADMIN_LIFE)?;
    Ok(Json(Connection {
        url: app.actions.urls.server(),
        token_schema: "OAuthAccessToken".to_owned(),
        token: token.expose().to_owned(),
        use_v2_flow: true,
    }))
}

/// `POST /api/v3/actions/runners/register`.
pub(super) async fn register(
    State(app): State<Arc<App>>,
    caller: Configurer,
    Body(request): Body<RegisterRequest>,
) -> ApiResult<(StatusCode, Json<Registration>)> {
    let mut record = app.audit(&caller, "runner.register", format_args!("runner ({})", request.name));
    let asked = request.ephemeral;
    let (ephemeral, result) = match &caller {
        Configurer::Registrar(registrar) => {
            let ephemeral = registrar.record.token.ephemeral || asked;
            (ephemeral, admit(&app, registrar, request, &mut record).await)
        }
        _ => (asked, Err(ApiError::unauthenticated("this takes a registration token"))),
    };
    runners::count(&app, ephemeral, &result);
    record.conclude(result).await
}

async fn admit(
    app: &Arc<App>,
    registrar: &Registrar,
    request: RegisterRequest,
    record: &mut Record,
) -> ApiResult<(StatusCode, Json<Registration>)> {
    let scope = scope_of_url(&request.url)?;
    if !registrar.record.token.scope.covers(&scope) {
        return Err(ApiError::not_found(format_args!("{scope} for this token")));
    }
    runners::check_network(registrar)?;
    runners::check_name(&request.name)?;
    let labels = runners::distinct(request.labels.into_iter().map(|label: Label| label.name));
    runners::check_labels(&labels)?;
    let key = RunnerPublicKey::from_xml(&request.public_key)
        .map_err(|error| ApiError::invalid(format!("`public_key`: {error}")))?;
    let client_id = Uuid::new_v4();
    let runner = NewRunner {
        name: request.name,
        capabilities: machine(&labels),
        labels,
        ephemeral: request.ephemeral,
        version: request.version,
        replace: request.replace,
        token: None,
        actions: Some(ActionsRunner {
            client_id,
            public_key: key.to_bytes(),
            pss_only: false,
            disable_update: request.updates_disabled,
            jit: false,
            scale_set: None,
            work_folder: None,
        }),
    };
    let hash = startline_crypto::token::hash(registrar.token.expose()).0;
    let registered = app.store.register_runner(hash, runner, app.clock.now());
    let runner = app.welcome(registered, record).await?;
    let answer = Registration {
        id: runner.id.0,
        name: runner.name,
        authorization: Authorization {
            authorization_url: app.actions.urls.token(),
            server_url: app.actions.urls.server(),
            client_id: client_id.to_string(),
        },
    };
    Ok((StatusCode::CREATED, Json(answer)))
}

/// What the labels that every runner puts on itself say of its machine (`ConfigurationManager.cs`, `AddNewAgent`).
pub(super) fn machine(labels: &[String]) -> Capabilities {
    let has = |name: &str| labels.iter().any(|label| label.eq_ignore_ascii_case(name));
    let first = |known: &[(&str, &str)]| known.iter().find(|(label, _)| has(label)).map(|(_, word)| (*word).to_owned());
    let default = Capabilities::default();
    Capabilities {
        architecture: first(&[("X64", "x64"), ("ARM64", "arm64"), ("ARM", "arm"), ("X86", "x86")])
            .unwrap_or(default.architecture),
        operating_system: first(&[("Linux", "linux"), ("macOS", "macos"), ("Windows", "windows")])
            .unwrap_or(default.operating_system),
        ..Capabilities::default()
    }
}

impl App {
    /// Takes a new registration into dispatch, in the place of the one that it replaces; also when the caller goes away
    /// meanwhile.
    pub(crate) async fn welcome(
        self: &Arc<Self>,
        registered: Answer<Registered>,
        record: &mut Record,
    ) -> Result<RunnerRecord, startline_store::Error> {
        let welcomed = self.to_its_end(registered, |app, Registered { runner, replaced }| {
            replaced.iter().for_each(|replaced| app.forget_runner(*replaced));
            // Before the dispatcher tells of it.
            app.actions.scale_sets.welcome(runner);
            app.take_into_dispatch(runner);
            tracing::info!(runner.id = %runner.id, runner.name = runner.name, "runner registered");
        });
        let Registered { runner, replaced } = welcomed.await?;
        if let Some(replaced) = replaced {
            record.detail("replaced", format_args!("runner:{replaced}"));
        }
        record.subject(format_args!("runner:{} ({})", runner.id, runner.name));
        record.detail("group", &runner.group);
        record.detail("labels", runner.labels.join(", "));
        Ok(runner)
    }

    /// Adds a registration to dispatch, or changes the one that is there.
    pub(super) fn take_into_dispatch(self: &Arc<Self>, runner: &RunnerRecord) {
        let now = self.clock.now();
        let mut inner = self.dispatch.lock();
        let effects = inner.dispatcher.add_runner(now, views::spec(runner, self.actions.lease));
        self.apply(&mut inner, now, effects);
    }
}

/// What a name that GitHub's clients put into URLs without quoting them may consist of: the Go client pastes it into a
/// query as it is.
pub(super) fn check_plain_name(what: &str, name: &str) -> ApiResult<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ' ');
    if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::BAD_REQUEST,
        kind::INVALID,
        format!("{what} `{}` cannot be used", name.escape_debug()),
    )
    .detail("use 1 to 64 letters, digits, `.`, `_`, `-` and spaces"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_an_organization_a_repository_or_everything() {
        let scope = |url: &str| scope_of_url(url).ok().map(|scope| scope.to_string());
        assert_eq!(scope("https://ci.example.com/Acme").as_deref(), Some("organization:acme"));
        assert_eq!(scope("http://ci.example.com:8080/acme/app/").as_deref(), Some("repository:acme/app"));
        assert_eq!(scope("https://ci.example.com/enterprises/big").as_deref(), Some("instance"));
        for wrong in ["https://ci.example.com", "https://h/a/b/c", "not a url", "https://h/a%20b"] {
            assert_eq!(scope(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_runners_own_labels_tell_its_machine() {
        let labels = ["self-hosted", "Linux", "ARM64", "gpu"].map(str::to_owned);
        let machine = machine(&labels);
        assert_eq!((machine.architecture.as_str(), machine.operating_system.as_str()), ("arm64", "linux"));
    }
}
