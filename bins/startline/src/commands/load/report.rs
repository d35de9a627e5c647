//! What a load run found.

use std::fmt::Write as _;

use serde::Serialize;

use super::memory::Slope;

/// Most errors that are spelled out.
const MOST_ERRORS: usize = 20;

/// Everything that was measured. Times are milliseconds.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) runners: u32,
    pub(super) jobs: u32,
    pub(super) http: &'static str,
    /// How long it took to open and park all polls.
    pub(super) open_ms: f64,
    /// Memory of the service; `null` when its process is not known.
    pub(super) memory: Option<Slope>,
    /// Memory of bare hyper, when it was compared.
    pub(super) bare_hyper: Option<Slope>,
    /// Bytes a poll, ours to bare hyper's.
    pub(super) ratio: Option<f64>,
    /// Resident KiB with all polls parked again after the jobs.
    pub(super) after_jobs_kib: Option<u64>,
    /// From queued to the answer of a poll, read to its end.
    pub(super) dispatch_ms: Option<Quantiles>,
    /// From the first submission to the last completion.
    pub(super) jobs_per_second: Option<f64>,
    /// Jobs that were completed exactly once.
    pub(super) completed: u32,
    pub(super) errors: Errors,
}

/// How a number of durations is spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Quantiles {
    /// Of durations in milliseconds; `None` of none.
    pub(super) fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_unstable_by(f64::total_cmp);
        let last = samples.len().checked_sub(1)?;
        // The nearest rank: the smallest sample that at least so many per cent do not exceed.
        let at = |percent: usize| samples[(samples.len() * percent).div_ceil(100).saturating_sub(1).min(last)];
        Some(Self { p50: at(50), p99: at(99), max: samples[last] })
    }
}

/// What must not happen.
#[derive(Debug, Default, Serialize)]
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
}

impl Report {
    /// Whether everything held.
    pub(super) const fn is_sound(&self) -> bool {
        self.errors.count == 0
    }

    /// The report for people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<12}{value}");
        };
        line("load", format!("{} runners, {} jobs, HTTP/{}", self.runners, self.jobs, self.http));
        line("opened", format!("{} polls in {:.1} s", self.runners, self.open_ms / 1000.0));
        for (name, slope) in [("memory", &self.memory), ("bare hyper", &self.bare_hyper)] {
            if let Some(slope) = slope {
                line(
                    name,
                    format!(
                        "{:.2} KiB a parked poll (resident {:.1} MiB at {} polls, {:.1} MiB at {})",
                        slope.bytes_per_poll / 1024.0,
                        mib(slope.warm_kib),
                        slope.warm_polls,
                        mib(slope.kib),
                        slope.polls
                    ),
                );
            }
        }
        if let Some(ratio) = self.ratio {
            line("ratio", format!("{ratio:.2} of bare hyper"));
        }
        if let Some(kib) = self.after_jobs_kib {
            line("after jobs", format!("resident {:.1} MiB with all polls parked again", mib(kib)));
        }
        if let Some(dispatch) = &self.dispatch_ms {
            line(
                "dispatch",
                format!(
                    "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms (queued to answer read)",
                    dispatch.p50, dispatch.p99, dispatch.max
                ),
            );
        }
        if let Some(rate) = self.jobs_per_second {
            line("throughput", format!("{rate:.0} jobs/s, first submission to last completion"));
        }
        line("completed", format!("{} of {} jobs exactly once", self.completed, self.jobs));
        line("errors", self.errors.count.to_string());
        for error in &self.errors.first {
            line("", error.clone());
        }
        text
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_that_were_there() {
        let samples: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(Quantiles::of(samples), Some(Quantiles { p50: 50.0, p99: 99.0, max: 100.0 }));
        assert_eq!(Quantiles::of(vec![7.0]), Some(Quantiles { p50: 7.0, p99: 7.0, max: 7.0 }));
        assert_eq!(Quantiles::of(Vec::new()), None);
    }

    #[test]
    fn all_errors_count_and_the_first_are_told() {
        let mut report = Report::default();
        assert!(report.is_sound());
        for number in 0..50 {
            report.errors.add(format!("error {number}"));
        }
        assert!(!report.is_sound());
        let text = report.text();
        assert!(text.contains("errors      50") && text.contains("error 19") && !text.contains("error 20"), "{text}");
    }
}
