//! What the runner wants of a job that runs.

use std::sync::Arc;
use std::time::Duration;

use startline_protocol::ids::JobId;
use tokio::sync::watch;

/// What is wanted of a running job. Later values are graver, and an order never becomes milder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// Go on.
    #[default]
    Run,
    /// Cancel it, and kill its worker when it has not ended in time.
    Cancel {
        /// For the job's log.
        reason: String,
        /// How long the worker may take.
        within: Duration,
    },
    /// The runner itself ends: like a cancel, in less time.
    Shutdown {
        /// How long the worker may take.
        within: Duration,
    },
    /// The job is somebody else's now: kill the worker, report nothing.
    Abandon,
}

impl Order {
    const fn gravity(&self) -> u8 {
        match self {
            Self::Run => 0,
            Self::Cancel { .. } => 1,
            Self::Shutdown { .. } => 2,
            Self::Abandon => 3,
        }
    }
}

/// The end of a job's orders that gives them.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) job_id: JobId,
    order: Arc<watch::Sender<Order>>,
}

impl Orders {
    pub(crate) fn new(job_id: JobId) -> (Self, watch::Receiver<Order>) {
        let (sender, receiver) = watch::channel(Order::Run);
        (Self { job_id, order: Arc::new(sender) }, receiver)
    }

    /// Gives `order` unless one as grave was given before.
    pub(crate) fn give(&self, order: Order) {
        self.order.send_if_modified(|current| {
            let graver = order.gravity() > current.gravity();
            if graver {
                *current = order;
            }
            graver
        });
    }

    /// Whether this is the same assignment as `other`, not only the same job.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.order, &other.order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_never_becomes_milder() {
        let (orders, receiver) = Orders::new(JobId(1));
        orders.give(Order::Abandon);
        orders.give(Order::Cancel { reason: "late".into(), within: Duration::ZERO });
        assert_eq!(*receiver.borrow(), Order::Abandon);
    }

    #[test]
    fn a_second_cancel_does_not_start_the_time_anew() {
        let (orders, mut receiver) = Orders::new(JobId(1));
        let first = Order::Cancel { reason: "first".into(), within: Duration::from_secs(1) };
        orders.give(first.clone());
        receiver.mark_unchanged();
        orders.give(Order::Cancel { reason: "second".into(), within: Duration::from_secs(9) });
        assert!(!receiver.has_changed().unwrap());
        assert_eq!(*receiver.borrow(), first);
    }
}
