//! Concurrency groups, from outside.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use startline_protocol::ids::RunId;
use startline_protocol::runs_api::{RerunRequest, RunDetail, SubmitRequest};
use startline_protocol::state::{Conclusion, JobStatus, RunStatus};

use crate::harness::{Runner, Service, eventually};

/// A service with runners, and a directory that jobs meet in.
struct Stage {
    service: Service,
    runners: Vec<Runner>,
    gates: tempfile::TempDir,
}

impl Stage {
    fn new(flags: &[&str], runners: usize) -> Self {
        let service = Service::start(flags);
        let runners = (0..runners).map(|number| service.runner(&format!("runner-{number}"), &[])).collect();
        Self { service, runners, gates: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.gates.path().join(name)
    }

    /// Lets the run's jobs end, now or later.
    fn open(&self, run: RunId) {
        fs::write(self.path(&format!("{run}.open")), "").unwrap();
    }

    /// What has been written down by jobs, in order.
    fn story(&self) -> String {
        fs::read_to_string(self.path("story")).unwrap_or_default()
    }

    /// Submits a workflow whose steps may say `WAIT`.
    async fn submit(&self, text: &str) -> RunId {
        self.submit_to("acme/app", text).await
    }

    async fn submit_to(&self, repository: &str, text: &str) -> RunId {
        let workflow = text.replace("WAIT", &wait(self.gates.path()));
        let request = SubmitRequest { workflow, repository: Some(repository.to_owned()), ..SubmitRequest::default() };
        self.service.submit_with(request).await
    }

    async fn look(&self, run: RunId) -> RunDetail {
        self.service.client.run(run, None, Duration::ZERO).await.unwrap()
    }

    async fn runs(&self, run: RunId) {
        eventually("the run runs", async || (self.look(run).await.run.status == RunStatus::Running).then_some(()))
            .await;
    }

    /// The reason for which a run that has no jobs waits.
    async fn waits(&self, run: RunId) -> String {
        eventually("the run waits", async || {
            let detail = self.look(run).await;
            assert_eq!((detail.run.conclusion, detail.jobs.len()), (None, 0), "{detail:#?}");
            detail.run.reason
        })
        .await
    }

    async fn ends(&self, run: RunId, conclusion: Conclusion) -> RunDetail {
        let detail = self.service.ended(run).await;
        assert_eq!(detail.run.conclusion, Some(conclusion), "{detail:#?}");
        detail
    }
}

/// A script that tells that it has begun, waits until its run may end, and tells that it ends. It cannot overlook another
/// one at work in the same place.
fn wait(gates: &Path) -> String {
    let gates = gates.display();
    format!(
        "echo \"$GITHUB_RUN_ID begins\" >> {gates}/story; \
         until [ -e {gates}/$GITHUB_RUN_ID.open ]; do sleep 0.02; done; echo \"$GITHUB_RUN_ID ends\" >> {gates}/story"
    )
}

/// A workflow whose run has this group.
fn in_group(concurrency: &str) -> String {
    format!("on: push\nconcurrency: {concurrency}\njobs: {{a: {{runs-on: ubuntu-latest, steps: [{{run: 'WAIT'}}]}}}}\n")
}

/// A workflow whose job has this group.
fn job_in_group(concurrency: &str) -> String {
    format!("on: push\njobs: {{a: {{runs-on: ubuntu-latest, concurrency: {concurrency}, steps: [{{run: 'WAIT'}}]}}}}\n")
}

#[tokio::test]
async fn one_run_of_a_group_runs_one_waits_and_a_newer_one_takes_its_place() {
    let stage = Stage::new(&[], 3);
    let first = stage.submit(&in_group("Deploy")).await;
    stage.runs(first).await;
    let second = stage.submit(&in_group("deploy")).await;
    assert_eq!(stage.waits(second).await, format!("waits for the concurrency group `deploy`, which run {first} has"));
    let said = stage.service.says(&["runs"]);
    assert!(said.out.lines().any(|line| line.contains("waiting") && line.contains("acme/app")), "{said:?}");
    let said = stage.service.says(&["runs", &second.to_string()]);
    assert!(said.out.contains(&format!("which run {first} has")), "{said:?}");
    // Groups of other repositories are others.
    let elsewhere = stage.submit_to("acme/other", &in_group("deploy")).await;
    stage.runs(elsewhere).await;
    let third = stage.submit(&in_group("'DEPLOY'")).await;
    let replaced = stage.ends(second, Conclusion::Cancelled).await;
    assert!(replaced.jobs.is_empty(), "{replaced:#?}");
    let reason = format!("run {third} came later and takes its place at the concurrency group `deploy`");
    assert_eq!(replaced.run.reason.as_deref(), Some(reason.as_str()));
    stage.waits(third).await;
    stage.open(first);
    stage.ends(first, Conclusion::Success).await;
    stage.runs(third).await;
    assert_eq!(stage.look(third).await.run.reason, None);
    stage.open(third);
    stage.ends(third, Conclusion::Success).await;
    stage.open(elsewhere);
    stage.ends(elsewhere, Conclusion::Success).await;
    let story: String = stage.story().lines().filter(|line| !line.starts_with(&format!("{elsewhere} "))).collect();
    assert_eq!(story, format!("{first} begins{first} ends{third} begins{third} ends"));
    let audit = stage.service.says(&["audit", "export"]);
    assert!(audit.out.contains(&reason), "{audit:?}");
}

#[tokio::test]
async fn who_cancels_what_is_in_progress_begins_when_that_has_really_ended() {
    let stage = Stage::new(&[], 2);
    let gates = stage.gates.path().display();
    let text = format!(
        "on: push\nconcurrency: {{group: x, cancel-in-progress: \"${{{{ github.event_name == 'push' }}}}\"}}\njobs:\n  \
         a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: WAIT\n      - if: always()\n        \
         run: sleep 0.5; echo \"$GITHUB_RUN_ID tidied up\" >> {gates}/story\n"
    );
    let first = stage.submit(&text).await;
    eventually("it has begun", async || stage.story().contains("begins").then_some(())).await;
    let second = stage.submit(&text).await;
    let cancelled = stage.ends(first, Conclusion::Cancelled).await;
    let reason = format!("run {second} wants the concurrency group `x` and cancels what is in progress");
    assert_eq!((cancelled.run.reason.as_deref(), cancelled.run.cancel_requested), (Some(reason.as_str()), true));
    stage.open(second);
    stage.ends(second, Conclusion::Success).await;
    let expected = [
        format!("{first} begins"),
        format!("{first} tidied up"),
        format!("{second} begins"),
        format!("{second} ends"),
        format!("{second} tidied up"),
    ];
    assert_eq!(stage.story().lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_run_that_waits_can_be_cancelled_and_its_rerun_waits_again() {
    let stage = Stage::new(&[], 2);
    let first = stage.submit(&in_group("x")).await;
    stage.runs(first).await;
    let second = stage.submit(&in_group("x")).await;
    stage.waits(second).await;
    stage.service.client.cancel_run(second).await.unwrap();
    let cancelled = stage.ends(second, Conclusion::Cancelled).await;
    assert!(cancelled.jobs.is_empty(), "{cancelled:#?}");
    let reason = "cancelled while it waited for the concurrency group `x`";
    assert_eq!(cancelled.run.reason.as_deref(), Some(reason));
    let rerun = stage.service.client.rerun_run(second, RerunRequest::default()).await.unwrap().run.id;
    stage.waits(rerun).await;
    stage.open(first);
    stage.open(rerun);
    stage.ends(first, Conclusion::Success).await;
    stage.ends(rerun, Conclusion::Success).await;
}

#[tokio::test]
async fn jobs_and_runs_share_groups_over_workflows_and_waiting_for_one_is_not_waiting_for_a_runner() {
    let stage = Stage::new(&["--queue-timeout", "1s", "--housekeeping-interval", "1s"], 2);
    let run = stage.submit(&in_group("shared")).await;
    stage.runs(run).await;
    let job = stage.submit(&job_in_group("'SHARE${{ vars.NONE }}D'")).await;
    let reason = format!("waits for the concurrency group `SHARED`, which run {run} has");
    let waiting = stage.service.job(job, "the job says why", |job| job.reason.as_ref() == Some(&reason)).await;
    assert_eq!((waiting.status, waiting.concurrency_group.as_deref()), (JobStatus::Waiting, Some("SHARED")));
    let said = stage.service.says(&["jobs", &waiting.id.to_string(), "--explain"]);
    assert!(said.out.contains(&reason), "{said:?}");
    // Longer than anybody may wait for a runner.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    stage.open(run);
    stage.open(job);
    stage.ends(run, Conclusion::Success).await;
    let ended = stage.ends(job, Conclusion::Success).await;
    assert!(ended.jobs[0].queued_at > waiting.queued_at, "it was queued when the group was its own");
    assert!(stage.story().starts_with(&format!("{run} begins\n{run} ends\n{job} begins")), "{}", stage.story());
}

#[tokio::test]
async fn each_combination_of_a_matrix_is_by_itself_in_its_group() {
    let stage = Stage::new(&[], 3);
    let text = |concurrency: &str| {
        format!(
            "on: push\njobs:\n  a:\n    strategy: {{matrix: {{n: [1, 2, 3, 4]}}}}\n    runs-on: ubuntu-latest\n    \
             concurrency: {concurrency}\n    steps: [{{run: 'WAIT'}}]\n"
        )
    };
    let run = stage.submit(&text("one")).await;
    stage.open(run);
    let detail = stage.ends(run, Conclusion::Cancelled).await;
    let ended: BTreeMap<&str, Conclusion> =
        detail.jobs.iter().map(|job| (job.name.as_str(), job.conclusion.unwrap())).collect();
    use Conclusion::{Cancelled, Success};
    let expected = [("a (1)", Success), ("a (2)", Cancelled), ("a (3)", Cancelled), ("a (4)", Success)];
    assert_eq!(ended.into_iter().collect::<Vec<_>>(), expected);
    let reasons: Vec<&str> = detail.jobs.iter().filter_map(|job| job.reason.as_deref()).collect();
    assert!(
        reasons.iter().all(|reason| reason.contains("takes its place at the concurrency group `one`")),
        "{reasons:?}"
    );

    let patient = stage.submit(&text("{group: one, queue: max}")).await;
    stage.open(patient);
    stage.ends(patient, Conclusion::Success).await;
    let story = stage.story();
    let lines: Vec<&str> = story.lines().skip_while(|line| !line.starts_with(&format!("{patient} "))).collect();
    let (begins, ends) = (format!("{patient} begins"), format!("{patient} ends"));
    assert_eq!(lines, [begins.as_str(), ends.as_str()].repeat(4));
}

#[tokio::test]
async fn who_has_a_group_and_who_waits_is_the_same_after_a_crash() {
    let mut stage = Stage::new(&[], 2);
    let first = stage.submit(&in_group("x")).await;
    stage.runs(first).await;
    let second = stage.submit(&in_group("x")).await;
    stage.waits(second).await;
    let third = stage.submit(&job_in_group("y")).await;
    stage.runs(third).await;
    let fourth = stage.submit(&job_in_group("y")).await;
    stage.service.job(fourth, "it waits", |job| job.reason.as_ref().is_some_and(|why| why.contains("which"))).await;
    stage.service.process.crash();
    stage.service.restart();
    assert!(stage.waits(second).await.contains(&format!("run {first} has")));
    assert_eq!(stage.look(fourth).await.jobs[0].status, JobStatus::Waiting);
    // One ends while the service is away: its runner tells so afterwards.
    stage.service.process.crash();
    stage.open(first);
    stage.open(third);
    eventually("both end", async || (stage.story().matches("ends").count() == 2).then_some(())).await;
    stage.service.restart();
    stage.open(second);
    stage.open(fourth);
    for run in [first, second, third, fourth] {
        stage.ends(run, Conclusion::Success).await;
    }
    let story = stage.story();
    let place = |line: String| story.lines().position(|known| known == line).unwrap();
    assert!(place(format!("{first} ends")) < place(format!("{second} begins")), "{story}");
    assert!(place(format!("{third} ends")) < place(format!("{fourth} begins")), "{story}");
}

#[tokio::test]
async fn a_service_that_is_killed_again_and_again_lets_all_of_a_line_through_one_by_one() {
    let mut stage = Stage::new(&["--lease", "20s"], 3);
    let gates = stage.gates.path().display().to_string();
    let alone = format!(
        "mkdir {gates}/lock || echo overlap >> {gates}/story; sleep 0.05; rmdir {gates}/lock; \
         echo \"$GITHUB_RUN_ID done\" >> {gates}/story"
    );
    let job = format!("{{runs-on: ubuntu-latest, steps: [{{run: '{alone}'}}]");
    let whole = format!("on: push\nconcurrency: {{group: line, queue: max}}\njobs: {{a: {job}}}}}\n");
    let jobs = format!("on: push\njobs: {{a: {job}, concurrency: {{group: Line, queue: max}}}}}}\n");
    let mut runs = Vec::new();
    for round in 0..4 {
        for text in [&whole, &jobs, &whole] {
            runs.push(stage.submit(text).await);
        }
        eventually("some more are done", async || (stage.story().lines().count() > round).then_some(())).await;
        stage.service.process.crash();
        stage.service.restart();
    }
    for run in &runs {
        stage.ends(*run, Conclusion::Success).await;
    }
    let mut done: Vec<String> = stage.story().lines().map(str::to_owned).collect();
    done.sort();
    let mut expected: Vec<String> = runs.iter().map(|run| format!("{run} done")).collect();
    expected.sort();
    assert_eq!(done, expected);
}

#[tokio::test]
async fn a_lost_runner_frees_the_group_of_its_job() {
    let flags = ["--requeues", "0", "--lease", "5s", "--offline-after", "3s", "--heartbeat-interval", "1s"];
    let mut stage = Stage::new(&flags, 1);
    let first = stage.submit(&in_group("x")).await;
    stage.runs(first).await;
    let second = stage.submit(&in_group("x")).await;
    stage.waits(second).await;
    let mut lost = stage.runners.remove(0);
    lost.crash();
    stage.ends(first, Conclusion::Failure).await;
    stage.runners.push(stage.service.runner("another", &[]));
    stage.open(second);
    stage.ends(second, Conclusion::Success).await;
}

#[tokio::test]
async fn called_workflows_have_groups_and_nobody_waits_for_itself() {
    let stage = Stage::new(&[], 2);
    let called =
        "on: workflow_call\nconcurrency: 'inner'\njobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'WAIT'}]}}\n";
    let called = called.replace("WAIT", &wait(stage.gates.path()));
    let submit = async |caller: &str| {
        let files = BTreeMap::from([("called.yml".to_owned(), called.clone())]);
        let (workflow, repository) = (caller.to_owned(), Some("acme/app".to_owned()));
        stage.service.submit_with(SubmitRequest { workflow, files, repository, ..SubmitRequest::default() }).await
    };
    let call = "on: push\njobs: {c: {uses: ./called.yml}}\n";
    let first = submit(call).await;
    stage.runs(first).await;
    let second = submit(call).await;
    eventually("the call waits", async || (stage.look(second).await.pending == ["c"]).then_some(())).await;
    let third = stage.submit(&job_in_group("INNER")).await;
    let dropped = stage.ends(second, Conclusion::Cancelled).await;
    let reason = format!("job `a` of run {third} came later and takes its place at the concurrency group `inner`");
    assert_eq!(dropped.jobs[0].reason.as_deref(), Some(reason.as_str()), "{dropped:#?}");
    stage.open(first);
    stage.open(third);
    stage.ends(first, Conclusion::Success).await;
    stage.ends(third, Conclusion::Success).await;

    let itself = submit("on: push\nconcurrency: Inner\njobs: {c: {uses: ./called.yml}}\n").await;
    let failed = stage.ends(itself, Conclusion::Failure).await;
    let reason = failed.jobs[0].reason.as_deref().unwrap();
    assert!(reason.contains("it would wait for ever: this run has the concurrency group `inner`"), "{reason}");
    let again = submit("on: push\njobs: {c: {uses: ./called.yml, concurrency: inner}}\n").await;
    let failed = stage.ends(again, Conclusion::Failure).await;
    let reason = failed.jobs[0].reason.as_deref().unwrap();
    assert!(reason.contains("the job `c` that calls it has the concurrency group `inner`"), "{reason}");
}

#[tokio::test]
async fn a_group_without_a_name_fails_its_run() {
    let stage = Stage::new(&[], 0);
    let run = stage.submit(&in_group("'${{ vars.NONE }}'")).await;
    let failed = stage.ends(run, Conclusion::Failure).await;
    let reason = "the run cannot start: the group of `concurrency` must not be empty";
    assert_eq!((failed.run.reason.as_deref(), failed.jobs.len()), (Some(reason), 0));
}
