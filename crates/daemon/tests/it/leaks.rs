//! Nothing stays behind.

use std::fs;

use axum::Router;
use axum::routing::get;
use tokio::runtime::Handle;

use crate::harness::{Server, UPGRADE_TO_ECHO, echo_upgrade, eventually, patient, soon};

#[tokio::test]
async fn a_hundred_starts_and_stops_leave_no_task() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for round in 0..100 {
        let router = Router::new().route("/", get(|| async { "hello" })).route("/echo", get(echo_upgrade));
        let server = Server::start(router, patient()).await;
        let mut kept = server.connect().await;
        kept.get("/").await;
        let _silent = server.connect().await;
        let mut upgraded = server.connect().await;
        upgraded.send(UPGRADE_TO_ECHO).await;
        soon("the switch", upgraded.0.readable()).await.unwrap();
        if round % 2 == 0 {
            drop(upgraded);
            assert_eq!(server.stop().await.aborted, 0);
        } else {
            server.drain.abort();
            assert_eq!(server.ended().await.left, 0);
        }
    }
    eventually("the end of all tasks", || tasks() == before).await;
    // Each round opened several; the other tests of this process have some of theirs open, too.
    assert!(fs::read_dir("/proc/self/fd").unwrap().count() < 300);
}
