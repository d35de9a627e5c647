//! `startline load`: what each scenario takes.

use clap::{Args, Subcommand};
use startline_daemon::config::Size;
use startline_server::Synchronous;

#[derive(Subcommand, Debug)]
pub(crate) enum LoadCommand {
    /// Park many polls, measure what they cost the service, and hand jobs out over them
    ///
    /// Each poll is a socket in this process and in the service, and both raise their limit of open files as far as
    /// they may (`ulimit -Hn`); with --http2 many polls share a socket, and --servers and --processes divide them.
    /// Open loop: latencies count from the time at which a job should have been sent.
    #[command(after_help = "Examples:\n  startline load polls --runners 10000 --jobs 1000\n  \
                            startline load polls --runners 100000 --http2 --idle-seconds 60 --json\n  \
                            startline load polls --runners 100000 --servers 6 --processes 6")]
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
    /// All jobs at once onto waiting runners: no runner may idle beside a job that it could have
    ///
    /// Counted is until all are delivered. Told exactly from what runners saw and the service says: the longest time for
    /// which a job was queued while a runner was idle. More than a second is an error.
    #[command(after_help = "Examples:\n  startline load burst --jobs 1000 --runners 1000\n  \
                            startline load burst --jobs 100 --runners 60 --job-ms 100\n  \
                            startline load burst --jobs 10000 --runners 10000 --job-ms 0 --json")]
    Burst(BurstArgs),
    /// Signs of life and lease renewals, as fast as they go, beside the cheapest answer of the same service
    ///
    /// `GET /healthz`, heartbeats and renewals take turns on the same connections; each kind is told with what it costs
    /// the service, and its rate as a part of that of `/healthz`.
    #[command(after_help = "Example:\n  startline load renewals --connections 64 --seconds 12")]
    Renewals(RenewalsArgs),
    /// Jobs at a steady rate, while other runners wait and leases are renewed
    #[command(after_help = "Examples:\n  startline load mixed --rate 500 --parked 10000 --renewals 1000\n  \
                            startline load mixed --rate 2000 --seconds 60 --json")]
    Mixed(MixedArgs),
    /// Runners that register, as fast as it goes
    #[command(after_help = "Example:\n  startline load registrations --count 10000 --connections 32")]
    Registrations(RegistrationsArgs),
    /// Jobs that write logs, as fast as they are taken; afterwards every byte is read back and compared
    #[command(after_help = "Example:\n  startline load logs --streams 8 --bytes 1GiB")]
    Logs(LogsLoadArgs),
    /// What it costs to take a job from behind a long queue, what the queue costs, and a start with it
    ///
    /// The jobs in front ask for 63 sets of labels that no polling runner has. A claim is a poll that finds a job, and the
    /// job's completion.
    #[command(after_help = "Examples:\n  startline load depth\n  startline load depth --queued 1000,1000000 --json")]
    Depth(DepthArgs),
    /// The polls of `load polls --processes`; started by that
    #[command(hide = true)]
    Park,
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
    /// How many seconds to wait at most until the service does nothing by itself, before it is measured
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=600))]
    pub settle: u64,
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
    /// Jobs a second
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Size of the script in a job's definition
    #[arg(long, default_value_t = 512, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub payload: u32,
    /// Take jobs in one step, as our own runner does
    #[arg(long)]
    pub auto_acquire: bool,
    /// Services to start, among which the runners are divided; each may have as many connections as a process may
    #[arg(long, default_value_t = 1, value_name = "N", conflicts_with = "url",
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub servers: u32,
    /// Processes that poll, among which the runners are divided; 1 is this one
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub processes: u32,
    /// How long to leave the parked polls alone, to see what that costs the service
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub idle_seconds: u64,
    /// Also park as many polls on a server of bare hyper, and give the ratio of memory
    #[arg(long)]
    pub compare_hyper: bool,
    #[command(flatten)]
    pub scene: SceneArgs,
}

/// What is measured of jobs that are submitted one by one.
#[derive(Args, Debug)]
pub(crate) struct MeasuredArgs {
    /// How long to measure
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Size of the script in a job's definition
    #[arg(long, default_value_t = 512, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub payload: u32,
    /// Take jobs in one step, as our own runner does, instead of an offer that is acquired: the answer that is timed has the
    /// job's definition
    #[arg(long)]
    pub auto_acquire: bool,
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
    #[command(flatten)]
    pub measured: MeasuredArgs,
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
    #[command(flatten)]
    pub measured: MeasuredArgs,
    #[command(flatten)]
    pub scene: SceneArgs,
}

#[derive(Args, Debug)]
pub(crate) struct BurstArgs {
    /// Jobs
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub jobs: u32,
    /// Runners with a parked poll
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runners: u32,
    /// How long a job runs
    #[arg(long, default_value_t = 100, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=600_000))]
    pub job_ms: u64,
    /// Take jobs in one step, as our own runner does
    #[arg(long)]
    pub auto_acquire: bool,
    #[command(flatten)]
    pub scene: SceneArgs,
}

#[derive(Args, Debug)]
pub(crate) struct RenewalsArgs {
    /// Connections, each with a runner that holds one job
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// How long to measure, a third of it each kind
    #[arg(long, default_value_t = 12, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    #[command(flatten)]
    pub scene: SceneArgs,
}

#[derive(Args, Debug)]
pub(crate) struct MixedArgs {
    /// Jobs a second
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Runners that take them
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub runners: u32,
    /// Further runners whose polls stay parked
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub parked: u32,
    /// Lease renewals a second
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub renewals: u32,
    #[command(flatten)]
    pub measured: MeasuredArgs,
    #[command(flatten)]
    pub scene: SceneArgs,
}

#[derive(Args, Debug)]
pub(crate) struct RegistrationsArgs {
    /// Runners
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: u32,
    /// Connections
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    #[command(flatten)]
    pub scene: SceneArgs,
}

#[derive(Args, Debug)]
pub(crate) struct LogsLoadArgs {
    /// Jobs that write at once
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub streams: u32,
    /// How much all of them write together, in pieces of 512 KiB
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    pub bytes: Size,
    /// Stop writing after so many seconds, however much there was
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    #[command(flatten)]
    pub scene: SceneArgs,
}

#[derive(Args, Debug)]
pub(crate) struct DepthArgs {
    /// Jobs in the queue, at each measurement; rounded up to runs of 256
    #[arg(long, default_value = "1000,100000", value_delimiter = ',', value_name = "N,…", num_args = 1..,
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub queued: Vec<u32>,
    /// Jobs that are taken at each
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub claims: u32,
    /// Runners that take them
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub runners: u32,
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
