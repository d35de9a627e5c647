//! The calls of a runner: registration, polls, heartbeats and its own token.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::RunnerId;
use startline_protocol::problem::kind;
use startline_protocol::runner_api::{
    AcquireRequest, HeartbeatRequest, HeartbeatResponse, JobAssignment, PollRequest, RegisterRequest, RegisterResponse,
    RegistrationTokenRequest, RegistrationTokenResponse, RunnerTokenResponse,
};
use startline_protocol::state::RunnerStatus;
use startline_protocol::token::{ApiToken, RegistrationToken, RunnerToken};
use tokio_util::task::TaskTracker;

use crate::call::{Call, HELD_DEADLINE, Service};
use crate::error::Error;
use crate::retry::Retry;
use crate::transport::Transport;

/// How long a failed renewal of the token is left alone; the old one has half its life to go.
const RENEWAL_PAUSE: i64 = 30;

/// Registers runners.
#[derive(Clone, Debug)]
pub struct RunnerClient {
    service: Service,
    retry: Retry,
}

impl RunnerClient {
    /// A client of the service at `base_url`, which may have a path prefix.
    ///
    /// # Errors
    /// When `base_url` is no `http` or `https` address.
    pub fn new(transport: Transport, base_url: &str) -> Result<Self, Error> {
        Ok(Self { service: Service::new(transport, base_url)?, retry: Retry::PATIENT })
    }

    /// Retries as `retry` says instead of [`Retry::PATIENT`].
    #[must_use]
    pub const fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Asks for a registration token. Retried after every transient failure: a token that nobody got to see does no
    /// harm and runs out by itself.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn request_registration_token(
        &self,
        token: &ApiToken,
        request: &RegistrationTokenRequest,
    ) -> Result<RegistrationTokenResponse, Error> {
        let url = self.service.url("/api/v1/runners/registration-token");
        let call = Call::post(url).bearer(token.expose())?.json(request)?;
        self.retry.run(Error::is_transient, || call.receive(&self.service.transport)).await
    }

    /// Registers a runner.
    ///
    /// With `replace` every transient failure is retried, because a second registration takes the first one's place.
    /// Without it a retry could find the name taken by the very registration whose answer was lost, or use a
    /// one-time token up twice; so it is retried only while the service is known not to have acted: no connection, or
    /// turned away as too busy.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn register(
        &self,
        token: &RegistrationToken,
        request: &RegisterRequest,
    ) -> Result<RegisterResponse, Error> {
        let call = Call::post(self.service.url("/api/v1/runners")).bearer(token.expose())?.json(request)?;
        let again = if request.replace { Error::is_transient } else { Error::was_refused_unprocessed };
        self.retry.run(again, || call.receive(&self.service.transport)).await
    }

    /// Speaks for the registered runner whose credentials these are.
    #[must_use]
    pub fn session(&self, credentials: Credentials) -> RunnerSession {
        let renew_at = credentials.half_life();
        RunnerSession {
            service: self.service.clone(),
            retry: self.retry,
            shared: Arc::new(Shared {
                bearer: Mutex::new(Bearer { credentials, renew_at }),
                renewing: tokio::sync::Mutex::new(()),
                renewed: Mutex::new(Box::new(|_| {})),
                registration: Mutex::new(None),
                tasks: TaskTracker::new(),
            }),
        }
    }
}

/// What a registered runner proves itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The registration.
    pub runner_id: RunnerId,
    /// The bearer.
    pub token: RunnerToken,
    /// When it was handed out, unix seconds on this machine's clock.
    pub issued_at: i64,
    /// When it ends, unix seconds.
    pub expires_at: i64,
}

impl Credentials {
    /// What an answer to a registration gave.
    #[must_use]
    pub fn of(response: &RegisterResponse, now: Timestamp) -> Self {
        Self {
            runner_id: response.runner_id,
            token: response.runner_token.clone(),
            issued_at: now.as_second(),
            expires_at: response.expires_at,
        }
    }

    fn half_life(&self) -> i64 {
        self.issued_at + (self.expires_at - self.issued_at) / 2
    }
}

/// What a poll brought.
#[derive(Debug)]
pub enum PollResult {
    /// A job.
    JobAssigned(Box<JobAssignment>),
    /// No job within the poll's time.
    NoJobs,
    /// The registration is gone: register anew.
    RunnerOffline,
    /// No usable answer; [`Error::is_transient`] tells whether a later poll may fare better.
    ServerError(Error),
}

struct Bearer {
    credentials: Credentials,
    renew_at: i64,
}

/// What makes a registration anew.
#[derive(Clone)]
struct Anew {
    token: RegistrationToken,
    request: RegisterRequest,
}

type OnRenewed = Box<dyn Fn(&Credentials) + Send>;

struct Shared {
    bearer: Mutex<Bearer>,
    renewing: tokio::sync::Mutex<()>,
    renewed: Mutex<OnRenewed>,
    registration: Mutex<Option<Anew>>,
    tasks: TaskTracker,
}

