//! `startline load`: what each scenario takes.

use clap::{Args, Subcommand};
use startline_server::Synchronous;

#[derive(Subcommand, Debug)]
pub(crate) enum LoadCommand {
    /// Park many polls, measure what they cost the service, and hand jobs out over them
    ///
    /// Each poll is a socket in this process and in the service, and both raise their limit of open files as far as
    /// they may (`ulimit -Hn`); with --http2 many polls share a socket.
    #[command(
        after_help = "Examples:\n  startline load polls --runners 10000 --jobs 1000\n  startline load polls --http2 --json"
    )]
    Polls(PollsArgs),
    /// Whole lives of jobs, as fast as they go: submitted, offered, acquired, renewed, completed
    ///
    /// Closed loop: a producer submits its next job when the last one was acknowledged, as long as no more than
    /// --queue jobs wait for a runner. Latencies are from the sending of the job. The first second is not measured.
    #[command(after_help = "Examples:\n  startline load lifecycle\n  \
                            startline load lifecycle --producers 64 --runners 256 --auto-acquire --renew false --json")]
    Lifecycle(LifecycleArgs),
    /// How long a job takes to a waiting runner, at a steady rate
    ///
    /// Open loop: jobs are sent on a schedule that nothing delays, and latencies count from the time at which each
    /// should have been sent, until its runner has read the answer to its poll. The first second is not measured.
    #[command(after_help = "Examples:\n  startline load dispatch --rate 500 --waiting 1000\n  \
                            startline load dispatch --waiting 10000 --auto-acquire --json")]
    Dispatch(DispatchArgs),
    /// A server that only parks requests, on bare hyper: what `load polls --compare-hyper` measures against
    #[command(hide = true)]
    BareHyper(BareHyperArgs),
}

// The service under load, and how to tell of it. (A doc comment would become the help of each scenario.)
#[derive(Args, Debug)]
pub(crate) struct SceneArgs {
    /// A service that runs already, at an http:// address, without limits on rates (--address-rate 0
    /// --failed-auth-rate 0 --bearer-rate 0) [default: start one]
    #[arg(long, value_name = "URL", requires = "token")]
    pub url: Option<String>,
    /// Its API token
    #[arg(long, env = "STARTLINE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Its process on this machine, to measure what it costs
    #[arg(long, value_name = "PID", requires = "url")]
    pub pid: Option<u32>,
    /// When a commit of the service that is started counts as durable [default: full]
    #[arg(long, value_name = "full|normal", conflicts_with = "url")]
    pub synchronous: Option<Synchronous>,
    /// Further argument of the service that is started, such as `--server-arg=--concurrency=0`; may be repeated
    #[arg(long = "server-arg", value_name = "ARG", conflicts_with = "url", allow_hyphen_values = true)]
    pub server_args: Vec<String>,
    /// Loopback addresses to connect from, 127.0.0.2 and following; each has some 28,000 ports [default: as many as
    /// the connections need]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub sources: Option<u32>,
    /// Write JSON to standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PollsArgs {
    /// Runners, each with one parked poll
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub runners: u32,
    /// Jobs to hand out
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub jobs: u32,
    /// Speak HTTP/2 instead of HTTP/1.1
    #[arg(long)]
    pub http2: bool,
    /// Polls that share a connection under --http2
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    pub streams: u32,
    /// Jobs in a run
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub batch: u32,
    /// Jobs a second [default: as fast as the service takes them]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Also park as many polls on a server of bare hyper, and give the ratio of memory
    #[arg(long)]
    pub compare_hyper: bool,
    #[command(flatten)]
    pub scene: SceneArgs,
}

#[derive(Args, Debug)]
pub(crate) struct LifecycleArgs {
    /// Who submits jobs, each on a connection of its own
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub producers: u32,
    /// Runners, each on a connection of its own
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runners: u32,
    /// Most jobs that are submitted and not yet offered to a runner
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub queue: u32,
    /// How long to measure
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Size of the script in a job's definition
    #[arg(long, default_value_t = 512, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub payload: u32,
    /// Take jobs in one step, as our own runner does, instead of an offer that is acquired
    #[arg(long)]
    pub auto_acquire: bool,
    /// Renew each lease once
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "true|false")]
    pub renew: bool,
    #[command(flatten)]
    pub scene: SceneArgs,
}

#[derive(Args, Debug)]
pub(crate) struct DispatchArgs {
    /// Jobs a second
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Runners with a parked poll
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub waiting: u32,
    /// How long to measure
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Size of the script in a job's definition
    #[arg(long, default_value_t = 512, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub payload: u32,
    /// Take jobs in one step, as our own runner does: the answer that is timed has the job's definition
    #[arg(long)]
    pub auto_acquire: bool,
    #[command(flatten)]
    pub scene: SceneArgs,
}

#[derive(Args, Debug)]
pub(crate) struct BareHyperArgs {
    /// Speak HTTP/2 instead of HTTP/1.1
    #[arg(long)]
    pub http2: bool,
}

impl SceneArgs {
    /// What `--synchronous` comes to.
    pub(crate) fn synchronous(&self) -> &'static str {
        match self.synchronous {
            None | Some(Synchronous::Full) => "full",
            Some(Synchronous::Normal) => "normal",
        }
    }
}
