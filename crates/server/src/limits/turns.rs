//! Turns by tenant for what costs much: compiling, writing logs and ends of jobs, long listings.

use http::StatusCode;
use startline_daemon::limits::{FairGate, Overloaded, Permit};
use startline_protocol::ids::JobId;
use startline_protocol::problem::kind;
use startline_protocol::scope::Scope;

use crate::App;
use crate::config::ServerConfig;
use crate::problem::{ApiError, ApiResult};

/// An organization with all its repositories, in lower case; empty for the instance itself. Not a repository, because who
/// administers an organization makes as many of those as he likes.
type Tenant = String;

/// A turn, until it is dropped.
#[must_use = "the turn is over when this is dropped"]
#[derive(Debug)]
pub(crate) struct Turn(#[expect(dead_code, reason = "held for its drop")] Option<Permit>);

/// How many may do what costs much at the same time, and who is next.
#[derive(Debug)]
pub(crate) struct Turns {
    gate: Option<FairGate<Tenant>>,
    queue: usize,
}

impl Turns {
    pub(crate) fn new(config: &ServerConfig) -> Self {
        let gate = (config.concurrency > 0).then(|| FairGate::new(config.concurrency, config.tenant_queue));
        Self { gate, queue: config.tenant_queue }
    }

    /// How many wait for a turn.
    pub(crate) fn waiting(&self) -> usize {
        self.gate.as_ref().map_or(0, FairGate::waiting)
    }

    async fn of(&self, tenant: Tenant) -> Result<Turn, Overloaded> {
        match &self.gate {
            Some(gate) => gate.acquire(tenant).await.map(|permit| Turn(Some(permit))),
            None => Ok(Turn(None)),
        }
    }
}

impl App {
    /// Waits for a turn of the tenant that `scope` belongs to. To be asked for when the request's body is there, so that
    /// nobody slow has one.
    pub(crate) async fn turn(&self, scope: &Scope) -> ApiResult<Turn> {
        self.turns.of(tenant(scope)).await.map_err(|Overloaded { .. }| {
            self.metrics.limited(super::TENANT_QUEUE);
            let most = self.turns.queue;
            let title = format!("{most} requests of this tenant are waiting for their turn already (`tenant_queue`)");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, kind::UNAVAILABLE, title)
                .detail("try again when the time in `Retry-After` is over, with fewer requests at once")
                .retry_after(1)
        })
    }

    /// A turn of the tenant whose job it is.
    pub(crate) async fn turn_of_job(&self, job: JobId) -> ApiResult<Turn> {
        let repository = self.dispatch.lock().dispatcher.repository(job).map(str::to_owned);
        let scope = repository.and_then(|repository| Scope::repository(&repository).ok());
        self.turn(&scope.unwrap_or_default()).await
    }

    /// A turn for a submission: of the caller's tenant, or of the repository's where the caller speaks for all of them.
    pub(crate) async fn turn_to_submit(&self, caller: &Scope, repository: Option<&str>) -> ApiResult<Turn> {
        let named = repository.filter(|_| *caller == Scope::Instance).and_then(|name| Scope::repository(name).ok());
        self.turn(named.as_ref().unwrap_or(caller)).await
    }
}

fn tenant(scope: &Scope) -> Tenant {
    match scope {
        Scope::Instance => String::new(),
        Scope::Organization(name) => name.clone(),
        Scope::Repository(name) => name.split('/').next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn an_organization_and_its_repositories_are_one_tenant() {
        let of = |text: &str| tenant(&text.parse().unwrap());
        assert_eq!(of("organization:acme"), of("repository:Acme/a"));
        assert_ne!(of("repository:acme/a"), of("repository:acmes/a"));
        assert_ne!(of("instance"), of("organization:acme"));
    }

    #[tokio::test]
    async fn a_tenant_that_is_loud_is_told_so_and_others_have_their_turn() {
        let config = ServerConfig { concurrency: 1, tenant_queue: 2, ..ServerConfig::defaults() };
        let turns = Turns::new(&config);
        let held = turns.of("loud".to_owned()).await.unwrap();
        let mut waiting: HashMap<&str, Vec<_>> = HashMap::new();
        for tenant in ["loud", "loud", "quiet"] {
            let mut turn = Box::pin(turns.of(tenant.to_owned()));
            assert!(futures_util::poll!(&mut turn).is_pending());
            waiting.entry(tenant).or_default().push(turn);
        }
        assert_eq!(turns.of("loud".to_owned()).await.unwrap_err(), Overloaded { waiting: 2 });
        assert_eq!(turns.waiting(), 3);
        drop(held);
        // One of each, whoever came first.
        let mut loud = waiting.remove("loud").unwrap().into_iter();
        drop(loud.next().unwrap().await.unwrap());
        drop(waiting.remove("quiet").unwrap().pop().unwrap().await.unwrap());
        drop(loud.next().unwrap().await.unwrap());
    }
}
