//! The goals, grouped by what is measured together.

mod parked;
mod speed;

use std::process::Stdio;

use anstream::eprintln;
use anyhow::Context as _;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Duration, Instant};

use super::verdict::{Bound, Found, Goal};
use super::{Bench, Turns, beginning};
use crate::machine::{self, Memory};
use crate::ours::{self, time_to_ready};
use crate::probe::Watch;

/// All goals by name, for `--only`.
pub(super) const IDS: &[&str] =
    &["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S13", "S14", "LOGS", "ACT", "START", "SIZE"];
/// How long a service may be busy with itself after its start.
const SETTLED: Duration = Duration::from_secs(60);

const fn goal(id: &'static str, what: &'static str, unit: &'static str, bound: Bound) -> Goal {
    Goal { id, what, unit, bound, steady: false }
}

const fn steady(goal: Goal) -> Goal {
    Goal { steady: true, ..goal }
}

fn arguments(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The figures of one contender by its name.
fn of<'turns>(turns: &'turns [Turns], name: &str) -> Option<&'turns Turns> {
    turns.iter().find(|turns| turns.name == name)
}

fn figure(turns: &[Turns], name: &str, pointer: &str) -> Found {
    of(turns, name).map_or_else(|| Found::Missing("was not measured".to_owned()), |turns| turns.found(pointer))
}

impl Bench {
    /// Everything that is wanted, as far as it goes: what breaks is told and fails its goals, and the rest goes on.
    pub(super) async fn all(&mut self) {
        macro_rules! suite {
            ($ids:expr, $method:ident) => {
                if self.wants($ids)
                    && let Err(error) = Box::pin(self.$method()).await
                {
                    self.broken($ids, &format!("{error:#}"));
                }
            };
        }
        suite!(&["SIZE"], size);
        suite!(&["START"], start);
        suite!(&["S14"], idle);
        suite!(&["S1", "S13"], throughput);
        suite!(&["S2", "S3", "S8", "S11"], latency);
        suite!(&["S4"], polls);
        suite!(&["S5"], tls_polls);
        suite!(&["S6"], many_polls);
        suite!(&["S7"], depth);
        suite!(&["S9"], burst);
        suite!(&["S10"], renewals);
        suite!(&["LOGS"], logs);
        suite!(&["ACT"], act);
    }

    /// Says of a suite that broke what is not known now: the service is not excused by it.
    fn broken(&mut self, ids: &[&'static str], why: &str) {
        eprintln!("{}: {why}", ids.join(", "));
        let company = self.company(&Watch::begin());
        for id in ids.iter().copied() {
            let unknown = goal(id, "could not be measured", "", Bound::AtMost(0.0));
            self.row(unknown, Found::Wrong(beginning(why), None), None, company);
        }
    }

    async fn size(&mut self) -> anyhow::Result<()> {
        let watch = Watch::begin();
        let bytes = std::fs::metadata(&self.startline)?.len();
        let goal = steady(goal("SIZE", "release binary", "MB", Bound::AtMost(20.0)));
        let company = self.company(&watch);
        self.row(goal, Found::of(vec![bytes as f64 / 1e6]), None, company);
        Ok(())
    }

    /// From the start of the process until it answers that it is ready.
    async fn start(&mut self) -> anyhow::Result<()> {
        let (mut fresh, mut again) = (Vec::new(), Vec::new());
        let watch = Watch::begin();
        for _ in 0..self.effort.starts {
            let place = tempfile::tempdir_in(&self.args.place.dir)?;
            let data = place.path().join("data");
            for times in [&mut fresh, &mut again] {
                times.push(time_to_ready(&self.startline, &data).await?.as_secs_f64() * 1000.0);
            }
        }
        let company = self.company(&watch);
        let wanted = Bound::AtMost(50.0);
        self.row(goal("START", "start to ready, fresh data directory", "ms", wanted), Found::of(fresh), None, company);
        self.row(
            goal("START", "start to ready, existing data directory", "ms", wanted),
            Found::of(again),
            None,
            company,
        );
        Ok(())
    }

    /// What a service costs that nobody asks for anything.
    async fn idle(&mut self) -> anyhow::Result<()> {
        let server = self.server(&[]).await?;
        // What follows a start is over first.
        let until = Instant::now() + SETTLED;
        let mut last = machine::tree_time(server.pid());
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = machine::tree_time(server.pid());
            if now - last <= Duration::from_millis(10) || Instant::now() >= until {
                break;
            }
            last = now;
        }
        let watch = Watch::begin();
        let (before, begun) = (machine::tree_time(server.pid()), Instant::now());
        tokio::time::sleep(Duration::from_secs(if self.effort.quick { 3 } else { 10 })).await;
        let used = machine::tree_time(server.pid()) - before;
        let share = used.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
        let resident = Memory::of(server.pid())?.resident as f64 / 1024.0;
        let company = self.company(&watch);
        let memory = steady(goal("S14", "resident memory of an empty service", "MiB", Bound::AtMost(15.0)));
        self.row(memory, Found::of(vec![resident]), None, company);
        // A clock tick in ten seconds is what the kernel cannot tell from nothing.
        let cpu = goal("S14", "processor time of an empty service", "%", Bound::AtMost(0.11));
        self.row(cpu, Found::of(vec![share]), None, company);
        server.stop().await
    }

