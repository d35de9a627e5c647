//! Claims on concurrency groups.

use std::collections::BTreeSet;

use startline_protocol::ids::RunId;
use startline_protocol::state::{ClaimState, JobStatus};

use super::{Memory, State};
use crate::Answer;
use crate::claims::ClaimStore;
use crate::error::Error;
use crate::record::{ClaimRecord, NewClaim};

impl State {
    fn add_claim(&mut self, claim: NewClaim) -> Result<ClaimRecord, Error> {
        if self.runs.get(&claim.run).is_none_or(|run| run.conclusion.is_some()) {
            return Err(Error::NoRun(claim.run));
        }
        if let Some(job) = claim.job.filter(|job| !self.jobs.contains_key(job)) {
            return Err(Error::NoJob(job));
        }
        let same = |known: &&ClaimRecord| known.claim.run == claim.run && known.claim.place == claim.place;
        if let Some(known) = self.claims.values().find(same) {
            return Ok(known.clone());
        }
        self.last_claim += 1;
        let record = ClaimRecord { id: self.last_claim, claim, state: ClaimState::Waiting, reason: None };
        self.claims.insert(record.id, record.clone());
        Ok(record)
    }

    fn settle_claim(&mut self, id: i64, state: ClaimState, reason: Option<String>) -> Option<ClaimRecord> {
        let claim = self.claims.get_mut(&id)?;
        (claim.state, claim.reason) = (state, reason.clone());
        match claim.claim.job {
            Some(job) => {
                let job = self.jobs.get_mut(&job).filter(|job| job.status == JobStatus::Waiting);
                if let Some(job) = job.filter(|_| state == ClaimState::Waiting) {
                    job.reason = reason;
                }
            }
            None if claim.claim.place.is_empty() => {
                if let Some(run) = self.runs.get_mut(&claim.claim.run) {
                    match state {
                        ClaimState::Waiting => run.reason = reason,
                        ClaimState::Granted => run.reason = None,
                        ClaimState::Displaced | ClaimState::Overtaken => {}
                    }
                }
            }
            None => {}
        }
        Some(claim.clone())
    }
}

impl ClaimStore for Memory {
    fn add_claim(&self, claim: NewClaim) -> Answer<ClaimRecord> {
        self.step(|state| state.add_claim(claim))
    }

    fn settle_claim(&self, id: i64, state: ClaimState, reason: Option<String>) -> Answer<Option<ClaimRecord>> {
        self.step(|kept| Ok(kept.settle_claim(id, state, reason)))
    }

    fn remove_claim(&self, id: i64) -> Answer<bool> {
        self.step(|state| Ok(state.claims.remove(&id).is_some()))
    }

    fn claims_on(&self, group_key: String) -> Answer<Vec<ClaimRecord>> {
        self.step(|state| Ok(state.claims.values().filter(|c| c.claim.group_key == group_key).cloned().collect()))
    }

    fn claims_of(&self, run: RunId) -> Answer<Vec<ClaimRecord>> {
        self.step(|state| Ok(state.claims.values().filter(|claim| claim.claim.run == run).cloned().collect()))
    }

    fn claimed_groups(&self) -> Answer<Vec<String>> {
        self.step(|state| {
            let groups: BTreeSet<&String> = state.claims.values().map(|claim| &claim.claim.group_key).collect();
            Ok(groups.into_iter().cloned().collect())
        })
    }
}
