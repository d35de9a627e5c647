//! Actions of other repositories, run by our own worker: from a store on disk, in `startline run` and with a service.

mod checkout;
mod refused;
mod toolkits;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use startline_protocol::state::Conclusion;

use crate::harness::{Process, Said, Service, startline};

/// A store of actions, and a work tree with a workflow.
pub(crate) struct Stage {
    root: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let stage = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir_all(stage.store()).unwrap();
        fs::create_dir_all(stage.tree()).unwrap();
        stage
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.root.path().join("store")
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.root.path().join("tree")
    }

    /// Puts a file of an action (`owner/repo@ref`) into the store.
    pub(crate) fn action(self, name: &str, file: &str, text: &str) -> Self {
        write(&self.store().join(name).join(file), text);
        self
    }

    /// A JavaScript action whose stages are these lines.
    pub(crate) fn script(self, name: &str, runs: &str, files: &[(&str, &str)]) -> Self {
        let manifest = format!(
            "name: test\ninputs: {{who: {{default: '${{{{ github.repository }}}}'}}}}\nruns: {{using: node20, {runs}}}\n"
        );
        let stage = self.action(name, "action.yml", &manifest);
        files.iter().fold(stage, |stage, (file, text)| stage.action(name, file, text))
    }

    /// Puts a file into the work tree.
    pub(crate) fn file(self, file: &str, text: &str) -> Self {
        write(&self.tree().join(file), text);
        self
    }

    /// A workflow with one job that has these steps.
    pub(crate) fn steps(self, steps: &str) -> Self {
        let text = format!("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n{steps}");
        self.file("w.yml", &text)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = startline();
        command.args(["run", "w.yml", "--repository", "acme/demo", "--actions-offline", "--actions-dir"]);
        command.arg(self.store()).current_dir(self.tree());
        command
    }

    pub(crate) fn run(&self) -> Said {
        self.command().output().unwrap().into()
    }
}

fn write(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

/// Whether JavaScript can be run here; says so when it cannot.
pub(crate) fn node() -> bool {
    let found =
        Command::new("node").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if !found {
        anstream::eprintln!("skipped: JavaScript actions need Node.js, and there is no `node`; ./test installs it");
    }
    found
}

/// The lines of standard output that begin with `mark`, without it.
pub(crate) fn marked<'a>(said: &'a Said, mark: &str) -> Vec<&'a str> {
    said.out.lines().filter_map(|line| line.trim_start().strip_prefix(mark)).collect()
}

/// Says its stage and what it was told, and saves a state.
fn tell(stage: &str) -> String {
    format!(
        "const e = process.env\n\
         console.log('# {stage}', e.INPUT_WHO, e.STATE_pre ?? '-', e.STATE_main ?? '-')\n\
         require('fs').appendFileSync(e.GITHUB_STATE, '{stage}=' + e.INPUT_WHO + '\\n')\n"
    )
}

fn telling(stage: Stage, name: &str) -> Stage {
    let files = ["pre", "main", "post"].map(|stage| (format!("{stage}.js"), tell(stage)));
    let files: Vec<(&str, &str)> = files.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    stage.script(name, "pre: pre.js, main: main.js, post: post.js", &files)
}

