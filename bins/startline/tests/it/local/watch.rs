//! `startline run --watch`.

use nix::sys::signal::Signal;

use super::{command, folder, steps, tree, write};
use crate::attended::Attended;
use crate::harness::{DEADLINE, Process, eventually, run};

const SAY: &str = "      - run: 'echo \"it says $(cat note.txt)\"'\n";

async fn waits(process: &Process, times: usize) {
    eventually("it waits for changes", async || {
        (process.errors().matches("waiting for changes").count() >= times).then_some(())
    })
    .await;
}

async fn interrupted(mut process: Process) {
    process.signal(Signal::SIGINT);
    assert_eq!(process.ended(DEADLINE).await.code(), Some(130), "{}", process.errors());
}

#[tokio::test]
async fn a_change_runs_again_and_is_named() {
    let tree = tree(&[("w.yml", &steps(SAY)), ("note.txt", "one"), ("new/x", "")]);
    let process = Process::spawn(&mut command(tree.path(), &["--watch"]));
    process.line_with("  it says one");
    waits(&process, 1).await;
    write(tree.path(), &[("note.txt", "two")]);
    process.line_with("  it says two");
    assert!(process.errors().contains("changed: note.txt"), "{}", process.errors());
    waits(&process, 2).await;
    // A file in a directory that was not there before; and one that replaces another, as editors write.
    write(tree.path(), &[("deep/er/file.txt", "x"), ("note.new", "three")]);
    std::fs::rename(tree.path().join("note.new"), tree.path().join("note.txt")).unwrap();
    process.line_with("  it says three");
    eventually("all changes are named", async || process.errors().contains("file.txt").then_some(())).await;
    interrupted(process).await;
}

#[tokio::test]
async fn a_change_while_jobs_run_cancels_them_and_begins_anew() {
    let slow = "      - run: |\n          echo \"begun $(cat note.txt)\"\n          if [ \"$(cat note.txt)\" = slow ]; then sleep 600; fi\n      \
                - run: 'echo \"done $(cat note.txt)\"'\n";
    let tree = tree(&[("w.yml", &steps(slow)), ("note.txt", "slow")]);
    let process = Process::spawn(&mut command(tree.path(), &["--watch"]));
    process.line_with("  begun slow");
    write(tree.path(), &[("note.txt", "quick")]);
    process.line_with("  begun quick");
    process.line_with("  done quick");
    let errors = process.errors();
    assert!(errors.contains("cancelling: changed: note.txt"), "{errors}");
    interrupted(process).await;
}

#[tokio::test]
async fn what_git_ignores_starts_nothing_and_files_with_values_do() {
    let tree =
        tree(&[("w.yml", &steps("      - run: echo \"value <$VALUE>\"\n")), (".gitignore", "*.log\n.env\nout/\n")]);
    let process = Process::spawn(&mut command(tree.path(), &["--watch", "--json"]));
    process.line_with("\"event\":\"run\"");
    waits(&process, 1).await;
    write(tree.path(), &[("debug.log", "1"), ("out/x", "1")]);
    write(tree.path(), &[("debug.log", "2"), (".env", "VALUE=of-a-file\n")]);
    // Whatever comes of the ignored files came before.
    assert_eq!(process.line_with("\"event\":\"changed\""), r#"{"event":"changed","paths":[".env"]}"#);
    process.line_with("value <of-a-file>");
    interrupted(process).await;
}

#[tokio::test]
async fn mistakes_are_told_and_the_next_change_is_tried() {
    let tree = folder(&[("w.yml", "on: push\njobs: [\n"), ("note.txt", "one")]);
    let process = Process::spawn(&mut command(tree.path(), &["--watch"]));
    waits(&process, 1).await;
    assert!(process.errors().contains("nothing was started"), "{}", process.errors());
    write(tree.path(), &[("w.yml", &steps(SAY))]);
    process.line_with("  it says one");
    interrupted(process).await;
}

#[tokio::test]
async fn ctrl_c_in_the_middle_of_a_run_ends_the_watch() {
    let tree = folder(&[("w.yml", &steps("      - run: echo begun; sleep 600\n"))]);
    let process = Process::spawn(&mut command(tree.path(), &["--watch"]));
    process.line_with("  begun");
    interrupted(process).await;
}

#[test]
fn watching_a_tree_in_which_jobs_work_must_be_meant() {
    let tree = folder(&[("w.yml", &steps(SAY))]);
    let path = tree.path().join("w.yml");
    let said = run(&["run", path.to_str().unwrap(), "--watch", "--in-place"]);
    assert!(said.code == Some(2) && said.err.contains("--allow-dirty"), "{said:?}");
}

#[tokio::test]
async fn what_jobs_leave_in_the_tree_starts_nothing() {
    let tree = tree(&[
        ("w.yml", &steps("      - run: |\n          cat note.txt >> left.txt\n          wc -l left.txt\n")),
        ("note.txt", "x\n"),
    ]);
    let process = Process::spawn(&mut command(tree.path(), &["--watch", "--in-place", "--allow-dirty"]));
    process.line_with("  1 left.txt");
    waits(&process, 1).await;
    write(tree.path(), &[("other.txt", "x")]);
    process.line_with("  2 left.txt");
    waits(&process, 2).await;
    assert!(!process.errors().contains("changed: left.txt"), "{}", process.errors());
    interrupted(process).await;
}

#[tokio::test]
async fn a_silence_is_explained_on_a_terminal() {
    let tree = folder(&[("w.yml", &steps("      - name: Long\n        run: sleep 4\n      - run: echo after it\n"))]);
    let mut person = Attended::start(&mut command(tree.path(), &[]));
    person.sees("a: Long, ").await;
    person.sees(" without output").await;
    let (code, out, _) = person.ended().await;
    assert!(code == Some(0) && out.contains("  after it"), "{out}");
    // Elsewhere a few seconds of silence are nothing to speak of.
    let said = super::run_in(tree.path(), &[]);
    assert!(!said.err.contains("without output"), "{said:?}");
}
