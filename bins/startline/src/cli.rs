//! The command line.

mod admin;
mod life;
mod load;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use startline_protocol::ids::{JobId, RunId, RunnerId};

pub(crate) use self::admin::*;
pub(crate) use self::load::*;
use crate::connect::{Connect, Network};

/// Hands CI jobs to runners: GitHub Actions workflows on your own machines.
///
/// Try it on a laptop:       startline run examples/hello.yml
/// Or in three terminals:    startline server
///                           startline runner register && startline runner start
///                           startline submit examples/hello.yml --follow
#[derive(Parser, Debug)]
#[command(name = "startline", version, max_term_width = 100, verbatim_doc_comment)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a workflow file here and now: service, runner and run in one command
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Run the service
    #[command(after_help = "Example:\n  startline server --listen 127.0.0.1:7070 --data-dir /var/lib/startline")]
    Server(Box<ServerArgs>),
    /// Register, start and remove runners
    #[command(subcommand)]
    Runner(RunnerCommand),
    /// Mint, list and revoke tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Say which runners take whose jobs, and how many
    #[command(subcommand)]
    Group(GroupCommand),
    /// Set, list and delete secrets; their values are never shown
    #[command(subcommand)]
    Secret(ValueCommand),
    /// Set, list and delete configuration variables (`vars`)
    #[command(subcommand)]
    Variable(ValueCommand),
    /// Read, check and export the audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Submit a workflow file to a service
    #[command(after_help = "Example:\n  startline submit .github/workflows/ci.yml --follow")]
    Submit(Box<SubmitArgs>),
    /// Cancel a run
    #[command(after_help = "Example:\n  startline cancel 12")]
    Cancel(CancelArgs),
    /// Run again what has ended
    #[command(after_help = "Examples:\n  startline rerun 12 --follow\n  startline rerun 12 --failed")]
    Rerun(RerunArgs),
    /// List runs, or show one
    #[command(after_help = "Examples:\n  startline runs --limit 5\n  startline runs 12 --json")]
    Runs(RunsArgs),
    /// List jobs, show one, or tell why one waits
    #[command(after_help = "Examples:\n  startline jobs --status queued\n  startline jobs 34 --explain")]
    Jobs(JobsArgs),
    /// Show the log of a job
    #[command(after_help = "Example:\n  startline logs 34 --follow")]
    Logs(LogsArgs),
    /// List runners
    #[command(after_help = "Example:\n  startline runners --json")]
    Runners(ListArgs),
    /// Put a service under load, measure it, and check that it loses nothing
    ///
    /// Without --url a scenario starts a service of its own on loopback, with a data directory that goes with it and
    /// without limits on rates. The exit code is 1 when a job was lost, handed out twice or failed, or when any request
    /// did.
    #[command(subcommand)]
    Load(LoadCommand),
    /// Follow what happens, as it happens
    #[command(after_help = "Examples:\n  startline events\n  startline events --types run,job --json")]
    Events(EventsArgs),
    /// Print the document of the API (OpenAPI 3.1)
    #[command(hide = true)]
    Openapi,
    /// Execute one job, given on standard input (started by the runner)
    #[command(hide = true)]
    Worker,
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub server: startline_server::Args,
    #[command(subcommand)]
    pub service: Option<ServerCommand>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ServerCommand {
    /// Print a systemd unit that runs the service, hardened, and say how to install it
    #[command(after_help = "Example:\n  startline server service --config /etc/startline/server.toml \\\n      \
                            > /etc/systemd/system/startline-server.service")]
    Service(ServerServiceArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ServerServiceArgs {
    /// Who it runs as
    #[arg(long, default_value = "startline", value_name = "NAME")]
    pub user: String,
    /// Directory for everything that the service keeps
    #[arg(long, default_value = "/var/lib/startline", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// TOML file with settings
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What a run is made from.
#[derive(Args, Debug, Clone)]
pub(crate) struct Submission {
    /// The workflow file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only this job and the jobs it needs
    #[arg(long, value_name = "ID")]
    pub job: Option<String>,
    /// Event to run [default: `workflow_dispatch` if the workflow has it, else its first]
    #[arg(long, value_name = "NAME")]
    pub event: Option<String>,
    /// JSON file with the event's body (`github.event`)
    #[arg(long, visible_alias = "eventpath", value_name = "FILE")]
    pub event_file: Option<PathBuf>,
    /// Start nothing, and exit with 0, unless the event starts the workflow by its types and filters
    #[arg(long)]
    pub if_triggered: bool,
    /// File that the event changed, for filters on paths; may be repeated
    #[arg(long = "changed", value_name = "PATH", requires = "if_triggered")]
    pub changed: Vec<String>,
    /// Input of `workflow_dispatch`; may be repeated
    #[arg(long = "input", value_name = "KEY=VALUE")]
    pub inputs: Vec<String>,
    /// File with inputs, a line `NAME=value` each; may be repeated [default of `run`: .input, if there is one]
    #[arg(long = "input-file", value_name = "FILE")]
    pub input_files: Vec<PathBuf>,
    /// Secret; NAME alone takes the value from the environment variable of that name, else asks for it on a terminal,
    /// which keeps it out of the process list; may be repeated
    #[arg(long = "secret", value_name = "NAME[=VALUE]")]
    pub secrets: Vec<String>,
    /// File with secrets, a line `NAME=value` each; may be repeated [default of `run`: .secrets, if there is one]
    #[arg(long = "secret-file", value_name = "FILE")]
    pub secret_files: Vec<PathBuf>,
    /// Configuration variable (`vars`); may be repeated
    #[arg(long = "var", value_name = "KEY=VALUE")]
    pub variables: Vec<String>,
    /// File with configuration variables; may be repeated [default of `run`: .vars, if there is one]
    #[arg(long = "var-file", value_name = "FILE")]
    pub var_files: Vec<PathBuf>,
    /// Environment variable for every step, over the workflow's own; may be repeated
    #[arg(long = "env", value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// File with environment variables for every step; may be repeated [default of `run`: .env, if there is one]
    #[arg(long = "env-file", value_name = "FILE")]
    pub env_files: Vec<PathBuf>,
    /// Only matrix combinations with this value; may be repeated
    #[arg(long = "matrix", value_name = "KEY=VALUE")]
    pub matrix: Vec<String>,
    /// Repository name (`owner/name`) [default: local/DIRECTORY]
    #[arg(long, value_name = "OWNER/NAME")]
    pub repository: Option<String>,
}

const RUN_EXAMPLES: &str = "\
Examples:
  startline run .github/workflows/ci.yml
      runs the workflow in a copy of the work tree, as it is now
  startline run .github/workflows/ci.yml --dry-run
      says what would run, and why not the rest
  startline run .github/workflows/ci.yml --job test --matrix os=ubuntu-latest
      runs one job, with what it needs, and of its matrix one combination
  startline run .github/workflows/ci.yml --watch
      runs again whenever a file changes that git does not ignore
  startline run .github/workflows/ci.yml --secret NPM_TOKEN --secret-file ~/.ci-secrets
      takes a secret from the environment (or asks for it) and others from a file
  startline run .github/workflows/ci.yml --event pull_request --event-file pr.json
      runs what a pull request starts, with its body as GitHub sends it
  startline run .github/workflows/release.yml --input version=1.2.3 --in-place
      dispatches it with an input, and lets it change the work tree

Files with these names in the root of the work tree are read, unless others are named: .env, .secrets, .vars, .input.
Flags win over files.";

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub submission: Submission,
    /// Work in a copy of the work tree, one for each job, as it is now; the default
    #[arg(long, conflicts_with = "in_place")]
    pub copy: bool,
    /// Work in the work tree itself: jobs may change and delete everything in it, ignored files too. Refused unless
    /// everything is committed
    #[arg(long)]
    pub in_place: bool,
    /// Work in the work tree even though git could not bring back what is lost in it
    #[arg(long, requires = "in_place")]
    pub allow_dirty: bool,
    /// Run again whenever files change, until Ctrl-C
    #[arg(long, short, conflicts_with = "look")]
    pub watch: bool,
    /// How many jobs may run at the same time [default: the number of cores; 1 with --in-place]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub parallel: Option<u32>,
    /// Program that runs JavaScript actions [default: `node` on PATH]
    #[arg(long, env = "STARTLINE_NODE", value_name = "FILE")]
    pub node: Option<PathBuf>,
    /// Directory of tools (`runner.tool_cache`) [default: kept in the user's cache directory]
    #[arg(long, env = "RUNNER_TOOL_CACHE", value_name = "DIR")]
    pub tool_cache: Option<PathBuf>,
    /// Program that runs containers [default: the first of `docker` and `podman` on PATH that answers]
    #[arg(long, env = "STARTLINE_CONTAINER_CLI", value_name = "FILE")]
    pub container_cli: Option<PathBuf>,
    #[command(flatten)]
    pub actions: startline_server::ActionsArgs,
    /// List the jobs of the file, and run nothing
    #[arg(long, group = "look")]
    pub list: bool,
    /// Show which jobs wait for which, and run nothing
    #[arg(long, group = "look")]
    pub graph: bool,
    /// Say what would run, what would not, and why, as far as that is known before anything has run; run nothing
    #[arg(long, group = "look")]
    pub dry_run: bool,
    /// Keep the data directory and the workspaces, and say where they are
    #[arg(long)]
    pub keep: bool,
    /// Write events and the final state as JSON lines to standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub submission: Submission,
    #[command(flatten)]
    pub connect: Connect,
    /// Show the logs until the run ends, and exit as it does
    #[arg(long, short)]
    pub follow: bool,
    /// Write JSON to standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CancelArgs {
    /// The run
    pub run: RunId,
    #[command(flatten)]
    pub connect: Connect,
}

#[derive(Args, Debug)]
pub(crate) struct RerunArgs {
    /// The run
    pub run: RunId,
    /// Only jobs that failed or were cancelled, and those that need them
    #[arg(long)]
    pub failed: bool,
    #[command(flatten)]
    pub connect: Connect,
    /// Show the logs until the run ends, and exit as it does
    #[arg(long, short)]
    pub follow: bool,
    /// Write JSON to standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub connect: Connect,
    /// Write JSON to standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RunsArgs {
    /// Show this run with its jobs
    pub run: Option<RunId>,
    /// At most so many
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub limit: u32,
    /// Go on where an earlier listing ended
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Args, Debug)]
pub(crate) struct JobsArgs {
    /// Show this job with its steps
    pub job: Option<JobId>,
    /// Tell why the job waits
    #[arg(long, requires = "job")]
    pub explain: bool,
    /// Only jobs in this state: waiting, queued, offered, running, completed
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub limit: u32,
    /// Go on where an earlier listing ended
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Args, Debug)]
pub(crate) struct LogsArgs {
    /// The job
    pub job: JobId,
    /// Go on until the job ends
    #[arg(long, short)]
    pub follow: bool,
    /// The log as it is stored, with time stamps
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
    /// Attempt [default: the last]
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Args, Debug)]
pub(crate) struct EventsArgs {
    /// Only events of this kind: runner, job, run, log; several separated by commas [default: all]
    #[arg(long, value_name = "TYPE", value_delimiter = ',', value_parser = ["runner", "job", "run", "log"])]
    pub types: Vec<String>,
    /// Only events of this run
    #[arg(long, value_name = "RUN")]
    pub run: Option<RunId>,
    /// Only events of this repository
    #[arg(long, value_name = "OWNER/NAME")]
    pub repository: Option<String>,
    /// Begin behind the event with this sequence number [default: from now on]
    #[arg(long, value_name = "SEQUENCE")]
    pub after: Option<u64>,
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Subcommand, Debug)]
pub(crate) enum RunnerCommand {
    /// Register this machine with a service; on a terminal and without a token it asks
    #[command(
        after_help = "Examples:\n  startline runner register\n  STARTLINE_TOKEN=slr_… startline runner register --url https://ci.example.com \\\n      \
                            --name build-1 --label self-hosted --label linux"
    )]
    Register(Box<RegisterArgs>),
    /// Take jobs until stopped; the first Ctrl-C lets jobs finish, the second cancels them
    #[command(after_help = "Example:\n  startline runner start --dir /var/lib/startline-runner")]
    Start(StartArgs),
    /// Remove a registration
    #[command(
        after_help = "Examples:\n  startline runner remove --dir /var/lib/startline-runner\n  startline runner remove 7 --force"
    )]
    Remove(RemoveArgs),
    /// Print a systemd unit that runs the runner, hardened, and say how to install it
    #[command(after_help = "Example:\n  startline runner service --dir /var/lib/startline-runner \\\n      \
                            > /etc/systemd/system/startline-runner.service")]
    Service(RunnerServiceArgs),
}

