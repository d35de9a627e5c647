//! `actions/checkout` without the action: in a local run the repository's files are here already, and where the action
//! cannot be had, git alone does what it does.
//!
//! Inputs: actions/checkout `action.yml`. See `docs/decisions/026-checkout-without-the-action.md`.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use super::Job;
use super::action::{Remote, below};
use super::output::Listener;
use super::script::{SearchPath, explain_spawn};
use super::services::endpoint;
use super::step::{Frame, Left, Ran, Stage, Step};
use crate::child::{Child, Spec};
use crate::environment::{Environment, lookup};
use crate::shell::which;

const REMEDY: &str = "; let the service have the action (--actions-dir, --actions-mirror) for what only that can do";

/// Who serves a step that asks for `actions/checkout`.
pub(super) enum Served {
    /// The action itself.
    Action,
    /// The worker, from the files that the run was started from.
    Files(PathBuf),
    /// The worker, by git.
    Git,
}

/// What a step asks of a checkout.
struct Wanted {
    repository: String,
    /// Branch, tag or commit; what the run is about where it is empty.
    git_ref: String,
    directory: PathBuf,
    clean: bool,
    depth: u32,
    token: String,
    persist: bool,
}

impl Remote {
    pub(super) fn is_checkout(&self) -> bool {
        self.path.is_empty() && self.name.eq_ignore_ascii_case("actions/checkout")
    }
}

impl Job {
    /// Who serves a step that uses `actions/checkout` with these inputs.
    pub(super) async fn who_checks_out(
        &mut self,
        frame: &Frame,
        step: &Step,
        remote: &Remote,
        given: &[(String, String)],
    ) -> Result<Served, String> {
        if frame.stage == Stage::Post {
            let own = self.actions.checkouts.contains_key(&frame.use_of(step));
            return Ok(if own { Served::Git } else { Served::Action });
        }
        if let Some(from) = self.host.workspace_from.clone() {
            self.spare_the_tree(given)?;
            if self.asks_for_this_run(given) {
                return Ok(Served::Files(from));
            }
            // Only now is it known that the action is needed.
            self.prepare_actions(frame.record, vec![remote.clone()], frame.depth()).await?;
        }
        Ok(if self.actions.loaded(remote).is_some() { Served::Action } else { Served::Git })
    }

    /// Refuses a checkout that would replace files of a work tree in which the job runs: they may be nowhere else.
    fn spare_the_tree(&self, given: &[(String, String)]) -> Result<(), String> {
        let directory = self.checkout_directory(input(given, "path"))?;
        let is_workspace = directory == self.directories.workspace;
        let harmless = if is_workspace { self.asks_for_this_run(given) } else { directory.symlink_metadata().is_err() };
        if !self.host.in_place || harmless {
            return Ok(());
        }
        Err(format!(
            "the checkout would replace what is in `{}`, and the job runs in your files themselves: give it a `path` that \
             does not exist, or run without --in-place",
            directory.display()
        ))
    }

    /// Whether a checkout asks for the files that the run is about.
    fn asks_for_this_run(&self, given: &[(String, String)]) -> bool {
        let github = |name| self.message.github(name).unwrap_or_default();
        let (repository, git_ref) = (input(given, "repository"), input(given, "ref"));
        let own = repository.is_empty() || repository.eq_ignore_ascii_case(github("repository"));
        own && (git_ref.is_empty() || ["ref", "ref_name", "sha"].iter().any(|name| github(name) == git_ref))
    }

    /// Serves a checkout from the files that the run was started from.
    pub(super) async fn check_out_files(&mut self, from: &Path, given: &[(String, String)]) -> Result<Left, String> {
        let directory = self.checkout_directory(input(given, "path"))?;
        if directory == self.directories.workspace {
            let message = format!("The workspace has the files of {} already; nothing is fetched.", from.display());
            self.console.write(&message);
        } else {
            let files = self.copy_files(from, &directory).await?;
            self.console.write(&format!("Copied {files} files to {}; nothing is fetched.", directory.display()));
        }
        if !self.host.in_place {
            self.console.write("They are the work tree as it is, without .git.");
        }
        Ok(Left { ran: Ran::Success, outputs: self.checked_out("ref", "sha") })
    }