#[test]
fn stages_run_in_order_and_each_use_has_a_state_of_its_own() {
    if !node() {
        return;
    }
    let stage = telling(Stage::new(), "acme/tell@v1")
        .action(
            "acme/both@main",
            "nested/action.yml",
            "inputs: {of: {}}\noutputs: {said: {value: '${{ steps.last.outputs.it }}'}}\nruns:\n  using: composite\n  steps:\n    - \
             {uses: acme/tell@v1, with: {who: 'first of ${{ inputs.of }}'}}\n    - {uses: acme/tell@v1, if: 'false'}\n    - {uses: acme/tell@v1, \
             with: {who: second}}\n    - {id: last, shell: bash, run: 'echo it=${{ inputs.of }} >> $GITHUB_OUTPUT; echo \"# at \
             $GITHUB_ACTION_REPOSITORY $GITHUB_ACTION_REF ${GITHUB_ACTION_PATH##*/_actions/} ${{ github.action_ref }}\"'}\n",
        )
        .steps(
            "      - {uses: acme/tell@v1, name: Tell}\n      - {uses: acme/tell@v1, if: 'false', with: {who: never}}\n      - \
             {id: both, uses: acme/both/nested@main, with: {of: two}}\n      - run: 'echo \"# run ${{ steps.both.outputs.said }}\"'\n",
        );
    let said = stage.run();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(
        marked(&said, "# "),
        [
            "pre acme/demo - -",
            "pre never - -",
            "pre first of two - -",
            "pre acme/demo - -",
            "pre second - -",
            "main acme/demo acme/demo -",
            "main first of two first of two -",
            "main second second -",
            "at acme/both main acme/both/main/nested main",
            "run two",
            "post second second second",
            "post acme/demo acme/demo -",
            "post first of two first of two first of two",
            "post never never -",
            "post acme/demo acme/demo acme/demo",
        ],
        "what ran first ends last, and what had a `pre` has a `post` even when its step was skipped: {said:?}"
    );
    let steps: Vec<&str> = said.out.lines().filter_map(|line| line.strip_prefix("▸ ")).collect();
    let nested = "Run acme/both/nested@main";
    let pre_and_post = |text: &str| [format!("Pre {text}"), format!("Post {text}")];
    let [pre, post] = pre_and_post(nested);
    assert_eq!(
        steps,
        [
            "Set up job",
            "Pre Tell",
            "Pre Run acme/tell@v1",
            &pre,
            "Tell",
            nested,
            "Run echo \"# run two\"",
            &post,
            "Post Run acme/tell@v1",
            "Post Tell",
            "Complete job"
        ]
    );
    assert!(said.out.contains("Download action repository 'acme/tell@v1' (SHA:"), "{said:?}");
}

#[test]
fn conditions_of_stages_see_the_job_and_a_failure_in_one_runs_the_rest() {
    if !node() {
        return;
    }
    let fail = "console.log('# ' + process.env.INPUT_WHO); process.exit(process.env.INPUT_WHO === 'fails' ? 3 : 0)";
    let say = |text: &str| format!("console.log('# {text}')");
    let stage = Stage::new()
        .script(
            "acme/work@v1",
            "main: main.js, post: post.js, post-if: success()",
            &[("main.js", fail), ("post.js", &say("after success"))],
        )
        .script(
            "acme/clean@v1",
            "pre: pre.js, pre-if: runner.os == 'none', main: main.js, post: post.js, post-if: \"failure() && runner.os == 'Linux'\"",
            &[("pre.js", &say("never")), ("main.js", &say("clean")), ("post.js", "console.log('# after failure'); process.exit(1)")],
        )
        .steps(
            "      - uses: acme/clean@v1\n      - uses: acme/work@v1\n      - {uses: acme/work@v1, with: {who: fails}}\n      - \
             uses: acme/work@v1\n",
        );
    let said = stage.run();
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(marked(&said, "# "), ["clean", "acme/demo", "fails", "after failure"]);

    let stage = Stage::new()
        .script(
            "acme/pre@v1",
            "pre: pre.js, main: main.js",
            &[("pre.js", "process.exit(1)"), ("main.js", &say("never"))],
        )
        .steps("      - uses: acme/pre@v1\n      - {if: always(), run: 'echo \"# always\"'}\n");
    let said = stage.run();
    assert_eq!((said.code, marked(&said, "# ")), (Some(1), vec!["always"]), "{said:?}");

    let stage = Stage::new()
        .script("acme/post@v1", "main: main.js, post: post.js", &[("main.js", ""), ("post.js", "process.exit(1)")])
        .steps("      - uses: acme/post@v1\n");
    assert_eq!(stage.run().code, Some(1), "a failure after the steps is one of the job");
}

