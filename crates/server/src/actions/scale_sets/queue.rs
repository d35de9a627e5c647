//! A scale set's jobs and the messages about them, decided without a clock, a socket or a lock.
//!
//! What the queue says about jobs may get lost with its reader, who acknowledges a message before acting on it; how many
//! there are stands in the statistics of every answer, which are counted afresh each time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use startline_protocol::ids::{JobId, RunnerId};
use startline_protocol::state::Conclusion;
use startline_store::BegunJob;

/// Most inner messages of one message.
pub(super) const BATCH: usize = 50;
/// How often a job is assigned to a set whose runners do not start it.
pub(super) const TRIES: u32 = 3;
/// How long a set is not given a job again that it did not start.
const REST: SignedDuration = SignedDuration::from_mins(15);
/// How long the conclusion of a job is waited for that is over.
const CONCLUSION: SignedDuration = SignedDuration::from_secs(30);
/// Most events that wait for a reader; beyond that the oldest live on in the statistics alone.
const BACKLOG: usize = 2000;
/// Most messages that wait to be acknowledged; likewise.
const UNREAD: usize = 64;

/// How many there are of everything (actions/scaleset `types.go`, `RunnerScaleSetStatistic`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Statistics {
    pub total_available_jobs: usize,
    pub total_acquired_jobs: usize,
    pub total_assigned_jobs: usize,
    pub total_running_jobs: usize,
    pub total_registered_runners: usize,
    pub total_busy_runners: usize,
    pub total_idle_runners: usize,
}

impl Statistics {
    /// Whether a reader that knows `told` decides otherwise now. Jobs that wait for somebody else are no news to it.
    fn is_news(&self, told: &Self) -> bool {
        Self { total_available_jobs: 0, ..*self } != Self { total_available_jobs: 0, ..*told }
    }
}

/// A runner of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub id: RunnerId,
    pub name: String,
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Available,
    Assigned { at: Timestamp },
    Started { by: Who, assigned: Timestamp, at: Timestamp },
    Completed { by: Option<Who>, assigned: Timestamp, started: Option<Timestamp>, at: Timestamp, result: Conclusion },
}

/// An inner message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub job: JobId,
    pub what: What,
}

/// A message that was not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub id: i64,
    pub events: Vec<Event>,
}

impl Message {
    /// What its reader knows afterwards: jobs that were begun, and jobs that are over.
    pub(super) fn news(&self, set: i64) -> (Vec<BegunJob>, Vec<JobId>) {
        let mut known = BTreeMap::new();
        for event in &self.events {
            match &event.what {
                What::Started { by, assigned, at } => {
                    let (runner_name, assigned_at, started_at) = (by.name.clone(), *assigned, *at);
                    let job = BegunJob { set, job: event.job, runner: by.id, runner_name, assigned_at, started_at };
                    known.insert(event.job, Some(job));
                }
                What::Completed { .. } => drop(known.insert(event.job, None)),
                What::Available | What::Assigned { .. } => {}
            }
        }
        let over = known.iter().filter(|(_, begun)| begun.is_none()).map(|(job, _)| *job).collect();
        (known.into_values().flatten().collect(), over)
    }
}

/// A job that is the set's.
#[derive(Clone, Debug)]
struct Own {
    assigned: Timestamp,
    /// The try began.
    since: Timestamp,
    tries: u32,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Queued.
    Waiting,
    /// Offered to one of the set's runners.
    Offered,
    Running {
        by: Who,
        at: Timestamp,
    },
    /// It is over; how it ended is not known yet.
    Over {
        by: Who,
        started: Timestamp,
        at: Timestamp,
    },
}

