//! Just-in-time runners: the service makes the key and hands everything out in one piece, which `run.sh --jitconfig`
//! unpacks into the runner's directory (actions/runner `Runner.cs`, `ExecuteCommand`). Any port and path works, since
//! such a runner never looks at the REST interface.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::json;
use startline_crypto::runner_key::RunnerKeyPair;
use startline_protocol::actions::configuration::{Jit, JitRequest};
use startline_protocol::permission::Permission;
use startline_protocol::problem::kind;
use startline_protocol::scope::Scope;
use startline_store::{ActionsRunner, NewRunner, RunnerRecord};
use uuid::Uuid;

use super::configuration::{check_plain_name, machine};
use super::rest::Place;
use crate::App;
use crate::audit::Record;
use crate::auth::Configurer;
use crate::problem::{ApiError, ApiResult};
use crate::routes::extract::Path;
use crate::routes::{Body, runners};

pub(super) async fn generate(
    State(app): State<Arc<App>>,
    caller: Configurer,
    Path(place): Path<Place>,
    Body(request): Body<JitRequest>,
) -> ApiResult<(StatusCode, Json<Jit>)> {
    let mut record = app.audit(&caller, "runner.register", format_args!("runner ({})", request.name));
    let result: ApiResult<_> = async {
        let scope = place.scope()?;
        caller.within(&scope)?;
        caller.admin()?.need(Permission::RunnersRegister)?;
        record.scope(scope.clone());
        let group = app.group_name(&scope, request.runner_group_id).await?;
        let wanted = Wanted {
            scope,
            group,
            name: request.name,
            labels: request.labels,
            work_folder: request.work_folder,
            scale_set: None,
        };
        let (runner, encoded_jit_config) = app.make_jit(wanted, &mut record).await?;
        Ok((StatusCode::CREATED, Json(Jit { runner: app.shown(runner).await?, encoded_jit_config })))
    }
    .await;
    runners::count(&app, true, &result);
    record.conclude(result).await
}

/// A just-in-time runner to make.
pub(super) struct Wanted {
    pub scope: Scope,
    pub group: String,
    pub name: String,
    pub labels: Vec<String>,
    pub work_folder: Option<String>,
    pub scale_set: Option<i64>,
}

impl App {
    /// Registers a just-in-time runner; answers what `run.sh --jitconfig` takes, which is a secret.
    pub(super) async fn make_jit(
        self: &Arc<Self>,
        wanted: Wanted,
        record: &mut Record,
    ) -> ApiResult<(RunnerRecord, String)> {
        check_plain_name("the name", &wanted.name)?;
        runners::check_labels(&wanted.labels)?;
        let work_folder = wanted.work_folder.filter(|folder| !folder.is_empty()).unwrap_or_else(|| "_work".to_owned());
        if work_folder.len() > 256 || work_folder.contains(['\0', '\n', '\r']) {
            return Err(ApiError::new(StatusCode::BAD_REQUEST, kind::INVALID, "`work_folder` cannot be used"));
        }
        let pair = self.runner_key().await?;
        let client_id = Uuid::new_v4();
        let runner = NewRunner {
            name: wanted.name,
            capabilities: machine(&wanted.labels),
            labels: wanted.labels,
            ephemeral: true,
            version: String::new(),
            replace: false,
            token: None,
            actions: Some(ActionsRunner {
                client_id,
                public_key: pair.public().to_bytes(),
                pss_only: true,
                disable_update: true,
                jit: true,
                scale_set: wanted.scale_set,
                work_folder: Some(work_folder.clone()),
            }),
        };
        let registered = self.store.create_runner(wanted.scope, wanted.group, runner, self.clock.now());
        let runner = self.welcome(registered, record).await?;
        let group = self.group_number(&runner.scope, &runner.group).await?;
        let blob = self.jit_config(&runner, group, client_id, &work_folder, &pair);
        Ok((runner, blob))
    }

    /// A key that lies ready, or else one that is made now, beside the threads that answer requests.
    async fn runner_key(self: &Arc<Self>) -> ApiResult<RunnerKeyPair> {
        if let Some(pair) = self.actions.keys.try_take() {
            return Ok(pair);
        }
        let cannot = || ApiError::unavailable("a key cannot be made now");
        // A burst waits here, and leaves processors to those who poll; what is made meanwhile is taken first.
        let turn = self.actions.making.acquire().await.map_err(|_| cannot())?;
        let app = Arc::clone(self);
        let pair = tokio::task::spawn_blocking(move || app.actions.keys.take()).await.map_err(|_| cannot())?;
        drop(turn);
        Ok(pair)
    }

    /// Three files of the runner's directory, by name. GitHub writes numbers and booleans as text, and so is it read.
    fn jit_config(
        &self,
        runner: &RunnerRecord,
        group: i32,
        client_id: Uuid,
        work_folder: &str,
        pair: &RunnerKeyPair,
    ) -> String {
        let urls = &self.actions.urls;
        let home = match &runner.scope {
            Scope::Instance => format!("{}/enterprises/startline", urls.root()),
            Scope::Organization(name) | Scope::Repository(name) => format!("{}/{name}", urls.root()),
        };
        let settings = json!({
            "AgentId": runner.id.0.to_string(),
            "AgentName": runner.name,
            "PoolId": group.to_string(),
            "PoolName": runner.group,
            "DisableUpdate": "True",
            "Ephemeral": "True",
            "IsHostedServer": "False",
            "ServerUrl": urls.server(),
            "GitHubUrl": home,
            "WorkFolder": work_folder,
            "UseV2Flow": "True",
            "ServerUrlV2": urls.server(),
        });
        let credentials = json!({
            "Scheme": "OAuth",
            "Data": {
                "ClientId": client_id.to_string(),
                "AuthorizationUrl": urls.token(),
                "requireFipsCryptography": "True",
            },
        });
        let files = json!({
            ".runner": STANDARD.encode(settings.to_string()),
            ".credentials": STANDARD.encode(credentials.to_string()),
            ".credentials_rsaparams": STANDARD.encode(pair.credentials_rsaparams()),
        });
        STANDARD.encode(files.to_string())
    }
}
