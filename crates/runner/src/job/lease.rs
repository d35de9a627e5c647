//! Keeping a job's lease, and hearing of a cancel on the way.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use startline_client::JobClient;
use startline_protocol::runner_api::RenewRequest;
use tokio::time::{Instant, sleep_until};

use crate::orders::{Order, Orders};

/// Renews every `interval` for as long as it is polled, through any outage of the service. A cancel becomes an order
/// as soon as the service has it; a lost lease becomes the order to abandon the job, and the renewals end.
pub(super) async fn keep(
    client: &JobClient,
    interval: Duration,
    orders: &Orders,
    cancel_within: Duration,
) -> Infallible {
    let job_id = orders.job_id;
    // Held until the next renewal is due, so that a cancel arrives at once.
    let mut wait_seconds = u32::try_from(interval.as_secs()).unwrap_or(60).min(60);
    loop {
        let begin = Instant::now();
        match client.renew(&RenewRequest { wait_seconds }).await {
            Ok(answer) if answer.cancel_requested => {
                let reason = answer.cancel_reason.unwrap_or_else(|| "the run was cancelled".to_owned());
                orders.give(Order::Cancel { reason, within: cancel_within });
                // From now on every answer would come at once.
                wait_seconds = 0;
            }
            Ok(_) => {}
            Err(error) if error.is_stale() => {
                // The usual end of every lease: the service has the job's end, and the worker is about to exit.
                tracing::debug!(%job_id, %error, "the lease has ended");
                orders.give(Order::Abandon);
                return pending().await;
            }
            // What refuses here is not the service that holds the lease; that one would say that it is lost.
            Err(error) => tracing::warn!(%job_id, %error, "cannot renew the lease, will try again"),
        }
        sleep_until(begin + interval).await;
    }
}
