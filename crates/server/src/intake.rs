//! From a checked submission to a run that is under way: stored once, whoever asks how often.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use serde::Serialize;
use startline_crypto::token;
use startline_daemon::trace::TraceContext;
use startline_dispatcher::Requirement;
use startline_protocol::context::ContextData;
use startline_protocol::problem::kind;
use startline_store::{Answer, CreatedRun, Hash, JobRecord, NewAudit, NewJob, NewRun, RunRecord, Taker};
use startline_workflow::Workflow;
use startline_workflow::expression::Object;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::App;
use crate::audit::{self, Record};
use crate::dispatch::Landing;
use crate::message::{self, Bound};
use crate::problem::{ApiError, ApiResult};
use crate::runs::Compiled;
use crate::submission::{Forge, Submission};

/// The header that makes a repeat of a submission harmless.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Longest key for repeats.
const LONGEST_KEY: usize = 255;

/// What a run is made from.
pub(crate) struct Intake {
    pub submission: Submission,
    pub workflow: Workflow,
    /// Secrets of the run itself, in clear.
    pub secrets: BTreeMap<String, String>,
    pub trusted: bool,
    pub repeat: Option<Repeat>,
    /// Of the run's only job, where a parked poll may take that at once.
    pub requirement: Option<Arc<Requirement>>,
    /// The request's span.
    pub trace: Option<TraceContext>,
}

/// A caller's key for repeats, and what it is used for.
pub(crate) struct Repeat {
    key: Hash,
    fingerprint: String,
}

impl Repeat {
    /// The key among the headers, if there is one. It counts for this caller and this `deed` alone. `request` must be
    /// without secrets, because a hash of it is kept in the open; secrets are compared where they are sealed.
    pub(crate) fn of(
        headers: &HeaderMap,
        caller: i64,
        deed: &str,
        request: &impl Serialize,
    ) -> ApiResult<Option<Self>> {
        let Some(header) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
        let key = header.to_str().ok().filter(|key| (1..=LONGEST_KEY).contains(&key.len())).ok_or_else(|| {
            ApiError::invalid(format!("`Idempotency-Key` is not 1 to {LONGEST_KEY} printable characters"))
                .detail("use a UUID, a new one for each thing that is wanted once")
        })?;
        let request = serde_json::to_string(request).unwrap_or_default();
        Ok(Some(Self {
            key: token::hash(&format!("{caller}\n{deed}\n{key}")).0,
            fingerprint: token::hash(&request).to_string(),
        }))
    }
}

impl App {
    /// Makes a run, with the jobs that `jobs` makes for its plan, and sets it going; in the same step the record's line is
    /// written, to which `tell_of` adds what is known only then. The run of an earlier submission under
    /// the same key is answered as it stands; another request under that key is refused.
    pub(crate) async fn take_in(
        self: &Arc<Self>,
        mut intake: Intake,
        jobs: impl FnOnce(Uuid) -> Vec<NewJob>,
        record: &mut Record,
        tell_of: fn(&CreatedRun, &mut NewAudit),
    ) -> ApiResult<(RunRecord, Vec<JobRecord>)> {
        let plan_id = Uuid::new_v4();
        let sealed_secrets = if intake.secrets.is_empty() {
            None
        } else {
            let text =
                serde_json::to_vec(&intake.secrets).map_err(|_| ApiError::invalid("the secrets cannot be encoded"))?;
            Some(self.sealing.seal(&text, plan_id.as_bytes()))
        };
        let fingerprint = intake.repeat.as_ref().map(|repeat| repeat.fingerprint.clone());
        intake.submission.fingerprint.clone_from(&fingerprint);
        // Also over one that a run before had.
        intake.submission.traceparent = intake.trace.as_ref().map(ToString::to_string);
        let Intake { submission, workflow, secrets, trusted, repeat, requirement, .. } = intake;
        let stored =
            serde_json::to_string(&submission).map_err(|_| ApiError::invalid("the submission cannot be encoded"))?;
        let new = NewRun {
            plan_id,
            name: workflow.name.clone().unwrap_or_else(|| submission.path.clone()),
            path: submission.path.clone(),
            repository: submission.repository.clone(),
            event_name: submission.event_name.clone(),
            git_ref: submission.git_ref.clone(),
            submission: stored,
            sealed_secrets,
            trusted,
            idempotency: repeat.map(|repeat| repeat.key),
            created_at: self.clock.now(),
        };
        let line = record.hand_over();
        let note = audit::noted(line.clone(), move |created: &CreatedRun, line| {
            tell_of(created, line);
            !created.is_repeat
        });
        let (taker, landing) = requirement.and_then(|requirement| self.taker(requirement)).unzip();
        let created = self.store.create_run_taken(new, jobs(plan_id), note, taker.unwrap_or_else(Taker::none));
        let (tell, made) = oneshot::channel();
        // Whoever asked may go away meanwhile; what is stored goes on all the same.
        self.tasks.spawn(Arc::clone(self).begin_run(created, submission, workflow, landing, tell));
        let created = made.await.unwrap_or(Err(startline_store::Error::Closed));
        if created.as_ref().map_or(true, |created| created.is_repeat) {
            record.take_back(line);
        }
        let created = created?;
        if created.is_repeat {
            let earlier = serde_json::from_str::<Submission>(&created.run.run.submission).ok();
            if self.reopened(&created.run)? != secrets
                || earlier.is_none_or(|earlier| earlier.fingerprint != fingerprint)
            {
                return Err(ApiError::invalid("this `Idempotency-Key` was used for another request")
                    .detail("use a new key for each thing that is wanted once"));
            }
            record.line().into_iter().for_each(|line| tell_of(&created, line));
        }
        Ok((created.run, created.jobs))
    }

