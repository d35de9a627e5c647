//! What a fleet that waits costs: memory of parked polls, beside bare servers.

use anstream::eprintln;
use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::time::{Duration, Instant};

use super::{Bench, Turns, figure, goal, steady};
use crate::daemon::Daemon;
use crate::figures::Figures;
use crate::goals::Effort;
use crate::goals::verdict::{Bound, Found};
use crate::machine;
use crate::polls::{self, Host, Polls, SETTLE};
use crate::probe::Watch;
use crate::sample::turns;

/// Services that share what is more than one may have open.
const PROCESSES: u32 = 6;
/// As long as each poll is held.
const MINUTE: Duration = Duration::from_secs(60);

impl Bench {
    /// Memory of a parked poll beside bare hyper, with the same client.
    pub(super) async fn polls(&mut self) -> anyhow::Result<()> {
        let (measured, directory) = (self.args.measured.clone(), self.args.place.dir.clone());
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
            for (round, index) in turns(rounds, hosts.len()) {
                eprintln!("polls: round {round} of {rounds}, {}", all[index].name);
                let (polls, warm) = (self.effort.polls, self.effort.warm);
                let load = Polls { host: hosts[index], http2, tls: false, warm, polls, wakes: 2000, settle: SETTLE };
                all[index].rounds.push(polls::run(load, &measured, &directory).await?);
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
    pub(super) async fn tls_polls(&mut self) -> anyhow::Result<()> {
        for (http2, what, most) in [
            (false, "memory of an idle session within TLS, HTTP/1.1", 13.0),
            (true, "memory of an idle session within TLS, HTTP/2", 3.0),
        ] {
            let watch = Watch::begin();
            let (polls, warm) = (self.effort.polls, self.effort.warm);
            let load = Polls { host: Host::Startline, http2, tls: true, warm, polls, wakes: 0, settle: SETTLE };
            eprintln!("polls: {polls} within TLS, HTTP/{}", if http2 { "2" } else { "1.1" });
            let figures = polls::run(load, &self.args.measured, &self.args.place.dir).await?;
            let turns = Turns::once("ours", Ok(figures));
            let company = self.company(&watch);
            self.keep(what, &turns);
            let goal = steady(goal("S5", what, "KiB", Bound::AtMost(most)));
            self.row(goal, turns.found("/user_kib_per_poll"), None, company);
        }
        Ok(())
    }

    /// As many polls at once as a large fleet has, user and kernel memory together.
    pub(super) async fn many_polls(&mut self) -> anyhow::Result<()> {
        let many = self.effort.many;
        // The goals are for 100,000; a quick run has fewer polls, and as much less room.
        let share = f64::from(many) / f64::from(Effort::FULL.many);
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
        let (mut figures, held) = polls::park(load, &self.args.measured, &self.args.place.dir).await?;
        // Each poll is held for a minute and asked again once within one.
        let (cpu, begun) = (machine::tree_time(held.pid()), Instant::now());
        tokio::time::sleep(if self.effort.quick { Duration::ZERO } else { MINUTE }).await;
        let cpu = (machine::tree_time(held.pid()) - cpu).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
        if let Some(why) = held.leave().await? {
            figures.errors.add(why);
        }
        let turns = Turns::once("ours", Ok(figures));
        let company = self.company(&watch);
        self.keep("many polls, HTTP/2", &turns);
        let wanted = Bound::AtMost(900.0 * share);
        let memory = steady(goal("S6", "parked polls of a large fleet, user and kernel, HTTP/2", "MiB", wanted));
        self.row(memory, turns.found("/total_mib"), None, company);
        let idle = goal("S6", "processor time while they are held for a minute each", "%", Bound::AtMost(8.0));
        let found = if self.effort.quick { Found::Missing("takes a minute".to_owned()) } else { Found::of(vec![cpu]) };
        self.row(idle, found, None, company);
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
            command.arg("--startline").arg(&self.startline).arg("--dir").arg(&self.args.place.dir);
            let mut daemon = Daemon::start_family(command)?;
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
            Found::Wrong(format!("polls of {lost} processes failed while they were parked"), None)
        };
        let wanted = Bound::AtMost(1.8 * 1024.0 * share);
        let goal = steady(goal("S6", "parked polls of a large fleet, user and kernel, HTTP/1.1", "MiB", wanted));
        self.row(goal, found, None, company);
        Ok(())
    }
}
