//! Being told to stop. One test, because signals reach the whole process.

use nix::sys::signal::{self, Signal as Raw};
use startline_daemon::{Drain, Signal, Signals};
use tokio_util::task::TaskTracker;

use crate::harness::soon;

#[tokio::test]
async fn the_first_signal_drains_and_the_second_aborts() {
    let mut signals = Signals::listen().unwrap();
    signal::raise(Raw::SIGINT).unwrap();
    let received = soon("the signal", signals.recv()).await;
    assert_eq!((received, received.exit_code()), (Signal::Interrupt, 130));

    let drain = Drain::new();
    let driver = TaskTracker::new().spawn(signals.drive(drain.clone()));
    signal::raise(Raw::SIGTERM).unwrap();
    soon("the drain", drain.draining().cancelled()).await;
    assert!(!drain.aborting().is_cancelled() && !driver.is_finished());
    signal::raise(Raw::SIGTERM).unwrap();
    assert_eq!(soon("the abort", driver).await.unwrap().exit_code(), 143);
    assert!(drain.aborting().is_cancelled());
}