impl Own {
    /// The runner that has begun it.
    const fn runner(&self) -> Option<&Who> {
        match &self.stage {
            Stage::Waiting | Stage::Offered => None,
            Stage::Running { by, .. } | Stage::Over { by, .. } => Some(by),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    jobs: BTreeMap<JobId, Own>,
    backlog: VecDeque<Event>,
    unread: VecDeque<Message>,
    told: Option<Statistics>,
    /// Jobs that were announced to be acquired.
    announced: BTreeSet<JobId>,
    /// Jobs that the set did not start, and until when they are not given to it again.
    resting: BTreeMap<JobId, Timestamp>,
    /// One of its runners last took a job.
    progress: Timestamp,
    /// How long a job may wait for one.
    patience: SignedDuration,
}

impl Queue {
    pub(super) fn new(now: Timestamp, patience: SignedDuration) -> Self {
        Self {
            jobs: BTreeMap::new(),
            backlog: VecDeque::new(),
            unread: VecDeque::new(),
            told: None,
            announced: BTreeSet::new(),
            resting: BTreeMap::new(),
            progress: now,
            patience,
        }
    }

    fn note(&mut self, job: JobId, what: What) {
        self.backlog.push_back(Event { job, what });
        if self.backlog.len() > BACKLOG {
            self.backlog.pop_front();
        }
    }

    /// Gives the set a queued job.
    pub(super) fn assign(&mut self, job: JobId, now: Timestamp) {
        self.announced.remove(&job);
        self.jobs.insert(job, Own { assigned: now, since: now, tries: 1, stage: Stage::Waiting });
        self.note(job, What::Assigned { at: now });
    }

    /// Takes up a job whose beginning the reader was told before a restart.
    pub(super) fn resume(&mut self, job: JobId, by: Who, assigned: Timestamp, started: Timestamp) {
        let stage = Stage::Running { by, at: started };
        self.jobs.insert(job, Own { assigned, since: started, tries: 1, stage });
    }

    /// One of the set's runners has the job in its hands; it need not have been assigned.
    pub(super) fn held(&mut self, job: JobId, by: Who, running: bool, now: Timestamp) {
        if self.jobs.get(&job).and_then(Own::runner).is_some_and(|known| *known != by) {
            // The runner that had it was lost, and the reader waits to hear of it.
            self.lost(job, now);
        }
        if !self.jobs.contains_key(&job) {
            self.assign(job, now);
        }
        self.progress = now;
        self.resting.clear();
        let Some(own) = self.jobs.get_mut(&job) else { return };
        if !running {
            own.stage = Stage::Offered;
        } else if !matches!(&own.stage, Stage::Running { by: known, .. } if *known == by) {
            let assigned = own.assigned;
            own.stage = Stage::Running { by: by.clone(), at: now };
            self.note(job, What::Started { by, assigned, at: now });
        }
    }

    /// The job is queued, again or still. True when that is news.
    pub(super) fn waits(&mut self, job: JobId, now: Timestamp) -> bool {
        let Some(own) = self.jobs.get_mut(&job) else { return false };
        match own.stage {
            Stage::Waiting => false,
            Stage::Offered => {
                (own.stage, own.since) = (Stage::Waiting, now);
                true
            }
            // Its runner was lost, which the reader still takes for one that works.
            Stage::Running { .. } | Stage::Over { .. } => {
                self.lost(job, now);
                self.assign(job, now);
                true
            }
        }
    }

    /// The job is not the set's any more: somebody else has it, or nobody may.
    pub(super) fn lost(&mut self, job: JobId, now: Timestamp) {
        self.announced.remove(&job);
        self.resting.remove(&job);
        let Some(own) = self.jobs.remove(&job) else { return };
        let (by, started) = match own.stage {
            Stage::Waiting | Stage::Offered => (None, None),
            Stage::Running { by, at } => (Some(by), Some(at)),
            Stage::Over { by, started, .. } => (Some(by), Some(started)),
        };
        let result = Conclusion::Cancelled;
        self.note(job, What::Completed { by, assigned: own.assigned, started, at: now, result });
    }

    /// The job is neither queued nor in anybody's hands. True when it is not the set's any more.
    pub(super) fn over(&mut self, job: JobId, now: Timestamp) -> bool {
        match self.jobs.get_mut(&job) {
            Some(Own { stage: stage @ Stage::Running { .. }, .. }) => {
                if let Stage::Running { by, at } = stage {
                    *stage = Stage::Over { by: by.clone(), started: *at, at: now };
                }
                false
            }
            Some(Own { stage: Stage::Over { .. }, .. }) => false,
            _ => {
                self.lost(job, now);
                true
            }
        }
    }

    /// The job has its conclusion.
    pub(super) fn ended(&mut self, job: JobId, result: Conclusion, now: Timestamp) {
        let Some(own) = self.jobs.remove(&job) else { return };
        let (by, started) = match own.stage {
            Stage::Running { by, at } => (Some(by), Some(at)),
            Stage::Over { by, started, .. } => (Some(by), Some(started)),
            Stage::Waiting | Stage::Offered => (None, None),
        };
        self.note(job, What::Completed { by, assigned: own.assigned, started, at: now, result });
    }

    /// Lets time pass; answers the jobs that are not the set's any more.
    pub(super) fn tick(&mut self, now: Timestamp) -> Vec<JobId> {
        self.resting.retain(|_, until| *until > now);
        let due = |own: &Own| match own.stage {
            Stage::Waiting => self.start_by(own) <= now,
            Stage::Over { at, .. } => now.duration_since(at) >= CONCLUSION,
            _ => false,
        };
        let late: Vec<JobId> = self.jobs.iter().filter(|(_, own)| due(own)).map(|(id, _)| *id).collect();
        let mut gone = Vec::new();
        for job in late {
            let (waiting, tries) =
                self.jobs.get(&job).map_or((false, 0), |own| (matches!(own.stage, Stage::Waiting), own.tries));
            self.lost(job, now);
            if waiting && tries < TRIES {
                self.assign(job, now);
                if let Some(own) = self.jobs.get_mut(&job) {
                    own.tries = tries + 1;
                }
                continue;
            }
            if waiting {
                self.resting.insert(job, now.saturating_add(REST).unwrap_or(Timestamp::MAX));
            }
            gone.push(job);
        }
        gone
    }

    /// A job that waits is late when no runner of the set has taken any job for so long.
    fn start_by(&self, own: &Own) -> Timestamp {
        own.since.max(self.progress).saturating_add(self.patience).unwrap_or(Timestamp::MAX)
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn next_tick(&self) -> Option<Timestamp> {
        let due = self.jobs.values().filter_map(|own| match own.stage {
            Stage::Waiting => Some(self.start_by(own)),
            Stage::Over { at, .. } => at.saturating_add(CONCLUSION).ok(),
            _ => None,
        });
        due.chain(self.resting.values().copied()).min()
    }

    /// Takes waiting jobs back, the youngest first, until the set has no more than `most`; answers which.
    pub(super) fn shrink(&mut self, most: usize, now: Timestamp) -> Vec<JobId> {
        let surplus = self.jobs.len().saturating_sub(most);
        let waiting = self.jobs.iter().rev().filter(|(_, own)| matches!(own.stage, Stage::Waiting));
        let taken: Vec<JobId> = waiting.map(|(id, _)| *id).take(surplus).collect();
        for job in &taken {
            self.lost(*job, now);
        }
        taken
    }

    /// Announces a job to be acquired, once a session.
    pub(super) fn announce(&mut self, job: JobId) {
        if self.announced.insert(job) {
            self.note(job, What::Available);
        }
    }

    /// Forgets a job that never was the set's.
    pub(super) fn forget(&mut self, job: JobId) {
        self.announced.remove(&job);
        self.resting.remove(&job);
    }

    /// A new reader is told everything by `statistics`.
    pub(super) fn begin(&mut self, statistics: Statistics) {
        self.announced.clear();
        self.told = Some(statistics);
    }

    /// How many jobs are the set's.
    pub(super) fn size(&self) -> usize {
        self.jobs.len()
    }

    /// How many of them run.
    pub(super) fn running(&self) -> usize {
        self.jobs.values().filter(|own| matches!(own.stage, Stage::Running { .. } | Stage::Over { .. })).count()
    }

    /// Those that are queued.
    pub(super) fn waiting(&self) -> impl Iterator<Item = JobId> + '_ {
        self.jobs.iter().filter(|(_, own)| matches!(own.stage, Stage::Waiting)).map(|(id, _)| *id)
    }

    /// Until when a job is not given to the set.
    pub(super) fn rests(&self, job: JobId) -> Option<Timestamp> {
        self.resting.get(&job).copied()
    }

    /// Since when a waiting job is the set's, and in which try.
    pub(super) fn waited(&self, job: JobId) -> Option<(Timestamp, u32)> {
        let own = self.jobs.get(&job).filter(|own| matches!(own.stage, Stage::Waiting))?;
        Some((own.since, own.tries))
    }

    /// What a poll is answered that has read everything up to `last`: first what was not acknowledged, then what is new,
    /// then the statistics if they are. `None` when it should wait.
    pub(super) fn next(&mut self, last: i64, id: i64, statistics: Statistics) -> Option<Message> {
        if let Some(message) = self.unread.iter().find(|message| message.id > last) {
            self.told = Some(statistics);
            return Some(message.clone());
        }
        let news = self.told.is_none_or(|told| statistics.is_news(&told));
        if self.backlog.is_empty() && !news {
            return None;
        }
        let events = self.backlog.drain(..self.backlog.len().min(BATCH)).collect();
        let message = Message { id, events };
        self.unread.push_back(message.clone());
        if self.unread.len() > UNREAD {
            self.unread.pop_front();
        }
        self.told = Some(statistics);
        Some(message)
    }

    /// Forgets the messages up to this one.
    pub(super) fn acknowledge(&mut self, id: i64) {
        self.unread.retain(|message| message.id > id);
    }
}

#[cfg(test)]
mod tests;