/// Speaks for one registered runner. Clones are cheap and share the token, which is renewed from its half-life on by
/// whichever call comes first; the others go on with the old one meanwhile.
#[derive(Clone)]
pub struct RunnerSession {
    service: Service,
    retry: Retry,
    shared: Arc<Shared>,
}

impl fmt::Debug for RunnerSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunnerSession").field("service", &self.service).field("runner_id", &self.id()).finish()
    }
}

impl RunnerSession {
    /// Registers anew, with `token` and `request`, when a call finds that the registration is gone, and sends the call
    /// again. Without this a poll answers [`PollResult::RunnerOffline`] and other calls the service's refusal.
    ///
    /// The token must be good for another use; `on_renewed` gets the new credentials, whose runner is another one.
    pub fn register_again_with(&self, token: RegistrationToken, request: RegisterRequest) {
        *lock(&self.shared.registration) = Some(Anew { token, request });
    }

    /// Calls `renewed` with every new token, so that it can be kept. It runs before any call uses the new token.
    pub fn on_renewed(&self, renewed: impl Fn(&Credentials) + Send + 'static) {
        *lock(&self.shared.renewed) = Box::new(renewed);
    }

    /// The registration.
    #[must_use]
    pub fn id(&self) -> RunnerId {
        lock(&self.shared.bearer).credentials.runner_id
    }

