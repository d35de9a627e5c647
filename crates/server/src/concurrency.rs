//! Concurrency groups: runs, calls and jobs that must not run at the same time.
//!
//! Who wants a group puts a claim at the end of its line, durably, and goes on when the claim is granted. Lines are driven
//! level-triggered, as runs are: after each change the line is read and judged ([`line::judge`]), and what follows is
//! written down; a run that one of its claims concerns is passed then. A line's passes never overlap, and nothing of
//! them is kept in memory, so that a start has only to look at every line once.

mod line;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use startline_protocol::scope::Scope;
use startline_protocol::state::{ClaimState, Conclusion, JobStatus};
use startline_store::{ClaimRecord, Error, JobRecord, NewClaim, RunRecord, Wanted};
use startline_workflow::Workflow;
use startline_workflow::model::Queue;
use startline_workflow::plan::{self, Claim, Held, RunContext};

use crate::App;
use crate::runs::Compiled;
use line::{Place, Verdict};

/// The lines that are looked at now.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// By group; true when a line has changed since it was read.
    busy: Mutex<HashMap<String, bool>>,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if nobody looks at the line now, so that the caller must.
    fn touch(&self, group: &str) -> bool {
        let mut busy = self.lock();
        match busy.get_mut(group) {
            Some(dirty) => {
                *dirty = true;
                false
            }
            None => {
                busy.insert(group.to_owned(), false);
                true
            }
        }
    }

    /// True if the line must be looked at again, which is forgotten.
    fn again(&self, group: &str) -> bool {
        let mut busy = self.lock();
        let again = busy.get_mut(group).is_some_and(std::mem::take);
        if !again {
            busy.remove(group);
        }
        again
    }
}

/// What a run may do that has or wants a group of its own.
pub(crate) enum Admission {
    /// Go on.
    Enter,
    /// Nothing, until its claim is granted.
    Wait,
    /// End before it began.
    Refuse(Conclusion, Option<String>),
}

impl App {
    /// Looks at a line again, soon.
    pub(crate) fn touch_line(self: &Arc<Self>, group: &str) {
        if self.lines.touch(group) {
            let (app, group) = (Arc::clone(self), group.to_owned());
            self.tasks.spawn(async move { app.drive_line(&group).await });
        }
    }

