//! What is repeated of failed steps at the end.

use super::{folder, run_in, steps};

fn failing(after: &str) -> String {
    steps(&format!(
        "      - name: Breaks\n        run: |\n          for i in $(seq 30); do echo \"line $i of it ${{{{ secrets.KEY }}}}\"; done\n          \
         exit 3\n{after}"
    ))
}

const LOUD: &str = "      - if: always()\n        run: seq 100 140\n";
const KEY: [&str; 2] = ["--secret", "KEY=hunter2"];

#[test]
fn the_last_lines_of_a_failed_step_are_repeated_when_others_have_buried_them() {
    let tree = folder(&[("w.yml", &failing(LOUD))]);
    let said = run_in(tree.path(), &KEY);
    assert_eq!(said.code, Some(1), "{said:?}");
    let (_, repeated) =
        said.out.split_once("a / Breaks failed, exit code 3; its last lines:").expect("they are repeated");
    for wanted in ["  line 12 of it ***\n", "  line 30 of it ***\n", "Error: Process completed with exit code 3."] {
        assert!(repeated.contains(wanted), "{wanted}: {repeated}");
    }
    assert!(!repeated.contains("line 11 of it") && !repeated.contains("  140\n"), "{repeated}");
    assert!(repeated.find("Summary") > repeated.find("line 30"), "the summary comes last: {repeated}");
    assert!(!said.out.contains("hunter2"), "{said:?}");
}

#[test]
fn a_failure_that_can_still_be_seen_is_not_repeated() {
    let tree = folder(&[("w.yml", &failing(""))]);
    let said = run_in(tree.path(), &KEY);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(said.out.matches("line 30 of it").count(), 1, "{said:?}");
    assert!(!said.out.contains("its last lines"), "{said:?}");
}

#[test]
fn json_has_the_last_lines_of_failed_steps_before_the_run() {
    let tree = folder(&[("w.yml", &failing(""))]);
    let said = run_in(tree.path(), &["--json", KEY[0], KEY[1]]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let lines: Vec<serde_json::Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["event"], "begin", "{said:?}");
    assert_eq!((&lines[0]["in_place"], &lines[0]["root"]), (&false.into(), &tree.path().to_str().unwrap().into()));
    let [.., failed, run] = &lines[..] else { panic!("{said:?}") };
    assert_eq!((failed["event"].as_str(), run["event"].as_str()), (Some("failed_step"), Some("run")));
    assert_eq!((&failed["job"], &failed["step"], &failed["exit_code"]), (&"a".into(), &"Breaks".into(), &3.into()));
    let repeated = failed["lines"].as_array().unwrap();
    assert_eq!(repeated.len(), 20);
    assert_eq!(repeated[18], "line 30 of it ***");
    assert_eq!(repeated[19], "##[error]Process completed with exit code 3.");
}
