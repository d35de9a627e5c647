//! Every example does what it says.

use crate::harness::{root, run, startline};

#[test]
fn hello_ends_green_with_each_steps_output_and_a_summary() {
    let said = run(&["run", "examples/hello.yml"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for wanted in ["Hello from Linux, run 1", "The answer of Earth is 42", "Summary", "run 1 success", "▸ Say hello"]
    {
        assert!(said.out.contains(wanted), "no `{wanted}` in {said:?}");
    }
}

#[test]
fn failing_exits_with_1_and_names_the_step() {
    let said = run(&["run", "examples/failing.yml"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    for wanted in
        ["“Break on purpose” failed", "On purpose", "Process completed with exit code 3", "cleaning up after failure"]
    {
        assert!(said.out.contains(wanted), "no `{wanted}` in {said:?}");
    }
    assert!(!said.out.contains("never printed\n"), "{said:?}");
}

#[test]
fn matrix_expands_and_outputs_travel_along_needs() {
    let said = run(&["run", "examples/matrix.yml"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for wanted in [
        "building small in debug mode",
        "building small in release mode",
        "building large in release mode",
        "build was success, the last one built",
    ] {
        assert!(said.out.contains(wanted), "no `{wanted}` in {said:?}");
    }
    assert!(!said.out.contains("building large in debug mode"), "{said:?}");
}

#[test]
fn matrix_and_job_can_be_narrowed() {
    let said = run(&["run", "examples/matrix.yml", "--job", "build", "--matrix", "mode=debug"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("building small in debug mode"), "{said:?}");
    assert!(!said.out.contains("release mode") && !said.out.contains("build was"), "{said:?}");
}

#[test]
fn composite_runs_the_local_action() {
    let said = run(&["run", "examples/composite.yml"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    for wanted in ["the action said 'Good morning, Ada!'", "And good-bye from a file beside the action."] {
        assert!(said.out.contains(wanted), "no `{wanted}` in {said:?}");
    }
}

#[test]
fn secrets_are_masked_in_every_form() {
    let output = startline()
        .args(["run", "examples/secrets.yml", "--secret", "API_KEY"])
        .env("API_KEY", "swordfish-4711")
        .output()
        .unwrap();
    let said = crate::harness::Said::from(output);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("the key is ***") && said.out.contains("the token is ***"), "{said:?}");
    for never in ["swordfish-4711", "c3dvcmRmaXNoLTQ3MTE", "one-time-1", "one-time-2"] {
        assert!(!said.out.contains(never) && !said.err.contains(never), "`{never}` in {said:?}");
    }
}

#[test]
fn every_example_is_run_by_a_test() {
    let this = include_str!("examples.rs");
    for entry in std::fs::read_dir(root().join("examples")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".yml") {
            assert!(this.contains(&format!("examples/{name}\"")), "no test runs examples/{name}");
        }
    }
}
