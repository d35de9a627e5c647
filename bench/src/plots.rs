//! `startline-bench plots`: figures of how costs grow, as SVG.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::println;
use anyhow::{Context as _, anyhow};
use clap::Args;
use plotters::prelude::*;

use crate::growth::{Dimension, Growth, Point, Series};

const SIZE: (u32, u32) = (760, 400);
/// Where the chart ends and the names of its lines begin.
const CHART: u32 = 590;
/// Nothing else is promised to be there where a browser shows it.
const FONT: &str = "sans-serif";
/// Readable for everybody (Okabe and Ito); the first is ours.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

/// Command line of `plots`.
#[derive(Args, Debug)]
pub(crate) struct PlotsArgs {
    /// What `growth --json` wrote; of several, later ones replace earlier ones
    #[arg(required = true, value_name = "FILE")]
    results: Vec<PathBuf>,
    /// Directory for the figures
    #[arg(long, default_value = "docs/performance", value_name = "DIR")]
    out: PathBuf,
}

/// What of a job is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Latency,
    Processor,
}

pub(crate) fn execute(args: &PlotsArgs) -> anyhow::Result<ExitCode> {
    let mut series: Vec<Series> = Vec::new();
    for path in &args.results {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let growth: Growth = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not what `growth --json` writes", path.display()))?;
        series.retain(|old| growth.series.iter().all(|new| new.grows != old.grows));
        series.extend(growth.series);
    }
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    for grows in [Dimension::Depth, Dimension::Fleet, Dimension::Tenants] {
        let shown: Vec<&Series> =
            series.iter().filter(|series| series.grows == grows && !series.points.is_empty()).collect();
        if shown.is_empty() {
            continue;
        }
        for what in [Shown::Latency, Shown::Processor] {
            let path = file(&args.out, grows, what);
            std::fs::write(&path, draw(grows, what, &shown)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
            println!("{}", path.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn file(directory: &Path, grows: Dimension, what: Shown) -> PathBuf {
    directory.join(format!("{grows:?}-{what:?}.svg").to_lowercase())
}

/// A line's name and what it takes of a point.
type Line = (String, bool, Vec<(f64, f64)>);

fn lines(what: Shown, series: &Series) -> Vec<Line> {
    let take = |of: fn(&Point) -> f64| -> Vec<(f64, f64)> {
        let points = series.points.iter().map(|point| (point.size as f64, of(point)));
        // The axes are logarithmic.
        points.filter(|(size, value)| *size > 0.0 && *value > 0.0).collect()
    };
    match what {
        Shown::Latency => vec![
            (format!("{} p50", series.who), false, take(|point| point.p50_us.median)),
            (format!("{} p99", series.who), true, take(|point| point.p99_us.median)),
        ],
        Shown::Processor => vec![(series.who.clone(), false, take(|point| point.cpu_us.median))],
    }
}

fn draw(grows: Dimension, what: Shown, series: &[&Series]) -> anyhow::Result<String> {
    let all: Vec<(RGBColor, Line)> = series
        .iter()
        .zip(COLOURS.iter().cycle())
        .flat_map(|(series, colour)| lines(what, series).into_iter().map(move |line| (*colour, line)))
        .collect();
    let (sizes, values): (Vec<f64>, Vec<f64>) = all.iter().flat_map(|(_, line)| line.2.iter().copied()).unzip();
    let (least, most) = bounds(&sizes).context("nothing to draw")?;
    let (low, high) = bounds(&values).context("nothing to draw")?;
    let (across, title) = match grows {
        Dimension::Depth => ("queued jobs that none of the waiting runners can take", "depth of the queue"),
        Dimension::Fleet => ("waiting runners or consumers", "size of the fleet"),
        Dimension::Tenants => ("repositories", "tenants"),
    };
    let (up, of) = match what {
        Shown::Latency => ("µs", "Dispatch latency"),
        Shown::Processor => ("µs of processor", "Server's processor time of a job"),
    };
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        // Readable on a dark page too.
        root.fill(&WHITE).map_err(broken)?;
        let (left, names) = root.split_horizontally(CHART);
        let mut chart = ChartBuilder::on(&left)
            .caption(format!("{of} against {title}"), (FONT, 17))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(64)
            // Powers of ten around what is there.
            .build_cartesian_2d(
                (power(least, f64::floor)..most * 1.1).log_scale(),
                (power(low, f64::floor)..power(high, f64::ceil)).log_scale(),
            )
            .map_err(broken)?;
        chart
            .configure_mesh()
            .light_line_style(BLACK.mix(0.06))
            .bold_line_style(BLACK.mix(0.15))
            .x_desc(across)
            .y_desc(up)
            .label_style((FONT, 13))
            .x_label_formatter(&|value| power_of_ten(*value))
            .y_label_formatter(&|value| count(*value))
            .draw()
            .map_err(broken)?;
        for (line, (colour, (name, thin, points))) in (0_i32..).zip(all) {
            let style = ShapeStyle {
                color: colour.mix(if thin { 0.55 } else { 1.0 }),
                filled: true,
                stroke_width: if thin { 1 } else { 2 },
            };
            let dots = if thin { 2 } else { 3 };
            chart.draw_series(LineSeries::new(points, style).point_size(dots)).map_err(broken)?;
            let y = 50 + 20 * line;
            names.draw(&PathElement::new([(4, y), (24, y)], style)).map_err(broken)?;
            names.draw(&Text::new(name, (30, y - 6), (FONT, 13))).map_err(broken)?;
        }
        root.present().map_err(broken)?;
    }
    let _ = writeln!(svg);
    Ok(svg)
}

fn broken(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

fn bounds(values: &[f64]) -> Option<(f64, f64)> {
    let least = values.iter().copied().min_by(f64::total_cmp)?;
    let most = values.iter().copied().max_by(f64::total_cmp)?;
    Some((least, most))
}

/// The power of ten that `round` leads to.
fn power(value: f64, round: fn(f64) -> f64) -> f64 {
    10_f64.powf(round(value.log10()))
}

/// The name of a power of ten; others would stand on top of each other.
fn power_of_ten(value: f64) -> String {
    let exponent = value.log10();
    if (exponent - exponent.round()).abs() < 1e-6 { count(value) } else { String::new() }
}

/// A number with thousands apart.
fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Spread;

    fn series(who: &str, missing: &[u64]) -> Series {
        let spread = |value| Spread::of(vec![value]).unwrap();
        let points = [16, 1000, 10_000].into_iter().filter(|size| !missing.contains(size));
        let points = points.map(|size| Point {
            size,
            p50_us: spread(300.0),
            p99_us: spread(700.0 + size as f64),
            cpu_us: spread(50.0),
        });
        Series { grows: Dimension::Fleet, who: who.to_owned(), missing: None, points: points.collect() }
    }

    /// Tags are closed in the order in which they were opened.
    fn well_formed(svg: &str) {
        let mut open = Vec::new();
        let mut rest = svg;
        while let Some(from) = rest.find('<') {
            let to = from + rest[from..].find('>').expect("a tag that does not end");
            let tag = &rest[from + 1..to];
            rest = &rest[to + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name.to_owned()), "{svg}");
            } else if !tag.ends_with('/') && !tag.starts_with(['?', '!']) {
                open.push(tag.split_whitespace().next().unwrap().to_owned());
            }
            assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
        }
        assert!(open.is_empty(), "{open:?}");
    }

    #[test]
    fn figures_are_well_formed_and_name_every_line() {
        let (ours, peer) = (series("startline", &[]), series("pg-notify", &[10_000]));
        for what in [Shown::Latency, Shown::Processor] {
            let svg = draw(Dimension::Fleet, what, &[&ours, &peer]).unwrap();
            well_formed(&svg);
            assert!(svg.contains("<svg") && svg.contains("startline") && svg.contains("pg-notify"), "{svg}");
            assert!(svg.contains("10,000") && svg.contains("waiting runners"), "{svg}");
        }
    }

    #[test]
    fn nothing_is_not_drawn() {
        let empty = Series { points: Vec::new(), ..series("startline", &[]) };
        assert!(draw(Dimension::Fleet, Shown::Latency, &[&empty]).is_err());
    }

    #[test]
    fn numbers_have_their_thousands_apart() {
        assert_eq!([1.0, 999.0, 1000.0, 1_234_567.0].map(count), ["1", "999", "1,000", "1,234,567"]);
    }
}
