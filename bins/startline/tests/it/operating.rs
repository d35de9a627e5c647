//! What an operator relies on: metrics, readiness, keys.

use http::Method;
use serde_json::json;

use crate::cast;
use crate::harness::{Said, Service, eventually, startline};
use crate::http::Wire;

async fn metrics(wire: &mut Wire) -> String {
    wire.send(Method::GET, "/metrics", None, &[], b"").await.text()
}

#[tokio::test]
async fn a_mass_expiry_that_is_put_off_is_counted() {
    let service = Service::start(&["--offline-after", "2s", "--heartbeat-interval", "1s"]);
    let mut wire = Wire::open(&service.url).await;
    for number in 0..6 {
        cast::puppet(&mut wire, &service.token, "instance", &format!("vm-{number}")).await;
    }
    eventually("the brake", async || {
        let text = metrics(&mut wire).await;
        text.contains("startline_brake_total{kind=\"runners\"} 1\n").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_database_that_takes_nothing_is_seen_and_so_is_its_return() {
    let service = Service::start(&[]);
    let mut wire = Wire::open(&service.url).await;
    let ready = wire.send(Method::GET, "/readyz", None, &[], b"").await;
    assert_eq!((ready.code(), ready.text().as_str()), (200, "ready\n"));
    let other = rusqlite::Connection::open(service.data.path().join("startline.db")).unwrap();
    other.busy_timeout(crate::harness::DEADLINE).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let reason = eventually("it is not ready", async || {
        let reply = wire.send(Method::GET, "/readyz", None, &[], b"").await;
        (reply.code() == 503).then(|| reply.text())
    })
    .await;
    assert!(reason.contains("database: a commit"), "{reason}");
    assert_eq!(wire.send(Method::GET, "/healthz", None, &[], b"").await.code(), 200);
    other.execute_batch("ROLLBACK").unwrap();
    eventually("it is ready again", async || {
        (wire.send(Method::GET, "/readyz", None, &[], b"").await.code() == 200).then_some(())
    })
    .await;
}

/// A job of this runner's that prints nothing; the secrets that it was given.
async fn secrets(service: &Service, runner: &cast::Puppet) -> serde_json::Value {
    let mut wire = Wire::open(&service.url).await;
    let submission = json!({ "workflow": cast::workflow(&runner.label), "repository": "acme/a" });
    assert_eq!(wire.post("/api/v1/runs", &service.token, &submission).await.code(), 201);
    let poll = json!({ "timeout_seconds": 30, "auto_acquire": true });
    let job = wire.post("/api/v1/runners/jobs/poll", &runner.token, &poll).await;
    if job.code() == 200 { job.json()["secrets"].clone() } else { job.json()["title"].clone() }
}

#[tokio::test]
async fn keys_that_seal_secrets_are_kept_where_they_are_wanted_and_rotated_by_their_id() {
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("sealing.key");
    let mut service = Service::start(&["--secrets-key-file", file.to_str().unwrap()]);
    let first = std::fs::read_to_string(&file).unwrap();
    assert!(first.starts_with("startline-sealing-key v1 "), "made at the first start");
    assert!(!service.data.path().join("secrets.key").exists());
    let mut wire = Wire::open(&service.url).await;
    let runner = cast::puppet(&mut wire, &service.token, "instance", "one").await;
    let set = async |service: &Service, name: &str, value: &str| {
        let mut wire = Wire::open(&service.url).await;
        let reply = wire
            .send(
                Method::PUT,
                &format!("/api/v1/secrets/{name}?organization=acme"),
                Some(&service.token),
                &[],
                json!({ "value": value }).to_string().as_bytes(),
            )
            .await;
        assert_eq!(reply.code(), 200, "{reply:?}");
    };
    set(&service, "OLD", "1").await;
    assert_eq!(secrets(&service, &runner).await, json!({ "OLD": "1" }));

    // A new line in front: it seals, and the old one still opens.
    let fresh = tempfile::tempdir().unwrap();
    let fresh = fresh.path().join("key");
    drop(startline_crypto::KeyRing::load_or_create(&fresh).unwrap());
    let second = std::fs::read_to_string(&fresh).unwrap();
    std::fs::write(&file, format!("{second}{first}")).unwrap();
    service.process.crash();
    service.restart();
    let runner = cast::puppet(&mut Wire::open(&service.url).await, &service.token, "instance", "two").await;
    set(&service, "NEW", "2").await;
    assert_eq!(secrets(&service, &runner).await, json!({ "OLD": "1", "NEW": "2" }));

    // Without the old key, what it sealed does not open, and the reason names it.
    std::fs::write(&file, &second).unwrap();
    service.process.crash();
    service.restart();
    let runner = cast::puppet(&mut Wire::open(&service.url).await, &service.token, "instance", "three").await;
    assert_eq!(secrets(&service, &runner).await, "the run's secrets cannot be opened");
    let errors = service.process.errors();
    assert!(errors.contains("OLD") && errors.contains("sealed with key"), "{errors}");

    // Set anew, it is sealed with the key that is there.
    set(&service, "OLD", "3").await;
    let runner = cast::puppet(&mut Wire::open(&service.url).await, &service.token, "instance", "four").await;
    assert_eq!(secrets(&service, &runner).await, json!({ "OLD": "3", "NEW": "2" }));

    // A key that others can read is refused.
    service.process.crash();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let said: Said = startline()
        .args(["server", "--listen", "127.0.0.1:0", "--secrets-key-file"])
        .arg(&file)
        .arg("--data-dir")
        .arg(service.data.path())
        .output()
        .unwrap()
        .into();
    assert!(said.code == Some(3) && said.err.contains("chmod 600"), "{said:?}");
}
