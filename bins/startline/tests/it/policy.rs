//! Secrets, variables and runner groups: who gets which, and who may run what.

use std::time::Duration;

use rusqlite::OpenFlags;
use startline_client::{Options, RunnerClient, Transport};
use startline_protocol::admin_api::{GroupRequest, ValueRequest};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::runner_api::{RegisterRequest, RegistrationTokenRequest};
use startline_protocol::runs_api::{JobView, SubmitRequest};
use startline_protocol::scope::Scope;
use startline_protocol::state::{Conclusion, JobStatus};
use startline_protocol::token::ApiToken;
use startline_protocol::value_scope::ValueScope;

use crate::harness::{Service, eventually};

pub(crate) fn value(text: &str) -> ValueRequest {
    ValueRequest { value: text.to_owned() }
}

pub(crate) fn submission(repository: &str, workflow: &str) -> SubmitRequest {
    SubmitRequest { workflow: workflow.to_owned(), repository: Some(repository.to_owned()), ..SubmitRequest::default() }
}

const SHOW: &str = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n          \
     echo \"secrets ${{ secrets.A == 'instance' }} ${{ secrets.B == 'organization' }} ${{ secrets.C == 'repository' }} ${{ secrets.a == 'instance' }}\"\n          \
     echo \"vars ${{ vars.REGION }} ${{ vars.TIER }}\"\n";

