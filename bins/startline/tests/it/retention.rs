//! What is old is purged: runs with their jobs and logs, and the audit log's first lines. The old generation is made by a
//! service in this process whose clock is a hundred days late; a real one takes its data over.

use std::path::Path;

use http::Method;
use startline_client::{Options, Transport};
use startline_daemon::Clock;
use startline_protocol::ids::RunId;
use startline_protocol::runs_api::SubmitRequest;
use startline_protocol::state::Conclusion;
use startline_server::{ServerConfig, Synchronous};
use tokio::task::JoinSet;

use crate::fake_runner::FakeRunners;
use crate::harness::{Service, eventually};
use crate::http::Wire;

const WORKFLOW: &str =
    "run-name: number ${{ github.run_number }}\non: push\njobs:\n  a: {runs-on: fake, steps: [{run: 'true'}]}\n";
/// Several steps of a purge.
const OLD: usize = 300;

fn request() -> SubmitRequest {
    SubmitRequest {
        workflow: WORKFLOW.to_owned(),
        repository: Some("acme/demo".to_owned()),
        ..SubmitRequest::default()
    }
}

/// Runs of a hundred days ago, each with a log; the admin's token.
async fn generation_of_old(data: &Path) -> String {
    startline_crypto::install_provider();
    let then = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(100 * 24);
    let config = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        data_dir: data.to_owned(),
        synchronous: Synchronous::Normal,
        ..ServerConfig::defaults()
    };
    let running = startline_server::start_by(Clock::fixed(then), config, false).await.unwrap();
    let (url, admin) = (running.url().to_owned(), running.admin_token().unwrap().clone());
    let transport = Transport::new(&Options::default()).unwrap();
    let people = startline_client::ApiClient::new(transport.clone(), &url, admin.clone()).unwrap();
    let fleet = FakeRunners::new(&transport, &url, admin.expose()).await;
    let mut runners = JoinSet::new();
    for number in 0..8 {
        runners.spawn(fleet.clone().run(format!("fake-{number}"), transport.clone()));
    }
    for _ in 0..OLD {
        people.submit_run(&request()).await.unwrap();
    }
    eventually("all runs have ended", async || {
        let page = people.runs(None, Some(500)).await.ok()?;
        let ended = page.runs.iter().filter(|run| run.conclusion == Some(Conclusion::Success));
        (ended.count() == OLD).then_some(())
    })
    .await;
    fleet.stop.cancel();
    runners.join_all().await;
    running.stop().await;
    admin.expose().to_owned()
}

/// Files of logs below a data directory.
fn logs(data: &Path) -> Vec<String> {
    let shards = std::fs::read_dir(data.join("logs")).unwrap().flatten();
    let files = shards.filter_map(|shard| std::fs::read_dir(shard.path()).ok()).flatten().flatten();
    files.filter_map(|file| file.file_name().into_string().ok()).collect()
}

/// How many of a kind this process has purged.
async fn purged(service: &Service, kind: &str) -> u64 {
    let text = Wire::open(&service.url).await.get("/metrics", "").await.text();
    let start = format!("startline_purged_total{{kind=\"{kind}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_long_ago_is_purged_over_a_crash_and_what_follows_goes_on_from_it() {
    let data = tempfile::tempdir().unwrap();
    let token = generation_of_old(data.path()).await;
    assert_eq!(logs(data.path()).len(), OLD);
    let flags = ["--housekeeping-interval", "1s", "--audit-retention", "90d", "--synchronous", "normal"];
    let mut service = Service::over(data, &token, &flags);
    // What is past its time is gone at once, purged or not.
    let mut wire = Wire::open(&service.url).await;
    for path in ["/api/v1/runs/1", "/api/v1/jobs/1", "/api/v1/jobs/1/logs"] {
        let reply = wire.get(path, &token).await;
        assert_eq!(reply.code(), 404, "{path}: {reply:?}");
        let (title, detail) = (reply.json()["title"].clone(), reply.json()["detail"].clone());
        assert!(title.as_str().unwrap().ends_with(" 1"), "{title}");
        assert!(detail.as_str().unwrap().contains("kept for 90d after its end (--run-retention)"), "{detail}");
    }
    let again = wire.send(Method::POST, "/api/v1/runs/1/rerun", Some(&token), &[], b"{}").await;
    assert_eq!(again.code(), 404, "{again:?}");
    assert!(service.client.runs(None, None).await.unwrap().runs.is_empty());

    eventually("a step of the purge", async || (purged(&service, "runs").await > 0).then_some(())).await;
    service.process.crash();
    service.restart();
    eventually("no job is left", async || {
        let jobs = service.client.jobs(None, None, None).await.ok()?;
        (jobs.jobs.is_empty() && logs(service.data.path()).is_empty()).then_some(())
    })
    .await;
    let begins = eventually("the audit log was purged", async || {
        let said = service.says(&["audit", "verify", "--json"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let found: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        // Each run had several lines.
        let begin = found["begin"]["sequence"].as_i64().filter(|begin| *begin > i64::try_from(3 * OLD).unwrap());
        begin.filter(|_| found["records"].as_i64().unwrap() < 100)
    })
    .await;

    // What follows is numbered on, and stays.
    let transport = Transport::new(&Options::default()).unwrap();
    let fleet = FakeRunners::new(&transport, &service.url, &token).await;
    let runner = tokio::task::JoinSet::from_iter([fleet.clone().run("young".to_owned(), transport.clone())]);
    let run = service.submit_with(request()).await;
    let ended = service.ended(run).await;
    let first = i64::try_from(OLD).unwrap() + 1;
    assert_eq!((run, ended.run.conclusion), (RunId(first), Some(Conclusion::Success)));
    assert_eq!(ended.run.name, format!("number {first}"));
    fleet.stop.cancel();
    runner.join_all().await;
    service.process.crash();
    service.restart();
    assert_eq!(service.ended(run).await.run, ended.run);
    assert_eq!(logs(service.data.path()), [format!("{}-1.log", ended.jobs[0].id)]);
    assert!(service.log(ended.jobs[0].id).await.contains("epoch 1"));
    let said = service.says(&["audit", "verify"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("none changed or taken out"), "{said:?}");
    assert!(said.out.contains(&format!("begins behind line {begins} of ")), "{said:?}");
    let told = service.says(&["audit", "list", "--action", "audit.purge", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    let last = told["records"].as_array().unwrap().last().unwrap()["details"]["sequence"].clone();
    assert_eq!(last, begins.to_string());
}
