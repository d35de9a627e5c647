//! Matching: a deep queue whose head nobody may take, and a large fleet of which one runner fits.

use std::hint::black_box;
use std::sync::Arc;

use jiff::Timestamp;
use startline_dispatcher::{
    Assignment, Config, Dispatcher, Effect, JobSpec, LostPolicy, Patience, PollId, PollOutcome, Requirement, RunnerSpec,
};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::ids::{Epoch, JobId, RunId, RunnerId};
use startline_protocol::scope::Scope;

use crate::meter::Meter;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const LABEL_SETS: u32 = 64;
/// So few that all have jobs of all label sets in the smallest queue: what is to be seen is what depth costs, not width.
const REPOSITORIES: u32 = 10;
const ROUNDS: u32 = 256;

/// The oldest nine tenths of the queue are for other label sets than those who ask have.
pub(super) fn queued(meter: &mut Meter, jobs: u32) {
    let mut fleet = Fleet::new();
    for id in 1..=ROUNDS {
        fleet.register(id, LABEL_SETS - 1);
    }
    let old = jobs / 10 * 9;
    for id in 1..=jobs {
        fleet.enqueue(id, if id <= old { id % (LABEL_SETS - 1) } else { id % LABEL_SETS });
    }
    let mut offers = Vec::new();
    for round in 1..=ROUNDS {
        let job = fleet.job(jobs + round, LABEL_SETS - 1);
        let offer = meter.count(|| {
            let _ = black_box(fleet.dispatcher.enqueue(NOW, job));
            fleet.poll(round)
        });
        offers.push(offer.expect("a job fits"));
        fleet.forget_changes();
    }
    meter.finish("enqueue and poll");
    assert!(offers.iter().all(|offer| offer.job.0 > i64::from(old)), "the head of the queue fits nobody");
    fleet.carry_out(meter, &offers);
}

/// The runners are of all label sets, no two machines are alike, and a queue that fits none of them is in front.
pub(super) fn waiting(meter: &mut Meter, runners: u32) {
    let mut fleet = Fleet::new();
    let sets = runners.min(LABEL_SETS);
    for id in 1..=1_000 {
        fleet.enqueue(id, LABEL_SETS + id % LABEL_SETS);
    }
    // Jobs of each set were seen before: to find all who satisfy a new class is done once.
    for set in 0..sets {
        fleet.enqueue(1_001 + set, set);
        assert!(fleet.dispatcher.cancel_queued(JobId(i64::from(1_001 + set))));
    }
    for id in 1..=runners {
        fleet.register(id, id % sets);
        assert_eq!(fleet.poll(id), None);
    }
    fleet.forget_changes();
    let mut offers = Vec::new();
    for round in 0..ROUNDS {
        let job = fleet.job(2_001 + round, round % sets);
        let effects = meter.count(|| fleet.dispatcher.enqueue(NOW, job)).expect("a new job");
        let [Effect::Assigned { assignment, .. }] = &effects[..] else { panic!("one runner gets the job") };
        fleet.forget_changes();
        // The fleet stays as large as it is; those who waited longest are asked in turn.
        let (id, epoch) = (assignment.job, assignment.epoch);
        fleet.dispatcher.acquire(NOW, assignment.runner, id, epoch).expect("an open offer");
        fleet.dispatcher.complete(NOW, id, epoch).expect("a lease");
        fleet.parked(u32::try_from(assignment.runner.0).expect("a small number"));
        offers.push(assignment.clone());
    }
    meter.finish("enqueue");
    for offer in &offers {
        let runner = u32::try_from(offer.runner.0).expect("a small number");
        fleet.polls += 1;
        let next = PollId(fleet.polls);
        // A poll that nobody answered in time, and the next one: what an idle fleet costs.
        let last = std::mem::replace(&mut fleet.open[runner as usize], next);
        let outcome = meter.count(|| {
            assert!(fleet.dispatcher.abort_poll(last));
            fleet.dispatcher.poll(NOW, offer.runner, next, true).0
        });
        assert_eq!(outcome, PollOutcome::Parked);
        fleet.forget_changes();
    }
    meter.finish("poll that waits");
}

struct Fleet {
    dispatcher: Dispatcher,
    polls: u64,
    /// The last poll of each runner.
    open: Vec<PollId>,
}

impl Fleet {
    fn new() -> Self {
        Self { dispatcher: Dispatcher::new(Config::default()), polls: 0, open: Vec::new() }
    }

    fn register(&mut self, id: u32, set: u32) {
        let spec = RunnerSpec {
            id: RunnerId(id.into()),
            name: format!("runner-{id}"),
            labels: vec!["self-hosted".to_owned(), "linux".to_owned(), format!("pool-{set}")],
            scope: Scope::Instance,
            group: "default".to_owned(),
            // Machines measure their free disk, so in practice no two are alike.
            capabilities: Capabilities { disk_space_gb: id, ..Capabilities::default() },
            ephemeral: false,
            draining: false,
            patience: Patience::default(),
        };
        self.dispatcher.add_runner(NOW, spec);
        self.open.resize(self.open.len().max(id as usize + 1), PollId(0));
    }

    fn job(&self, id: u32, set: u32) -> JobSpec {
        JobSpec {
            id: JobId(id.into()),
            run: RunId(id.into()),
            timeout_minutes: 360,
            requirement: Arc::new(Requirement {
                labels: vec!["linux".to_owned(), format!("pool-{set}")],
                group: None,
                repository: format!("acme/app-{}", id % REPOSITORIES),
                trusted: true,
            }),
            priority: 0,
            sequence: id.into(),
            attempt: 1,
            epoch: Epoch::ZERO,
            queued_at: NOW,
            on_runner_lost: LostPolicy::Requeue,
            requeues_left: 1,
        }
    }

    fn enqueue(&mut self, id: u32, set: u32) {
        let effects = self.dispatcher.enqueue(NOW, self.job(id, set)).expect("a new job");
        assert!(effects.is_empty(), "nobody waits");
        self.forget_changes();
    }

    /// What the service does after each call.
    fn forget_changes(&mut self) {
        black_box(self.dispatcher.take_changed_jobs());
        black_box(self.dispatcher.take_changed_runners());
    }

    /// A poll for an offer, which it gets or waits for.
    fn poll(&mut self, runner: u32) -> Option<Assignment> {
        self.polls += 1;
        self.open[runner as usize] = PollId(self.polls);
        match self.dispatcher.poll(NOW, RunnerId(runner.into()), PollId(self.polls), false).0 {
            PollOutcome::Assigned(assignment) => Some(assignment),
            PollOutcome::Parked => None,
            other => panic!("{other:?}"),
        }
    }

    fn parked(&mut self, runner: u32) {
        assert_eq!(self.poll(runner), None);
        self.forget_changes();
    }

    /// Takes the offers, renews the leases and ends them.
    fn carry_out(&mut self, meter: &mut Meter, offers: &[Assignment]) {
        for &Assignment { job, runner, epoch, .. } in offers {
            assert!(meter.count(|| self.dispatcher.acquire(NOW, runner, job, epoch)).is_ok());
            self.forget_changes();
        }
        meter.finish("acquire");
        for &Assignment { job, epoch, .. } in offers {
            assert!(meter.count(|| self.dispatcher.renew(NOW, job, epoch)).is_ok());
            self.forget_changes();
        }
        meter.finish("renew");
        for &Assignment { job, epoch, .. } in offers {
            assert!(meter.count(|| self.dispatcher.complete(NOW, job, epoch)).is_ok());
            self.forget_changes();
        }
        meter.finish("complete");
    }
}
