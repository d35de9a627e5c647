//! The audit log, as handlers write it: who did what to which thing, from where, and how it ended.
//!
//! A handler opens a [`Record`] with [`App::audit`], does its work, and passes the outcome through
//! [`Record::conclude`], which answers once the line is durable. A handler that is dropped on the way leaves a line too.
//! Lines hold stable codes and ids, and names that callers gave; never a token, a secret's value or a part of a body.
//!
//! What is refused is written through [`Refusals`], so that whoever tries a million tokens fills no disk.

mod refusals;

use std::fmt::Display;
use std::sync::Arc;

use jiff::Timestamp;
use startline_protocol::ids::RunnerId;
use startline_protocol::scope::Scope;
use startline_protocol::value_scope::ValueScope;
use startline_store::{NewAudit, Note, TakenJob};

use crate::App;
use crate::auth::{Admin, AdminOrRunner, Configurer, JobBearer, Origin, Registrar, Runner};
use crate::problem::ApiResult;
use crate::routes::work::AGAIN;

pub(crate) use refusals::{Refusals, Refused};

/// The outcome of what was done.
const SUCCESS: &str = "success";
/// Longest text that a caller gave and that is written down.
const LONGEST: usize = 256;

/// Somebody who does something.
pub(crate) trait Principal {
    /// A kind with an id, and a name in parentheses where there is one.
    fn actor(&self) -> String;
    /// The scope that the deed concerns, as long as the handler knows no better.
    fn home(&self) -> Scope;
    fn origin(&self) -> &Origin;
}

impl Principal for Admin {
    fn actor(&self) -> String {
        self.actor()
    }