    async fn drive_line(self: &Arc<Self>, group: &str) {
        loop {
            match self.pass_line(group).await {
                Ok(()) => {
                    if !self.lines.again(group) {
                        return;
                    }
                }
                Err(error) if error.is_transient() && !self.drain.is_cancelled() => {
                    tracing::error!(group, %error, "a concurrency group cannot go on now; trying again");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
                Err(error) => {
                    tracing::error!(group, %error, "a concurrency group cannot go on");
                    self.lines.lock().remove(group);
                    return;
                }
            }
        }
    }

    async fn pass_line(self: &Arc<Self>, group: &str) -> Result<(), Error> {
        let claims = self.store.claims_on(group.to_owned()).await?;
        let places: Vec<Place> = claims.iter().map(place).collect();
        let find = |id: i64| claims.iter().find(|claim| claim.id == id);
        let mut answers = Vec::new();
        for verdict in line::judge(&places) {
            let (id, state, other) = match verdict {
                Verdict::Grant(id) => (id, ClaimState::Granted, None),
                Verdict::Wait { claim, holder } => (claim, ClaimState::Waiting, find(holder)),
                Verdict::Displace { claim, by } => (claim, ClaimState::Displaced, find(by)),
                Verdict::TurnAway(id) => (id, ClaimState::Displaced, None),
                Verdict::Overtake { claim, by } => (claim, ClaimState::Overtaken, find(by)),
            };
            let Some(known) = find(id) else { continue };
            let reason = reason(known, state, other);
            if known.state == state && known.reason == reason {
                continue;
            }
            tracing::info!(run.id = %known.claim.run, place = known.claim.place, group = known.claim.wanted.group,
                state = state.as_str(), reason, "a claim on a concurrency group");
            answers.push(self.store.settle_claim(id, state, reason));
        }
        for answer in answers {
            if let Some(settled) = answer.await? {
                self.changes.bump(settled.claim.run);
                self.touch_run(settled.claim.run);
            }
        }
        Ok(())
    }

    /// Puts claims at the ends of their lines, in this order.
    pub(crate) async fn claim(self: &Arc<Self>, claims: Vec<NewClaim>) -> Result<(), Error> {
        let groups: Vec<String> = claims.iter().map(|claim| claim.group_key.clone()).collect();
        // The order of calls is the order of arrival.
        let answers: Vec<_> = claims.into_iter().map(|claim| self.store.add_claim(claim)).collect();
        for answer in answers {
            answer.await?;
        }
        for group in groups {
            self.touch_line(&group);
        }
        Ok(())
    }

    /// Takes a claim out of its line.
    pub(crate) async fn leave(self: &Arc<Self>, claim: &ClaimRecord) -> Result<(), Error> {
        self.store.remove_claim(claim.id).await?;
        self.touch_line(&claim.claim.group_key);
        Ok(())
    }

    /// Whether a run may go on that must have a group before anything of it begins. What the planner must know of that
    /// group is put into the context.
    pub(crate) async fn admit_run(
        self: &Arc<Self>,
        run: &RunRecord,
        compiled: &Compiled,
        context: &mut RunContext,
        claims: &[ClaimRecord],
    ) -> Result<Admission, Error> {
        let own = claims.iter().find(|claim| claim.claim.place.is_empty());
        let Some(own) = own else {
            if compiled.workflow.concurrency.is_none() {
                return Ok(Admission::Enter);
            }
            if run.cancel_requested {
                return Ok(Admission::Refuse(Conclusion::Cancelled, None));
            }
            return match plan::claim_of_run(&compiled.workflow, context) {
                Ok(None) => Ok(Admission::Enter),
                Ok(Some(claim)) => {
                    self.claim(vec![new_claim(run, String::new(), &claim)]).await?;
                    Ok(Admission::Wait)
                }
                Err(problem) => {
                    let reason = format!("the run cannot start: {problem}");
                    Ok(Admission::Refuse(Conclusion::Failure, Some(reason)))
                }
            };
        };
        let group = &own.claim.wanted.group;
        match own.state {
            ClaimState::Waiting if run.cancel_requested => {
                let reason = format!("cancelled while it waited for the concurrency group `{group}`");
                return Ok(Admission::Refuse(Conclusion::Cancelled, Some(reason)));
            }
            ClaimState::Waiting => return Ok(Admission::Wait),
            ClaimState::Displaced => return Ok(Admission::Refuse(Conclusion::Cancelled, own.reason.clone())),
            ClaimState::Granted => {}
            ClaimState::Overtaken => {
                if !run.cancel_requested {
                    self.store.request_run_cancel(run.id).await?;
                    self.audit_run("run.cancel", run, own.reason.as_deref());
                }
                context.cancelled = true;
                context.cancel_reason.clone_from(&own.reason);
            }
        }
        context.held.push(Held::new(&claimed(&own.claim.wanted), "this run"));
        Ok(Admission::Enter)
    }

    /// Ends a run that was not let in.
    pub(crate) async fn refuse_run(
        self: &Arc<Self>,
        run: &RunRecord,
        jobs: &[JobRecord],
        conclusion: Conclusion,
        reason: Option<String>,
    ) -> Result<(), Error> {
        self.store.finish_run(run.id, conclusion, reason.clone(), self.clock.now()).await?;
        if conclusion == Conclusion::Cancelled && !run.cancel_requested {
            self.audit_run("run.cancel", run, reason.as_deref());
        }
        tracing::info!(run.id = %run.id, %conclusion, reason, "run ended before it began");
        self.events.finish(run.id, conclusion, reason, jobs);
        Ok(())
    }

    /// Does for jobs what their claims ask for; true if anything has changed.
    pub(crate) async fn settle_jobs(
        self: &Arc<Self>,
        jobs: &[JobRecord],
        claims: &[ClaimRecord],
    ) -> Result<bool, Error> {
        let mut changed = false;
        for claim in claims {
            let Some(job) = claim.claim.job.and_then(|id| jobs.iter().find(|job| job.id == id)) else { continue };
            if job.status == JobStatus::Completed {
                self.leave(claim).await?;
                changed = true;
                continue;
            }
            if job.cancel_reason.is_some() {
                continue;
            }
            match (claim.state, job.status) {
                (ClaimState::Granted, JobStatus::Waiting) => {
                    if let Some(job) = self.store.release_job(job.id, self.clock.now()).await? {
                        self.events.job(&job);
                        self.enqueue(&[job]);
                    }
                    changed = true;
                }
                (ClaimState::Displaced | ClaimState::Overtaken, _) => {
                    self.cancel_job(job, claim.reason.as_deref().unwrap_or_default()).await?;
                    changed = true;
                }
                _ => {}
            }
        }
        Ok(changed)
    }

    fn audit_run(self: &Arc<Self>, action: &'static str, run: &RunRecord, reason: Option<&str>) {
        let scope = Scope::repository(&run.run.repository).unwrap_or_default();
        self.audit_own(action, format_args!("run:{}", run.id), scope, &[("reason", &reason.unwrap_or_default())]);
    }
}

/// True if anything in a workflow must have a concurrency group.
pub(crate) fn is_wanted(workflow: &Workflow) -> bool {
    let called = |call: &startline_workflow::model::Call| call.workflow.as_deref().is_some_and(is_wanted);
    workflow.concurrency.is_some()
        || workflow.jobs.iter().any(|job| job.concurrency.is_some() || job.call.as_ref().is_some_and(called))
}

/// The claim of something of a run.
pub(crate) fn new_claim(run: &RunRecord, place: String, claim: &Claim) -> NewClaim {
    NewClaim { run: run.id, job: None, place, group_key: key(&run.run.repository, &claim.group), wanted: wanted(claim) }
}

/// The claim of a job; `alone` if no other one of its run has its key.
pub(crate) fn claim_of_job(job: &JobRecord, alone: bool) -> Option<NewClaim> {
    let wanted = job.claim.clone()?;
    Some(NewClaim {
        run: job.run_id,
        job: Some(job.id),
        place: if alone { job.key.clone() } else { format!("{}[{}]", job.key, job.index) },
        group_key: key(&job.repository, &wanted.group),
        wanted,
    })
}

pub(crate) fn wanted(claim: &Claim) -> Wanted {
    Wanted {
        group: claim.group.clone(),
        cancel_in_progress: claim.cancel_in_progress,
        queue_max: claim.queue == Queue::Max,
    }
}

/// Why a job waits that has entered a line, or is about to.
pub(crate) fn waits_for(group: &str) -> String {
    format!("waits for the concurrency group `{group}`")
}

/// How the claims of a run's calls stand, as the planner sees it.
pub(crate) fn states(claims: &[ClaimRecord]) -> std::collections::BTreeMap<String, plan::ClaimState> {
    let of_calls = claims.iter().filter(|claim| claim.claim.job.is_none() && !claim.claim.place.is_empty());
    let state = |claim: &ClaimRecord| {
        let reason = || claim.reason.clone().unwrap_or_default();
        match claim.state {
            ClaimState::Waiting => plan::ClaimState::Waiting,
            ClaimState::Granted => plan::ClaimState::Granted,
            ClaimState::Displaced => plan::ClaimState::Displaced(reason()),
            ClaimState::Overtaken => plan::ClaimState::Overtaken(reason()),
        }
    };
    of_calls.map(|claim| (claim.claim.place.clone(), state(claim))).collect()
}

/// What makes groups the same: GitHub compares their names without case, within a repository.
fn key(repository: &str, group: &str) -> String {
    format!("{}\n{}", repository.to_lowercase(), group.to_lowercase())
}

fn claimed(wanted: &Wanted) -> Claim {
    Claim {
        group: wanted.group.clone(),
        cancel_in_progress: wanted.cancel_in_progress,
        queue: if wanted.queue_max { Queue::Max } else { Queue::Single },
    }
}

fn place(claim: &ClaimRecord) -> Place {
    Place {
        id: claim.id,
        state: claim.state,
        cancel_in_progress: claim.claim.wanted.cancel_in_progress,
        queue_max: claim.claim.wanted.queue_max,
    }
}

/// What is told of a claim, for people; `other` has the group or wants it.
fn reason(claim: &ClaimRecord, state: ClaimState, other: Option<&ClaimRecord>) -> Option<String> {
    let group = &claim.claim.wanted.group;
    match (state, other) {
        (ClaimState::Granted, _) => None,
        (ClaimState::Waiting, Some(holder)) => Some(format!("{}, which {} has", waits_for(group), whose(holder))),
        (ClaimState::Waiting, None) => Some(waits_for(group)),
        (ClaimState::Displaced, Some(by)) => {
            Some(format!("{} came later and takes its place at the concurrency group `{group}`", whose(by)))
        }
        (ClaimState::Displaced, None) => {
            Some(format!("{} wait for the concurrency group `{group}` already, and no more may", line::LONGEST))
        }
        (ClaimState::Overtaken, by) => {
            let by = by.map_or_else(|| "another run".to_owned(), whose);
            Some(format!("{by} wants the concurrency group `{group}` and cancels what is in progress"))
        }
    }
}

/// `run 7`, or ``job `deploy` of run 7``.
fn whose(claim: &ClaimRecord) -> String {
    match claim.claim.place.trim_end_matches('.') {
        "" => format!("run {}", claim.claim.run),
        job => format!("job `{job}` of run {}", claim.claim.run),
    }
}
