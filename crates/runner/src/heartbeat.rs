//! Signs of life: how the machine is, which jobs it holds, and what the service wants of them.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use startline_client::{Backoff, Error};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::runner_api::{HeartbeatRequest, RunnerCommand};
use startline_protocol::state::RunnerStatus;
use tokio::time::{sleep, timeout};

use crate::capabilities::{Load, detect, differs};
use crate::daemon::{Context, POLL_RETRY};
use crate::orders::{Order, Orders};

/// How many heartbeats go by between two measurements of what the machine can do.
const MEASURE_EVERY: u32 = 20;

/// How long the last heartbeat may hold up the end of the runner.
const FAREWELL: Duration = Duration::from_secs(2);

/// The jobs in this runner's hands.
#[derive(Debug, Default)]
pub(crate) struct Jobs(Mutex<Vec<Orders>>);

impl Jobs {
    pub(crate) fn add(&self, orders: Orders) {
        self.lock().push(orders);
    }

    pub(crate) fn remove(&self, orders: &Orders) {
        self.lock().retain(|other| !other.is(orders));
    }

    pub(crate) fn all(&self) -> Vec<Orders> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Orders>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends heartbeats as often as the service asked for, for ever.
pub(crate) async fn beat(context: &Context, jobs: &Jobs, mut known: Capabilities) -> Infallible {
    let interval = Duration::from_secs(context.registration.heartbeat_interval_seconds.max(1).into());
    let mut load = Load::default();
    let mut failures = 0_u32;
    let mut beats = 0_u32;
    let mut said_draining = false;
    let mut backoff = Backoff::new(POLL_RETRY);
    loop {
        let held = jobs.all();
        let system_info = load.measure(&context.options.work_dir);
        let request = HeartbeatRequest {
            status: status(context, &held),
            current_jobs: held.iter().map(|orders| orders.job_id).collect(),
            system_info,
        };
        let mut pause = jittered(interval);
        match context.session.send_heartbeat(&request).await {
            Ok(answer) => {
                context.announced.cancel();
                if failures > 0 {
                    tracing::info!(failures, "the service hears this runner again");
                }
                failures = 0;
                obey(&answer.commands, &held, context.options.cancel_timeout);
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(%error, "the service does not hear this runner");
                }
                failures = failures.saturating_add(1);
                if !error.is_transient() {
                    // A poll will hear the same, and acts on it.
                    context.announced.cancel();
                } else if !context.announced.is_cancelled() {
                    pause = backoff.next(error.retry_after()).unwrap_or(pause);
                }
            }
        }
        beats = beats.wrapping_add(1);
        if beats.is_multiple_of(MEASURE_EVERY) {
            tell_changes(context, &mut known).await;
        }
        let pause = sleep(pause);
        if said_draining {
            pause.await;
        } else {
            // The service should stop counting on this runner at once.
            tokio::select! {
                () = pause => {}
                () = context.shutdown.draining().cancelled() => said_draining = true,
            }
        }
    }
}

/// Says goodbye, so that the service need not wait for this runner's silence to become long.
pub(crate) async fn farewell(context: &Context) {
    let request = HeartbeatRequest { status: RunnerStatus::Offline, current_jobs: Vec::new(), system_info: None };
    match timeout(FAREWELL, context.session.send_heartbeat(&request)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the service did not hear this runner's last heartbeat"),
        Err(_) => tracing::debug!("the service did not answer this runner's last heartbeat in time"),
    }
}

fn status(context: &Context, held: &[Orders]) -> RunnerStatus {
    if context.shutdown.draining().is_cancelled() {
        RunnerStatus::Draining
    } else if held.len() >= context.slots() {
        RunnerStatus::Busy
    } else {
        RunnerStatus::Online
    }
}

/// Does what the service wants, to the jobs that it was told of: a job that came since is not meant, even when it is
/// another attempt at the same one.
fn obey(commands: &[RunnerCommand], held: &[Orders], within: Duration) {
    for command in commands {
        let (job_id, order) = match command {
            RunnerCommand::CancelJob { job_id } => {
                (job_id, Order::Cancel { reason: "the run was cancelled".to_owned(), within })
            }
            RunnerCommand::AbandonJob { job_id } => (job_id, Order::Abandon),
        };
        for orders in held.iter().filter(|orders| orders.job_id == *job_id) {
            orders.give(order.clone());
        }
    }
}

async fn tell_changes(context: &Context, known: &mut Capabilities) {
    let options = &context.options;
    let now = detect(&options.work_dir, known.max_parallel_jobs, &options.overrides);
    if !differs(known, &now) {
        return;
    }
    // One try at a time, so that heartbeats go on; what is not told now is still news at the next measurement.
    match timeout(Duration::from_secs(10), context.session.update_capabilities(&now)).await {
        Ok(Ok(())) => *known = now,
        Ok(Err(error)) => report_untold(&error),
        Err(_) => tracing::debug!("the service did not take changed capabilities in time"),
    }
}

fn report_untold(error: &Error) {
    tracing::warn!(%error, "cannot tell the service what the machine can do now");
}

/// `interval`, longer or shorter by up to a tenth, so that runners started together drift apart.
fn jittered(interval: Duration) -> Duration {
    let random = uuid::Uuid::new_v4().as_bytes()[0];
    interval.mul_f64(0.9 + 0.2 * f64::from(random) / 255.0)
}

#[cfg(test)]
mod tests {
    use startline_protocol::ids::JobId;

    use super::*;

    #[test]
    fn a_heartbeat_is_early_or_late_by_a_tenth_at_most() {
        let interval = Duration::from_secs(10);
        for _ in 0..200 {
            let pause = jittered(interval);
            assert!(pause >= Duration::from_secs(9) && pause <= Duration::from_secs(11), "{pause:?}");
        }
    }

    #[test]
    fn commands_reach_the_jobs_that_were_reported_and_no_other() {
        let jobs = Jobs::default();
        let (one, one_wanted) = Orders::new(JobId(1));
        jobs.add(one.clone());
        let held = jobs.all();
        jobs.remove(&one);
        let (again, again_wanted) = Orders::new(JobId(1));
        jobs.add(again);
        obey(&[RunnerCommand::AbandonJob { job_id: JobId(1) }], &held, Duration::ZERO);
        assert_eq!(*one_wanted.borrow(), Order::Abandon);
        assert_eq!(*again_wanted.borrow(), Order::Run);
        obey(&[RunnerCommand::CancelJob { job_id: JobId(1) }], &jobs.all(), Duration::ZERO);
        assert!(matches!(*again_wanted.borrow(), Order::Cancel { .. }));
    }
}
