//! Why a job waits.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use startline_protocol::ids::{Epoch, JobId, RunnerId};
use startline_protocol::state::JobStatus;

use crate::dispatcher::Dispatcher;
use crate::group::Limit;
use crate::requirement::{Bound, Feature};

/// Where a job stands and what each runner lacks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The job.
    pub job: JobId,
    /// Queued, offered or running.
    pub status: JobStatus,
    /// Who has it, unless it is queued.
    pub runner: Option<RunnerId>,
    /// The epoch last used.
    pub epoch: Epoch,
    /// Since when it waits to run.
    pub queued_at: Timestamp,
    /// Every registered runner, by id.
    pub candidates: Vec<Candidate>,
}

/// A runner and what it lacks for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The runner.
    pub runner: RunnerId,
    /// Its name.
    pub name: String,
    /// What keeps it from the job. Never empty for a queued job: a runner that lacks nothing gets it.
    pub missing: Vec<Missing>,
}

impl Candidate {
    /// Whether the runner could take the job, were it only there and idle.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.missing.iter().all(Missing::passes)
    }
}

/// What keeps a runner from a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is silent.
    Offline {
        /// Its last sign of life.
        last_seen_at: Timestamp,
    },
    /// It takes nothing new.
    Draining,
    /// It is ephemeral and has had its job.
    Spent,
    /// All its slots hold jobs.
    Busy {
        /// Slots in use.
        used: usize,
        /// Slots declared.
        slots: usize,
    },
    /// It does not ask for a job at the moment.
    NotPolling,
    /// It is in another group than the job asks for.
    Group {
        /// The job's.
        needed: String,
        /// The runner's.
        has: String,
    },
    /// It serves other repositories.
    Repository(String),
    /// The job is untrusted and the runner's group does not accept such jobs, or it is not ephemeral.
    Trust,
    /// It lacks a label.
    Label(String),
    /// It lacks a capability.
    Feature(Feature),
    /// It has too little of a capability.
    Bound {
        /// Of what.
        bound: Bound,
        /// How much the job needs.
        least: u32,
        /// How much it has.
        has: u32,
    },
    /// It does not hold an action.
    Action(String),
    /// As many jobs run as may.
    Limit(Limit),
}

impl Missing {
    /// Whether waiting may be enough: the runner is away, busy, leaving or at a limit, but has what the job asks for.
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(
            self,
            Self::Offline { .. } | Self::Draining | Self::Spent | Self::Busy { .. } | Self::NotPolling | Self::Limit(_)
        )
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline { .. } => f.write_str("offline"),
            Self::Draining => f.write_str("draining"),
            Self::Spent => f.write_str("ephemeral: has had its job"),
            Self::Busy { used, slots } => write!(f, "busy ({used} of {slots} slots)"),
            Self::NotPolling => f.write_str("not polling"),
            Self::Group { needed, has } => write!(f, "group: {needed} (is in {has})"),
            Self::Repository(repository) => write!(f, "scope: does not serve {repository}"),
            Self::Trust => f.write_str("trust: does not take untrusted jobs"),
            Self::Label(label) => write!(f, "label: {label}"),
            Self::Feature(feature) => write!(f, "capability: {feature}"),
            Self::Bound { bound, least, has } => write!(f, "capability: {bound}>={least} (has {has})"),
            Self::Action(action) => write!(f, "capability: supports:{action}"),
            Self::Limit(limit) => write!(f, "limit: {limit}"),
        }
    }
}

impl Explanation {
    /// One sentence for people.
    #[must_use]
    pub fn summary(&self) -> String {
        match (self.status, self.runner) {
            (JobStatus::Offered, Some(runner)) => return format!("The job is offered to runner {runner}."),
            (JobStatus::Running, Some(runner)) => return format!("The job is running on runner {runner}."),
            _ => {}
        }
        if self.candidates.is_empty() {
            return "No runner is registered.".to_owned();
        }
        let fitting: Vec<_> = self.candidates.iter().filter(|candidate| candidate.fits()).collect();
        if fitting.is_empty() {
            return match self.candidates.iter().min_by_key(|candidate| candidate.missing.len()) {
                Some(nearest) => format!(
                    "None of the {} registered runners can take the job; the nearest, {}, lacks {}.",
                    self.candidates.len(),
                    nearest.name,
                    list(&nearest.missing),
                ),
                None => "No runner is registered.".to_owned(),
            };
        }
        let count = |wanted: fn(&Missing) -> bool| {
            fitting.iter().filter(|candidate| candidate.missing.iter().any(wanted)).count()
        };
        let offline = count(|missing| matches!(missing, Missing::Offline { .. }));
        let busy = count(|missing| matches!(missing, Missing::Busy { .. } | Missing::Spent));
        let mut summary = format!(
            "The job waits for one of {} fitting runners: {busy} busy, {offline} offline, {} draining or not polling.",
            fitting.len(),
            fitting
                .iter()
                .filter(|candidate| candidate.missing.iter().any(is_other) && candidate.missing.iter().all(is_idle))
                .count(),
        );
        let limits = fitting.iter().flat_map(|candidate| &candidate.missing);
        let limits: BTreeSet<_> = limits.filter(|missing| is_limit(missing)).map(ToString::to_string).collect();
        if !limits.is_empty() {
            let limits: Vec<_> = limits.into_iter().collect();
            summary.push_str(&format!(" It is held back by {}.", limits.join(", ")));
        }
        summary
    }
}

fn is_limit(missing: &Missing) -> bool {
    matches!(missing, Missing::Limit(_))
}

fn is_idle(missing: &Missing) -> bool {
    is_other(missing) || is_limit(missing)
}

fn is_other(missing: &Missing) -> bool {
    matches!(missing, Missing::Draining | Missing::NotPolling)
}

fn list(missing: &[Missing]) -> String {
    missing.iter().filter(|missing| !missing.passes()).map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl Dispatcher {
    /// Where `job` stands and what each registered runner lacks for it; `None` for a job that is not here. Costs a
    /// look at every runner: it is for people.
    #[must_use]
    pub fn explain(&self, job: JobId) -> Option<Explanation> {
        let found = self.jobs.get(&job)?;
        let candidates = self.runners.iter().map(|(&id, runner)| {
            let mut missing = self.unavailable(id, runner);
            missing.extend(self.index.lacks(runner.profile, found.lane));
            if found.held.is_none() {
                missing.extend(self.index.limits(runner.profile, found.lane).map(Missing::Limit));
            }
            Candidate { runner: id, name: runner.spec.name.clone(), missing }
        });
        Some(Explanation {
            job,
            status: found.status(),
            runner: found.held.as_ref().map(|held| held.runner),
            epoch: found.epoch,
            queued_at: found.queued_at,
            candidates: candidates.collect(),
        })
    }
}