#[tokio::test]
async fn the_narrower_scope_wins_and_others_get_nothing() {
    let mut service = Service::start(&[]);
    let _runner = service.runner("one", &[]);
    let instance = ValueScope::from(Scope::Instance);
    let organization = ValueScope::from(Scope::organization("acme").unwrap());
    let repository = ValueScope::from(Scope::repository("acme/demo").unwrap());
    let client = service.client.clone();
    for name in ["A", "B", "C"] {
        client.put_secret(name, Some(&instance), &value("instance")).await.unwrap();
    }
    for name in ["b", "C"] {
        client.put_secret(name, Some(&organization), &value("organization")).await.unwrap();
    }
    client.put_secret("C", Some(&repository), &value("repository")).await.unwrap();
    client.put_variable("REGION", Some(&instance), &value("eu")).await.unwrap();
    client.put_variable("tier", Some(&repository), &value("gold")).await.unwrap();

    let run = service.submit_with(submission("acme/demo", SHOW)).await;
    let detail = service.ended(run).await;
    let log = service.log(detail.jobs[0].id).await;
    assert!(log.contains("secrets true true true true"), "{log}");
    assert!(log.contains("vars eu gold"), "{log}");

    // Another organization's repository gets the instance's alone; so it does after a restart.
    service.process.crash();
    service.restart();
    let run = service.submit_with(submission("other/demo", SHOW)).await;
    let detail = service.ended(run).await;
    let log = service.log(detail.jobs[0].id).await;
    assert!(log.contains("secrets true false false true"), "{log}");
    assert!(log.contains("vars eu \n"), "{log}");

    let client = service.client.clone();
    let listed = client.secrets(Some(&organization)).await.unwrap();
    let names: Vec<&str> = listed.iter().map(|secret| secret.name.as_str()).collect();
    assert_eq!(names, ["B", "C"]);
    client.delete_secret("B", Some(&organization)).await.unwrap();
    assert_eq!(client.secrets(Some(&organization)).await.unwrap().len(), 1);
    for bad in ["GITHUB_TOKEN", "1A"] {
        assert!(client.put_secret(bad, Some(&instance), &value("x")).await.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn untrusted_jobs_get_no_secrets_and_only_ephemeral_runners_of_groups_that_take_them() {
    let service = Service::start(&[]);
    let _long_lived = service.runner("long-lived", &[]);
    service.client.put_secret("A", Some(&Scope::Instance.into()), &value("instance")).await.unwrap();
    let request = SubmitRequest { untrusted: true, ..submission("acme/demo", SHOW) };
    let run = service.submit_with(request).await;
    let job = service.job(run, "the job waits", |job| job.status == JobStatus::Queued).await;
    let explanation = service.client.explain(job.id).await.unwrap();
    assert!(explanation.candidates[0].missing.iter().any(|lack| lack.contains("trust")), "{explanation:?}");
    let policy = GroupRequest { accepts_untrusted: true, ..GroupRequest::default() };
    service.client.put_group("default", None, &policy).await.unwrap();
    let explanation = service.client.explain(job.id).await.unwrap();
    assert!(explanation.candidates[0].missing.iter().any(|lack| lack.contains("trust")), "it is not ephemeral");
    let _ephemeral = service.runner("ephemeral", &["--ephemeral"]);
    let detail = service.ended(run).await;
    assert_eq!(detail.run.conclusion, Some(Conclusion::Success), "{detail:#?}");
    assert_eq!(detail.jobs[0].runner_name.as_deref(), Some("ephemeral"));
    let log = service.log(job.id).await;
    assert!(log.contains("secrets false false false false"), "{log}");
}

#[tokio::test]
async fn a_group_bounds_who_runs_and_how_many() {
    let service = Service::start(&[]);
    let _runner = service.runner("one", &["--parallel", "3"]);
    let policy = GroupRequest {
        repositories: Some(vec!["acme/demo".to_owned()]),
        max_running_jobs: Some(1),
        ..GroupRequest::default()
    };
    service.client.put_group("default", None, &policy).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let release = place.path().join("go");
    let hold = format!(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    strategy: {{matrix: {{n: [1, 2, 3]}}}}\n    steps:\n      \
         - run: while [ ! -e {} ]; do sleep 0.02; done\n",
        release.display()
    );
    let other = service.submit_with(submission("acme/other", SHOW)).await;
    let run = service.submit_with(submission("acme/demo", &hold)).await;
    let running = |jobs: &[JobView]| jobs.iter().filter(|job| job.status == JobStatus::Running).count();
    let held = eventually("one of three runs", async || {
        let jobs = service.client.run(run, None, Duration::ZERO).await.ok()?.jobs;
        (running(&jobs) == 1).then(|| jobs.into_iter().find(|job| job.status == JobStatus::Queued)).flatten()
    })
    .await;
    let explanation = service.client.explain(held.id).await.unwrap();
    assert!(explanation.candidates[0].missing.iter().any(|lack| lack.contains("limit")), "{explanation:?}");
    let outside = &service.client.run(other, None, Duration::ZERO).await.unwrap().jobs[0];
    assert_eq!(outside.status, JobStatus::Queued, "another repository's job does not run in this group");

    // The policy is lifted: what waited goes on at once.
    service.client.put_group("default", None, &GroupRequest::default()).await.unwrap();
    service.ended(other).await;
    std::fs::write(&release, "").unwrap();
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Success));
    assert!(service.client.delete_group("default", None).await.is_err(), "the default group stays");
}

#[tokio::test]
async fn when_the_runners_of_a_fleet_were_last_seen_is_written_down() {
    // Several steps' worth.
    const FLEET: i64 = 300;
    let service = Service::start(&["--housekeeping-interval", "1s", "--synchronous", "normal"]);
    let client = RunnerClient::new(Transport::new(&Options::default()).unwrap(), &service.url).unwrap();
    let admin = ApiToken::parse(&service.token).unwrap();
    let minted = client.request_registration_token(&admin, &RegistrationTokenRequest::default()).await.unwrap();
    for number in 0..FLEET {
        let request = RegisterRequest {
            name: format!("one-of-many-{number}"),
            labels: Vec::new(),
            capabilities: Capabilities::default(),
            ephemeral: false,
            replace: false,
            version: String::new(),
        };
        client.register(&minted.token, &request).await.unwrap();
    }
    let path = service.data.path().join("startline.db");
    let database = rusqlite::Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    eventually("all are written", async || {
        let seen: i64 = database
            .query_row("SELECT count(*) FROM runners WHERE last_seen_at >= created_at", [], |row| row.get(0))
            .ok()?;
        (seen == FLEET).then_some(())
    })
    .await;
}

#[tokio::test]
async fn registrations_that_nobody_stands_behind_are_removed() {
    let mut service = Service::start(&[
        "--heartbeat-interval",
        "1s",
        "--offline-after",
        "2s",
        "--housekeeping-interval",
        "1s",
        "--ephemeral-idle",
        "3s",
        "--runner-retention",
        "600s",
    ]);
    let mut gone = service.runner("gone", &["--ephemeral"]);
    let mut kept = service.runner("kept", &[]);
    let _alive = service.runner("alive", &["--ephemeral"]);
    gone.crash();
    kept.crash();
    let names = async |service: &Service| -> Vec<String> {
        service.client.runners().await.unwrap().into_iter().map(|runner| runner.name).collect()
    };
    eventually("the silent ephemeral runner is removed", async || {
        (names(&service).await == ["kept", "alive"]).then_some(())
    })
    .await;
    // What the service does by itself is told after it is done.
    eventually("the log tells of it", async || {
        let filter = startline_client::AuditFilter::default();
        let log = service.client.audit_page(&filter, None, Some(500)).await.unwrap();
        log.records.iter().any(|line| line.action == "runner.expire" && line.subject.contains("gone")).then_some(())
    })
    .await;
    // What is asked for at the next start holds too.
    service.process.crash();
    service.restart();
    assert_eq!(names(&service).await, ["kept", "alive"]);
}