    fn checked_out(&self, git_ref: &str, commit: &str) -> Vec<(String, String)> {
        let github = |name| self.message.github(name).unwrap_or_default().to_owned();
        vec![("ref".to_owned(), github(git_ref)), ("commit".to_owned(), github(commit))]
    }

    /// Serves a checkout by git, or takes its credentials away after the job's steps.
    pub(super) async fn check_out_by_git(
        &mut self,
        frame: &Frame,
        step: &Step,
        environment: &Environment,
        given: &[(String, String)],
    ) -> Result<Left, String> {
        let used = frame.use_of(step);
        let server = self.message.github("server_url").unwrap_or_default().trim_end_matches('/').to_owned();
        let setting = format!("http.{server}/.extraheader");
        let mut git = Git { job: self, frame, step, environment, variables: Vec::new() };
        if frame.stage == Stage::Post {
            let Some(directory) = git.job.actions.checkouts.remove(&used) else {
                return Ok(Left { ran: Ran::Success, outputs: Vec::new() });
            };
            if directory.join(".git").exists() {
                git.run(&directory, &["config", "--local", "--unset-all", &setting]).await?;
            }
            return Ok(Left { ran: Ran::Success, outputs: Vec::new() });
        }
        let wanted = git.job.wanted(given)?;
        let url = format!("{server}/{}", wanted.repository);
        git.job.console.write(&format!("actions/checkout cannot be had here; git fetches {url} instead."));
        // In the environment, where no other user and no later step sees it.
        if let Some(header) = git.job.credentials(&server, &wanted.token) {
            git.variables = vec![(setting.clone(), header)];
        }
        let directory = wanted.directory.clone();
        git.make_repository(&directory, &url, &setting, wanted.clean).await?;
        git.fetch(&directory, &wanted).await.map_err(|error| {
            format!("{error}: is {url} a repository that the job may read? See --repositories-dir and --git-url of the service")
        })?;
        if let Some((_, header)) = git.variables.first().filter(|_| wanted.persist).cloned() {
            git.job.actions.checkouts.insert(used, directory.clone());
            git.job.register_post(frame, step);
            // Never in the arguments of a process, which everybody can read.
            let set = format!("[http \"{server}/\"]\n\textraheader = {header}\n");
            append(&directory.join(".git/config"), &set)?;
        }
        let commit = std::fs::read_to_string(directory.join(".git/FETCH_HEAD")).unwrap_or_default();
        let commit = commit.split_whitespace().next().unwrap_or_default().to_owned();
        let git_ref = match (wanted.git_ref.is_empty(), self.asks_for_this_run(given)) {
            (true, true) => self.message.github("ref").unwrap_or_default().to_owned(),
            _ => wanted.git_ref,
        };
        Ok(Left { ran: Ran::Success, outputs: vec![("ref".to_owned(), git_ref), ("commit".to_owned(), commit)] })
    }

