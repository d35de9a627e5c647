//! A store to work on, and the verbs that bring it into a state.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::{SignedDuration, Timestamp};
use startline_protocol::admin_api::GroupRequest;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::permission::Permission;
use startline_protocol::runs_api::JobEnvironment;
use startline_protocol::scope::Scope;
use startline_protocol::state::{Conclusion, JobStatus, StepStatus};
use startline_protocol::step::{Annotation, AnnotationLevel, StepRecord};
use startline_protocol::value_scope::ValueScope;
use startline_store::memory::Memory;
use startline_store::sqlite::{Options, Sqlite};
use startline_store::{
    ActionsRunner, CompleteOutcome, Completion, CreatedRun, Error, GroupRecord, Hash, JobRecord, NewApiToken,
    NewArtifact, NewAudit, NewCache, NewClaim, NewJob, NewRegistrationToken, NewRun, NewRunner, NewRunnerToken,
    NewScaleSet, RunRecord, RunnerRecord, Store, Wanted,
};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) struct Bench {
    store: Box<dyn Store>,
    names: AtomicU32,
    _directory: TempDir,
}

impl Deref for Bench {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

/// The moment `seconds` after the tests' beginning of time.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

pub(crate) fn hash(number: u32) -> Hash {
    let mut hash = [7; 32];
    hash[..4].copy_from_slice(&number.to_be_bytes());
    hash
}

/// The scope that `text` spells.
pub(crate) fn place(text: &str) -> ValueScope {
    text.parse().unwrap()
}

pub(crate) fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

pub(crate) fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The registration token that [`Bench::runner`] uses.
pub(crate) const OPEN: u32 = 1_000_000;

pub(crate) fn api_token(number: u32) -> NewApiToken {
    NewApiToken {
        name: format!("token {number}"),
        hash: hash(number),
        scope: Scope::Instance,
        permissions: Permission::ALL.to_vec(),
        created_at: at(0),
        expires_at: Some(at(60)),
    }
}

pub(crate) fn registration_token(number: u32) -> NewRegistrationToken {
    NewRegistrationToken {
        name: format!("token {number}"),
        hash: hash(number),
        scope: Scope::Instance,
        labels: None,
        group: "default".to_owned(),
        cidr: None,
        ephemeral: false,
        max_uses: None,
        created_at: at(0),
        expires_at: at(3600),
    }
}

/// A runner's token with this hash, which ends at that second.
pub(crate) fn token_until(number: u32, second: i64) -> Option<NewRunnerToken> {
    Some(NewRunnerToken { hash: hash(number), expires_at: at(second) })
}

/// A runner whose token has the hash of `token`.
pub(crate) fn new_runner(name: &str, token: u32) -> NewRunner {
    NewRunner {
        name: name.to_owned(),
        labels: vec!["linux".to_owned()],
        capabilities: Capabilities::default(),
        ephemeral: false,
        version: "0.1.0".to_owned(),
        replace: false,
        token: token_until(token, 3600),
        actions: None,
    }
}

/// A runner of the Actions protocol; the number is its client's id.
pub(crate) fn actions_runner(name: &str, client: u128) -> NewRunner {
    let actions = ActionsRunner {
        client_id: Uuid::from_u128(client),
        public_key: vec![1, 2, 3],
        pss_only: true,
        disable_update: false,
        jit: false,
        scale_set: None,
        work_folder: None,
    };
    NewRunner { token: None, actions: Some(actions), ..new_runner(name, 0) }
}

pub(crate) fn artifact(name: &str) -> NewArtifact {
    NewArtifact {
        run: RunId(1),
        job: JobId(2),
        repository: "acme/demo".to_owned(),
        name: name.to_owned(),
        mime_type: Some("application/zip".to_owned()),
        blob: format!("blob of {name}"),
        created_at: at(5),
        expires_at: at(100_000),
    }
}

/// A cache entry of the main branch, reserved at second 5.
pub(crate) fn new_cache(key: &str) -> NewCache {
    NewCache {
        repository: "acme/demo".to_owned(),
        scope: "refs/heads/main".to_owned(),
        trusted: true,
        key: key.to_owned(),
        version: "v1".to_owned(),
        blob: format!("blob of {key}"),
        created_at: at(5),
    }
}

pub(crate) fn scale_set(name: &str) -> NewScaleSet {
    NewScaleSet {
        scope: scope("organization:acme"),
        group: "default".to_owned(),
        name: name.to_owned(),
        labels: texts(&["linux", "X64"]),
        settings: r#"{"disableUpdate":true}"#.to_owned(),
        owner: "token:1".to_owned(),
        created_at: at(5),
    }
}

pub(crate) fn new_run(repository: &str, path: &str) -> NewRun {
    NewRun {
        plan_id: Uuid::from_u128(0x1234_5678_9abc_def0),
        name: "build".to_owned(),
        path: path.to_owned(),
        repository: repository.to_owned(),
        event_name: "push".to_owned(),
        git_ref: "refs/heads/main".to_owned(),
        submission: r#"{"inputs":{}}"#.to_owned(),
        sealed_secrets: Some(vec![0, 1, 2, 255]),
        trusted: true,
        idempotency: None,
        created_at: at(10),
    }
}

pub(crate) fn new_job(key: &str) -> NewJob {
    NewJob {
        key: key.to_owned(),
        index: 0,
        name: format!("job {key}"),
        status: JobStatus::Queued,
        conclusion: None,
        reason: None,
        labels: vec!["linux".to_owned(), "memory_gb>=4".to_owned()],
        group: Some("builders".to_owned()),
        claim: None,
        trusted: true,
        priority: -3,
        timeout_minutes: 360,
        cancel_timeout_minutes: 7,
        environment: Some(JobEnvironment { name: "Production".to_owned(), url: None }),
        continue_on_error: true,
        requeues_left: 2,
        message: format!(r#"{{"key":"{key}"}}"#),
        outputs: BTreeMap::new(),
        queued_at: at(11),
    }
}

pub(crate) fn wanted(group: &str) -> Wanted {
    Wanted { group: group.to_owned(), cancel_in_progress: true, queue_max: false }
}

pub(crate) fn new_claim(run: RunId, place: &str, group: &str) -> NewClaim {
    let (place, group_key) = (place.to_owned(), format!("acme/demo\n{group}"));
    NewClaim { run, job: None, place, group_key, wanted: wanted(group) }
}

pub(crate) fn waiting_job(key: &str) -> NewJob {
    NewJob { status: JobStatus::Waiting, reason: Some("max-parallel".to_owned()), ..new_job(key) }
}

pub(crate) fn step(number: u32) -> StepRecord {
    StepRecord {
        number,
        id: None,
        name: format!("step {number}"),
        status: StepStatus::Completed,
        conclusion: Some(Conclusion::Success),
        outcome: Some(Conclusion::Failure),
        started_at: Some(at(20) + SignedDuration::from_nanos(1)),
        completed_at: None,
        log_start: Some(u64::from(number)),
        log_end: None,
        summary: Some("# done \u{1f600}".to_owned()),
    }
}

pub(crate) fn completion(conclusion: Conclusion) -> Completion {
    let annotation = Annotation {
        level: AnnotationLevel::Warning,
        message: "look \"here\"".to_owned(),
        title: None,
        path: Some("src/a.rs".to_owned()),
        start_line: Some(3),
        end_line: None,
        start_column: None,
        end_column: None,
        step_number: Some(1),
    };
    Completion {
        conclusion,
        outputs: BTreeMap::from([("version".to_owned(), "1.2".to_owned())]),
        steps: vec![step(1), step(2)],
        environment_url: Some("https://demo.example.test".to_owned()),
        annotations: vec![annotation],
        ends_run: false,
    }
}

/// An entry of the audit log; lines of different numbers differ.
pub(crate) fn audit_entry(number: u32) -> NewAudit {
    NewAudit {
        at: at(i64::from(number)),
        actor: format!("runner:{number} (one)"),
        action: "job.start".to_owned(),
        subject: "job:7".to_owned(),
        outcome: "success".to_owned(),
        scope: scope("repository:acme/demo"),
        request_id: Some(format!("request-{number}")),
        address: Some("::1".to_owned()),
        details: BTreeMap::from([("number".to_owned(), number.to_string())]),
    }
}

pub(crate) fn database(directory: &TempDir) -> PathBuf {
    directory.path().join("data").join("startline.db")
}

/// The function that chains the audit log.
pub(crate) fn sha256(data: &[u8]) -> Hash {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data);
    digest.as_ref().try_into().unwrap()
}

pub(crate) fn options() -> Options {
    Options::new(sha256)
}

pub(crate) fn open(directory: &TempDir) -> Sqlite {
    Sqlite::open(&database(directory), &options()).unwrap()
}

impl Bench {
    pub(crate) fn memory() -> Self {
        Self::over(Box::new(Memory::new(sha256)), tempfile::tempdir().unwrap())
    }

