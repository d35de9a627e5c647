//! Time passes: offers, leases and signs of life run out, and the mass-expiry brake.

use jiff::Timestamp;
use startline_protocol::ids::{JobId, RunnerId};

use super::{Dispatcher, Due};
use crate::config::later;
use crate::effect::{Braked, Effect, Gone, RequeueReason};
use crate::job::{Held, HeldKind};

impl Dispatcher {
    /// Lets everything expire whose time has come by `now`, in the order of its deadlines, and then hands out what that
    /// has freed.
    pub fn advance(&mut self, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.next_expiry().is_none_or(|at| at > now) {
            return effects;
        }
        self.brake_leases(now, &mut effects);
        self.brake_runners(now, &mut effects);
        while let Some(&(at, due)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            match due {
                Due::Job(id) => self.expire_job(id, &mut effects),
                Due::Runner(id) => self.expire_runner(id, &mut effects),
            }
        }
        self.settle(now, &mut effects);
        effects
    }

    fn expire_job(&mut self, id: JobId, effects: &mut Vec<Effect>) {
        let Some(&Held { runner, since, expires_at, kind, .. }) = self.held_by(id) else { return };
        match kind {
            HeldKind::Lease { .. } => self.lose(id, expires_at, false, effects),
            HeldKind::Offer => {
                let runner = self.named(runner);
                self.let_go(id);
                let reason = RequeueReason::OfferExpired { runner, offered_at: since, expired_at: expires_at };
                self.requeue(id, reason, effects);
            }
        }
    }

    fn expire_runner(&mut self, id: RunnerId, effects: &mut Vec<Effect>) {
        self.stop_waiting(id);
        let Some(runner) = self.runners.get_mut(&id) else { return };
        runner.offline_at = None;
        runner.braked = false;
        effects.push(Effect::RunnerOffline { runner: id, last_seen_at: runner.last_seen_at });
        self.changed_runners.insert(id);
        self.withdraw_offers(id, Gone::Offline, effects);
    }

    fn brake_leases(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let ahead = later(now, self.config.brake.window_for(self.config.lease_duration));
        let lapsing = |&(at, due): &(Timestamp, Due)| match due {
            Due::Job(id) => self.is_lease(id, false).then_some((at, id)),
            Due::Runner(_) => None,
        };
        let lapsing: Vec<_> = self.deadlines.iter().take_while(|(at, _)| *at <= ahead).filter_map(lapsing).collect();
        if lapsing.first().is_none_or(|(at, _)| *at > now) {
            return;
        }
        let of = self.held.values().flatten().filter(|id| self.is_lease(**id, true)).count();
        if !self.config.brake.trips(lapsing.len(), of) {
            return;
        }
        let until = later(now, self.config.lease_duration);
        for &(_, id) in &lapsing {
            self.extend(id, until);
            if let Some(Held { kind: HeldKind::Lease { braked, .. }, .. }) =
                self.jobs.get_mut(&id).and_then(|job| job.held.as_deref_mut())
            {
                *braked = true;
            }
        }
        effects.push(Effect::Braked { what: Braked::Leases, extended: lapsing.len(), of, until });
    }

    fn brake_runners(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        let ahead = later(now, self.config.brake.window_for(self.config.offline_after));
        let lapsing = |&(at, due): &(Timestamp, Due)| match due {
            Due::Runner(id) => self.runners.get(&id).is_some_and(|runner| !runner.braked).then_some((at, id)),
            Due::Job(_) => None,
        };
        let lapsing: Vec<_> = self.deadlines.iter().take_while(|(at, _)| *at <= ahead).filter_map(lapsing).collect();
        if lapsing.first().is_none_or(|(at, _)| *at > now) {
            return;
        }
        let of = self.runners.values().filter(|runner| runner.is_online()).count();
        if !self.config.brake.trips(lapsing.len(), of) {
            return;
        }
        let until = later(now, self.config.offline_after);
        for &(at, id) in &lapsing {
            if let Some(runner) = self.runners.get_mut(&id) {
                self.deadlines.remove(&(at, Due::Runner(id)));
                runner.offline_at = Some(until);
                runner.braked = true;
                self.deadlines.insert((until, Due::Runner(id)));
            }
        }
        effects.push(Effect::Braked { what: Braked::Runners, extended: lapsing.len(), of, until });
    }

    /// Whether the job is leased; `or_braked` counts leases that live by the brake's grace.
    fn is_lease(&self, id: JobId, or_braked: bool) -> bool {
        match self.held_by(id).map(|held| held.kind) {
            Some(HeldKind::Lease { braked, .. }) => or_braked || !braked,
            _ => false,
        }
    }
}