/// Where a runner keeps its registration and works.
#[derive(Args, Debug, Clone)]
pub(crate) struct RunnerDir {
    /// Directory of the runner: registration, workspaces, tools
    #[arg(long, env = "STARTLINE_RUNNER_DIR", default_value = "startline-runner", value_name = "DIR")]
    pub dir: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct RegisterArgs {
    /// The service's address [default: <http://127.0.0.1:7070>]
    #[arg(long, env = "STARTLINE_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Registration token (`slr_…`), or an API token (`slp_…`), which is used once to mint one
    ///
    /// Without a token, on a terminal, you are asked for everything that is not given. Prefer `STARTLINE_TOKEN` or
    /// --token-file: a flag can be read by every user of the machine.
    #[arg(long, env = "STARTLINE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// File that holds the token
    #[arg(long, env = "STARTLINE_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// Name [default: the machine's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Label; may be repeated [default: self-hosted, the system and the architecture]
    #[arg(long = "label", value_name = "LABEL")]
    pub labels: Vec<String>,
    /// Take one job and go
    #[arg(long)]
    pub ephemeral: bool,
    /// Take the name over from an earlier registration
    #[arg(long)]
    pub replace: bool,
    /// How many jobs to take at once [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub parallel: Option<u32>,
    /// Ask nothing; what is not given takes its default
    #[arg(long, short)]
    pub yes: bool,
    #[command(flatten)]
    pub place: RunnerDir,
    #[command(flatten)]
    pub network: Network,
    /// Write JSON to standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RunnerServiceArgs {
    /// Who it runs as; jobs run as this user too
    #[arg(long, default_value = "startline-runner", value_name = "NAME")]
    pub user: String,
    #[command(flatten)]
    pub place: RunnerDir,
    #[command(flatten)]
    pub network: Network,
}

#[derive(Args, Debug)]
pub(crate) struct StartArgs {
    #[command(flatten)]
    pub place: RunnerDir,
    /// Copy this directory's files into each job's workspace
    #[arg(long, value_name = "DIR")]
    pub workspace_from: Option<PathBuf>,
    /// Program that runs JavaScript actions [default: `node` on PATH]
    #[arg(long, env = "STARTLINE_NODE", value_name = "FILE")]
    pub node: Option<PathBuf>,
    /// Directory of tools (`runner.tool_cache`) [default: `_work/_tool` in the runner's directory]
    #[arg(long, env = "RUNNER_TOOL_CACHE", value_name = "DIR")]
    pub tool_cache: Option<PathBuf>,
    /// Program that runs containers [default: the first of `docker` and `podman` on PATH that answers]
    #[arg(long, env = "STARTLINE_CONTAINER_CLI", value_name = "FILE")]
    pub container_cli: Option<PathBuf>,
    /// Log lines as JSON
    #[arg(long, env = "STARTLINE_LOG_FORMAT", default_value = "text", value_name = "text|json")]
    pub log_format: startline_daemon::LogFormat,
    /// Log filter, such as `info` or `startline_runner=debug`
    #[arg(long, env = "STARTLINE_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    #[command(flatten)]
    pub network: Network,
}

#[derive(Args, Debug)]
pub(crate) struct RemoveArgs {
    /// Remove this runner with an API token, instead of the one in --dir with its own
    #[arg(value_name = "RUNNER")]
    pub runner: Option<RunnerId>,
    /// Also when it holds a job, which then follows the lost-runner policy
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub place: RunnerDir,
    #[command(flatten)]
    pub connect: Connect,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_has_an_example_that_is_a_command() {
        let mut open = vec![(String::from("startline"), super::Cli::command())];
        while let Some((path, command)) = open.pop() {
            if command.has_subcommands() {
                let visible = command.get_subcommands().filter(|inner| !inner.is_hide_set());
                open.extend(visible.map(|inner| (format!("{path} {}", inner.get_name()), inner.clone())));
                continue;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Example"), "{path}: {help:?}");
            assert!(help.contains(&path), "{path} is not in its own example: {help}");
        }
    }
}
