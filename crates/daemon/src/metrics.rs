//! What a process measures: one registry, handed from hand to hand, and its text form.

mod process;

use std::sync::Arc;

use prometheus_client::encoding::text;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// The content type of the text that [`Exposition::text`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Buckets for what should take milliseconds (requests, commits, dispatch), in seconds: 0.5 ms to 30 s.
pub const LATENCY_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// Buckets for what people wait for (queueing, jobs, runs), in seconds: 1 s to 6 h.
pub const WAIT_SECONDS: [f64; 12] =
    [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1_800.0, 3_600.0, 10_800.0, 21_600.0];
/// Buckets for sizes in bytes: 1 KiB to 1 GiB.
pub const SIZE_BYTES: [f64; 11] = [
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
];

/// Which build is running.
#[derive(Clone, Copy, Debug)]
pub struct BuildInfo {
    /// The release.
    pub version: &'static str,
    /// The commit, or `unknown`.
    pub commit: &'static str,
}

/// The registry while components add to it.
///
/// It has the process's own metrics (`process_…`, from /proc) and `startline_build_info` from the beginning.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// The registry of a process of this build.
    #[must_use]
    pub fn new(build: BuildInfo) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process::Process));
        let labels = vec![("version", build.version), ("commit", build.commit)];
        // The name gets the suffix `_info` from its type.
        registry.register("startline_build", "Which build is running", Info::new(labels));
        Self { registry }
    }

    /// Where a component registers: names get the prefix `startline_`, counters the suffix `_total`.
    pub fn registry(&mut self) -> &mut Registry {
        self.registry.sub_registry_with_prefix("startline")
    }

    /// Nothing more is registered; the rest is reading.
    #[must_use]
    pub fn finish(self) -> Exposition {
        Exposition(Arc::new(self.registry))
    }
}

/// The registry when it is complete; a copy is the same one.
#[derive(Clone, Debug)]
pub struct Exposition(Arc<Registry>);

impl Exposition {
    /// All metrics as they are now, in the `OpenMetrics` text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.0).expect("writing to a string cannot fail");
        out
    }
}

impl From<Registry> for Exposition {
    fn from(registry: Registry) -> Self {
        Self(Arc::new(registry))
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn components_are_prefixed_and_the_process_is_not() {
        let mut metrics = Metrics::new(BuildInfo { version: "1.2.3", commit: "abc" });
        let polls = Counter::<u64>::default();
        metrics.registry().register("polls", "Long polls", polls.clone());
        let exposition = metrics.finish();
        polls.inc();
        let text = exposition.text();
        assert!(text.contains("\nstartline_polls_total 1\n"), "{text}");
        assert!(text.contains("startline_build_info{version=\"1.2.3\",commit=\"abc\"} 1\n"), "{text}");
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn buckets_rise() {
        for buckets in [&LATENCY_SECONDS[..], &WAIT_SECONDS, &SIZE_BYTES] {
            assert!(buckets.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
