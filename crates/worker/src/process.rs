//! The worker as a process: what comes in, what stops it, how it ends.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use startline_client::{JobClient, LaunchClient, Options, Proxies, Retry, Transport};
use startline_protocol::job_message::JobMessage;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::archives::Archives;
use crate::board::Board;
use crate::console::Console;
use crate::input::{Connection, Control, Exit, LOG_FILE, WorkerInput};
use crate::job::{self, Host, Parts};
use crate::report::{Reporter, Sources};
use crate::spool::Spool;
use crate::stop::{Stop, raise};

/// The longest first line, a little more than the largest job message.
const LONGEST_INPUT: u64 = 64 * 1024 * 1024;

/// Reports must reach a service that is back within 5 s.
const RETRY: Retry =
    Retry { min_delay: Duration::from_millis(100), max_delay: Duration::from_millis(2_400), max_times: None };

/// Why the worker cannot begin.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("read the job from standard input: {0}")]
    Input(String),
    #[error("open `{}`: {cause}", path.display())]
    Spool { path: std::path::PathBuf, cause: std::io::Error },
    #[error("use the connection settings: {0}")]
    Connection(#[from] startline_client::Error),
}

/// Executes the job that `stdin` brings, and reports it; see [`crate::input`] for the contract.
///
/// `stdin` is read on a thread of its own, which may stay blocked in a read when this returns; so it should be the
/// last thing that a process does. Must be called within a tokio runtime with time and I/O.
pub async fn run_process(stdin: impl Read + Send + 'static) -> Exit {
    match begin_and_run(stdin).await {
        Ok(exit) => exit,
        Err(error) => {
            tracing::error!(%error, "the worker failed to begin");
            Exit::Failed
        }
    }
}

async fn begin_and_run(stdin: impl Read + Send + 'static) -> Result<Exit, Error> {
    let mut lines = read_lines(stdin)?;
    let line = lines.recv().await.ok_or_else(|| Error::Input("it ended before the first line".to_owned()))?;
    let mut input: WorkerInput = serde_json::from_slice(&line).map_err(|error| Error::Input(error.to_string()))?;
    drop(line);
    let missing = |what: &str| Error::Input(format!("the assignment has no {what}; it is no lease"));
    let message: JobMessage = *input.assignment.job_definition.take().ok_or_else(|| missing("job definition"))?;
    let token = input.assignment.job_token.take().ok_or_else(|| missing("job token"))?;
    let transport = transport(&input.connection)?;
    let launch = job::launch(&message, transport.clone(), token.clone());

    let log = input.job_dir.join(LOG_FILE);
    let opened = |cause| Error::Spool { path: log.clone(), cause };
    let (spool, length) = Spool::create(&log).map_err(opened)?;
    let mut console = Console::new(spool);
    console.masker.add(token.expose());
    let secrets = std::mem::take(&mut input.assignment.secrets);
    let named = secrets.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    job::mask_secrets(&mut console.masker, &message, named);
    let names = job::step_names(&message).iter().map(|name| console.masker.mask(name).into_owned()).collect();
    let (board, follow) = Board::new(names);
    let (finish, completion) = oneshot::channel();
    let client = JobClient::new(transport, input.assignment.urls.clone(), token)
        .with_retry(RETRY)
        .with_traceparent(message.traceparent());
    let sources = Sources { length, board: follow, completion };
    let reporter = Reporter::new(client, sources, &log).map_err(opened)?;

    let (stopper, stop) = watch::channel(Stop::Not);
    let done = CancellationToken::new();
    let tasks = TaskTracker::new();
    let minutes = input.assignment.timeout_minutes;
    let seconds = |minutes: u32| Duration::from_secs(u64::from(minutes) * 60);
    let limits = Limits { minutes, job: seconds(minutes), grace: seconds(message.cancel_timeout_minutes()) };
    let supervisor = supervise(lines, stopper.clone(), limits);
    let supervisor = tasks.spawn(done.clone().run_until_cancelled_owned(supervisor));
    let report = tasks.spawn({
        let mut stop = stop.clone();
        async move {
            let exit = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop == Stop::Abandon) => Exit::Failed,
                exit = reporter.run() => exit,
            };
            // Whoever no longer hears of the job does not want it to run either; at its end this changes nothing.
            raise(&stopper, Stop::Abandon);
            exit
        }
    });
    let parts = Parts { message, host: host(input, launch), secrets, console, board, stop, tasks: tasks.clone() };
    if let Some(completion) = Box::pin(job::run(parts)).await {
        // The reporter may have gone away first; its exit says why.
        let _ = finish.send(completion);
    } else {
        drop(finish);
    }
    let exit = report.await.unwrap_or(Exit::Failed);
    done.cancel();
    // It only waits, and was told to end.
    let _ = supervisor.await;
    Ok(exit)
}