    pub(crate) fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::over(Box::new(open(&directory)), directory)
    }

    /// The runner that a token speaks for.
    pub(crate) async fn bearer(&self, token: Hash, now: Timestamp) -> Result<Option<RunnerRecord>, Error> {
        Ok(self.runner_by_token(token, now).await?.map(|bearer| bearer.runner))
    }

    fn over(store: Box<dyn Store>, directory: TempDir) -> Self {
        Self { store, names: AtomicU32::new(0), _directory: directory }
    }

    /// A number that was not used yet.
    pub(crate) fn fresh(&self) -> u32 {
        self.names.fetch_add(1, Ordering::Relaxed) + 2_000_000
    }

    /// Adds the token [`registration_token`] after `change`.
    pub(crate) async fn token(&self, number: u32, change: impl FnOnce(&mut NewRegistrationToken)) {
        let mut token = registration_token(number);
        change(&mut token);
        self.create_registration_token(token).await.unwrap();
    }

    /// Registers with token `number` at second 1.
    pub(crate) async fn register(&self, number: u32, runner: NewRunner) -> Result<RunnerRecord, Error> {
        self.register_runner(hash(number), runner, at(1)).await.map(|registered| registered.runner)
    }

    pub(crate) async fn runner_named(&self, name: &str) -> RunnerRecord {
        // Fails from the second time on, which is fine.
        drop(self.create_registration_token(registration_token(OPEN)).await);
        self.register(OPEN, new_runner(name, self.fresh())).await.unwrap()
    }

