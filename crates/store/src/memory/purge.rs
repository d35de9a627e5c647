//! Purging of what is old.

use std::time::Duration;

use jiff::Timestamp;
use startline_protocol::ids::{JobId, RunId, RunnerId};
use startline_protocol::state::JobStatus;

use super::State;
use crate::record::{AuditBegin, Digest, DueRuns, PurgePlace, Purged, kept, purge_line};
use crate::{PURGE_LOOKS, PURGED_JOBS, PURGED_LINES, PURGED_RUNNERS, PURGED_RUNS};

impl State {
    pub(super) fn due_runs(&self, before: Timestamp, from: Option<PurgePlace>) -> DueRuns {
        let before = kept(before);
        let from = from.unwrap_or(PurgePlace { run: RunId(0), job: JobId(0) });
        let mut due = DueRuns::default();
        let mut looked = 0;
        for run in self.runs.range(from.run..).map(|(_, run)| run).take(PURGE_LOOKS as usize) {
            looked += 1;
            if run.run.created_at >= before {
                due.next = None;
                return due;
            }
            due.next = Some(PurgePlace::behind(run.id));
            let behind = if run.id == from.run { from.job } else { JobId(0) };
            if !self.has_ended(run.id, before) || behind == PurgePlace::behind(run.id).job {
                continue;
            }
            due.next = Some(PurgePlace { run: run.id, job: behind });
            let ended = self.jobs.values().filter(|job| job.run_id == run.id && job.status == JobStatus::Completed);
            for job in ended.filter(|job| job.id > behind) {
                if due.jobs.len() == PURGED_JOBS {
                    return due;
                }
                due.jobs.push((job.id, job.attempt));
                due.next = Some(PurgePlace { run: run.id, job: job.id });
            }
            due.next = Some(PurgePlace::behind(run.id));
            due.runs.push(run.id);
            if due.runs.len() == PURGED_RUNS {
                return due;
            }
        }
        if looked < PURGE_LOOKS {
            due.next = None;
        }
        due
    }

    fn has_ended(&self, run: RunId, before: Timestamp) -> bool {
        self.runs.get(&run).and_then(|run| run.completed_at).is_some_and(|at| at < before)
    }

    pub(super) fn purge_runs(&mut self, before: Timestamp, due: &DueRuns) -> Purged {
        let before = kept(before);
        let mut purged = Purged::default();
        for (id, _) in &due.jobs {
            let Some(job) = self.jobs.get(id).filter(|job| job.status == JobStatus::Completed) else { continue };
            let finished = job.finished;
            let mut others = self.jobs.values().map(|job| job.finished).filter(|other| *other > 0);
            let waits = others.clone().all(|other| other <= finished) && others.any(|other| other < finished);
            if waits || !self.has_ended(job.run_id, before) {
                continue;
            }
            self.jobs.remove(id);
            self.messages.remove(id);
            self.claims.retain(|_, claim| claim.claim.job != Some(*id));
            purged.jobs += 1;
        }
        for id in &due.runs {
            let Some(run) = self.runs.get(id).filter(|_| self.has_ended(*id, before)) else { continue };
            let place = (run.run.repository.clone(), run.run.path.clone());
            let number = run.number;
            let siblings =
                self.runs.values().filter(|run| (&run.run.repository, &run.run.path) == (&place.0, &place.1));
            let mut others = siblings.map(|run| run.number);
            let waits = others.clone().all(|other| other <= number) && others.any(|other| other < number);
            if waits || self.jobs.values().any(|job| job.run_id == *id) {
                continue;
            }
            self.last_numbers.insert(place, number);
            self.runs.remove(id);
            self.claims.retain(|_, claim| claim.claim.run != *id);
            purged.count += 1;
        }
        purged
    }

    pub(super) fn purge_runners(&mut self, before: Timestamp, after: RunnerId) -> Purged {
        let before = kept(before);
        let mut purged = Purged::default();
        let behind = self.runners.range(RunnerId(after.0.saturating_add(1))..).take(PURGE_LOOKS as usize);
        let looked: Vec<(RunnerId, Timestamp, Option<Timestamp>)> =
            behind.map(|(id, known)| (*id, known.record.created_at, known.deleted_at)).collect();
        purged.next = looked.last().filter(|_| looked.len() == PURGE_LOOKS as usize).map(|(id, ..)| id.0);
        for (id, created_at, deleted_at) in looked {
            if created_at >= before {
                purged.next = None;
                break;
            }
            if deleted_at.is_some_and(|at| at < before) {
                self.runner_tokens.retain(|_, token| token.runner != id);
                self.runners.remove(&id);
                purged.count += 1;
                if purged.count == PURGED_RUNNERS {
                    purged.next = Some(id.0);
                    break;
                }
            }
        }
        purged
    }

    pub(super) fn purge_audit(&mut self, before: Timestamp, now: Timestamp, digest: Digest) -> Purged {
        let before = kept(before);
        let due = self.audit.iter().take(PURGED_LINES).take_while(|line| line.entry.at < before).count();
        let Some(last) = self.audit.drain(..due).next_back() else { return Purged::default() };
        let begin = AuditBegin { sequence: last.sequence, at: last.entry.at, hash: last.hash };
        self.audit_begin = Some(begin);
        let count = u32::try_from(due).unwrap_or(u32::MAX);
        self.append_audit(purge_line(&begin, count, now), digest);
        let next = (due == PURGED_LINES).then_some(begin.sequence);
        Purged { count, jobs: 0, next, took: Duration::ZERO }
    }
}