    /// A long queue in front; the scenario starts a service of its own, which it starts again with the queue.
    async fn depth(&mut self) -> anyhow::Result<()> {
        let watch = Watch::begin();
        let further = arguments(&["--queued", self.effort.queued]);
        eprintln!("depth: {} queued jobs", self.effort.queued);
        let ran = ours::load(&self.startline, &self.args.place.dir, "depth", &further).await?;
        let company = self.company(&watch);
        let turns = Turns::once("ours", ran);
        self.keep("depth", &turns);
        let growth = goal("S7", "processor time of a claim, deep queue to shallow", "×", Bound::AtMost(1.3));
        self.row(growth, turns.found("/cpu_ratio"), None, company);
        let memory = steady(goal("S7", "memory of a queued job", "B", Bound::AtMost(256.0)));
        self.row(memory, turns.found("/depths/1/bytes_per_queued_job"), None, company);
        let start = goal("S7", "start to ready with a deep queue", "ms", Bound::AtMost(3000.0));
        self.row(start, turns.found("/restart_ready_ms"), None, company);
        Ok(())
    }

    async fn burst(&mut self) -> anyhow::Result<()> {
        let many = self.effort.fleet.to_string();
        let delivered = goal("S9", "burst onto as many waiting runners, all delivered", "ms", Bound::AtMost(1000.0));
        let further = arguments(&["--jobs", &many, "--runners", &many, "--job-ms", "0", "--auto-acquire"]);
        self.alone("burst", further, &[(delivered, "/delivered_ms", None)]).await?;
        for (jobs, runners) in [("100", "60"), ("1000", "1000")] {
            let what = if jobs == "100" {
                "100 jobs, 60 runners: longest wait beside an idle runner"
            } else {
                "1,000 jobs, 1,000 runners: the same"
            };
            let beside = goal("S9", what, "ms", Bound::AtMost(1000.0));
            let further = arguments(&["--jobs", jobs, "--runners", runners, "--job-ms", "100"]);
            self.alone("burst", further, &[(beside, "/longest_wait_beside_idle_runner_ms", None)]).await?;
        }
        Ok(())
    }

    async fn renewals(&mut self) -> anyhow::Result<()> {
        let rate = goal("S10", "lease renewals", "/s", Bound::AtLeast(0.55));
        let cpu = goal("S10", "processor time of the service for a renewal", "µs", Bound::AtMost(18.0));
        let goals = [
            (rate, "/renewals/per_second", Some(("GET /healthz", "/healthz/per_second"))),
            (cpu, "/server/cpu_us_per_op", None),
        ];
        // A third of it each kind.
        let seconds = (3 * self.effort.seconds).to_string();
        self.alone("renewals", arguments(&["--seconds", &seconds]), &goals).await
    }

    async fn logs(&mut self) -> anyhow::Result<()> {
        let intake = goal("LOGS", "log intake", "MB/s", Bound::AtLeast(200.0));
        let further = arguments(&["--bytes", self.effort.logs]);
        // Bounded: no multiple of what is written.
        let memory = steady(goal("LOGS", "peak memory of the service meanwhile", "KiB", Bound::AtMost(128.0 * 1024.0)));
        let goals = [(intake, "/megabytes_per_second", None), (memory, "/server/peak_kib", None)];
        self.alone("logs", further, &goals).await
    }

    /// `startline run` beside act, by the script that has its own rounds.
    async fn act(&mut self) -> anyhow::Result<()> {
        let watch = Watch::begin();
        let mut command = Command::new(&self.args.act);
        command.args(["--json", "--rounds", if self.effort.quick { "10" } else { "12" }]);
        command.env("STARTLINE_BIN", &self.startline).env("TMPDIR", &self.args.place.dir);
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output().await.with_context(|| format!("cannot start {}", self.args.act.display()))?;
        let found: Value = serde_json::from_slice(&output.stdout).context("the comparison with act told nothing")?;
        let median = |who: &str| match found.pointer(&format!("/{who}/wall/median")).and_then(Value::as_f64) {
            Some(median) => Found::of(vec![median]),
            None => Found::Missing("cannot be had".to_owned()),
        };
        let company = self.company(&watch);
        let goal = goal("ACT", "startline run of three steps, whole process", "ms", Bound::AtMost(1.0));
        self.row(goal, median("startline"), Some(("act", median("act"))), company);
        Ok(())
    }
}
