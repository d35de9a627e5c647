//! The service, its runners and its clients as separate processes, and what becomes of jobs when one of them dies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use startline_client::{Credentials, JobClient, Options, PollResult, RunnerClient, Transport};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::runner_api::{
    CompleteRequest, PollRequest, RegisterRequest, RegistrationTokenRequest, RenewRequest, StatusRequest,
};
use startline_protocol::runs_api::{JobView, SubmitRequest};
use startline_protocol::state::{Conclusion, JobStatus, RunnerStatus};
use startline_protocol::token::ApiToken;

use crate::harness::{Said, Service, eventually, startline};

const HELLO: &str = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: echo hello\n";

/// A job that counts until a file appears.
fn counting(release: &std::path::Path) -> String {
    format!(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n          for i in $(seq 1 100000); do\n            \
         echo \"line $i\"\n            if [ -e {release} ]; then echo \"released at $i\"; exit 0; fi\n            sleep 0.02\n          done\n",
        release = release.display()
    )
}

/// The numbers of the lines `line N` of a log, in order.
fn numbers(log: &str) -> Vec<u32> {
    log.lines().filter_map(|line| line.split_once(" line ")?.1.parse().ok()).collect()
}

#[tokio::test]
async fn a_submitted_job_starts_at_once() {
    let service = Service::start(&[]);
    let _runner = service.runner("one", &[]);
    eventually("the runner polls", async || {
        service.client.runners().await.ok()?.iter().any(|runner| runner.status == RunnerStatus::Online).then_some(())
    })
    .await;
    // The first job finds cold caches; the claim is about an idle machine, so the best of a few is taken.
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let run = service.submit(HELLO).await;
        let detail = service.ended(run).await;
        assert_eq!(detail.run.conclusion, Some(Conclusion::Success), "{detail:?}");
        let job = &detail.jobs[0];
        let waited = job.started_at.unwrap().duration_since(detail.run.created_at);
        fastest = fastest.min(Duration::try_from(waited).unwrap());
    }
    assert!(fastest < Duration::from_millis(100), "the fastest of five took {fastest:?} to start");
}

#[tokio::test]
async fn a_job_survives_the_death_of_the_service_without_losing_a_line() {
    let mut service = Service::start(&[]);
    let _runner = service.runner("one", &[]);
    let place = tempfile::tempdir().unwrap();
    let release = place.path().join("go");
    let run = service.submit(&counting(&release)).await;
    let job = service.job(run, "the job runs", |job| job.status == JobStatus::Running).await;
    eventually("lines arrive", async || (numbers(&service.log(job.id).await).len() > 20).then_some(())).await;
    for _ in 0..2 {
        service.process.crash();
        service.restart();
        let seen = numbers(&service.log(job.id).await).len();
        eventually("lines arrive again", async || {
            (numbers(&service.log(job.id).await).len() > seen + 20).then_some(())
        })
        .await;
    }
    std::fs::write(&release, "").unwrap();
    let detail = service.ended(run).await;
    assert_eq!(detail.run.conclusion, Some(Conclusion::Success), "{detail:#?}");
    assert_eq!(detail.jobs[0].attempt, 1);
    let log = service.log(job.id).await;
    let numbers = numbers(&log);
    let wanted: Vec<u32> = (1..=u32::try_from(numbers.len()).unwrap()).collect();
    assert_eq!(numbers, wanted, "the log is complete and in order");
    assert!(log.contains(&format!("released at {}", numbers.len())), "{log}");
}

