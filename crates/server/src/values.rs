//! The secrets and variables that a job gets: its run's own, over those of its environment, its repository, the
//! repository's organization and the instance.

mod cache;

use std::collections::BTreeMap;
use std::sync::Arc;

use startline_protocol::scope::Scope;
use startline_protocol::value_scope::ValueScope;
use startline_store::{Answer, JobRecord, RunRecord};
use startline_workflow::expression::Value;
use startline_workflow::plan::{self, Instance, RunContext};

use crate::App;
use crate::runs::Compiled;
use crate::submission::Submission;

pub(crate) use cache::Cache;

/// Why a run's secrets cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretsError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] startline_store::Error),
    /// A secret was sealed under a key that is not here, or was tampered with.
    /// What a calling job hands over has no value.
    #[error("the secrets of a called workflow: {0}")]
    Call(String),
    #[error("{what} cannot be opened: {cause}; was secrets.key replaced? put the key back that it was sealed under")]
    Sealed {
        /// Which.
        what: String,
        /// Why.
        cause: String,
    },
}

/// What a sealed secret is bound to, so that the database cannot pass it off as another.
pub(crate) fn bound_to(scope: &ValueScope, name: &str) -> String {
    format!("secret:{scope}:{name}")
}

impl App {
    /// The secrets of one job by name, in clear: for the runner that has acquired it, and nobody else. None for a run whose
    /// code is not trusted.
    ///
    /// They are those of the job's environment and of its run; in a workflow that was called, of the latter those that its
    /// callers hand over.
    pub(crate) async fn secrets_of_job(
        &self,
        run: &RunRecord,
        job: &JobRecord,
    ) -> Result<BTreeMap<String, String>, SecretsError> {
        if !run.run.trusted {
            return Ok(BTreeMap::new());
        }
        let environment = self.opened(environment(job)).await?;
        let own = self.own_secrets(run)?;
        let all = self.opened(scopes(&run.run.repository)).await?;
        let Some(compiled) = self.runs.get(run.id).filter(|_| job.key.contains('.')) else {
            return Ok(over(over(all, environment), own));
        };
        let context = self.context_of(&compiled, run).await?;
        let instances: Vec<Instance> =
            self.store.jobs_of_run(run.id).await?.iter().map(crate::runs::instance).collect();
        let handed = plan::secrets(&compiled.workflow, &context, &instances, &job.key, over(all, own));
        handed.map(|handed| over(handed, environment)).map_err(SecretsError::Call)
    }

    /// Waits until values are set or deleted, and forgets what was read before; also when the caller goes away.
    pub(crate) async fn change_values<T: Send + 'static>(
        self: &Arc<Self>,
        answer: Answer<T>,
    ) -> Result<T, startline_store::Error> {
        let app = Arc::clone(self);
        let changing = self.tasks.spawn(async move {
            let changed = answer.await;
            app.values.changed();
            changed
        });
        changing.await.unwrap_or(Err(startline_store::Error::Closed))
    }

    /// The secrets of these scopes, later ones over earlier ones.
    async fn opened(&self, scopes: Vec<ValueScope>) -> Result<BTreeMap<String, String>, SecretsError> {
        let mut secrets = BTreeMap::new();
        for found in &*self.values.sealed(&*self.store, scopes).await? {
            let bound = bound_to(&found.scope, &found.name);
            let sealed = |cause: String| SecretsError::Sealed {
                what: format!("secret {} of {}", found.name, found.scope),
                cause,
            };
            let open = self.sealing.open(&found.sealed, bound.as_bytes()).map_err(|error| sealed(error.to_string()))?;
            let text = String::from_utf8(open).map_err(|error| sealed(error.to_string()))?;
            secrets.insert(found.name.clone(), text);
        }
        Ok(secrets)
    }

    /// The secrets that came with a run's submission, in clear: for its jobs, or to be sealed again for another run.
    pub(crate) fn own_secrets(&self, run: &RunRecord) -> Result<BTreeMap<String, String>, SecretsError> {
        let Some(sealed) = &run.run.sealed_secrets else { return Ok(BTreeMap::new()) };
        let failed = |cause: String| SecretsError::Sealed { what: format!("the secrets of run {}", run.id), cause };
        let open = self.sealing.open(sealed, run.run.plan_id.as_bytes()).map_err(|error| failed(error.to_string()))?;
        serde_json::from_slice(&open).map_err(|error| failed(error.to_string()))
    }

    /// What the planner needs of a run, with the variables of its repository and of what is above that.
    pub(crate) async fn context_of(
        &self,
        compiled: &Compiled,
        run: &RunRecord,
    ) -> Result<RunContext, startline_store::Error> {
        let mut context = compiled.submission.context(&compiled.workflow, run, &self.config.forge);
        context.vars = self.variables_of(&compiled.submission).await?;
        Ok(context)
    }

    /// The `vars` context of a run.
    pub(crate) async fn variables_of(&self, submission: &Submission) -> Result<Value, startline_store::Error> {
        self.variables(submission, scopes(&submission.repository)).await
    }

    /// The `vars` context of a job with an environment.
    pub(crate) async fn variables_of_job(
        &self,
        compiled: &Compiled,
        job: &JobRecord,
    ) -> Result<Value, startline_store::Error> {
        let mut all = scopes(&compiled.submission.repository);
        all.extend(environment(job));
        self.variables(&compiled.submission, all).await
    }

    async fn variables(&self, submission: &Submission, from: Vec<ValueScope>) -> Result<Value, startline_store::Error> {
        let found = self.values.variables(&*self.store, from).await?;
        let variables = found.iter().map(|found| (found.name.clone(), found.value.clone())).collect();
        let variables = over(variables, submission.variables.clone());
        Ok(Value::object(variables.into_iter().map(|(name, value)| (name, Value::string(value)))))
    }
}

/// Both, the second winning. Names are compared without case.
fn over(mut values: BTreeMap<String, String>, winning: BTreeMap<String, String>) -> BTreeMap<String, String> {
    values.retain(|known, _| !winning.keys().any(|name| name.eq_ignore_ascii_case(known)));
    values.extend(winning);
    values
}

/// Where the values of a repository come from, the narrowest last.
fn scopes(repository: &str) -> Vec<ValueScope> {
    let scopes = Scope::repository(repository).map_or_else(|_| vec![Scope::Instance], |scope| scope.ancestry());
    scopes.into_iter().map(ValueScope::from).collect()
}

/// Where the values of a job's environment come from, if it has one.
fn environment(job: &JobRecord) -> Vec<ValueScope> {
    let scope = job.environment.as_ref().map(|found| ValueScope::environment(&job.repository, &found.name));
    scope.into_iter().flatten().collect()
}
