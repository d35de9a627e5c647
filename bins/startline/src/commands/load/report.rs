//! What a load run found: the same shape for every scenario.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anstream::{print, println};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::usage::{Moment, ServerCost, Spent};
use crate::exit;

/// Most errors that are spelled out.
const MOST_ERRORS: usize = 20;
/// The longest time that is told from longer ones, in microseconds: ten minutes.
const LONGEST_US: u64 = 600_000_000;

/// Durations, counted by size: whole microseconds, exact to three digits.
#[derive(Clone, Debug)]
pub(super) struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are constants that fit"))
    }
}

impl Latency {
    pub(super) fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(LONGEST_US));
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// How they are spread; `None` of none.
    pub(super) fn summary(&self) -> Option<Summary> {
        if self.0.is_empty() {
            return None;
        }
        let at = |quantile| self.0.value_at_quantile(quantile);
        let max = self.0.max();
        // The bucket of the largest values may reach beyond the largest one.
        let at = |quantile| at(quantile).min(max);
        Some(Summary { mean: round(self.0.mean()), p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max })
    }
}

/// One decimal is more than any of these figures is worth.
pub(super) fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// How many there are in a second.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn per_second(count: u64, time: Duration) -> f64 {
    round(count as f64 / time.as_secs_f64().max(1e-6))
}

/// A time in milliseconds, with one decimal.
pub(super) fn millis(time: Duration) -> f64 {
    round(time.as_secs_f64() * 1000.0)
}

/// How a number of durations is spread, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Summary {
    pub(super) mean: f64,
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    pub(super) p999: u64,
    pub(super) max: u64,
}

/// What must not happen.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Errors {
    pub(super) count: u64,
    /// The first ones.
    pub(super) first: Vec<String>,
}

impl Errors {
    pub(super) fn add(&mut self, error: String) {
        self.count += 1;
        if self.first.len() < MOST_ERRORS {
            self.first.push(error);
        }
    }

    /// The same, each said to be of this part.
    pub(super) fn of(mut self, part: &str) -> Self {
        for error in &mut self.first {
            *error = format!("{part}: {error}");
        }
        self
    }

    /// Adds those of a part.
    pub(super) fn join(&mut self, part: Self) {
        self.count += part.count;
        self.first.extend(part.first);
        self.first.truncate(MOST_ERRORS);
    }
}

/// Everything that a scenario measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) scenario: &'static str,
    pub(super) settings: Value,
    /// How long was measured.
    pub(super) seconds: f64,
    /// How many of what the scenario is about there were meanwhile.
    pub(super) count: u64,
    pub(super) per_second: f64,
    pub(super) latency_us: Option<Summary>,
    /// What only this scenario tells.
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
    /// `null` when the process of the service is not known.
    pub(super) server: Option<ServerCost>,
    pub(super) errors: Errors,
}

impl Report {
    /// So many of them in that time.
    pub(super) fn new(scenario: &'static str, settings: Value, time: Duration, count: u64) -> Self {
        let seconds = time.as_secs_f64();
        let per_second = per_second(count, time);
        Self {
            scenario,
            settings,
            seconds: (seconds * 1000.0).round() / 1000.0,
            count,
            per_second,
            latency_us: None,
            more: Map::new(),
            server: None,
            errors: Errors::default(),
        }
    }

    /// Adds what only this scenario tells; nothing when it is not known.
    pub(super) fn tell(&mut self, name: &str, value: impl Serialize) {
        let value = serde_json::to_value(value).unwrap_or_default();
        if !value.is_null() {
            self.more.insert(name.to_owned(), value);
        }
    }

    /// Adds what so many operations cost between two moments; that a process is gone by then is an error.
    pub(super) fn cost(&mut self, before: &Moment, after: anyhow::Result<Moment>, operations: u64) {
        match after {
            Ok(after) => self.spent(&before.until(&after), operations),
            Err(error) => self.errors.add(format!("{error:#}")),
        }
    }

    /// Adds what so many operations cost.
    pub(super) fn spent(&mut self, spent: &Spent, operations: u64) {
        match spent.server(operations) {
            Ok(server) => self.server = server,
            Err(error) => self.errors.add(format!("{error:#}")),
        }
        self.tell("load_cpu_us_per_op", spent.own_each(operations));
    }

    /// Says how long it took, where that is known only later.
    pub(super) fn timed(&mut self, time: Duration) {
        self.seconds = (time.as_secs_f64() * 1000.0).round() / 1000.0;
        self.per_second = per_second(self.count, time);
    }

    /// Prints it, and says how the command ends.
    pub(super) fn close(&self, json: bool) -> anyhow::Result<ExitCode> {
        if json {
            println!("{}", serde_json::to_string(self)?);
        } else {
            print!("{}", self.text());
        }
        Ok(if self.errors.count == 0 { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
    }

    /// The report for people.
    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<22}{value}");
        };
        line("scenario", format!("{}: {}", self.scenario, members(&self.settings)));
        line("measured", format!("{} in {:.1} s, {} a second", self.count, self.seconds, self.per_second));
        if let Some(latency) = &self.latency_us {
            line("latency us", members(&serde_json::to_value(latency).unwrap_or_default()));
        }
        for (name, value) in &self.more {
            line(&name.replace('_', " "), members(value));
        }
        if let Some(server) = &self.server {
            line("server", members(&serde_json::to_value(server).unwrap_or_default()));
        }
        line("errors", self.errors.count.to_string());
        for error in &self.errors.first {
            line("", error.clone());
        }
        text
    }
}

/// A value in one line: `runners 256, payload bytes 512`.
fn members(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let told = members.iter().filter(|(_, value)| !value.is_null());
            let told = told.map(|(name, value)| format!("{} {}", name.replace('_', " "), self::members(value)));
            told.collect::<Vec<_>>().join(", ")
        }
        Value::Array(values) => values.iter().map(members).collect::<Vec<_>>().join("; "),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantiles_are_durations_that_were_there() {
        let mut latency = Latency::default();
        assert_eq!(latency.summary(), None);
        for micros in (1..=1000).rev() {
            latency.record(Duration::from_micros(micros));
        }
        let expected = Summary { mean: 500.5, p50: 500, p90: 900, p99: 990, p999: 999, max: 1000 };
        assert_eq!(latency.summary(), Some(expected));
        latency.record(Duration::ZERO);
        latency.record(Duration::from_secs(6000));
        assert_eq!(latency.summary().unwrap().max / 1_000_000, 600);
    }

    #[test]
    fn all_errors_count_and_the_first_are_told() {
        let mut report = Report::new("lifecycle", json!({ "runners": 2 }), Duration::from_secs(2), 10);
        for number in 0..50 {
            report.errors.add(format!("error {number}"));
        }
        report.tell("load_cpu_us_per_op", 3.5);
        report.tell("nothing", None::<u32>);
        let text = report.text();
        assert!(text.contains("lifecycle: runners 2") && text.contains("10 in 2.0 s, 5 a second"), "{text}");
        assert!(text.contains("load cpu us per op    3.5") && !text.contains("nothing"), "{text}");
        assert!(text.contains("errors                50") && text.contains("error 19"), "{text}");
        assert!(!text.contains("error 20"), "{text}");
        let mut whole = Errors::default();
        whole.join(report.errors.of("half"));
        assert_eq!((whole.count, whole.first.len(), whole.first[0].as_str()), (50, MOST_ERRORS, "half: error 0"));
    }
}