#[tokio::test]
async fn a_job_whose_runner_dies_is_finished_by_another_and_the_first_is_refused() {
    let service = Service::start(&["--lease", "3s", "--heartbeat-interval", "1s", "--offline-after", "3s"]);
    let mut first = service.runner("first", &[]);
    let place = tempfile::tempdir().unwrap();
    let release = place.path().join("go");
    let run = service.submit(&counting(&release)).await;
    let job = service.job(run, "the job runs", |job| job.status == JobStatus::Running).await;
    assert_eq!(job.runner_name.as_deref(), Some("first"));
    eventually("lines arrive", async || (numbers(&service.log(job.id).await).len() > 5).then_some(())).await;
    first.crash();
    let mut second = service.runner("second", &[]);
    let again = service.job(run, "the second runner has it", |job| job.runner_name.as_deref() == Some("second")).await;
    assert_eq!(again.attempt, 2);
    let reason = again.reason.unwrap_or_default();
    assert!(reason.contains("first"), "the reason names the runner that was lost: {reason}");
    std::fs::write(&release, "").unwrap();
    let detail = service.ended(run).await;
    assert_eq!(detail.run.conclusion, Some(Conclusion::Success), "{detail:#?}");
    assert!(
        service.client.job_log_text(job.id, Some(1)).await.unwrap().contains("line 1"),
        "the first attempt's log is kept"
    );
    second.process().signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(second.process().ended(Duration::from_secs(15)).await.code(), Some(0));
}

#[tokio::test]
async fn late_reports_of_a_lost_runner_are_refused() {
    let service = Service::start(&["--lease", "2s", "--heartbeat-interval", "1s", "--offline-after", "2s"]);
    let transport = Transport::new(&Options::default()).unwrap();
    let client = RunnerClient::new(transport.clone(), &service.url).unwrap();
    let admin = ApiToken::parse(service.token.clone()).unwrap();
    let token = client.request_registration_token(&admin, &RegistrationTokenRequest::default()).await.unwrap().token;
    let request = RegisterRequest {
        name: "first".to_owned(),
        labels: vec!["ubuntu-latest".to_owned()],
        capabilities: Capabilities::default(),
        ephemeral: false,
        replace: false,
        version: String::new(),
    };
    let registered = client.register(&token, &request).await.unwrap();
    let session = client.session(Credentials::of(&registered, Timestamp::now()));
    let run = service.submit(HELLO).await;
    let poll = PollRequest { timeout_seconds: 30, capabilities: None, auto_acquire: true };
    let PollResult::JobAssigned(held) = session.poll_for_job(&poll).await else { panic!("no job") };
    let first = JobClient::new(transport, held.urls.clone(), held.job_token.clone().unwrap());
    let text = Bytes::from_static(b"2026-01-01T00:00:00.0000000Z before\n");
    first.append_log(0, text.clone()).await.unwrap();

    // It falls silent; another one takes over.
    let _second = service.runner("second", &[]);
    let detail = service.ended(run).await;
    assert_eq!(detail.run.conclusion, Some(Conclusion::Success), "{detail:#?}");
    assert_eq!(detail.jobs[0].runner_name.as_deref(), Some("second"));
    assert_eq!(detail.jobs[0].attempt, 2);

    let late = CompleteRequest {
        conclusion: Conclusion::Failure,
        outputs: BTreeMap::new(),
        steps: vec![],
        environment_url: None,
        annotations: vec![],
    };
    assert!(first.complete_job(&late).await.unwrap_err().is_stale());
    assert!(first.append_log(text.len() as u64, text.clone()).await.unwrap_err().is_stale());
    assert!(first.update_job_status(&StatusRequest { steps: vec![] }).await.unwrap_err().is_stale());
    assert!(first.renew(&RenewRequest::default()).await.unwrap_err().is_stale());
    let after = service.client.job(held.job_id).await.unwrap();
    assert_eq!(after.conclusion, Some(Conclusion::Success), "nothing of it has counted");
}

