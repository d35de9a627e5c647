//! The one shape in which every load and every peer tells what it measured.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::sample::Quantiles;

/// Most errors that are spelled out.
const MOST_ERRORS: usize = 20;

/// One scenario, once. What `startline load … --json` prints is read as this too.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Figures {
    pub(crate) scenario: String,
    pub(crate) settings: Value,
    pub(crate) seconds: f64,
    pub(crate) count: u64,
    pub(crate) per_second: f64,
    /// From the intended send time, where load arrives by a timetable.
    pub(crate) latency_us: Option<Quantiles>,
    /// `null` when the server's process is not known.
    pub(crate) server: Option<ServerCost>,
    pub(crate) errors: Errors,
    /// What only this scenario has.
    #[serde(flatten)]
    pub(crate) more: Map<String, Value>,
}

/// What it cost the server.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ServerCost {
    pub(crate) cpu_us_per_op: Option<f64>,
    pub(crate) user_kib: Option<f64>,
    pub(crate) peak_kib: Option<f64>,
    pub(crate) kernel_kib: Option<f64>,
}

/// What must not happen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Errors {
    pub(crate) count: u64,
    /// The first ones.
    pub(crate) first: Vec<String>,
}

impl Errors {
    pub(crate) fn add(&mut self, error: String) {
        self.count += 1;
        if self.first.len() < MOST_ERRORS {
            self.first.push(error);
        }
    }

    /// Adds those of a part, also those that it does not spell out.
    pub(crate) fn join(&mut self, part: &Self) {
        self.count += part.count;
        self.first.extend_from_slice(&part.first);
        self.first.truncate(MOST_ERRORS);
    }
}

impl Figures {
    /// A number by its path from the top, such as `/latency_us/p50`.
    pub(crate) fn number(&self, pointer: &str) -> Option<f64> {
        let value = serde_json::to_value(self).ok()?;
        value.pointer(pointer)?.as_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_load_prints_is_read_with_what_only_it_has() {
        let text = r#"{"scenario":"burst","settings":{"runners":60},"seconds":1.5,"count":100,"per_second":66.6,
            "latency_us":{"mean":1,"p50":2.5,"p90":3,"p99":4,"p999":5,"max":6},
            "server":{"cpu_us_per_op":61.2,"user_kib":14000,"peak_kib":15000,"kernel_kib":null},
            "idle_ms":{"max":12.5},"errors":{"count":0,"first":[]}}"#;
        let figures: Figures = serde_json::from_str(text).unwrap();
        assert_eq!(figures.number("/latency_us/p50"), Some(2.5));
        assert_eq!(figures.number("/server/cpu_us_per_op"), Some(61.2));
        assert_eq!(figures.number("/server/kernel_kib"), None);
        assert_eq!(figures.number("/idle_ms/max"), Some(12.5));
        assert_eq!(figures.number("/settings/runners"), Some(60.0));
    }

    #[test]
    fn all_errors_count_and_the_first_are_told() {
        let mut errors = Errors::default();
        for number in 0..50 {
            errors.add(number.to_string());
        }
        assert_eq!((errors.count, errors.first.len()), (50, MOST_ERRORS));
        let mut whole = Errors::default();
        whole.join(&errors);
        whole.join(&errors);
        assert_eq!((whole.count, whole.first.len()), (100, MOST_ERRORS));
    }
}