    pub(crate) async fn some_runner(&self) -> RunnerId {
        self.runner_named(&format!("runner-{}", self.fresh())).await.id
    }

    /// An ephemeral runner that registered at second 1.
    pub(crate) async fn mayfly(&self) -> RunnerId {
        drop(self.create_registration_token(registration_token(OPEN)).await);
        let runner = new_runner(&format!("mayfly-{}", self.fresh()), self.fresh());
        self.register(OPEN, NewRunner { ephemeral: true, ..runner }).await.unwrap().id
    }

    /// Makes a group, or changes it.
    pub(crate) async fn set_group(&self, of: &str, name: &str, policy: GroupRequest) -> GroupRecord {
        self.put_group(scope(of), name.to_owned(), policy).await.unwrap()
    }

    pub(crate) async fn run_of(&self, jobs: Vec<NewJob>) -> (RunRecord, Vec<JobRecord>) {
        let CreatedRun { run, jobs, is_repeat } = self.create_run(new_run("acme/demo", "ci.yml"), jobs).await.unwrap();
        assert!(!is_repeat);
        (run, jobs)
    }

    /// A job in a run of its own.
    pub(crate) async fn job_of(&self, job: NewJob) -> JobRecord {
        self.run_of(vec![job]).await.1.remove(0)
    }

    pub(crate) async fn queued(&self) -> JobId {
        self.job_of(new_job("build")).await.id
    }

    /// A job under epoch 5.
    pub(crate) async fn offered(&self) -> (JobId, RunnerId) {
        let (job, runner) = (self.queued().await, self.some_runner().await);
        self.record_offer(job, Epoch(5), runner).await.unwrap();
        (job, runner)
    }

    /// A job under epoch 5, acquired at second 20.
    pub(crate) async fn running(&self) -> (JobId, RunnerId) {
        let (job, runner) = self.offered().await;
        self.acquire(job, Epoch(5), runner, 1, at(20)).await.unwrap();
        (job, runner)
    }

    /// A job under epoch 5, completed at second 30.
    pub(crate) async fn completed(&self) -> JobRecord {
        let (job, _) = self.running().await;
        match self.complete(job, Epoch(5), completion(Conclusion::Success), at(30)).await.unwrap() {
            CompleteOutcome::Completed { job, .. } => job,
            CompleteOutcome::AlreadyCompleted(job) => panic!("completed before: {job:?}"),
        }
    }

    /// The job as a reader sees it.
    pub(crate) async fn see(&self, job: JobId) -> JobRecord {
        self.job(job).await.unwrap().unwrap()
    }

    /// A job in each state, all under epoch 5 where there was an offer.
    pub(crate) async fn job_in_each_state(&self) -> BTreeMap<JobStatus, JobId> {
        BTreeMap::from([
            (JobStatus::Waiting, self.job_of(waiting_job("build")).await.id),
            (JobStatus::Queued, self.queued().await),
            (JobStatus::Offered, self.offered().await.0),
            (JobStatus::Running, self.running().await.0),
            (JobStatus::Completed, self.completed().await.id),
        ])
    }
}

/// The error of a step that quotes a wrong epoch.
pub(crate) fn stale<T>(job: JobId, quoted: i64, current: i64) -> Result<T, Error> {
    Err(Error::StaleEpoch { job, quoted: Epoch(quoted), current: Epoch(current) })
}

pub(crate) fn is_engine_error<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Engine { .. }))
}
