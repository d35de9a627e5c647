//! The workspace: copied files, `hashFiles`, what is left of an earlier job.

use startline_protocol::state::Conclusion::Failure;

use crate::harness::{Job, run};

#[tokio::test]
async fn a_directory_is_copied_into_the_workspace() {
    let source = tempfile::tempdir().unwrap();
    std::fs::create_dir(source.path().join("sub")).unwrap();
    std::fs::write(source.path().join("sub/a.lock"), "a").unwrap();
    std::os::unix::fs::symlink("sub/a.lock", source.path().join("link")).unwrap();
    let mut job = Job::new(vec![
        run("readlink link; cat sub/a.lock; echo; echo changed > sub/a.lock"),
        run("${{ format('echo {0}', hashFiles('**/*.lock')) }}"),
    ])
    .file("stale", "from an earlier job");
    job.workspace_from = Some(source.path().to_owned());
    let outcome = job.finish().await.green();
    assert_eq!(outcome.step_lines(1), ["sub/a.lock", "a"]);
    assert_eq!(outcome.step_lines(2)[0].len(), 64);
    assert_eq!(std::fs::read_to_string(source.path().join("sub/a.lock")).unwrap(), "a", "the source is left alone");
    assert!(!outcome.root.path().join("work/demo/demo/stale").exists());
    assert_eq!(outcome.read("sub/a.lock"), "changed\n");
}

#[tokio::test]
async fn a_source_that_does_not_exist_is_named() {
    let mut job = Job::new(vec![run("true")]);
    job.workspace_from = Some("/no/such/directory".into());
    let outcome = job.finish().await;
    assert_eq!(outcome.conclusion(), Failure);
    assert!(outcome.has("cannot find `/no/such/directory`"));
}

#[tokio::test]
async fn temporary_files_of_an_earlier_job_are_gone() {
    let job = Job::new(vec![run(
        "test ! -e \"$RUNNER_TEMP/old\" && test \"$RUNNER_TEMP\" = \"$(dirname \"$(dirname \"$PWD\")\")/_temp\"",
    )]);
    let temp = job.root.path().join("work/_temp");
    std::fs::create_dir_all(&temp).unwrap();
    std::fs::write(temp.join("old"), "").unwrap();
    job.finish().await.green();
}
