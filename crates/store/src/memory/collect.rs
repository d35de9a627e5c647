//! What is to be cleared up.

use jiff::Timestamp;
use startline_protocol::ids::RunnerId;
use startline_protocol::state::JobStatus;

use super::State;
use crate::COLLECTED;
use crate::record::{RunnerRecord, kept};

impl State {
    pub(super) fn purge_tokens(&mut self, before: Timestamp) -> u32 {
        let before = kept(before);
        let is_past = |time: Option<Timestamp>| time.is_some_and(|time| time < before);
        let mut left = COLLECTED;
        self.api_tokens.retain(|(_, token)| !take(&mut left, is_past(token.revoked_at) || is_past(token.expires_at)));
        let mut purged = COLLECTED - left;
        left = COLLECTED;
        self.registration_tokens
            .retain(|token| !take(&mut left, is_past(token.revoked_at) || is_past(Some(token.token.expires_at))));
        purged += COLLECTED - left;
        left = COLLECTED;
        self.runner_tokens.retain(|_, token| !take(&mut left, is_past(Some(token.expires_at))));
        purged + (COLLECTED - left)
    }

    /// Those without a job that are `wanted`.
    pub(super) fn idle_runners(&self, wanted: impl Fn(&RunnerRecord) -> bool) -> Vec<RunnerId> {
        self.idle(wanted).take(usize::try_from(COLLECTED).unwrap_or(usize::MAX)).collect()
    }

    /// Those of the wanted runners that hold no job.
    pub(super) fn idle(&self, wanted: impl Fn(&RunnerRecord) -> bool) -> impl Iterator<Item = RunnerId> {
        let holds = move |runner: RunnerId| {
            let mut held =
                self.jobs.values().filter(|job| matches!(job.status, JobStatus::Offered | JobStatus::Running));
            held.any(|job| job.runner_id == Some(runner))
        };
        let live = self.runners.values().filter(|known| known.deleted_at.is_none()).map(|known| &known.record);
        live.filter(move |runner| wanted(runner) && !holds(runner.id)).map(|runner| runner.id)
    }
}

/// Whether this one is taken: it is to be, and some may be taken still.
fn take(left: &mut u32, is_due: bool) -> bool {
    let taken = is_due && *left > 0;
    *left -= u32::from(taken);
    taken
}