#[tokio::test]
async fn an_ephemeral_runner_that_is_lost_with_its_job_is_not_taken_back() {
    let service = Service::start(&["--lease", "2s", "--heartbeat-interval", "1s", "--offline-after", "2s"]);
    let client = RunnerClient::new(Transport::new(&Options::default()).unwrap(), &service.url).unwrap();
    let admin = ApiToken::parse(service.token.clone()).unwrap();
    let token = client.request_registration_token(&admin, &RegistrationTokenRequest::default()).await.unwrap().token;
    let request = RegisterRequest {
        name: "mayfly".to_owned(),
        labels: vec!["ubuntu-latest".to_owned()],
        capabilities: Capabilities::default(),
        ephemeral: true,
        replace: false,
        version: String::new(),
    };
    let registered = client.register(&token, &request).await.unwrap();
    let session = client.session(Credentials::of(&registered, Timestamp::now()));
    let run = service.submit(HELLO).await;
    let poll = PollRequest { timeout_seconds: 30, capabilities: None, auto_acquire: true };
    let PollResult::JobAssigned(_) = session.poll_for_job(&poll).await else { panic!("no job") };

    // It falls silent; another one takes over, and the first has had its job.
    let _second = service.runner("second", &[]);
    assert_eq!(service.ended(run).await.run.conclusion, Some(Conclusion::Success));
    let outcome = session.poll_for_job(&poll).await;
    assert!(matches!(outcome, PollResult::RunnerOffline), "{outcome:?}");
    let names: Vec<_> = service.client.runners().await.unwrap().into_iter().map(|runner| runner.name).collect();
    assert_eq!(names, ["second"]);
}

#[tokio::test]
async fn a_cancel_reaches_running_jobs_at_once_and_leaves_those_that_always_run() {
    let service = Service::start(&[]);
    let _runner = service.runner("one", &["--parallel", "2"]);
    let place = tempfile::tempdir().unwrap();
    let release = place.path().join("go");
    let ready = place.path().join("ready");
    let workflow = format!(
        "on: push\njobs:\n  stops:\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n          \
         trap 'date +%s%N > {stopped}; exit 1' INT\n          touch {ready}\n          while true; do sleep 0.05; done\n  \
         stays:\n    if: always()\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n          \
         while [ ! -e {release} ]; do sleep 0.02; done; echo stayed\n",
        stopped = place.path().join("stopped").display(),
        ready = ready.display(),
        release = release.display(),
    );
    let run = service.submit(&workflow).await;
    eventually("both jobs run", async || {
        let detail = service.client.run(run, None, Duration::ZERO).await.ok()?;
        let begun = |job: &JobView| job.status == JobStatus::Running && job.steps.iter().any(|step| step.number == 2);
        (detail.jobs.len() == 2 && detail.jobs.iter().all(begun) && ready.exists()).then_some(())
    })
    .await;
    let asked = Timestamp::now();
    service.client.cancel_run(run).await.unwrap();
    let stopped = service.job(run, "the first job ends", |job| job.key == "stops" && job.conclusion.is_some()).await;
    assert_eq!(stopped.conclusion, Some(Conclusion::Cancelled), "{stopped:#?}");
    let text = std::fs::read_to_string(place.path().join("stopped")).unwrap();
    let at = Timestamp::from_nanosecond(text.trim().parse().unwrap()).unwrap();
    assert!(at.duration_since(asked).as_secs_f64() < 1.0, "the step heard of it after {:#}", at.duration_since(asked));
    std::fs::write(&release, "").unwrap();
    let detail = service.ended(run).await;
    let stays = detail.jobs.iter().find(|job| job.key == "stays").unwrap();
    assert_eq!(stays.conclusion, Some(Conclusion::Success), "{stays:#?}");
    assert_eq!(detail.run.conclusion, Some(Conclusion::Cancelled));
}

#[tokio::test]
async fn two_hundred_jobs_over_eight_runners_run_once_each() {
    let service = Service::start(&[]);
    let place = tempfile::tempdir().unwrap();
    let mut runners: Vec<_> = Vec::new();
    for number in 0..8 {
        runners.push(service.runner(&format!("runner-{number}"), &[]));
    }
    let workflow = format!(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    strategy:\n      matrix:\n        n: ${{{{ fromJSON('[{}]') }}}}\n    steps:\n      \
         - run: echo x >> {}/${{{{ matrix.n }}}}\n",
        (0..200).map(|n| n.to_string()).collect::<Vec<_>>().join(","),
        place.path().display()
    );
    let run = service.submit(&workflow).await;
    let detail = service.ended(run).await;
    assert_eq!(detail.run.conclusion, Some(Conclusion::Success));
    assert_eq!(detail.jobs.len(), 200);
    for n in 0..200 {
        let text = std::fs::read_to_string(place.path().join(n.to_string())).unwrap();
        assert_eq!(text, "x\n", "job {n} ran once");
    }
    let hands: BTreeSet<_> = detail.jobs.iter().filter_map(|job| job.runner_name.clone()).collect();
    assert_eq!(hands.len(), 8, "every runner had a share: {hands:?}");
}