    fn home(&self) -> Scope {
        self.token.scope.clone()
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl Principal for Registrar {
    fn actor(&self) -> String {
        let name = &self.record.token.name;
        let id = self.record.id;
        if name.is_empty() { format!("registration_token:{id}") } else { format!("registration_token:{id} ({name})") }
    }

    fn home(&self) -> Scope {
        self.record.token.scope.clone()
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl Principal for Runner {
    fn actor(&self) -> String {
        format!("runner:{} ({})", self.id, self.known.name)
    }

    fn home(&self) -> Scope {
        self.known.scope.clone()
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl Principal for JobBearer {
    fn actor(&self) -> String {
        format!("job:{}", self.claims.job)
    }

    fn home(&self) -> Scope {
        Scope::Instance
    }

    fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl Principal for Configurer {
    fn actor(&self) -> String {
        match self {
            Self::Registrar(registrar) => registrar.actor(),
            Self::Remover(claims, _) => format!("remove_token of {}", claims.by),
            Self::Admin(admin) => Principal::actor(admin),
        }
    }

    fn home(&self) -> Scope {
        self.scope().clone()
    }

    fn origin(&self) -> &Origin {
        match self {
            Self::Registrar(registrar) => &registrar.origin,
            Self::Remover(_, origin) => origin,
            Self::Admin(admin) => &admin.origin,
        }
    }
}

impl Principal for AdminOrRunner {
    fn actor(&self) -> String {
        match self {
            Self::Admin(admin) => Principal::actor(admin),
            Self::Runner(runner) => runner.actor(),
        }
    }

    fn home(&self) -> Scope {
        match self {
            Self::Admin(admin) => admin.home(),
            Self::Runner(runner) => runner.home(),
        }
    }

    fn origin(&self) -> &Origin {
        match self {
            Self::Admin(admin) => &admin.origin,
            Self::Runner(runner) => &runner.origin,
        }
    }
}

/// A line of the audit log in the making.
pub(crate) struct Record {
    app: Arc<App>,
    /// Taken when it is written.
    entry: Option<NewAudit>,
    action: &'static str,
    origin: Origin,
    /// A success is told once the line is written, however long that takes.
    is_awaited: bool,
}

impl App {
    /// Opens the line of a deed: `runner.delete` to `runner:7`.
    pub(crate) fn audit(self: &Arc<Self>, by: &impl Principal, action: &'static str, subject: impl Display) -> Record {
        self.record(by.actor(), by.home(), by.origin().clone(), action, &subject)
    }

    /// Writes down what the service did by itself. Sent in order, and not waited for.
    pub(crate) fn audit_own(
        self: &Arc<Self>,
        action: &'static str,
        subject: impl Display,
        scope: Scope,
        details: &[(&str, &dyn Display)],
    ) {
        let mut record = self.record("service".to_owned(), scope, Origin::default(), action, &subject);
        for (key, value) in details {
            record.detail(key, value);
        }
        record.send("success".to_owned());
    }

    fn record(
        self: &Arc<Self>,
        actor: String,
        scope: Scope,
        origin: Origin,
        action: &'static str,
        subject: &dyn Display,
    ) -> Record {
        let entry = NewAudit {
            at: self.clock.now(),
            actor: bounded(&actor),
            action: action.to_owned(),
            subject: bounded(subject),
            outcome: String::new(),
            scope,
            request_id: origin.request_id.clone(),
            address: origin.address.map(|address| address.to_string()),
            details: std::collections::BTreeMap::new(),
        };
        Record { app: Arc::clone(self), entry: Some(entry), action, origin, is_awaited: false }
    }
}

/// The line of a job that a runner takes. A poll keeps nothing of its request while it waits, so that the line of one
/// names no address.
pub(crate) fn acquired(runner: RunnerId, origin: &Origin, now: Timestamp) -> Note<TakenJob> {
    let (request_id, address) = (origin.request_id.clone(), origin.address);
    Note::new(move |TakenJob { job, .. }| {
        let name = job.runner_name.as_deref().unwrap_or_default();
        Some(NewAudit {
            at: now,
            actor: bounded(&format_args!("runner:{runner} ({name})")),
            action: "job.acquire".to_owned(),
            subject: format!("job:{}", job.id),
            outcome: SUCCESS.to_owned(),
            scope: Scope::repository(&job.repository).unwrap_or_default(),
            request_id,
            address: address.map(|address| address.to_string()),
            details: [("attempt".to_owned(), job.attempt.to_string())].into(),
        })
    })
}

/// The line of a success that the step itself writes which is the deed; `fill` adds what only its answer says, and says
/// whether it is one.
pub(crate) fn noted<T>(
    line: Option<NewAudit>,
    fill: impl FnOnce(&T, &mut NewAudit) -> bool + Send + 'static,
) -> Note<T> {
    Note::new(move |done| line.and_then(|mut line| fill(done, &mut line).then_some(line)))
}

impl Record {
    /// Hands the line of a success over, for [`noted`]: nothing is written here any more. What the step then did not write
    /// is taken back.
    pub(crate) fn hand_over(&mut self) -> Option<NewAudit> {
        self.entry.take().map(|line| NewAudit { outcome: SUCCESS.to_owned(), ..line })
    }

    /// Takes a line back that was handed over: the deed failed, or had been done before.
    pub(crate) fn take_back(&mut self, line: Option<NewAudit>) {
        self.entry = line;
    }

    /// The line, as long as it is to be written here.
    pub(crate) const fn line(&mut self) -> Option<&mut NewAudit> {
        self.entry.as_mut()
    }

    /// Names the thing, when it is known only now.
    pub(crate) fn subject(&mut self, subject: impl Display) {
        if let Some(entry) = &mut self.entry {
            entry.subject = bounded(&subject);
        }
    }

    /// Names the scope, when it is not the caller's own.
    pub(crate) fn scope(&mut self, scope: Scope) {
        if let Some(entry) = &mut self.entry {
            entry.scope = scope;
        }
    }

    /// Says where the values are set that are concerned.
    pub(crate) fn place(&mut self, place: &ValueScope) {
        self.scope(place.scope());
        if let ValueScope::Environment { name, .. } = place {
            self.detail("environment", name);
        }
    }

    /// Names the repository concerned, `owner/name`.
    pub(crate) fn repository(&mut self, repository: &str) {
        if let Ok(scope) = Scope::repository(repository) {
            self.scope(scope);
        }
    }

    /// Adds a fact. Never a token or a secret's value.
    pub(crate) fn detail(&mut self, key: &str, value: impl Display) {
        if let Some(entry) = &mut self.entry {
            entry.details.insert(key.to_owned(), bounded(&value));
        }
    }

    /// The caller waits for as long as the line cannot be written, instead of hearing of a fault.
    pub(crate) const fn is_awaited(&mut self) {
        self.is_awaited = true;
    }

    /// Writes the line with the deed's outcome and hands the outcome on, once the line is durable. Where the line cannot
    /// be written, a success is answered as a fault of ours: what is not on record must not be taken for done.
    pub(crate) async fn conclude<T>(mut self, result: ApiResult<T>) -> ApiResult<T> {
        let Some(mut entry) = self.entry.take() else { return result };
        match &result {
            Ok(_) => {
                entry.outcome = SUCCESS.to_owned();
                while let Err(error) = self.app.store.append_audit(entry.clone()).await {
                    if !self.is_awaited || !error.is_transient() || self.app.drain.is_cancelled() {
                        return Err(error.into());
                    }
                    tracing::error!(%error, "a line of the audit log was not written; trying again");
                    tokio::time::sleep(AGAIN).await;
                }
            }
            Err(error) if error.problem().status < 500 => {
                let refused = Refused {
                    origin: &self.origin,
                    actor: entry.actor,
                    action: self.action,
                    subject: entry.subject,
                    scope: entry.scope,
                    reason: refusals::known(&error.problem().kind),
                };
                self.app.refused(refused).await;
            }
            Err(error) => {
                let outcome = format!("failed: {}", error.problem().kind);
                if self.app.drain.is_cancelled() {
                    // The database may be why it failed, and nobody can wait for it any more.
                    self.entry = Some(entry);
                    self.send(outcome);
                    return result;
                }
                entry.outcome = outcome;
                if let Err(error) = self.app.store.append_audit(entry).await {
                    tracing::error!(%error, "a line of the audit log was not written");
                }
            }
        }
        result
    }

    /// Writes the line without waiting for it.
    fn send(&mut self, outcome: String) {
        let Some(mut entry) = self.entry.take() else { return };
        entry.outcome = outcome;
        let answer = self.app.store.append_audit(entry);
        self.app.tasks.spawn(async move {
            if let Err(error) = answer.await {
                tracing::error!(%error, "a line of the audit log was not written");
            }
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.send("failed: the caller went away before the answer".to_owned());
    }
}

/// Text as it is written down: of bounded length.
fn bounded(text: &(impl Display + ?Sized)) -> String {
    let mut text = text.to_string();
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}
