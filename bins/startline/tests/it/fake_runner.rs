//! A runner that executes nothing: it takes jobs through the real client, writes a log, and completes them. It keeps
//! account of what the service has acknowledged, so that a test can say whether anything was lost or doubled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use startline_client::{AppendOutcome, Credentials, Error, JobClient, PollResult, Retry, RunnerClient, Transport};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId};
use startline_protocol::runner_api::{
    CompleteRequest, JobAssignment, PollRequest, RegisterRequest, RegistrationTokenRequest, RenewRequest,
};
use startline_protocol::state::Conclusion;
use startline_protocol::token::{ApiToken, RegistrationToken};
use tokio_util::sync::CancellationToken;

/// What the service has acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Epochs under which a completion of the job was accepted.
    pub completed: BTreeMap<JobId, BTreeSet<Epoch>>,
    /// Assignments received.
    pub received: usize,
    /// Reports refused as stale.
    pub stale: usize,
}

/// Runners that share an account.
#[derive(Clone)]
pub(crate) struct FakeRunners {
    pub account: Arc<Mutex<Account>>,
    pub stop: CancellationToken,
    url: String,
    registration: RegistrationToken,
}

impl FakeRunners {
    pub(crate) async fn new(transport: &Transport, url: &str, admin: &str) -> Self {
        let client = RunnerClient::new(transport.clone(), url).unwrap();
        let admin = ApiToken::parse(admin).unwrap();
        let minted = client.request_registration_token(&admin, &RegistrationTokenRequest::default()).await.unwrap();
        Self {
            account: Arc::default(),
            stop: CancellationToken::new(),
            url: url.to_owned(),
            registration: minted.token,
        }
    }

    /// Runs one runner until it is stopped. `transport` may lose, delay and double what it likes.
    pub(crate) async fn run(self, name: String, transport: Transport) {
        let client = RunnerClient::new(transport.clone(), &self.url).unwrap().with_retry(QUICK);
        let request = RegisterRequest {
            name,
            labels: vec!["fake".to_owned()],
            capabilities: Capabilities::default(),
            ephemeral: false,
            // A registration whose answer was lost is taken over.
            replace: true,
            version: String::new(),
        };
        let registered = loop {
            match client.register(&self.registration, &request).await {
                Ok(registered) => break registered,
                Err(_) if self.stop.is_cancelled() => return,
                Err(error) => assert!(error.is_transient(), "registration refused: {error}"),
            }
        };
        let session = client.session(Credentials::of(&registered, Timestamp::now()));
        let poll = PollRequest { timeout_seconds: 5, capabilities: None, auto_acquire: true };
        while !self.stop.is_cancelled() {
            let result = tokio::select! {
                () = self.stop.cancelled() => return,
                result = session.poll_for_job(&poll) => result,
            };
            match result {
                PollResult::JobAssigned(assignment) => self.work(&transport, *assignment).await,
                PollResult::NoJobs => {}
                PollResult::RunnerOffline => return,
                PollResult::ServerError(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn work(&self, transport: &Transport, assignment: JobAssignment) {
        self.account.lock().unwrap().received += 1;
        let token = assignment.job_token.clone().unwrap();
        let job = JobClient::new(transport.clone(), assignment.urls.clone(), token).with_retry(QUICK);
        if let Err(error) = self.report(&job, &assignment).await {
            assert!(error.is_stale(), "a report was refused: {error}");
            self.account.lock().unwrap().stale += 1;
        }
    }

    async fn report(&self, job: &JobClient, assignment: &JobAssignment) -> Result<(), Error> {
        job.renew(&RenewRequest::default()).await?;
        let text = Bytes::from(format!("2026-01-01T00:00:00.0000000Z epoch {}\n", assignment.epoch));
        let mut offset = 0;
        while offset < text.len() {
            let piece = text.slice(offset..text.len().min(offset + 20));
            offset = match job.append_log(offset as u64, piece).await? {
                AppendOutcome::Stored { offset } => usize::try_from(offset).unwrap(),
                AppendOutcome::Gap { wanted } => usize::try_from(wanted).unwrap(),
            };
        }
        let request = CompleteRequest {
            conclusion: Conclusion::Success,
            outputs: BTreeMap::new(),
            steps: vec![],
            environment_url: None,
            annotations: vec![],
        };
        job.complete_job(&request).await?;
        let mut account = self.account.lock().unwrap();
        account.completed.entry(assignment.job_id).or_default().insert(assignment.epoch);
        Ok(())
    }
}

/// Tries again at once and for ever: the tests bound the whole instead.
const QUICK: Retry =
    Retry { min_delay: Duration::from_millis(5), max_delay: Duration::from_millis(50), max_times: None };