    /// The credentials as they are now.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        lock(&self.shared.bearer).credentials.clone()
    }

    /// Waits for a job for up to `request.timeout_seconds`. One try; the caller's loop has the back-off.
    ///
    /// Dropping the future aborts the poll, and the service gives an unanswered job to the next runner. With
    /// `auto_acquire`, an answer that was under way at that moment is lost until its lease has run out.
    pub async fn poll_for_job(&self, request: &PollRequest) -> PollResult {
        let deadline = Duration::from_secs(request.timeout_seconds.into()) + HELD_DEADLINE;
        let poll = async {
            let call = Call::post(self.service.url("/api/v1/runners/jobs/poll")).json(request)?.deadline(deadline);
            self.with_bearer(call, |call, transport| async move { call.receive_optional(&transport).await }).await
        };
        match poll.await {
            Ok(Some(assignment)) => PollResult::JobAssigned(assignment),
            Ok(None) => PollResult::NoJobs,
            Err(error) if error.kind() == Some(kind::RUNNER_OFFLINE) => PollResult::RunnerOffline,
            Err(error) => PollResult::ServerError(error),
        }
    }

    /// Confirms an offer and gets the job with its secrets and token. Retried: a repeat by the same runner within
    /// the same epoch is the same acquisition.
    ///
    /// # Errors
    /// When the offer is gone (`stale-epoch`), or the service does not answer in all tries.
    pub async fn acquire(&self, offer: &JobAssignment) -> Result<JobAssignment, Error> {
        let call = Call::post(&offer.urls.acquire).json(&AcquireRequest { epoch: offer.epoch })?;
        self.retry.run(Error::is_transient, || self.receive(call.clone())).await
    }

    /// Says that the runner is alive and what it does. One try: the next heartbeat is the retry.
    ///
    /// # Errors
    /// When the service refuses or does not answer.
    pub async fn send_heartbeat(&self, request: &HeartbeatRequest) -> Result<HeartbeatResponse, Error> {
        let call = Call::post(self.service.url("/api/v1/runners/heartbeat")).json(request)?;
        self.receive(call.deadline(Duration::from_secs(10))).await
    }

    /// Says where the runner stands and that it holds no job: online, draining or going offline. One try.
    ///
    /// # Errors
    /// When the service refuses or does not answer.
    pub async fn report_status(&self, status: RunnerStatus) -> Result<HeartbeatResponse, Error> {
        self.send_heartbeat(&HeartbeatRequest { status, current_jobs: Vec::new(), system_info: None }).await
    }

    /// Says what the machine can do now; an open poll of this runner sees it at once.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn update_capabilities(&self, capabilities: &Capabilities) -> Result<(), Error> {
        let call = Call::new(Method::PATCH, self.service.url("/api/v1/runners/capabilities")).json(capabilities)?;
        self.retry.run(Error::is_transient, || self.done(call.clone())).await
    }

    /// Removes the registration. A registration that is gone already counts as removed. With `force` a runner that
    /// holds jobs is removed too.
    ///
    /// # Errors
    /// When the service refuses (`runner-busy`), or does not answer in all tries.
    pub async fn deregister(&self, force: bool) -> Result<(), Error> {
        // One that is gone is what is wanted.
        *lock(&self.shared.registration) = None;
        let query = if force { "?force=true" } else { "" };
        let call = Call::new(Method::DELETE, self.service.url(&format!("/api/v1/runners/{}{query}", self.id())));
        match self.retry.run(Error::is_transient, || self.done(call.clone())).await {
            Err(error) if matches!(error.kind(), Some(kind::RUNNER_OFFLINE | kind::NOT_FOUND)) => Ok(()),
            outcome => outcome,
        }
    }

    /// Gets the next token now. The old one stays valid for a short while. All other calls do this by themselves in
    /// time.
    ///
    /// # Errors
    /// When the service refuses or does not answer.
    pub async fn renew_token(&self) -> Result<(), Error> {
        self.renew(|_, _| true).await
    }

    /// Renews unless, once it is this call's turn, `still` says that the bearer needs it no more.
    async fn renew(&self, still: fn(&Bearer, i64) -> bool) -> Result<(), Error> {
        // In a task of its own: were the answer dropped with the caller, the new token would be lost while the old
        // one runs out.
        let this = self.clone();
        let renewal = self.shared.tasks.spawn(async move {
            let _turn = this.shared.renewing.lock().await;
            let now = Timestamp::now().as_second();
            let needed = still(&lock(&this.shared.bearer), now);
            if needed { this.renew_in_turn().await } else { Ok(()) }
        });
        renewal.await.unwrap_or_else(|error| Err(Error::invalid(format!("the renewal broke off: {error}"))))
    }

    async fn renew_in_turn(&self) -> Result<(), Error> {
        let before = self.credentials();
        let call = Call::post(self.service.url("/api/v1/runners/token")).bearer(before.token.expose())?;
        let answer: Result<RunnerTokenResponse, Error> = call.receive(&self.service.transport).await;
        let now = Timestamp::now().as_second();
        match answer {
            Ok(next) => {
                let credentials = Credentials {
                    runner_id: before.runner_id,
                    token: next.runner_token,
                    issued_at: now,
                    expires_at: next.expires_at,
                };
                lock(&self.shared.renewed)(&credentials);
                let renew_at = credentials.half_life();
                *lock(&self.shared.bearer) = Bearer { credentials, renew_at };
                Ok(())
            }
            Err(error) => {
                lock(&self.shared.bearer).renew_at = now + RENEWAL_PAUSE;
                Err(error)
            }
        }
    }

    /// Registers anew unless somebody has done so since `used` was the bearer; whether there is another bearer now.
    async fn register_again(&self, used: &RunnerToken) -> bool {
        // In a task of its own, as a renewal.
        let (this, used) = (self.clone(), used.clone());
        let registration = self.shared.tasks.spawn(async move {
            let _turn = this.shared.renewing.lock().await;
            if lock(&this.shared.bearer).credentials.token != used {
                return true;
            }
            let Some(Anew { token, request }) = lock(&this.shared.registration).clone() else { return false };
            let client = RunnerClient { service: this.service.clone(), retry: this.retry };
            match client.register(&token, &request).await {
                Ok(registered) => {
                    let credentials = Credentials::of(&registered, Timestamp::now());
                    tracing::info!(runner.id = %credentials.runner_id, "the registration was gone; registered anew");
                    lock(&this.shared.renewed)(&credentials);
                    let renew_at = credentials.half_life();
                    *lock(&this.shared.bearer) = Bearer { credentials, renew_at };
                    true
                }
                Err(error) => {
                    tracing::warn!(%error, "the registration is gone and cannot be made anew");
                    false
                }
            }
        });
        registration.await.unwrap_or(false)
    }

    /// The token to use now, after a renewal when it is time for one and nobody else is at it.
    async fn token(&self) -> RunnerToken {
        let is_due = |bearer: &Bearer, now: i64| now >= bearer.renew_at;
        let due = is_due(&lock(&self.shared.bearer), Timestamp::now().as_second());
        if due
            && self.shared.renewing.try_lock().is_ok()
            && let Err(error) = self.renew(is_due).await
        {
            tracing::warn!(%error, "cannot renew the runner's token yet");
        }
        lock(&self.shared.bearer).credentials.token.clone()
    }

    /// Sends `call` with the token. When the service refuses a token that was replaced while the call was under way,
    /// the call was not acted on and is sent once more with the new one; likewise when the registration is gone and can
    /// be made anew.
    async fn with_bearer<T, F, Fut>(&self, call: Call, send: F) -> Result<T, Error>
    where
        F: Fn(Call, Transport) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let token = self.token().await;
        let answer = send(call.clone().bearer(token.expose())?, self.service.transport.clone()).await;
        match answer {
            Err(Error::Problem { status: 401, .. }) => {
                let current = lock(&self.shared.bearer).credentials.token.clone();
                if current == token {
                    return answer;
                }
                send(call.bearer(current.expose())?, self.service.transport.clone()).await
            }
            Err(error) if error.kind() == Some(kind::RUNNER_OFFLINE) => {
                if !self.register_again(&token).await {
                    return Err(error);
                }
                let current = lock(&self.shared.bearer).credentials.token.clone();
                send(call.bearer(current.expose())?, self.service.transport.clone()).await
            }
            answer => answer,
        }
    }

    async fn receive<T: serde::de::DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        self.with_bearer(call, |call, transport| async move { call.receive(&transport).await }).await
    }

    async fn done(&self, call: Call) -> Result<(), Error> {
        self.with_bearer(call, |call, transport| async move { call.done(&transport).await }).await
    }
}

/// Nothing is left half-done under these locks, so a panic elsewhere does not spoil what they guard.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