/// Reads lines on a thread of its own, so that a read that never ends holds nobody up.
fn read_lines(stdin: impl Read + Send + 'static) -> Result<mpsc::Receiver<Vec<u8>>, Error> {
    // Control lines are few.
    let (sender, lines) = mpsc::channel(4);
    let read = move || {
        let mut stdin = BufReader::new(stdin);
        loop {
            let mut line = Vec::new();
            match (&mut stdin).take(LONGEST_INPUT).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.last() != Some(&b'\n') => return,
                Ok(_) => {}
            }
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("stdin".to_owned()).spawn(read);
    thread.map_err(|error| Error::Input(format!("cannot start a thread: {error}")))?;
    Ok(lines)
}

/// How long things may take.
struct Limits {
    /// The job's limit as it is shown.
    minutes: u32,
    /// The job's limit; zero is none.
    job: Duration,
    /// How long steps may still run after a cancel.
    grace: Duration,
}

/// Turns control lines, the end of the input and time into stops. Ends when there is nothing more to tell.
async fn supervise(mut lines: mpsc::Receiver<Vec<u8>>, stopper: watch::Sender<Stop>, limits: Limits) {
    let start = Instant::now();
    let mut limit = (!limits.job.is_zero()).then(|| start + limits.job);
    let mut grace: Option<Instant> = None;
    loop {
        let (stop, next_grace) = tokio::select! {
            line = lines.recv() => match line.map(|line| serde_json::from_slice::<Control>(&line)) {
                None => {
                    raise(&stopper, Stop::Abandon);
                    return;
                }
                Some(Ok(Control::Cancel { reason })) => (Stop::Cancel { reason, timed_out: false }, true),
                Some(Err(error)) => {
                    tracing::warn!(%error, "ignored a control line that cannot be understood");
                    continue;
                }
            },
            () = sleep_until(limit.unwrap_or(start)), if limit.is_some() => {
                limit = None;
                let minutes = limits.minutes;
                let plural = if minutes == 1 { "minute" } else { "minutes" };
                let reason = format!("The job has exceeded the maximum execution time of {minutes} {plural}.");
                (Stop::Cancel { reason, timed_out: true }, true)
            }
            () = sleep_until(grace.unwrap_or(start)), if grace.is_some() => {
                grace = None;
                (Stop::Now, false)
            }
        };
        raise(&stopper, stop);
        if next_grace {
            limit = None;
            grace = grace.or_else(|| Some(Instant::now() + limits.grace));
        }
    }
}

fn transport(connection: &Connection) -> Result<Transport, Error> {
    let proxies = Proxies {
        http: connection.http_proxy.clone(),
        https: connection.https_proxy.clone(),
        none: connection.no_proxy.clone(),
    };
    Ok(Transport::new(&Options { extra_ca: connection.extra_ca.clone(), proxies, ..Options::default() })?)
}

fn host(input: WorkerInput, launch: Option<LaunchClient>) -> Host {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Host {
        work_dir: absolute(&input.work_dir),
        job_dir: absolute(&input.job_dir),
        tool_cache: absolute(&input.tool_cache),
        archives: Archives::new(absolute(&input.archives)),
        node: input.node,
        container_cli: input.container_cli,
        launch,
        workspace_from: input.workspace_from,
        in_place: input.in_place,
        runner_name: input.runner_name,
        runner_os: input.runner_os,
        runner_arch: input.runner_arch,
        runner_environment: input.environment,
        environment: std::env::vars_os().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(300);

    fn lines(lines: &[&str]) -> (mpsc::Sender<Vec<u8>>, mpsc::Receiver<Vec<u8>>) {
        let (sender, receiver) = mpsc::channel(8);
        for line in lines {
            sender.try_send(line.as_bytes().to_vec()).unwrap();
        }
        (sender, receiver)
    }

    #[tokio::test]
    async fn a_job_that_runs_into_its_limit_is_cancelled_with_a_message_that_names_it() {
        let (_open, lines) = lines(&[]);
        let (stopper, mut stop) = watch::channel(Stop::Not);
        let supervise = supervise(lines, stopper, Limits { minutes: 30, job: Duration::from_millis(20), grace: GRACE });
        let stopped = tokio::select! {
            () = supervise => panic!("the supervisor ended"),
            stopped = stop.wait_for(|stop| *stop != Stop::Not) => stopped.unwrap().clone(),
        };
        let reason = "The job has exceeded the maximum execution time of 30 minutes.".to_owned();
        assert_eq!(stopped, Stop::Cancel { reason, timed_out: true });
    }

    #[tokio::test]
    async fn control_lines_cancel_nonsense_is_ignored_and_the_end_abandons() {
        let (sender, lines) = lines(&["nonsense\n", "{\"type\":\"cancel\",\"reason\":\"asked\"}\n"]);
        let (stopper, mut stop) = watch::channel(Stop::Not);
        let supervise = supervise(lines, stopper, Limits { minutes: 0, job: Duration::ZERO, grace: GRACE });
        tokio::pin!(supervise);
        let stopped = tokio::select! {
            () = &mut supervise => panic!("the supervisor ended"),
            stopped = stop.wait_for(|stop| *stop != Stop::Not) => stopped.unwrap().clone(),
        };
        assert_eq!(stopped, Stop::Cancel { reason: "asked".to_owned(), timed_out: false });
        drop(sender);
        supervise.await;
        assert_eq!(*stop.borrow(), Stop::Abandon);
    }

    #[tokio::test]
    async fn steps_that_run_on_after_a_cancel_are_stopped_when_their_grace_is_over() {
        let (_open, lines) = lines(&["{\"type\":\"cancel\",\"reason\":\"asked\"}\n"]);
        let (stopper, mut stop) = watch::channel(Stop::Not);
        let limits = Limits { minutes: 0, job: Duration::ZERO, grace: Duration::from_millis(20) };
        tokio::select! {
            () = supervise(lines, stopper, limits) => panic!("the supervisor ended"),
            stopped = stop.wait_for(Stop::is_final) => assert_eq!(*stopped.unwrap(), Stop::Now),
        }
    }
}