    fn wanted(&self, given: &[(String, String)]) -> Result<Wanted, String> {
        for (name, off) in
            [("submodules", "false"), ("lfs", "false"), ("ssh-key", ""), ("sparse-checkout", ""), ("filter", "")]
        {
            let value = input(given, name);
            if !value.is_empty() && !value.eq_ignore_ascii_case(off) {
                return Err(format!("`{name}` is not supported by the checkout that the runner itself does{REMEDY}"));
            }
        }
        let github = |name| self.message.github(name).unwrap_or_default().to_owned();
        let or = |name: &str, default: String| match input(given, name) {
            "" => default,
            value => value.to_owned(),
        };
        let repository = or("repository", github("repository"));
        let plain = |part: &str| {
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !part.is_empty() && part != "." && part != ".." && part.chars().all(legal)
        };
        if !repository.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name)) {
            return Err(format!("`repository` is `{repository}`; it must be `owner/name`"));
        }
        let depth = or("fetch-depth", "1".to_owned());
        let depth =
            depth.parse().map_err(|_| format!("`fetch-depth` is `{depth}`; it must be a number, 0 for everything"))?;
        let git_ref = or("ref", String::new());
        if git_ref.starts_with('-') || git_ref.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':') {
            return Err(format!("`ref` is `{git_ref}`, which is no branch, tag or commit"));
        }
        let token = self.contexts.github.get("token").map(|token| token.to_text().into_owned());
        Ok(Wanted {
            directory: self.checkout_directory(input(given, "path"))?,
            clean: !input(given, "clean").eq_ignore_ascii_case("false"),
            persist: !input(given, "persist-credentials").eq_ignore_ascii_case("false"),
            token: or("token", token.unwrap_or_default()),
            repository,
            git_ref,
            depth,
        })
    }

    fn checkout_directory(&self, path: &str) -> Result<PathBuf, String> {
        let path = path.trim_start_matches("./");
        if path.is_empty() || path == "." {
            return Ok(self.directories.workspace.clone());
        }
        below(Path::new(path))
            .map(|path| self.directories.workspace.join(path))
            .ok_or_else(|| format!("`path` is `{path}`, which is not below the workspace"))
    }

    /// The header that opens the forge. The job's own token is shown to nobody but its service.
    fn credentials(&mut self, server: &str, token: &str) -> Option<String> {
        let (endpoint, own) = endpoint(&self.message).unzip();
        let is_own = own == Some(token);
        let at_home = endpoint.is_some_and(|endpoint| endpoint.url.trim_end_matches('/') == server);
        if token.is_empty() || (is_own && !at_home) {
            return None;
        }
        let basic = STANDARD.encode(format!("x-access-token:{token}"));
        self.console.masker.add(&basic);
        Some(format!("AUTHORIZATION: basic {basic}"))
    }
}

/// Runs git for one step.
struct Git<'a> {
    job: &'a mut Job,
    frame: &'a Frame,
    step: &'a Step,
    environment: &'a Environment,
    /// Settings that are in no file.
    variables: Vec<(String, String)>,
}

