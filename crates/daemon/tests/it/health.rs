//! The routes that say how the process is.

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use startline_daemon::{BuildInfo, Drain, Health, Metrics, health_router};
use tower::ServiceExt as _;

use crate::harness::{Server, patient};

fn metrics() -> Metrics {
    Metrics::new(BuildInfo { version: "1.2.3", commit: "unknown" })
}

async fn get(router: &Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn readiness_follows_the_components_and_the_drain() {
    let drain = Drain::new();
    let health = Health::new(&drain);
    let router: Router = health_router(health.clone(), metrics().finish());
    assert_eq!(get(&router, "/readyz").await, (StatusCode::OK, "ready\n".to_owned()));

    let (store, dispatch) = (health.component("store"), health.component("dispatch"));
    let both = "not ready\ndispatch: starting\nstore: starting\n".to_owned();
    assert_eq!(get(&router, "/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, both));
    dispatch.ready();
    store.not_ready("migrating");
    let one = "not ready\nstore: migrating\n".to_owned();
    assert_eq!(get(&router, "/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, one));
    store.ready();
    assert_eq!(get(&router, "/readyz").await, (StatusCode::OK, "ready\n".to_owned()));

    drain.start();
    let draining = "not ready\ndraining\n".to_owned();
    assert_eq!(get(&router, "/readyz").await, (StatusCode::SERVICE_UNAVAILABLE, draining));
    assert_eq!(get(&router, "/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
}

#[tokio::test]
async fn metrics_are_open_metrics_with_those_of_the_process() {
    let health = Health::new(&Drain::new());
    let server = Server::start(health_router(health, metrics().finish()), patient()).await;
    let response = server.connect().await.get("/metrics").await;
    assert!(
        response.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{response}"
    );
    for name in [
        "process_open_fds",
        "process_max_fds",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_threads",
        "process_start_time_seconds",
        "process_cpu_seconds_total",
        "startline_build_info{version=\"1.2.3\",commit=\"unknown\"}",
    ] {
        assert!(response.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} is missing: {response}");
    }
    assert!(response.ends_with("# EOF\n"), "{response}");
    server.stop().await;
}
