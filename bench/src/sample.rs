//! What many measurements come to: spreads over rounds, latencies within one.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::time::Duration;

/// Longest latency that is told apart from longer ones.
const LONGEST: Duration = Duration::from_secs(120);

/// Who is when on turn in so many rounds, forwards and backwards (A-B-B-A): pairs of a round, from 1, and a contender.
pub(crate) fn turns(rounds: usize, contenders: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rounds * contenders).map(move |turn| {
        let (round, place) = (turn / contenders, turn % contenders);
        (round + 1, if round % 2 == 1 { contenders - 1 - place } else { place })
    })
}

/// The same figure in several rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Every round, in the order in which they were run.
    pub(crate) rounds: Vec<f64>,
}

impl Spread {
    /// `None` of no rounds.
    pub(crate) fn of(rounds: Vec<f64>) -> Option<Self> {
        let mut sorted = rounds.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        Some(Self { median, min, max, rounds })
    }
}

/// Latencies under way.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Self {
        let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
        Self(Histogram::new_with_bounds(1, longest, 3).expect("bounds that are right for every run"))
    }

    /// Adds one; what is longer than two minutes counts as two minutes.
    pub(crate) fn add(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("histograms of the same bounds");
    }

    /// `None` when nothing was added.
    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        (!self.0.is_empty()).then(|| Quantiles {
            mean: self.0.mean() / 1000.0,
            p50: self.at(0.5),
            p90: self.at(0.9),
            p99: self.at(0.99),
            p999: self.at(0.999),
            max: micros(self.0.max()),
        })
    }

    fn at(&self, quantile: f64) -> f64 {
        micros(self.0.value_at_quantile(quantile))
    }
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

/// How latencies are spread, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Quantiles {
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_take_turns_forwards_and_backwards() {
        let order: Vec<_> = turns(3, 2).collect();
        assert_eq!(order, [(1, 0), (1, 1), (2, 1), (2, 0), (3, 0), (3, 1)]);
        assert_eq!((turns(5, 0).count(), turns(0, 5).count()), (0, 0));
    }

    #[test]
    fn a_median_is_the_middle_and_rounds_keep_their_order() {
        let odd = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        assert_eq!(odd.rounds, [3.0, 1.0, 2.0]);
        assert!((Spread::of(vec![1.0, 2.0, 4.0, 9.0]).unwrap().median - 3.0).abs() < 1e-9);
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn quantiles_are_within_a_thousandth() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.quantiles(), None);
        for micro in 1..=1000 {
            latencies.add(Duration::from_micros(micro));
        }
        let mut twice = latencies.clone();
        twice.merge(&latencies);
        for found in [latencies.quantiles().unwrap(), twice.quantiles().unwrap()] {
            assert!((found.p50 - 500.0).abs() < 1.0, "{found:?}");
            assert!((found.p99 - 990.0).abs() < 1.5, "{found:?}");
            assert!((found.max - 1000.0).abs() < 1.5, "{found:?}");
        }
    }

    #[test]
    fn an_endless_latency_is_kept_as_the_longest() {
        let mut latencies = Latencies::new();
        latencies.add(Duration::from_secs(100_000));
        assert!(latencies.quantiles().unwrap().max >= 119_000_000.0);
    }
}
