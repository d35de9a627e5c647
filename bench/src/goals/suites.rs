//! The goals, grouped by what is measured together.

use std::process::Stdio;

use anstream::eprintln;
use anyhow::Context as _;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Duration, Instant};

use super::verdict::{Bound, Found, Goal};
use super::{Bench, Contender, Turns};
use crate::daemon::Daemon;
use crate::figures::Figures;
use crate::generator::{Closed, Paced};
use crate::machine::{self, Memory};
use crate::ours::{self, Ours, time_to_ready};
use crate::peer::{Load, PeerName};
use crate::polls::{self, Host, Polls, SETTLE};
use crate::probe::Watch;

/// All goals by name, for `--only`.
pub(super) const IDS: &[&str] =
    &["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S13", "S14", "LOGS", "ACT", "START", "SIZE"];
/// Jobs a second where latency is measured: few enough for the slowest peer.
const RATE: u32 = 200;
/// How long a service may be busy with itself after its start.
const SETTLED: Duration = Duration::from_secs(60);
/// Services that share what is more than one may have open.
const PROCESSES: u32 = 6;
/// Consumers of a peer that wait.
const WAITING: u32 = 16;

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
    /// Everything that is wanted, as far as it goes: what fails is told, and the rest goes on.
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

    /// Says of a suite that broke what is missing now.
    fn broken(&mut self, ids: &[&'static str], why: &str) {
        eprintln!("{}: {why}", ids.join(", "));
        let company = self.company(&Watch::begin());
        for id in ids.iter().copied() {
            let missing = goal(id, "could not be measured", "", Bound::AtMost(0.0));
            self.row(missing, Found::Missing(why.lines().next().unwrap_or_default().to_owned()), None, company);
        }
    }

    async fn size(&mut self) -> anyhow::Result<()> {
        let watch = Watch::begin();
        let bytes = std::fs::metadata(&self.args.startline)?.len();
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
                times.push(time_to_ready(&self.args.startline, &data).await?.as_secs_f64() * 1000.0);
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
        // Keys are made ahead after a start; afterwards there is nothing to do.
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

    async fn throughput(&mut self) -> anyhow::Result<()> {
        let server = self.server(&[]).await?;
        let lasting = self.effort.lasting();
        let mut contenders = vec![Contender::Ours {
            name: "ours",
            server: &server,
            scenario: "lifecycle",
            further: arguments(&[
                "--producers",
                "64",
                "--runners",
                "256",
                "--seconds",
                &self.effort.seconds.to_string(),
            ]),
        }];
        for peer in [PeerName::Beanstalkd, PeerName::PgPoll, PeerName::PgBatch] {
            let workers = self.best(peer).await?;
            let load = Closed { producers: workers, consumers: workers, lasting };
            contenders.push(Contender::Peer(peer, Load::Closed(load)));
        }
        let (turns, company) = self.turns("lifecycle", &contenders).await?;
        for (peer, wanted) in [("pg-poll", 3.0), ("beanstalkd", 1.5), ("pg-batch", 0.55)] {
            let goal = goal("S1", "durable life cycles", "/s", Bound::AtLeast(wanted));
            let anchor = Some((peer, figure(&turns, peer, "/per_second")));
            self.row(goal, figure(&turns, "ours", "/per_second"), anchor, company);
        }
        let cpu = goal("S13", "processor time of the service for a life cycle", "µs", Bound::AtMost(90.0));
        self.row(cpu, figure(&turns, "ours", "/server/cpu_us_per_op"), None, company);
        if let Found::Figure(rate) = figure(&turns, "ours", "/per_second") {
            self.rate = Some(rate.median);
        }
        drop(contenders);
        server.stop().await
    }

    /// With how many producers, and as many consumers, this peer does most.
    async fn best(&mut self, peer: PeerName) -> anyhow::Result<usize> {
        let mut best = (16, 0.0);
        let candidates: &[usize] = if peer == PeerName::PgBatch { &[64, 256] } else { &[16, 64] };
        for workers in candidates {
            let lasting = Duration::from_secs(1);
            let load = Load::Closed(Closed { producers: *workers, consumers: *workers, lasting });
            if let Ok(figures) = self.peers.run(peer, load).await?
                && figures.per_second > best.1
            {
                best = (*workers, figures.per_second);
            }
        }
        eprintln!("{}: best with {} producers and consumers ({:.0}/s)", peer.name(), best.0, best.1);
        Ok(best.0)
    }

    async fn latency(&mut self) -> anyhow::Result<()> {
        let full = self.server(&[]).await?;
        let normal = self.server(&["--synchronous", "normal"]).await?;
        let (seconds, rate) = (self.effort.seconds.to_string(), RATE.to_string());
        let dispatch = |name, server, waiting: u32| Contender::Ours {
            name,
            server,
            scenario: "dispatch",
            further: arguments(&["--rate", &rate, "--waiting", &waiting.to_string(), "--seconds", &seconds]),
        };
        let fleet = self.effort.fleet;
        let paced =
            Paced { rate: RATE.into(), waiting: WAITING as usize, producers: 4, lasting: self.effort.lasting() };
        let mut contenders = vec![dispatch("ours", &full, fleet)];
        if self.wants(&["S8"]) {
            contenders.push(dispatch("ours, 16 waiting", &full, WAITING));
        }
        if self.wants(&["S3"]) {
            contenders.push(dispatch("ours, synchronous=normal", &normal, fleet));
        }
        if self.wants(&["S2", "S3"]) {
            contenders.push(Contender::Peer(PeerName::Beanstalkd, Load::Paced(paced)));
            contenders.push(Contender::Peer(PeerName::PgNotify, Load::Paced(paced)));
            contenders.push(Contender::Peer(PeerName::PgBatch, Load::Paced(paced)));
        }
        if self.wants(&["S11"]) {
            let rate = match self.rate {
                Some(rate) => rate,
                None => lifecycles(&full).await?,
            };
            let half = format!("{:.0}", (rate / 2.0).max(1.0));
            let parked = self.effort.polls.to_string();
            let words = ["--rate", &half, "--parked", &parked, "--renewals", "1000", "--seconds", &seconds];
            let further = arguments(&words);
            contenders.push(Contender::Ours { name: "ours, mixed", server: &full, scenario: "mixed", further });
        }
        let (turns, company) = self.turns("dispatch", &contenders).await?;
        let (p50, p99) = ("/latency_us/p50", "/latency_us/p99");
        for (what, pointer, peer, most) in [
            ("dispatch p50, large fleet waits", p50, "beanstalkd", 2.2),
            ("dispatch p50, large fleet waits", p50, "pg-notify", 0.5),
            ("dispatch p99, large fleet waits", p99, "beanstalkd", 1.0),
            ("dispatch p99, large fleet waits", p99, "pg-notify", 0.5),
        ] {
            let anchor = Some((peer, figure(&turns, peer, pointer)));
            self.row(goal("S2", what, "µs", Bound::AtMost(most)), figure(&turns, "ours", pointer), anchor, company);
        }
        let ours = |pointer| figure(&turns, "ours, synchronous=normal", pointer);
        let beanstalkd = Some(("beanstalkd -f0", figure(&turns, "beanstalkd", p50)));
        self.row(
            goal("S3", "dispatch p50, synchronous=normal", "µs", Bound::AtMost(1.1)),
            ours(p50),
            beanstalkd,
            company,
        );
        self.row(goal("S3", "dispatch p99, synchronous=normal", "µs", Bound::AtMost(500.0)), ours(p99), None, company);
        let few = Some(("16 waiting", figure(&turns, "ours, 16 waiting", p50)));
        let growth = goal("S8", "dispatch p50, large fleet waits", "µs", Bound::AtMost(1.2));
        self.row(growth, figure(&turns, "ours", p50), few, company);
        let alone = Some(("alone", figure(&turns, "ours", p99)));
        let mixed = goal("S11", "dispatch p99 under mixed load", "µs", Bound::AtMost(2.0));
        self.row(mixed, figure(&turns, "ours, mixed", p99), alone, company);
        drop(contenders);
        full.stop().await?;
        normal.stop().await
    }

    /// A long queue in front; the scenario starts a service of its own, which it starts again with the queue.
    async fn depth(&mut self) -> anyhow::Result<()> {
        let watch = Watch::begin();
        let further = arguments(&["--queued", self.effort.queued]);
        eprintln!("depth: {} queued jobs", self.effort.queued);
        let ran = ours::load(&self.args.startline, "depth", &further).await?;
        let company = self.company(&watch);
        let turns = Turns::once("ours", ran);
        self.keep("depth", &turns);
        let growth = goal("S7", "processor time of a claim, deep queue to shallow", "×", Bound::AtMost(1.3));
        self.row(growth, turns.found("/cpu_ratio"), None, company);
        let claim = goal("S7", "processor time of a claim within the service, deep queue", "µs", Bound::AtMost(12.0));
        let elsewhere = "counted by the micro-benchmarks; a claim over HTTP has two requests around it";
        self.row(claim, Found::Missing(elsewhere.to_owned()), None, company);
        let memory = steady(goal("S7", "memory of a queued job", "B", Bound::AtMost(256.0)));
        self.row(memory, turns.found("/depths/1/bytes_per_queued_job"), None, company);
        let start = goal("S7", "start to ready with a deep queue", "ms", Bound::AtMost(3000.0));
        self.row(start, turns.found("/restart_ready_ms"), None, company);
        Ok(())
    }

    async fn burst(&mut self) -> anyhow::Result<()> {
        let many = self.effort.fleet.to_string();
        let delivered = goal("S9", "burst onto as many waiting runners, all delivered", "ms", Bound::AtMost(1000.0));
        let further = arguments(&["--jobs", &many, "--runners", &many, "--job-ms", "0"]);
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
        self.alone("logs", further, &[(intake, "/megabytes_per_second", None)]).await
    }

    /// Memory of a parked poll beside bare hyper, with the same client.
    async fn polls(&mut self) -> anyhow::Result<()> {
        let (startline, directory) = (self.args.startline.clone(), self.args.place.dir.clone());
        let rounds = if self.effort.quick { 1 } else { 3 };
        for http2 in [false, true] {
            let hosts =
                if http2 { &[Host::Startline, Host::Hyper][..] } else { &[Host::Startline, Host::Hyper, Host::Axum] };
            let mut all: Vec<Turns> = hosts
                .iter()
                .map(|host| Turns {
                    name: match host {
                        Host::Startline => "ours",
                        Host::Hyper => "bare hyper",
                        Host::Axum => "bare axum",
                    },
                    rounds: Vec::new(),
                    missing: None,
                })
                .collect();
            let watch = Watch::begin();
            for round in 0..rounds {
                let mut order: Vec<usize> = (0..hosts.len()).collect();
                if round % 2 == 1 {
                    order.reverse();
                }
                for index in order {
                    eprintln!("polls: round {} of {rounds}, {}", round + 1, all[index].name);
                    let (polls, warm) = (self.effort.polls, self.effort.warm);
                    let load =
                        Polls { host: hosts[index], http2, tls: false, warm, polls, wakes: 2000, settle: SETTLE };
                    all[index].rounds.push(polls::run(load, &startline, &directory).await?);
                }
            }
            let company = self.company(&watch);
            let what = if http2 { "polls, HTTP/2" } else { "polls, HTTP/1.1" };
            for turns in &all {
                self.keep(what, turns);
            }
            let each = "/user_kib_per_poll";
            if http2 {
                let goal = steady(goal("S4", "memory of an idle session, HTTP/2", "KiB", Bound::AtMost(3.0)));
                self.row(goal, figure(&all, "ours", each), None, company);
            } else {
                let goal = steady(goal("S4", "memory of an idle session, HTTP/1.1", "KiB", Bound::AtMost(1.1)));
                let anchor = Some(("bare hyper", figure(&all, "bare hyper", each)));
                self.row(goal, figure(&all, "ours", each), anchor, company);
            }
        }
        Ok(())
    }

    /// Memory of a parked poll within TLS.
    async fn tls_polls(&mut self) -> anyhow::Result<()> {
        for (http2, what, most) in [
            (false, "memory of an idle session within TLS, HTTP/1.1", 13.0),
            (true, "memory of an idle session within TLS, HTTP/2", 3.0),
        ] {
            let watch = Watch::begin();
            let (polls, warm) = (self.effort.polls, self.effort.warm);
            let load = Polls { host: Host::Startline, http2, tls: true, warm, polls, wakes: 0, settle: SETTLE };
            eprintln!("polls: {polls} within TLS, HTTP/{}", if http2 { "2" } else { "1.1" });
            let figures = polls::run(load, &self.args.startline, &self.args.place.dir).await?;
            let turns = Turns::once("ours", Ok(figures));
            let company = self.company(&watch);
            self.keep(what, &turns);
            let goal = steady(goal("S5", what, "KiB", Bound::AtMost(most)));
            self.row(goal, turns.found("/user_kib_per_poll"), None, company);
        }
        Ok(())
    }

    /// As many polls at once as a large fleet has, user and kernel memory together.
    async fn many_polls(&mut self) -> anyhow::Result<()> {
        let many = self.effort.many;
        // The goals are for 100,000; a quick run has fewer polls, and as much less room.
        let share = f64::from(many) / f64::from(super::Effort::FULL.many);
        let watch = Watch::begin();
        eprintln!("polls: {many} on HTTP/2, one process");
        let load = Polls {
            host: Host::Startline,
            http2: true,
            tls: false,
            warm: self.effort.warm,
            polls: many,
            wakes: 0,
            settle: SETTLE,
        };
        let figures = polls::run(load, &self.args.startline, &self.args.place.dir).await?;
        let turns = Turns::once("ours", Ok(figures));
        let company = self.company(&watch);
        self.keep("many polls, HTTP/2", &turns);
        let wanted = Bound::AtMost(900.0 * share);
        let goal = steady(goal("S6", "parked polls of a large fleet, user and kernel, HTTP/2", "MiB", wanted));
        self.row(goal, turns.found("/total_mib"), None, company);
        self.many_processes(many, share).await
    }

    /// The same on HTTP/1.1, where one process may not hold so many sockets: several services, each with a client.
    async fn many_processes(&mut self, many: u32, share: f64) -> anyhow::Result<()> {
        let watch = Watch::begin();
        let (mut holding, mut total) = (Vec::new(), 0.0);
        let mut turns = Turns { name: "ours", rounds: Vec::new(), missing: None };
        // One after the other, so that each measures its own share of the kernel's memory; all stay.
        for process in 1..=PROCESSES {
            eprintln!("polls: {many} on HTTP/1.1, process {process} of {PROCESSES}");
            let mut command = Command::new(std::env::current_exe().context("cannot find this program's own file")?);
            let polls = many.div_ceil(PROCESSES).to_string();
            command.args([
                "polls",
                "startline",
                "--json",
                "--hold",
                "--polls",
                &polls,
                "--warm",
                &self.effort.warm.to_string(),
            ]);
            command.arg("--startline").arg(&self.args.startline).arg("--dir").arg(&self.args.place.dir);
            let mut daemon = Daemon::start(command)?;
            let line = daemon.line("{").await?;
            let figures: Figures = serde_json::from_str(&format!("{{{line}"))?;
            total += figures.number("/total_mib").context("the kernel does not tell what sockets take")?;
            turns.rounds.push(figures);
            holding.push(daemon);
        }
        let mut lost = 0;
        for daemon in holding {
            lost += u32::from(!daemon.stop_with(Signal::SIGTERM).await?.success());
        }
        let company = self.company(&watch);
        self.keep("many polls, HTTP/1.1", &turns);
        let found = if lost == 0 {
            Found::of(vec![total])
        } else {
            Found::Wrong(format!("polls of {lost} processes failed while they were parked"))
        };
        let wanted = Bound::AtMost(1.8 * 1024.0 * share);
        let goal = steady(goal("S6", "parked polls of a large fleet, user and kernel, HTTP/1.1", "MiB", wanted));
        self.row(goal, found, None, company);
        Ok(())
    }

    /// `startline run` beside act, by the script that has its own rounds.
    async fn act(&mut self) -> anyhow::Result<()> {
        let watch = Watch::begin();
        let mut command = Command::new(&self.args.act);
        command.args(["--json", "--rounds", if self.effort.quick { "10" } else { "12" }]);
        command.env("STARTLINE_BIN", &self.args.startline).stdin(Stdio::null()).stderr(Stdio::inherit());
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

/// Life cycles a second, quickly.
async fn lifecycles(server: &Ours) -> anyhow::Result<f64> {
    let further = arguments(&["--producers", "64", "--runners", "256", "--seconds", "2"]);
    let figures = server.load("lifecycle", &further).await?.map_err(anyhow::Error::msg)?;
    Ok(figures.per_second)
}
