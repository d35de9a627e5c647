//! What a runner that is not there would find in the queue: whoever starts runners on demand wants to know how many.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use startline_protocol::ids::{JobId, RunnerId};
use startline_protocol::state::RunnerStatus;

use crate::dispatcher::Dispatcher;
use crate::index::Seeker;
use crate::runner::RunnerSpec;

impl Dispatcher {
    /// How many queued jobs runners like `prospect` could take, limits aside. Costs a look at each class with queued jobs
    /// and at the repositories of those that fit.
    #[must_use]
    pub fn queued_for(&self, prospect: &RunnerSpec) -> usize {
        let seeker = self.index.seeker(prospect);
        self.index.lanes_for(&seeker).map(|lane| lane.places.len()).sum()
    }

    /// The queued jobs that runners like `prospect` would get, in the order of the queue and at most `most`, if they all
    /// came now: such as fit and for which the limits leave room beside `own`, which are queued and spoken for already.
    /// Jobs for which `passed` holds are left out and take no room. Costs what [`Self::queued_for`] does, and a look at
    /// each job that is given, left out or passed over.
    #[must_use]
    pub fn next_for(
        &self,
        prospect: &RunnerSpec,
        most: usize,
        own: impl IntoIterator<Item = JobId>,
        passed: impl Fn(JobId) -> bool,
    ) -> Vec<JobId> {
        let mut found = Vec::new();
        if most == 0 {
            return found;
        }
        let seeker = self.index.seeker(prospect);
        let own: BTreeSet<JobId> = own.into_iter().collect();
        let lanes: Vec<_> = self.index.lanes_for(&seeker).collect();
        if lanes.is_empty() {
            return found;
        }
        let mut rooms = self.index.rooms(&seeker);
        for job in own.iter().filter_map(|id| self.jobs.get(id)).filter(|job| job.held.is_none()) {
            self.index.reserve(&mut rooms, job.lane);
        }
        // Shares grow as jobs are given out here, as they would in runners' hands.
        let mut given: BTreeMap<_, usize> = BTreeMap::new();
        let mut places: Vec<_> = lanes.iter().map(|lane| lane.places.iter().peekable()).collect();
        let mut heads = BinaryHeap::new();
        for (at, lane) in lanes.iter().enumerate() {
            if let Some(place) = places[at].peek() {
                heads.push(Reverse((place.priority, self.index.held_of(lane.lane), place.sequence, place.job, at)));
            }
        }
        while let Some(Reverse((priority, share, sequence, job, at))) = heads.pop() {
            let lane = lanes[at].lane;
            let more = given.get(&lane.repository()).copied().unwrap_or(0);
            let now = self.index.held_of(lane) + more;
            if now != share {
                heads.push(Reverse((priority, now, sequence, job, at)));
                continue;
            }
            let spoken_for = own.contains(&job) || passed(job);
            if !spoken_for {
                if !self.index.fill(&mut rooms, lane) {
                    // Nor is there room for those behind it in this lane.
                    continue;
                }
                *given.entry(lane.repository()).or_default() += 1;
                found.push(job);
                if found.len() == most {
                    break;
                }
            }
            places[at].next();
            if let Some(place) = places[at].peek() {
                let more = given.get(&lane.repository()).copied().unwrap_or(0);
                let share = self.index.held_of(lane) + more;
                heads.push(Reverse((place.priority, share, place.sequence, place.job, at)));
            }
        }
        found
    }

    /// Whether runners like `prospect` have what a queued job asks for, limits aside. False for any other job.
    #[must_use]
    pub fn would_fit(&self, prospect: &RunnerSpec, id: JobId) -> bool {
        let Some(job) = self.jobs.get(&id).filter(|job| job.held.is_none()) else { return false };
        let seeker: Seeker = self.index.seeker(prospect);
        self.index.fits(&seeker, job.lane)
    }

    /// What a runner is doing, if it is registered.
    #[must_use]
    pub fn runner_status(&self, id: RunnerId) -> Option<RunnerStatus> {
        self.runners.get(&id).map(|runner| self.status(id, runner))
    }

    /// Jobs in a runner's hands, offered or acquired, by id; registered or not.
    pub fn jobs_of(&self, id: RunnerId) -> impl Iterator<Item = JobId> + '_ {
        self.held.get(&id).into_iter().flatten().copied()
    }

    /// The jobs that came, went, or changed hands since this was last called; a look at [`Self::job`] tells. As
    /// [`Self::take_changed_runners`].
    pub fn take_changed_jobs(&mut self) -> BTreeSet<JobId> {
        std::mem::take(&mut self.changed_jobs)
    }
}
