//! Whether services are ready.

use std::path::Path;
use std::time::Duration;

use super::Job;
use super::asking::Until;
use super::containers::Started;
use super::step::Frame;
use crate::container::arguments::Command;
use crate::container::engine::{Engine, Kind};

/// Between two looks at the health of a service: twice as long each time.
const FIRST_LOOK: Duration = Duration::from_secs(2);
const LAST_LOOK: Duration = Duration::from_secs(32);

impl Job {
    /// Waits until every service that can say so says that it is ready.
    pub(super) async fn await_services(&mut self, frame: &Frame, engine: &Engine) -> Result<(), String> {
        self.console.write("##[group]Waiting for all services to be ready");
        let mut sick = Vec::new();
        for index in 0..self.containers.started.len() {
            let Started { id, service, .. } = &self.containers.started[index];
            let (id, Some(service)) = (id.clone(), service.clone()) else { continue };
            if self.becomes_healthy(frame, engine, &id, &service).await? {
                self.console.write(&format!("{service} service is healthy."));
            } else {
                sick.push(index);
            }
        }
        self.console.write("##[endgroup]");
        if sick.is_empty() {
            return Ok(());
        }
        for index in sick {
            let Started { id, service, image, .. } = &self.containers.started[index];
            let (id, service, image) = (id.clone(), service.clone().unwrap_or_default(), image.clone());
            self.console.write(&format!("##[group]Service container {service} failed."));
            self.ask(engine, Command::new(&["logs", &id]), Until::Cancelled(frame.deadline)).await?;
            self.error(frame.record, &format!("Failed to initialize container {image}"));
            self.containers.started[index].failed = true;
            self.console.write("##[endgroup]");
        }
        Err("One or more containers failed to start.".to_owned())
    }

    async fn becomes_healthy(
        &mut self,
        frame: &Frame,
        engine: &Engine,
        id: &str,
        service: &str,
    ) -> Result<bool, String> {
        let until = Until::Cancelled(frame.deadline);
        let format = "{{.State.Status}} {{if .Config.Healthcheck}}{{print .State.Health.Status}}{{end}}";
        // Without systemd nothing runs the checks of podman's containers but podman itself, when it is asked.
        let asks = engine.kind == Kind::Podman && !Path::new("/run/systemd/system").exists();
        let mut wait = FIRST_LOOK;
        loop {
            let inspect = Command::new(&["inspect", "--format", format, id]);
            let mut said = self.must(engine, inspect.clone(), until, "Docker inspect").await?;
            if asks && health(&said) == Health::Starting {
                // What it finds is in what it says next.
                let _ = engine.ask(&Command::new(&["healthcheck", "run", id])).await;
                said = self.must(engine, inspect, until, "Docker inspect").await?;
            }
            match health(&said) {
                Health::Ready => return Ok(true),
                Health::Sick => return Ok(false),
                Health::Starting => {}
            }
            let seconds = wait.as_secs();
            self.console
                .write(&format!("{service} service is starting, waiting {seconds} seconds before checking again."));
            self.pause(wait, until).await?;
            wait = (wait * 2).min(LAST_LOOK);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Ready,
    Starting,
    Sick,
}

/// What `inspect` says: the state of the container, and of its health where it has a check.
fn health(lines: &[String]) -> Health {
    let line = lines.first().map(|line| line.trim()).unwrap_or_default();
    match line.split_once(' ') {
        None => Health::Ready,
        Some((_, "healthy")) => Health::Ready,
        // One that has ended gets no healthier.
        Some(("running", "starting")) => Health::Starting,
        Some(_) => Health::Sick,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_without_a_check_is_ready_and_one_that_has_ended_is_not() {
        for (said, expected) in [
            ("running healthy", Health::Ready),
            ("running ", Health::Ready),
            ("exited ", Health::Ready),
            ("running starting", Health::Starting),
            ("exited starting", Health::Sick),
            ("running unhealthy", Health::Sick),
        ] {
            assert_eq!(health(&[said.to_owned()]), expected, "{said}");
        }
    }
}
