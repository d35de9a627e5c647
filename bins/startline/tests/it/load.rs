//! `startline load` against a service of its own, small.

use serde_json::Value;

use crate::harness::run;

fn account(arguments: &[&str]) -> Value {
    let said = run(&[&["load", "polls", "--json"], arguments].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    let report: Value = serde_json::from_str(said.out.trim()).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    assert_eq!(report["errors"]["count"], 0, "{report:#}");
    assert_eq!(report["completed"], report["jobs"], "{report:#}");
    report
}

#[test]
fn every_job_goes_out_once_and_memory_is_told() {
    let report = account(&["--runners", "50", "--jobs", "100"]);
    assert_eq!((&report["runners"], &report["jobs"]), (&50.into(), &100.into()));
    assert_eq!(report["memory"]["polls"], 50);
    assert!(report["memory"]["kib"].as_u64().unwrap() > 1000);
    let (p50, max) = (&report["dispatch_ms"]["p50"], &report["dispatch_ms"]["max"]);
    assert!(p50.as_f64().unwrap() > 0.0 && p50.as_f64() <= max.as_f64(), "{report:#}");
}

#[test]
fn polls_share_connections_under_http2_and_are_compared_with_bare_hyper() {
    let flags = ["--runners", "60", "--jobs", "20", "--batch", "1", "--rate", "200", "--http2", "--compare-hyper"];
    let report = account(&flags);
    assert_eq!(report["http"], "2");
    assert_eq!(report["bare_hyper"]["polls"], 60);
    assert!(report["ratio"].is_f64(), "{report:#}");
}

#[test]
fn more_connections_than_the_system_allows_are_refused_with_the_limit() {
    let said = run(&["load", "polls", "--runners", "1000000"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("ulimit -Hn"), "{said:?}");
}
