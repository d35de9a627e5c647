//! Each peer, briefly.

use serde_json::Value;

use crate::program::{bench, said};

/// Runs a peer for half a second; `None` when this machine does not have it.
fn briefly(peer: &str, scenario: &str) -> Option<Value> {
    let mut command = bench(&["peer", peer, "--scenario", scenario, "--seconds", "0.5", "--json"]);
    command.args(["--producers", "4", "--consumers", "4", "--rate", "100"]);
    let words = said(&command.output().unwrap());
    if let Some(why) = words.strip_prefix("skipped: ") {
        anstream::eprintln!("{peer} is skipped: {why}");
        return None;
    }
    Some(serde_json::from_str(&words).unwrap())
}

fn works(peer: &str, scenarios: &[&str]) {
    for scenario in scenarios.iter().copied() {
        let Some(found) = briefly(peer, scenario) else { return };
        assert_eq!(found["scenario"], scenario, "{found}");
        assert_eq!(found["errors"]["count"], 0, "{found}");
        assert!(found["count"].as_u64().unwrap() > 0, "{found}");
        assert!(found["latency_us"]["p99"].as_f64() >= found["latency_us"]["p50"].as_f64(), "{found}");
        assert_eq!(found["settings"]["payload_bytes"], 512, "{found}");
        assert_eq!(found["settings"]["peer"], peer, "{found}");
    }
}

#[test]
fn beanstalkd_cycles_or_is_skipped() {
    works("beanstalkd", &["lifecycle", "dispatch"]);
}

#[test]
fn postgresql_row_by_row_cycles_or_is_skipped() {
    works("pg-poll", &["lifecycle"]);
}

#[test]
fn postgresql_with_notifications_cycles_or_is_skipped() {
    works("pg-notify", &["dispatch"]);
}

#[test]
fn postgresql_in_batches_cycles_or_is_skipped() {
    works("pg-batch", &["lifecycle"]);
}

#[test]
fn without_beanstalkd_it_is_skipped() {
    let empty = tempfile::tempdir().unwrap();
    let found = bench(&["peer", "beanstalkd", "--seconds", "0.1"]).env("PATH", empty.path()).output().unwrap();
    let words = said(&found);
    // Debian puts it into /usr/bin, which is not looked at without the `PATH`.
    assert_eq!(words, "skipped: no `beanstalkd` (Debian package beanstalkd)");
}

/// What a command says that cannot begin.
fn refused(arguments: &[&str]) -> String {
    let found = bench(arguments).output().unwrap();
    assert_eq!(found.status.code(), Some(2), "{found:?}");
    String::from_utf8_lossy(&found.stderr).into_owned()
}

#[test]
fn a_directory_that_cannot_be_written_to_is_no_missing_peer() {
    for command in [&["peer", "beanstalkd"][..], &["probe"], &["polls", "hyper"]] {
        let words = refused(&[command, &["--dir", "/nonexistent"]].concat());
        assert!(words.contains("cannot write to /nonexistent") && words.contains("with --dir"), "{words}");
    }
}

#[test]
fn a_program_that_is_not_there_is_named_with_how_it_is_built() {
    for command in [&["goals"][..], &["growth"], &["soak"], &["polls", "startline"]] {
        let words = refused(&[command, &["--startline", "/nonexistent/startline"]].concat());
        assert!(words.contains("there is no /nonexistent/startline; build it with"), "{words}");
        assert!(words.contains("cargo build --release -p startline") && words.contains("--startline"), "{words}");
    }
}

#[test]
fn more_polls_than_there_are_open_files_are_refused_with_the_limit() {
    let words = refused(&["polls", "hyper", "--polls", "100000000"]);
    assert!(words.contains("ulimit -Hn") && words.contains("fewer --polls"), "{words}");
}

fn parks(host: &str, further: &[&str]) {
    let mut command = bench(&["polls", host, "--polls", "200", "--warm", "40", "--wakes", "50", "--json"]);
    let words = said(&command.args(["--settle", "0.05"]).args(further).output().unwrap());
    let found: Value = serde_json::from_str(&words).unwrap();
    assert_eq!((&found["count"], &found["errors"]["count"]), (&50.into(), &0.into()), "{found}");
    assert!(found["user_kib_per_poll"].is_f64() && found["latency_us"]["p50"].as_f64() > Some(0.0), "{found}");
}

#[test]
fn bare_hyper_parks_polls_and_wakes_them() {
    parks("hyper", &[]);
}

#[test]
fn bare_hyper_parks_polls_and_wakes_them_on_http2() {
    parks("hyper", &["--http2"]);
}

#[test]
fn bare_axum_parks_polls_and_wakes_them() {
    parks("axum", &[]);
}