#[tokio::test]
async fn a_secret_is_nowhere_in_clear() {
    let secret = "correct-horse-battery-staple-9";
    let service = Service::start(&["--log", "trace"]);
    let mut runner = service.runner("one", &[]);
    let workflow = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    outputs:\n      leak: ${{ steps.x.outputs.leak }}\n    \
         env:\n      KEY: ${{ secrets.KEY }}\n    steps:\n      - id: x\n        name: Named ${{ secrets.KEY }}\n        run: |\n          : ${{ secrets.KEY }}\n          \
         echo \"$KEY\"; echo \"$KEY\" | rev | rev; echo \"::warning::$KEY\"; echo \"leak=$KEY\" >> $GITHUB_OUTPUT; echo \"$KEY\" >> $GITHUB_STEP_SUMMARY\n          \
         tr '\\0' '\\n' < /proc/$PPID/cmdline; tr '\\0' '\\n' < /proc/$PPID/environ > /dev/null\n";
    let run = service
        .submit_with(SubmitRequest {
            workflow: workflow.to_owned(),
            secrets: BTreeMap::from([("KEY".to_owned(), secret.to_owned())]),
            ..SubmitRequest::default()
        })
        .await;
    let detail = service.ended(run).await;
    assert_eq!(detail.run.conclusion, Some(Conclusion::Success), "{detail:#?}");
    assert!(service.log(detail.jobs[0].id).await.contains("***"), "the step did print it");
    let answer = serde_json::to_string(&detail).unwrap();
    assert!(!answer.contains(secret), "in an API answer: {answer}");
    assert!(!service.process.errors().contains(secret), "in the service's own log");
    assert!(!runner.process().errors().contains(secret), "in the runner's own log");
    let mut files = vec![service.data.path().to_owned(), runner.dir.path().to_owned()];
    let mut read = 0;
    while let Some(path) = files.pop() {
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "in {}", path.display());
            read += 1;
        }
    }
    assert!(read >= 4, "database, keys and log were looked at");
}

#[tokio::test]
async fn listings_have_tables_and_json() {
    let service = Service::start(&[]);
    let _runner = service.runner("one", &[]);
    let run = service.submit(HELLO).await;
    let detail = service.ended(run).await;
    let job = detail.jobs[0].id.to_string();
    let run = run.to_string();
    let ask = |arguments: &[&str]| -> Said {
        let mut command = startline();
        command.args(arguments).env("STARTLINE_URL", &service.url).env("STARTLINE_TOKEN", &service.token);
        command.output().unwrap().into()
    };
    for (arguments, wanted) in [
        (vec!["runs"], "success"),
        (vec!["runs", &run], "ubuntu-latest"),
        (vec!["jobs"], "ubuntu-latest"),
        (vec!["jobs", &job], "Set up job"),
        (vec!["jobs", &job, "--explain"], "ended"),
        (vec!["runners"], "one"),
        (vec!["logs", &job], "hello"),
        (vec!["token", "registration"], "slr_"),
    ] {
        let table = ask(&arguments);
        assert_eq!(table.code, Some(0), "{arguments:?}: {table:?}");
        if arguments != ["runs", &run] {
            assert!(table.out.contains(wanted), "{arguments:?}: no `{wanted}` in {table:?}");
        }
        let json = ask(&[&arguments[..], &["--json"]].concat());
        assert_eq!(json.code, Some(0), "{arguments:?}: {json:?}");
        for line in json.out.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|_| panic!("{arguments:?}: {line}"));
        }
    }
}