    /// Sets a run going when it is durable, and tells whoever submitted it. The run of an earlier submission is left as it
    /// stands.
    async fn begin_run(
        self: Arc<Self>,
        created: Answer<CreatedRun>,
        submission: Submission,
        workflow: Workflow,
        landing: Option<Landing>,
        tell: oneshot::Sender<Result<CreatedRun, startline_store::Error>>,
    ) {
        let mut created = match created.await {
            Ok(created) if !created.is_repeat => created,
            // Who is gone does not miss it.
            other => return drop(tell.send(other)),
        };
        if let Some(name) = run_name(&submission, &workflow, &created.run, &self.config.forge) {
            match self.store.rename_run(created.run.id, name).await {
                Ok(renamed) => created.run = renamed.unwrap_or(created.run),
                Err(error) => tracing::error!(run.id = %created.run.id, %error, "a run keeps its workflow's name"),
            }
        }
        let CreatedRun { run, jobs, .. } = &created;
        let run_id = run.id;
        self.changes.begin(run_id);
        self.events.begin(run, jobs);
        let is_single = submission.single;
        let workflow = self.workflows.shared(&submission, workflow);
        self.runs.begin(run_id, Arc::new(Compiled { workflow, submission }));
        if let Some(landed) = landing.and_then(|landing| landing.take()) {
            // Told first, since the task that is woken last goes on first.
            drop(tell.send(Ok(created)));
            return landed.deliver();
        }
        let is_open = |job: &&JobRecord| job.conclusion.is_none();
        let waits = jobs.iter().any(|job| is_open(&job));
        self.enqueue(jobs.iter().filter(is_open));
        // What else follows, follows from the stored run, here as after a restart; nothing does while its only job waits.
        if !is_single || !waits {
            self.touch_run(run_id);
        }
        drop(tell.send(Ok(created)));
    }

    /// The secrets that came with an earlier submission.
    pub(crate) fn reopened(&self, run: &RunRecord) -> ApiResult<BTreeMap<String, String>> {
        self.own_secrets(run).map_err(|error| {
            tracing::error!(run.id = %run.id, %error, "the secrets of an earlier submission cannot be had");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, kind::INTERNAL, "the run's secrets cannot be opened")
        })
    }

    /// Adds to a job that came without a workflow the contexts that it lacks.
    pub(crate) async fn complete_single(
        &self,
        message: &mut Bound,
        run: &RunRecord,
    ) -> Result<(), startline_store::Error> {
        let Some(compiled) = self.runs.get(run.id).filter(|compiled| compiled.submission.single) else { return Ok(()) };
        let submission = &compiled.submission;
        message.add_context("github", submission.github_data(&compiled.workflow, run.into(), &self.config.forge));
        message.add_context("inputs", ContextData::from_plain(submission.inputs.clone()));
        message.add_context("vars", message::context(&self.variables_of(submission).await?));
        for empty in ["needs", "strategy", "matrix"] {
            message.add_context(empty, ContextData::Dictionary(Vec::new()));
        }
        Ok(())
    }

    /// Gives a job with an environment the variables of that, which the service itself does not see.
    pub(crate) async fn add_variables_of_environment(
        &self,
        message: &mut Bound,
        run: &RunRecord,
        job: &JobRecord,
    ) -> Result<(), startline_store::Error> {
        let Some(compiled) = self.runs.get(run.id).filter(|_| job.environment.is_some()) else { return Ok(()) };
        message.replace_context("vars", message::context(&self.variables_of_job(&compiled, job).await?));
        Ok(())
    }
}

/// What the workflow's `run-name` comes to; the run's own id and number may be in it, so it is known only now.
fn run_name(submission: &Submission, workflow: &Workflow, run: &RunRecord, forge: &Forge) -> Option<String> {
    let template = workflow.run_name.as_ref()?;
    let context = submission.context(workflow, run, forge);
    let scope: Object = [
        ("github".to_owned(), context.github),
        ("inputs".to_owned(), context.inputs),
        ("vars".to_owned(), context.vars),
    ]
    .into_iter()
    .collect();
    match startline_workflow::template::evaluate(template, &scope) {
        Ok(value) => Some(value.to_text().trim().chars().take(255).collect::<String>()).filter(|name| !name.is_empty()),
        Err(error) => {
            tracing::warn!(run.id = %run.id, %error, "run-name cannot be evaluated; the workflow's name is used");
            None
        }
    }
}
