//! A native runner, an official runner and a scale set serve the same queue at once.

use std::collections::BTreeMap;

use serde_json::json;
use startline_protocol::runs_api::SubmitRequest;
use startline_protocol::state::{Conclusion, JobStatus};

use crate::harness::{Service, eventually};
use crate::official::client::Official;
use crate::official::{SHORT, registration_token};
use crate::scale_sets::client::Controller;

const JOBS: usize = 8;

#[tokio::test]
async fn three_kinds_of_runners_share_a_queue_and_each_job_runs_once_over_a_crash() {
    let mut service = Service::start(&SHORT);
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    // All are there before there is work, and each holds its first job until all have one.
    let _native = service.runner("native", &["--label", "linux-x64"]);
    let token = registration_token(&service, "repos/acme/app").await;
    let mut official = Official::configure(&service, "acme/app", &token, "official", &["linux-x64"]).await;
    official.listen(&service).await;
    let controller = Controller::connect(&service, "acme").await;
    let set = controller.make(&service, "linux-x64").await;
    let mut listener = controller.listen(&service, set, "linux-x64-listener").await;

    let list: Vec<String> = (0..JOBS).map(|at| at.to_string()).collect();
    let wait = format!("until test -e {}; do sleep 0.05; done", open.display());
    let workflow = format!(
        "on: push\njobs:\n  build:\n    runs-on: linux-x64\n    strategy: {{matrix: {{at: [{}]}}}}\n    steps: [{{run: '{wait}'}}]\n",
        list.join(", ")
    );
    let repository = Some("acme/app".to_owned());
    let run = service.submit_with(SubmitRequest { workflow, repository, ..SubmitRequest::default() }).await;

    let mine = official.take(&service).await;
    service
        .job(run, "the native runner works", |job| {
            job.status == JobStatus::Running && job.runner_name.as_deref() == Some("native")
        })
        .await;
    // Two jobs are in other hands, and the set is told so.
    listener.read_until(&service, 2, "two are assigned", |listener, _| listener.wants(2) == 2).await;
    let mut pods = Vec::new();
    for at in 0..2 {
        let runner = controller.runner(&service, set, &format!("pod-{at}")).await;
        pods.push(runner.take(&service).await);
    }
    service.process.crash();
    service.restart();

    // The official runner goes on with its session and takes more; so does the native one; the pods have one job each.
    assert_eq!(mine.complete(&service, "succeeded", json!({})).await.code(), 204);
    let second = official.take(&service).await;
    for held in &pods {
        assert_eq!(held.complete(&service, "succeeded", json!({})).await.code(), 204);
    }
    std::fs::write(&open, "").unwrap();
    assert_eq!(second.complete(&service, "succeeded", json!({})).await.code(), 204);
    let detail = service.ended(run).await;
    assert_eq!(detail.run.conclusion, Some(Conclusion::Success));

    let mut by_runner: BTreeMap<&str, usize> = BTreeMap::new();
    for job in &detail.jobs {
        assert_eq!((job.attempt, job.conclusion), (1, Some(Conclusion::Success)), "{job:?}");
        *by_runner.entry(job.runner_name.as_deref().unwrap()).or_default() += 1;
    }
    let wanted = [("native", JOBS - 4), ("official", 2), ("pod-0", 1), ("pod-1", 1)];
    assert_eq!(by_runner, BTreeMap::from(wanted));
    let acquired = eventually("the audit log has each acquisition", async || {
        let count = service.says(&["audit", "export", "--action", "job.acquire"]).out.lines().count();
        (count >= JOBS).then_some(count)
    })
    .await;
    assert_eq!(acquired, JOBS, "each job was acquired once");
    listener.read_until(&service, 2, "nothing is left for the set", |listener, _| listener.wants(2) == 0).await;
}
