//! `startline load` against a service of its own, small.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{DEADLINE, Process, Service, children_of, eventually, run, runs, startline};
use crate::hostile::metric;
use crate::http::Wire;

/// Runs a scenario that must end well, and gives its account.
fn account(scenario: &str, arguments: &[&str]) -> Value {
    let said = run(&[&["load", scenario, "--json", "--settle", "0"], arguments].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    let report: Value = serde_json::from_str(said.out.trim()).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert_eq!((&report["scenario"], &report["errors"]["count"]), (&scenario.into(), &0.into()), "{report:#}");
    assert!(report["seconds"].is_number() && report["per_second"].is_number(), "{report:#}");
    assert!(report["server"]["user_kib"].as_u64().unwrap() > 1000, "{report:#}");
    report
}

/// Checks that a summary of latencies is in order.
fn in_order(latency: &Value) {
    let at = |name: &str| latency[name].as_u64().unwrap_or_else(|| panic!("no {name}: {latency:#}"));
    let values = ["p50", "p90", "p99", "p999", "max"].map(at);
    assert!(values[0] > 0 && values.is_sorted(), "{latency:#}");
}

#[test]
fn every_job_goes_out_once_and_memory_is_told() {
    let report = account("polls", &["--runners", "50", "--jobs", "100"]);
    assert_eq!((&report["settings"]["runners"], &report["count"]), (&50.into(), &100.into()));
    assert_eq!(report["memory"]["polls"], 50);
    in_order(&report["latency_us"]);
}

#[test]
fn polls_share_connections_under_http2_and_are_compared_with_bare_hyper() {
    let flags = ["--runners", "60", "--jobs", "20", "--rate", "50", "--http2", "--streams", "7", "--compare-hyper"];
    let report = account("polls", &flags);
    assert_eq!(report["settings"]["streams"], 7);
    assert_eq!((&report["settings"]["http"], &report["count"]), (&"2".into(), &20.into()));
    assert_eq!(report["bare_hyper"]["polls"], 60);
    assert!(report["ratio"].is_f64(), "{report:#}");
}

#[test]
fn polls_are_divided_among_services_and_processes() {
    let flags = ["--runners", "31", "--jobs", "30", "--rate", "50", "--servers", "2", "--processes", "3"];
    let report = account("polls", &[&flags[..], &["--idle-seconds", "1", "--auto-acquire"]].concat());
    assert_eq!((&report["count"], &report["memory"]["polls"]), (&30.into(), &31.into()), "{report:#}");
    assert!(report["idle_cpu_percent"].is_number() && report["server"]["kernel_kib"].is_u64(), "{report:#}");
    in_order(&report["latency_us"]);
}

#[test]
fn lives_of_jobs_are_counted_and_timed() {
    let small = ["--producers", "4", "--runners", "8", "--seconds", "1", "--payload", "100"];
    let report = account("lifecycle", &small);
    assert!(report["count"].as_u64().unwrap() > 0, "{report:#}");
    in_order(&report["latency_us"]);
    in_order(&report["completed_latency_us"]);
    let one_step =
        account("lifecycle", &[&small[..], &["--auto-acquire", "--renew", "false", "--sources", "3"]].concat());
    let requests =
        |report: &Value| report["requests_per_second"].as_f64().unwrap() / report["per_second"].as_f64().unwrap();
    assert!((requests(&report) - 5.0).abs() < 0.01 && (requests(&one_step) - 3.0).abs() < 0.01);
    assert_eq!(one_step["settings"]["synchronous"], "full");
}

#[test]
fn jobs_on_a_schedule_are_all_delivered_and_all_timed() {
    let report = account("dispatch", &["--rate", "50", "--seconds", "1", "--waiting", "20", "--synchronous", "normal"]);
    assert_eq!(report["count"], 50, "{report:#}");
    assert_eq!(report["settings"]["synchronous"], "normal");
    in_order(&report["latency_us"]);
}

#[test]
fn more_connections_than_the_system_allows_are_refused_with_the_limit() {
    let said = run(&["load", "polls", "--runners", "1000000"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("ulimit -Hn"), "{said:?}");
}

#[test]
fn no_runner_idles_beside_a_burst_and_each_job_of_it_is_done_once() {
    let report = account("burst", &["--jobs", "60", "--runners", "20", "--job-ms", "20"]);
    assert_eq!(report["count"], 60, "{report:#}");
    let told = |name: &str| report[name].as_f64().unwrap_or_else(|| panic!("no {name}: {report:#}"));
    assert!(told("longest_wait_beside_idle_runner_ms") <= 1000.0, "{report:#}");
    assert!(told("delivered_ms") <= told("completed_ms"), "{report:#}");
}

#[tokio::test]
async fn ends_of_jobs_that_get_no_turn_are_told_again_until_they_are_heard() {
    let service = Service::start(&[WITHOUT_LIMITS, &["--concurrency", "1", "--tenant-queue", "1"]].concat());
    let mut load = onto(&service, &["burst", "--jobs", "12", "--runners", "12", "--auto-acquire"]);
    let ended = load.ended(DEADLINE).await;
    assert_eq!(ended.code(), Some(0), "{}", load.errors());
    assert_eq!(report(&load)["count"], 12);
    let mut wire = Wire::open(&service.url).await;
    let refused = metric(&mut wire, r#"startline_rate_limited_total{limit="tenant_queue"}"#).await;
    assert!(refused > Some(0.0), "{refused:?}: every end got its turn at once");
}

#[test]
fn renewals_and_heartbeats_are_told_beside_the_cheapest_answer() {
    let report = account("renewals", &["--connections", "4", "--seconds", "3"]);
    for kind in ["healthz", "heartbeats", "renewals"] {
        assert!(report[kind]["count"].as_u64().unwrap() > 0, "{report:#}");
        in_order(&report[kind]["latency_us"]);
    }
    assert_eq!(report["count"], report["renewals"]["count"]);
    assert!(report["renewals_to_healthz"].as_f64().unwrap() > 0.0, "{report:#}");
}

#[test]
fn jobs_go_out_while_others_wait_and_renew() {
    let flags = ["--rate", "20", "--runners", "10", "--parked", "20", "--renewals", "50", "--seconds", "1"];
    let report = account("mixed", &flags);
    assert_eq!((&report["count"], &report["renewed"]), (&20.into(), &100.into()), "{report:#}");
}

#[test]
fn registrations_are_counted() {
    let report = account("registrations", &["--count", "50", "--connections", "4"]);
    assert_eq!(report["count"], 50, "{report:#}");
    in_order(&report["latency_us"]);
}

#[test]
fn logs_are_sent_and_read_back_whole() {
    let report = account("logs", &["--streams", "2", "--bytes", "3MiB"]);
    assert_eq!(report["read_back_bytes"], 3 * 1024 * 1024, "{report:#}");
    assert_eq!(report["count"], 6, "{report:#}");
}

#[test]
fn claims_are_measured_at_each_depth_and_the_queue_survives_a_restart() {
    let report = account("depth", &["--queued", "256,512", "--claims", "10", "--runners", "2"]);
    let depths = report["depths"].as_array().unwrap();
    let queued: Vec<_> = depths.iter().map(|depth| depth["queued"].as_u64().unwrap()).collect();
    assert_eq!(queued, [256, 512]);
    assert!(depths.iter().all(|depth| depth["claims"] == 10), "{report:#}");
    assert!(report["restart_ready_ms"].as_f64().unwrap() > 0.0, "{report:#}");
}

/// Puts this service under load by a process of its own.
fn onto(service: &Service, flags: &[&str]) -> Process {
    let pid = service.process.id().to_string();
    let mut command = startline();
    command.arg("load").args(flags).args(["--json", "--settle", "0"]);
    Process::spawn(command.args(["--url", &service.url, "--token", &service.token, "--pid", &pid]))
}

/// The report of a load that has ended.
fn report(load: &Process) -> Value {
    serde_json::from_str(&format!("{{{}", load.line("{"))).unwrap()
}

/// How many jobs of the service are in this state; of more than a hundred, a hundred.
fn jobs(service: &Service, status: &str) -> usize {
    let said = service.says(&["jobs", "--status", status, "--limit", "100", "--json"]);
    let listing: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    listing["jobs"].as_array().unwrap_or_else(|| panic!("{listing:#}")).len()
}

const WITHOUT_LIMITS: &[&str] = &["--address-rate", "0", "--failed-auth-rate", "0", "--bearer-rate", "0"];

#[tokio::test]
async fn a_service_that_runs_is_put_under_load_within_the_queues_bound_and_left_as_it_was() {
    let service = Service::start(WITHOUT_LIMITS);
    let flags = ["lifecycle", "--seconds", "2", "--producers", "8", "--runners", "2", "--queue", "3"];
    let mut load = onto(&service, &flags);
    eventually("jobs are completed", async || (jobs(&service, "completed") > 0).then_some(())).await;
    for _ in 0..3 {
        let queued = jobs(&service, "queued");
        // A job that a runner was offered a moment ago is still told as queued.
        assert!(queued <= 3 + 2, "{queued} jobs are queued");
    }
    let ended = load.ended(DEADLINE).await;
    assert_eq!(ended.code(), Some(0), "{}", load.errors());
    let report = report(&load);
    assert_eq!((&report["errors"]["count"], &report["settings"]["queue"]), (&0.into(), &3.into()), "{report:#}");
    assert!(report["count"].as_u64() > Some(0) && report["server"]["user_kib"].is_u64(), "{report:#}");
    for status in ["waiting", "queued", "offered", "running"] {
        assert_eq!(jobs(&service, status), 0, "{status}");
    }
    assert_eq!(service.says(&["runners", "--json"]).out.matches("load-").count(), 0);
}

#[tokio::test]
async fn a_queue_that_was_filled_at_a_service_that_runs_is_taken_back() {
    let service = Service::start(WITHOUT_LIMITS);
    let mut load = onto(&service, &["depth", "--queued", "256", "--claims", "10", "--runners", "2"]);
    let ended = load.ended(DEADLINE).await;
    assert_eq!(ended.code(), Some(0), "{}", load.errors());
    let report = report(&load);
    assert_eq!((&report["errors"]["count"], &report["count"]), (&0.into(), &10.into()), "{report:#}");
    assert!(jobs(&service, "completed") > 10);
    eventually("nothing is queued", async || (jobs(&service, "queued") == 0).then_some(())).await;
}

#[test]
fn a_service_of_its_own_gets_further_arguments_and_is_named_when_it_refuses_them() {
    let keys = tempfile::tempdir().unwrap();
    let file = keys.path().join("keys");
    let argument = format!("--server-arg=--secrets-key-file={}", file.display());
    account("registrations", &["--count", "2", "--connections", "1", &argument]);
    assert!(file.is_file());
    let said = run(&["load", "registrations", "--server-arg=--no-such-flag"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.err.contains("the service ended before it said") && said.err.contains("--no-such-flag"), "{said:?}");
}

#[tokio::test]
async fn a_service_that_dies_under_load_makes_errors_that_are_named() {
    let lifecycle = ["lifecycle", "--seconds", "600", "--producers", "2", "--runners", "2"];
    let polls = ["polls", "--jobs", "6000", "--rate", "10", "--runners", "2"];
    for (flags, least) in [(&lifecycle[..], 3), (&polls[..], 2)] {
        let mut service = Service::start(WITHOUT_LIMITS);
        let mut load = onto(&service, flags);
        eventually("jobs are completed", async || (jobs(&service, "completed") > 0).then_some(())).await;
        service.process.crash();
        let ended = load.ended(DEADLINE).await;
        assert_eq!(ended.code(), Some(1), "{}", load.errors());
        let report = report(&load);
        let errors = report["errors"]["first"].as_array().unwrap();
        let named = |what: &str| errors.iter().any(|error| error.as_str().unwrap().contains(what));
        assert!(report["errors"]["count"].as_u64().unwrap() >= least, "{report:#}");
        assert!(named("runner ") && named("cannot connect to"), "{report:#}");
    }
}

#[tokio::test]
async fn a_load_that_is_stopped_in_the_middle_takes_its_processes_and_their_data_with_it() {
    let lifecycle = ["lifecycle", "--seconds", "600", "--producers", "2", "--runners", "2"];
    let polls = ["polls", "--runners", "4", "--processes", "2", "--idle-seconds", "600"];
    for (flags, told, processes) in
        [(&lifecycle[..], "measuring for 600 s", 1), (&polls[..], "leaving them alone for 600 s", 3)]
    {
        let data = tempfile::tempdir().unwrap();
        let mut command = startline();
        command.arg("load").args(flags).args(["--settle", "0"]).env("TMPDIR", data.path());
        let mut load = Process::spawn(&mut command);
        eventually(told, async || load.errors().contains(told).then_some(())).await;
        let children = children_of(load.id());
        assert_eq!(children.len(), processes, "{}", load.errors());
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 1);
        load.signal(Signal::SIGTERM);
        let ended = load.ended(DEADLINE).await;
        assert_eq!(ended.code(), Some(143), "{}", load.errors());
        eventually("no process is left", async || children.iter().all(|pid| runs(*pid).is_none()).then_some(())).await;
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
    }
}
