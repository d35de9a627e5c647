//! One reader's walk through the events.

use std::sync::Arc;

use startline_protocol::event::{Event, EventBody};
use startline_protocol::ids::{RunId, RunnerId};
use startline_protocol::scope::Scope;
use tokio::sync::watch;

use super::{Audience, Hub, Kept};

/// Most events that are looked at under one lock, and so handed out at once.
const BATCH: usize = 64;

/// Whose eyes.
#[derive(Clone, Debug)]
pub(crate) enum Viewer {
    /// An API token of this scope.
    Scope(Scope),
    /// A runner: itself and the jobs in its hands.
    Runner(RunnerId),
}

/// Which events are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub viewer: Viewer,
    pub types: Types,
    pub run: Option<RunId>,
    pub repository: Option<Scope>,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Types {
    pub runner: bool,
    pub job: bool,
    pub run: bool,
    pub log: bool,
}

impl Types {
    pub(crate) const ALL: Self = Self { runner: true, job: true, run: true, log: true };
    pub(crate) const NONE: Self = Self { runner: false, job: false, run: false, log: false };

    /// Adds the kind with this name; false when there is none.
    pub(crate) fn add(&mut self, name: &str) -> bool {
        let kind = match name {
            "runner" => &mut self.runner,
            "job" => &mut self.job,
            "run" => &mut self.run,
            "log" => &mut self.log,
            _ => return false,
        };
        *kind = true;
        true
    }
}

impl Filter {
    fn passes(&self, kept: &Kept) -> bool {
        let Audience { scope, runner } = &kept.audience;
        let visible = match &self.viewer {
            Viewer::Scope(own) => own.covers(scope),
            Viewer::Runner(own) => *runner == Some(*own),
        };
        let (wanted, run) = match &kept.event.body {
            EventBody::Runner { .. } => (self.types.runner, None),
            EventBody::Job { run_id, .. } => (self.types.job, Some(*run_id)),
            EventBody::Run { run_id, .. } => (self.types.run, Some(*run_id)),
            EventBody::Log { run_id, .. } => (self.types.log, Some(*run_id)),
            EventBody::Lagged { .. } => (true, None),
        };
        visible
            && wanted
            && (self.run.is_none() || self.run == run)
            && self.repository.as_ref().is_none_or(|repository| repository == scope)
    }

    /// Nothing is held back from the reader, so that what it missed can be counted.
    fn is_all(&self) -> bool {
        matches!(self.viewer, Viewer::Scope(Scope::Instance))
            && self.types == Types::ALL
            && self.run.is_none()
            && self.repository.is_none()
    }
}

/// One reader. What it does not fetch waits in the hub, and is lost to it when the hub needs the room.
#[derive(Debug)]
pub(crate) struct Reader {
    hub: Arc<Hub>,
    published: watch::Receiver<()>,
    filter: Filter,
    /// The first sequence number that it has not passed.
    next: u64,
}

impl Reader {
    pub(super) fn new(hub: &Arc<Hub>, after: Option<u64>, filter: Filter) -> Self {
        let published = hub.published.subscribe();
        let next = after.map_or_else(|| hub.lock().next, |after| after.saturating_add(1));
        Self { hub: Arc::clone(hub), published, filter, next }
    }

    /// The sequence number up to which the reader has seen everything that it wants to see: where to resume.
    pub(crate) const fn position(&self) -> u64 {
        self.next - 1
    }

    /// The next events, at least one, oldest first. Cancel safe.
    pub(crate) async fn next(&mut self) -> Vec<Arc<Kept>> {
        loop {
            // Before the look, so that what comes after it wakes.
            self.published.mark_unchanged();
            let (events, more) = self.look();
            if !events.is_empty() {
                return events;
            }
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            if self.published.changed().await.is_err() {
                // Never: the hub is held.
                std::future::pending::<()>().await;
            }
        }
    }

    /// What there is now, and whether there may be more.
    fn look(&mut self) -> (Vec<Arc<Kept>>, bool) {
        let inner = self.hub.lock();
        let (begin, oldest, end) = (inner.begin, inner.oldest(), inner.next);
        if self.next < oldest || self.next > end {
            // Of another process when it lies before this one's first, or behind its last.
            let known = self.filter.is_all() && self.next >= begin && self.next < oldest;
            let missed = known.then(|| oldest - self.next);
            drop(inner);
            self.next = oldest;
            let body = EventBody::Lagged { missed };
            let event = Event { sequence: oldest - 1, at: self.hub.clock.now(), body };
            let audience = Audience { scope: Scope::Instance, runner: None };
            return (vec![Arc::new(Kept::new(event, audience))], true);
        }
        let from = usize::try_from(self.next - oldest).unwrap_or(usize::MAX);
        let seen: Vec<Arc<Kept>> = inner.kept.iter().skip(from).take(BATCH).map(Arc::clone).collect();
        drop(inner);
        self.next += seen.len() as u64;
        let more = self.next < end;
        (seen.into_iter().filter(|kept| self.filter.passes(kept)).collect(), more)
    }
}