#[test]
fn local_actions_have_a_post_and_use_actions_of_others() {
    if !node() {
        return;
    }
    let local =
        "inputs: {the name: {default: nobody}}\nruns: {using: node16, pre: main.js, main: main.js, post: main.js}\n";
    let stage = telling(Stage::new(), "acme/tell@v1")
        .file("own/action.yml", local)
        .file("own/main.js", "console.log('# own', process.env.INPUT_THE_NAME, process.env.GITHUB_ACTION_REPOSITORY)")
        .file("mix/action.yml", "runs: {using: composite, steps: [{uses: ./own}, {uses: acme/tell@v1}]}\n")
        .steps(
            "      - {uses: ./own, with: {The Name: Ada, odd: 1}}\n      - uses: ./mix\n      - run: rm -r own mix\n",
        );
    let said = stage.run();
    // The files of the action are gone when its `post` is to run, and that is said.
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(
        marked(&said, "# "),
        ["own Ada ", "own nobody ", "main acme/demo - -", "post acme/demo - acme/demo"],
        "{said:?}"
    );
    assert!(said.out.contains("own/main.js` of `uses: ./own` does not exist"), "{said:?}");
    assert!(said.out.contains("`pre` execution is not supported for local action from './own'"), "{said:?}");
    assert!(said.out.contains("Unexpected input(s) 'odd', valid inputs are ['the name']"), "{said:?}");
}

#[test]
fn an_action_that_takes_too_long_is_ended_and_cleaned_up_after() {
    if !node() {
        return;
    }
    let stage = Stage::new()
        .script(
            "acme/slow@v1",
            "main: main.js, post: post.js",
            &[("main.js", "setInterval(() => {}, 1000)"), ("post.js", "console.log('# cleaned')")],
        )
        .steps(
            "      - {uses: acme/slow@v1, timeout-minutes: 0.02}\n      - {if: failure(), run: 'echo \"# told\"'}\n",
        );
    let said = stage.run();
    assert_eq!((said.code, marked(&said, "# ")), (Some(1), vec!["told", "cleaned"]), "{said:?}");
    assert!(said.out.contains("The action 'Run acme/slow@v1' has timed out after 0.02 minutes."), "{said:?}");
}

#[tokio::test]
async fn a_cancel_ends_an_action_and_runs_what_cleans_up_after_it() {
    if !node() {
        return;
    }
    let wait = "process.on('SIGINT', () => { console.log('# interrupted'); process.exit(1) }); setInterval(() => {}, 1000); \
                console.log('ready to be cancelled')";
    let stage = Stage::new()
        .script(
            "acme/wait@v1",
            "main: main.js, post: post.js",
            &[("main.js", wait), ("post.js", "console.log('# cleaned')")],
        )
        .script(
            "acme/keep@v1",
            "main: main.js, post: post.js, post-if: success()",
            &[("main.js", ""), ("post.js", "console.log('# never')")],
        )
        .steps("      - uses: acme/keep@v1\n      - uses: acme/wait@v1\n      - run: 'echo \"# never\"'\n");
    let mut process = Process::spawn(&mut stage.command());
    process.line_with("ready to be cancelled");
    process.signal(Signal::SIGINT);
    process.line_with("# interrupted");
    process.line_with("# cleaned");
    let status = process.ended(Duration::from_secs(12)).await;
    assert_eq!(status.code(), Some(130), "{}", process.errors());
    assert!(!process.said().contains("# never"));
}

#[tokio::test]
async fn runners_of_a_service_keep_archives_and_believe_none_that_was_changed() {
    if !node() {
        return;
    }
    let stage = telling(Stage::new(), "acme/tell@v1");
    let store = stage.store();
    let service = Service::start(&["--actions-offline", "--actions-dir", store.to_str().unwrap()]);
    let runner = service.runner("native", &[]);
    let job = "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps: [{uses: acme/tell@v1, with: {who: me}}]\n";
    let mut kept = Vec::new();
    for round in 0..3 {
        let run = service.submit(job).await;
        let detail = service.ended(run).await;
        let log = service.log(detail.jobs[0].id).await;
        assert_eq!(detail.run.conclusion, Some(Conclusion::Success), "round {round}: {log}");
        assert!(log.contains("# post me me me"), "{log}");
        let steps: Vec<&str> = detail.jobs[0].steps.iter().map(|step| step.name.as_str()).collect();
        let tell = "Run acme/tell@v1";
        assert_eq!(steps, ["Set up job", &format!("Pre {tell}"), tell, &format!("Post {tell}"), "Complete job"]);
        let archives: Vec<PathBuf> =
            fs::read_dir(runner.dir.path().join("_archives")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(archives.len(), 1, "{archives:?}");
        kept.push(fs::read(&archives[0]).unwrap());
        if round == 1 {
            fs::write(&archives[0], "something else").unwrap();
        }
    }
    assert!(kept[0] == kept[1] && kept[1] == kept[2], "what was changed is downloaded again");
}
