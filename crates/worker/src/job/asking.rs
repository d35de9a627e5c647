//! The container engine as a job uses it: found when it is first needed, its commands and what it says in the log.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Job;
use super::hooks::CONTAINER_HOOKS;
use super::step::Frame;
use crate::child::{Child, Event, Stream};
use crate::container::arguments::Command;
use crate::container::engine::Engine;
use crate::container::leftovers;
use crate::lines::Lines;
use crate::stop::Stop;

/// How often something is tried that needs a network.
const TRIES: u32 = 3;

/// Between the tries.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// How long a command may take that takes away what the job has made.
const CLEAN_UP: Duration = Duration::from_secs(60);

/// Most lines that are kept of an answer.
const MOST_LINES: usize = 1000;

/// What ends a command early.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// A cancel of the job, or the end of a step's time.
    Cancelled(Option<Instant>),
    /// The same for what runs in a cancelled job: what nothing survives, or the end of a step's time.
    Stopped(Option<Instant>),
    /// Only its own time.
    Done,
}

/// What a command of the engine comes to.
pub(super) struct Answer {
    pub(super) code: i32,
    /// Lines on standard output.
    pub(super) lines: Vec<String>,
}

impl Until {
    const fn deadline(self) -> Option<Instant> {
        match self {
            Self::Cancelled(deadline) | Self::Stopped(deadline) => deadline,
            Self::Done => None,
        }
    }

    fn is_over(self, stop: &Stop) -> bool {
        match self {
            Self::Cancelled(_) => stop.is_cancelled(),
            Self::Stopped(_) => stop.is_final(),
            Self::Done => *stop == Stop::Abandon,
        }
    }
}

impl Job {
    /// What ends the commands of a step that begins now.
    pub(super) fn until(&self, frame: &Frame) -> Until {
        let cancelled = self.stop.borrow().is_cancelled();
        if cancelled { Until::Stopped(frame.deadline) } else { Until::Cancelled(frame.deadline) }
    }

    /// The engine that runs containers. What an earlier job has left is removed when it is first asked for.
    pub(super) async fn engine(&mut self) -> Result<Engine, String> {
        if let Some(known) = &self.containers.engine {
            return known.clone();
        }
        let found = self.find_engine().await;
        self.containers.engine = Some(found.clone());
        found
    }

    async fn find_engine(&mut self) -> Result<Engine, String> {
        if let Some(hooks) = self.host.variable(CONTAINER_HOOKS).filter(|path| !path.is_empty()) {
            return Err(format!(
                "this runner does not run container hooks ({CONTAINER_HOOKS} is `{hooks}`): take the variable out of the \
                 runner's environment, or give the job to an official runner"
            ));
        }
        let work = self.directories.work.clone();
        let engine = Engine::connect(self.host.container_cli.as_deref(), &self.host.environment, &work)
            .await
            .map_err(|error| format!("there is no container engine: {error}"))?;
        leftovers::note(&work).map_err(|error| format!("cannot write below `{}`: {error}", work.display()))?;
        self.directories.open_to_containers().map_err(|error| error.to_string())?;
        let removed = engine.sweep().await.map_err(|error| format!("the container engine does not answer: {error}"))?;
        if removed > 0 {
            self.console.write(&format!("Removed {removed} containers of an earlier job"));
        }
        Ok(engine)
    }

    /// Runs a command of the engine with its output in the log.
    pub(super) async fn ask(&mut self, engine: &Engine, command: Command, until: Until) -> Result<Answer, String> {
        self.console.write(&format!("##[command]{} {}", engine.program.display(), command.shown()));
        self.console.flush();
        let spec = engine.spec(command, self.directories.work.clone());
        let mut child = Child::spawn(&spec, &self.tasks)
            .map_err(|error| format!("cannot start `{}`: {error}", engine.program.display()))?;
        let mut stop = self.stop.clone();
        stop.mark_changed();
        let (mut out, mut error) = (Lines::default(), Lines::default());
        let mut lines = Vec::new();
        let deadline = if until == Until::Done { Some(Instant::now() + CLEAN_UP) } else { until.deadline() };
        let mut ended = false;
        let status = loop {
            let wake = deadline.filter(|_| !ended);
            let event = tokio::select! {
                biased;
                Ok(()) = stop.changed() => {
                    let stop = self.stop_now();
                    if stop.is_final() && until.is_over(&stop) {
                        child.kill();
                        ended = true;
                    } else if until.is_over(&stop) {
                        child.end();
                        ended = true;
                    }
                    continue;
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    child.end();
                    ended = true;
                    continue;
                }
                event = child.event() => event,
            };
            match event {
                Event::Output(stream, bytes) => {
                    let from = if stream == Stream::Out { &mut out } else { &mut error };
                    from.push(&bytes);
                    while let Some(line) = from.next(&self.console.masker) {
                        self.console.write(line.text);
                        if stream == Stream::Out && lines.len() < MOST_LINES {
                            lines.push(line.text.to_owned());
                        }
                    }
                }
                Event::Ended(status) => break status,
            }
        };
        if let Some(rest) = out.rest() {
            self.console.write(rest.text);
            lines.push(rest.text.to_owned());
        }
        if let Some(rest) = error.rest() {
            self.console.write(rest.text);
        }
        if ended {
            return Err(format!("`{}` was stopped", engine.program.display()));
        }
        let code = status.and_then(|status| status.code()).unwrap_or(-1);
        Ok(Answer { code, lines })
    }

    /// The same, where every exit code but 0 is an error; `what` says what did not work.
    pub(super) async fn must(
        &mut self,
        engine: &Engine,
        command: Command,
        until: Until,
        what: &str,
    ) -> Result<Vec<String>, String> {
        let answer = self.ask(engine, command, until).await?;
        if answer.code == 0 { Ok(answer.lines) } else { Err(format!("{what} failed with exit code {}", answer.code)) }
    }

    /// The same, tried again as `actions/runner` does for whatever needs a network.
    pub(super) async fn must_in_tries(
        &mut self,
        engine: &Engine,
        make: impl Fn() -> Command,
        until: Until,
        record: usize,
        what: &str,
    ) -> Result<(), String> {
        for (tried, pause) in (1..).zip(PAUSES.into_iter().map(Some).chain([None])) {
            let answer = self.ask(engine, make(), until).await?;
            if answer.code == 0 {
                return Ok(());
            }
            let Some(pause) = pause.filter(|_| tried < TRIES) else {
                return Err(format!("{what} failed with exit code {}", answer.code));
            };
            let message = format!(
                "{what} failed with exit code {}, back off {} seconds before retry.",
                answer.code,
                pause.as_secs()
            );
            self.warning(record, &message);
            self.pause(pause, until).await?;
        }
        Ok(())
    }

    /// Waits, unless it is to stop.
    pub(super) async fn pause(&mut self, time: Duration, until: Until) -> Result<(), String> {
        self.console.flush();
        let end = Instant::now() + time;
        let end = until.deadline().map_or(end, |deadline| end.min(deadline));
        let mut stop = self.stop.clone();
        let stopped = async { stop.wait_for(|stop| until.is_over(stop)).await.is_ok() };
        tokio::select! {
            true = stopped => Err("the job is being cancelled".to_owned()),
            () = sleep_until(end) => Ok(()),
        }
    }
}
