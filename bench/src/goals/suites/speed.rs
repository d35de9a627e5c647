//! How many and how soon: beside queues, in the same rounds.

use anstream::eprintln;
use tokio::time::Duration;

use super::{Bench, arguments, figure, goal};
use crate::generator::{Closed, Paced};
use crate::goals::Contender;
use crate::goals::verdict::{Bound, Found};
use crate::ours::Ours;
use crate::peer::{Load, PeerName};

/// Jobs a second where latency is measured: few enough for the slowest peer.
const RATE: u32 = 200;
/// Consumers of a peer that wait.
const WAITING: u32 = 16;

impl Bench {
    pub(super) async fn throughput(&mut self) -> anyhow::Result<()> {
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

    pub(super) async fn latency(&mut self) -> anyhow::Result<()> {
        let full = self.server(&[]).await?;
        let normal = self.server(&["--synchronous", "normal"]).await?;
        let (seconds, rate) = (self.effort.seconds.to_string(), RATE.to_string());
        // The answer that is timed has the job's definition, as a peer's has the payload.
        let dispatch = |name, server, waiting: u32| Contender::Ours {
            name,
            server,
            scenario: "dispatch",
            further: arguments(&[
                "--rate",
                &rate,
                "--waiting",
                &waiting.to_string(),
                "--seconds",
                &seconds,
                "--auto-acquire",
            ]),
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
            let words =
                ["--rate", &half, "--parked", &parked, "--renewals", "1000", "--seconds", &seconds, "--auto-acquire"];
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
}

/// Life cycles a second, quickly.
async fn lifecycles(server: &Ours) -> anyhow::Result<f64> {
    let further = arguments(&["--producers", "64", "--runners", "256", "--seconds", "2"]);
    let figures = server.load("lifecycle", &further).await?.map_err(anyhow::Error::msg)?;
    Ok(figures.per_second)
}
