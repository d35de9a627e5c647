//! `startline-bench soak`: half of what the service can do, for long. Memory must not grow, nor latency.

mod disk;

use std::process::ExitCode;

use anstream::{eprintln, println};
use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::{Map, Value, json};
use tokio::time::{Duration, Instant};

use crate::cli::{Measured, Place};
use crate::figures::{Figures, ServerCost};
use crate::generator::{self, Closed, Paced};
use crate::machine::{self, Memory};
use crate::ours::Ours;
use crate::ours::queue::Fleet;
use crate::probe::Watch;
use disk::{Disk, Syncs};

/// What is old is purged, so that the service does all that one in use for years does: as much goes as comes.
const RETENTION: [&str; 6] = ["--run-retention", "2m", "--audit-retention", "2m", "--housekeeping-interval", "10s"];
/// Runners that work.
const RUNNERS: u32 = 64;
/// How long the rate is measured that is halved.
const MEASURE: Duration = Duration::from_secs(10);
/// How long half of what an empty service does is sent to it before: until as much is purged as comes, and for some rounds more.
/// What is halved then is what can be done for long.
const WARM_UP: Duration = Duration::from_secs(150);
/// How often memory is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Growth over the whole time that is not told from none, in KiB: pages that an allocator keeps.
const FLAT: f64 = 1024.0;
/// What the last part's p99 may be of the first part's.
const P99: f64 = 1.5;
/// A disk that stalls by itself for more than this share of the first or the last part: then nothing is said of the service's p99,
/// since the jobs that come during a stall, and those behind them until all that is made up for, are about one percent of all.
const STALLS: f64 = 0.005;

/// Command line of `soak`.
#[derive(Args, Debug)]
pub(crate) struct SoakArgs {
    /// How long, after a warm-up of 3 minutes; the first and the last sixth are compared
    #[arg(long, default_value_t = 30.0, value_name = "N")]
    minutes: f64,
    #[command(flatten)]
    measured: Measured,
    #[command(flatten)]
    place: Place,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl SoakArgs {
    /// How long a sixth is, in seconds.
    fn part(&self) -> f64 {
        self.minutes * 60.0 / 6.0
    }
}

pub(crate) async fn execute(args: SoakArgs) -> anyhow::Result<ExitCode> {
    let watch = Watch::begin();
    let ours = Ours::start(&args.measured.program()?, args.place.check()?, &RETENTION).await?;
    let mut fleet = Fleet::register(&ours, RUNNERS).await?;
    let workers = RUNNERS as usize;
    let closed = Closed { producers: workers, consumers: workers, lasting: MEASURE };
    let empty = generator::closed(&fleet, closed, Some(ours.pid())).await?.per_second;
    eprintln!("{empty:.0} life cycles a second with nothing to purge; half of that for {} s", WARM_UP.as_secs());
    let half = |full: f64, lasting| Paced { rate: (full / 2.0).max(1.0), waiting: workers, producers: 16, lasting };
    fleet.of_repositories(1);
    let warm_up = generator::paced(&fleet, half(empty, WARM_UP), Some(ours.pid())).await?;
    ensure!(warm_up.errors.count == 0, "while it warmed up: {}", warm_up.errors.first.join("; "));
    fleet.of_repositories(1);
    let full = generator::closed(&fleet, closed, Some(ours.pid())).await?.per_second;
    eprintln!("{full:.0} while as much is purged; half of that for {} minutes", args.minutes);

    // A sixth each: of half an hour, five minutes.
    let part = Duration::from_secs_f64(args.part());
    let load = half(full, part);
    let disk = Disk::watch(args.place.check()?)?;
    let (mut parts, mut syncs) = (Vec::new(), Vec::new());
    let mut memory: Vec<(f64, f64)> = Vec::new();
    let begun = Instant::now();
    for number in 1..=6 {
        fleet.of_repositories(1);
        let mut running = Box::pin(generator::paced(&fleet, load, Some(ours.pid())));
        let mut look = tokio::time::interval(LOOK.min(part / 4));
        let figures = loop {
            tokio::select! {
                figures = &mut running => break figures?,
                _ = look.tick() => {
                    let resident = Memory::of(ours.pid()).context("the service has ended")?.resident as f64;
                    memory.push((begun.elapsed().as_secs_f64(), resident));
                }
            }
        };
        let sync = disk.take();
        let latency = figures.latency_us.unwrap_or_default();
        eprintln!(
            "part {number} of 6: p50 {:.0} µs, p99 {:.0} µs, longest {:.0} µs; a sync of 4 KiB by itself {:.0}, {:.0} and {:.0} µs, \
             stalls {:.2} s",
            latency.p50, latency.p99, latency.max, sync.took.p50, sync.took.p99, sync.took.max, sync.stalled
        );
        parts.push(figures);
        syncs.push(sync);
    }
    let figures = account(&args, load.rate, &parts, &syncs, &memory, ours.pid());
    ours.stop().await?;
    let company = watch.end();
    if args.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        println!(
            "{}\nload {:.2} → {:.2}, others {:.2}",
            text(&figures),
            company.load_before,
            company.load_after,
            company.others
        );
    }
    Ok(if figures.errors.count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn account(args: &SoakArgs, rate: f64, parts: &[Figures], syncs: &[Syncs], memory: &[(f64, f64)], pid: u32) -> Figures {
    let p99 = |figures: Option<&Figures>| figures.and_then(|figures| figures.latency_us).unwrap_or_default().p99;
    let (first, last) = (p99(parts.first()), p99(parts.last()));
    // Until the first part is over, everything comes to its size.
    let settled: Vec<(f64, f64)> = memory.iter().copied().skip(memory.len() / 6).collect();
    let slope = slope(&settled);
    let time = settled.last().map_or(0.0, |last| last.0) - settled.first().map_or(0.0, |first| first.0);
    let count: u64 = parts.iter().map(|part| part.count).sum();
    let seconds: f64 = parts.iter().map(|part| part.seconds).sum();
    let part = args.part();
    let mut figures = Figures {
        scenario: "soak".to_owned(),
        settings: json!({ "minutes": args.minutes, "rate": rate, "runners": RUNNERS }),
        seconds,
        count,
        per_second: count as f64 / seconds.max(0.001),
        latency_us: parts.last().and_then(|part| part.latency_us),
        server: Memory::of(pid).ok().map(|memory| ServerCost {
            user_kib: Some(memory.resident as f64),
            peak_kib: Some(memory.peak as f64),
            ..ServerCost::default()
        }),
        more: Map::from_iter([
            ("p99_us_of_parts".to_owned(), Value::from(parts.iter().map(|part| p99(Some(part))).collect::<Vec<_>>())),
            ("p99_ratio".to_owned(), Value::from(last / first.max(0.001))),
            (
                "disk_p99_us_of_parts".to_owned(),
                Value::from(syncs.iter().map(|sync| sync.took.p99).collect::<Vec<_>>()),
            ),
            (
                "disk_stalled_s_of_parts".to_owned(),
                Value::from(syncs.iter().map(|sync| sync.stalled).collect::<Vec<_>>()),
            ),
            ("noisy".to_owned(), Value::from(stalls(syncs, part))),
            ("resident_kib_per_hour".to_owned(), Value::from(slope * 3600.0)),
            ("resident_kib".to_owned(), Value::from(memory.iter().map(|(_, kib)| *kib).collect::<Vec<_>>())),
            ("load_after".to_owned(), Value::from(machine::load_average())),
        ]),
        ..Figures::default()
    };
    for part in parts {
        figures.errors.join(&part.errors);
    }
    for complaint in complaints(slope * time, (!stalls(syncs, part)).then_some((first, last))) {
        figures.errors.add(complaint);
    }
    figures
}

/// Whether the disk stalled by itself for long in one of the parts that are compared, of so many seconds.
fn stalls(syncs: &[Syncs], part: f64) -> bool {
    [syncs.first(), syncs.last()].into_iter().flatten().any(|sync| sync.stalled > STALLS * part)
}

/// What is wrong with how it went; of the p99 of the first and the last part, if they can be compared.
fn complaints(grown_kib: f64, p99: Option<(f64, f64)>) -> Vec<String> {
    let mut complaints = Vec::new();
    if grown_kib > FLAT {
        complaints.push(format!("resident memory grew by {grown_kib:.0} KiB"));
    }
    if let Some((first_p99, last_p99)) = p99
        && last_p99 > P99 * first_p99
    {
        complaints.push(format!(
            "p99 of the last part, {last_p99:.0} µs, is above {P99} × that of the first, {first_p99:.0} µs"
        ));
    }
    complaints
}

/// Least squares: growth of the second by the first.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (above, below) = points.iter().fold((0.0, 0.0), |(above, below), point| {
        (above + (point.0 - x) * (point.1 - y), below + (point.0 - x).powi(2))
    });
    if below > 0.0 { above / below } else { 0.0 }
}