impl Git<'_> {
    /// Makes the directory an empty repository, or tidies the one of the same address that is there.
    async fn make_repository(&mut self, directory: &Path, url: &str, setting: &str, clean: bool) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot clear `{}`: {error}", directory.display());
        std::fs::create_dir_all(directory).map_err(failed)?;
        let config = std::fs::read_to_string(directory.join(".git/config")).unwrap_or_default();
        if config.lines().any(|line| line.trim() == format!("url = {url}")) {
            // Of a job whose `post` never ran.
            if config.to_ascii_lowercase().contains("extraheader") {
                self.run(directory, &["config", "--local", "--unset-all", setting]).await?;
            }
            if clean {
                self.run(directory, &["clean", "-ffdx"]).await?;
                self.run(directory, &["reset", "--quiet", "--hard"]).await?;
            }
            return Ok(());
        }
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed =
                if folder { std::fs::remove_dir_all(entry.path()) } else { std::fs::remove_file(entry.path()) };
            removed.map_err(failed)?;
        }
        self.run(directory, &["init", "--quiet"]).await?;
        self.run(directory, &["remote", "add", "origin", url]).await
    }

    async fn fetch(&mut self, directory: &Path, wanted: &Wanted) -> Result<(), String> {
        let github = |name| self.job.message.github(name).unwrap_or_default().to_owned();
        let own = wanted.repository.eq_ignore_ascii_case(&github("repository"));
        let (sha, git_ref) = (github("sha"), github("ref"));
        let is_commit = |text: &str| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let zero = sha.bytes().all(|byte| byte == b'0');
        let (what, branch) = match wanted.git_ref.as_str() {
            "" if own && is_commit(&sha) && !zero => (sha, git_ref.strip_prefix("refs/heads/").map(str::to_owned)),
            "" if own => (git_ref.clone(), git_ref.strip_prefix("refs/heads/").map(str::to_owned)),
            "" => ("HEAD".to_owned(), None),
            given => (given.to_owned(), given.strip_prefix("refs/heads/").map(str::to_owned)),
        };
        let depth = format!("--depth={}", wanted.depth);
        let mut arguments = vec!["fetch", "--quiet", "--prune", "--no-recurse-submodules"];
        if wanted.depth == 0 {
            let all = "+refs/heads/*:refs/remotes/origin/*";
            self.run(directory, &["fetch", "--quiet", "--prune", "--tags", "--no-recurse-submodules", "origin", all])
                .await?;
        } else {
            arguments.extend(["--no-tags", &depth]);
        }
        arguments.extend(["origin", &what]);
        self.run(directory, &arguments).await?;
        match branch.or_else(|| fetched_branch(directory, &what)) {
            Some(branch) => {
                // As the action leaves it, so that later steps can push and pull (`ref-helper.ts`).
                let tracked = format!("refs/remotes/origin/{branch}");
                self.run(directory, &["update-ref", &tracked, "FETCH_HEAD"]).await?;
                self.run(directory, &["checkout", "--quiet", "--force", "-B", &branch, &tracked]).await?;
            }
            None => self.run(directory, &["checkout", "--quiet", "--force", "--detach", "FETCH_HEAD"]).await?,
        }
        self.run(directory, &["log", "-1", "--format=%H %s"]).await
    }

    async fn run(&mut self, directory: &Path, arguments: &[&str]) -> Result<(), String> {
        let Self { job, frame, step, environment, variables } = self;
        job.console.write(&format!("[command]git {}", arguments.join(" ")));
        let mut all = job.process_environment(environment, &job.github(frame, Some(step)), SearchPath::Host);
        all.set("GIT_TERMINAL_PROMPT", "0");
        all.set("GIT_CONFIG_COUNT", (variables.len() + 1).to_string());
        // The directory's owner need not be the runner's user.
        all.set("GIT_CONFIG_KEY_0", "safe.directory");
        all.set("GIT_CONFIG_VALUE_0", "*");
        for (number, (key, value)) in (1..).zip(variables.iter()) {
            all.set(format!("GIT_CONFIG_KEY_{number}"), key.as_str());
            all.set(format!("GIT_CONFIG_VALUE_{number}"), value.as_str());
        }
        let all = all.over(&job.host.environment);
        let program = which("git", lookup(&all, "PATH").unwrap_or_default())
            .ok_or("the runner needs `git` to check a repository out; install it where it is on the PATH")?;
        let spec = Spec {
            program,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            directory: directory.to_owned(),
            environment: all,
            input: None,
        };
        let child = Child::spawn(&spec, &job.tasks).map_err(|error| explain_spawn(&spec.program, &error))?;
        let mut listener = Listener::new(frame.record, environment);
        // What a repository says is no command to the worker.
        listener.stop_token = Some(Uuid::new_v4().to_string());
        let (ran, exit) = job.attend(frame, step, environment, child, &mut listener).await;
        match ran {
            Ran::Success => Ok(()),
            Ran::Failure => {
                let exit = exit.unwrap_or_default();
                Err(format!("git {} failed: {}", arguments[0], exit.trim_end_matches('.')))
            }
            Ran::Cancelled => Err("the job is being cancelled".to_owned()),
            Ran::TimedOut => Err("the time of the step is over".to_owned()),
        }
    }
}

/// The name of what was fetched, if it is a branch's: git notes beside the commit what it is.
fn fetched_branch(directory: &Path, name: &str) -> Option<String> {
    let heads = std::fs::read_to_string(directory.join(".git/FETCH_HEAD")).ok()?;
    let kind = heads.lines().next()?.split('\t').nth(2)?;
    kind.starts_with(&format!("branch '{name}' of ")).then(|| name.to_owned())
}

fn input<'a>(given: &'a [(String, String)], name: &str) -> &'a str {
    given.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
}

fn append(file: &Path, text: &str) -> Result<(), String> {
    use std::io::Write as _;
    let written =
        std::fs::OpenOptions::new().append(true).open(file).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| format!("cannot write `{}`: {error}", file.display()))
}