fn text(figures: &Figures) -> String {
    let more = |name: &str| figures.more.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let mut text = format!(
        "soak: {:.0} life cycles a second for {:.0} s; resident memory {:+.0} KiB an hour; p99 of the last part {:.2} × \
         that of the first",
        figures.per_second,
        figures.seconds,
        more("resident_kib_per_hour"),
        more("p99_ratio")
    );
    if figures.more.get("noisy") == Some(&Value::Bool(true)) {
        text += "\nnoisy: the disk stalls by itself, so p99 is not judged";
    }
    for error in &figures.errors.first {
        text += &format!("\nfailed: {error}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_that_of_the_line_through_the_points() {
        let points: Vec<(f64, f64)> = (0..10).map(|x| (f64::from(x), 100.0 + 2.0 * f64::from(x))).collect();
        assert!((slope(&points) - 2.0).abs() < 1e-9);
        assert!(slope(&[(0.0, 5.0), (1.0, 9.0), (2.0, 5.0)]).abs() < 1e-9);
        assert!(slope(&[(1.0, 5.0)]).abs() < 1e-9 && slope(&[]).abs() < 1e-9);
    }

    #[test]
    fn growth_and_slowness_are_complained_of() {
        assert!(complaints(900.0, Some((1000.0, 1499.0))).is_empty());
        assert!(complaints(-5000.0, Some((1000.0, 10.0))).is_empty());
        assert_eq!(complaints(1100.0, Some((1000.0, 1501.0))).len(), 2);
        assert_eq!(complaints(1100.0, None).len(), 1);
    }

    #[test]
    fn a_disk_that_stalls_in_between_does_not_matter() {
        let sync = |stalled| Syncs { stalled, ..Syncs::default() };
        assert!(!stalls(&[sync(0.1), sync(20.0), sync(0.1)], 300.0));
        assert!(stalls(&[sync(0.1), sync(0.1), sync(2.0)], 300.0));
        assert!(stalls(&[sync(2.0), sync(0.1), sync(0.1)], 300.0));
    }
}
