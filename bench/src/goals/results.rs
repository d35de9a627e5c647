//! What is kept of a run, as `results-<time>.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::table;
use super::verdict::{NOISY_LOAD, NOISY_OTHERS, NOISY_STEAL, Row, Verdict};
use crate::figures::Figures;
use crate::machine;
use crate::probe::{self, Probe};

/// Everything.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Of this shape.
    pub(crate) version: u32,
    pub(crate) time: String,
    pub(crate) quick: bool,
    /// Not ended by a signal before its time.
    pub(crate) whole: bool,
    pub(crate) processors: f64,
    pub(crate) versions: BTreeMap<String, String>,
    /// Peers that ran, with their settings.
    pub(crate) peers: Vec<String>,
    pub(crate) probe_before: Probe,
    pub(crate) probe_after: Option<Probe>,
    pub(crate) rows: Vec<Row>,
    pub(crate) measurements: Vec<Measurement>,
}

/// All rounds of one contender in one suite.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measurement {
    pub(crate) what: String,
    pub(crate) who: String,
    pub(crate) missing: Option<String>,
    pub(crate) rounds: Vec<Figures>,
}

impl Results {
    pub(super) async fn begin(quick: bool, startline: &Path, probe_before: Probe) -> Self {
        Self {
            version: 1,
            time: probe::time(),
            quick,
            whole: true,
            processors: machine::processors(),
            versions: super::versions(startline).await.into_iter().collect(),
            peers: Vec::new(),
            probe_before,
            probe_after: None,
            rows: Vec::new(),
            measurements: Vec::new(),
        }
    }

    /// Writes it to a file of its own.
    pub(super) fn write(&self, directory: &Path) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let path = directory.join(format!("results-{}.json", self.time.replace(':', "")));
        std::fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// How the command ends: whether no goal is missed, an error when there is nothing to say that of.
    pub(super) fn outcome(&self) -> anyhow::Result<ExitCode> {
        let any = |wanted: fn(&Verdict) -> bool| self.rows.iter().any(|row| wanted(&row.verdict));
        ensure!(any(|verdict| !matches!(verdict, Verdict::Skipped(_))), "nothing could be measured");
        Ok(if any(|verdict| *verdict == Verdict::Fail) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Reads what was written.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not what `goals` writes", path.display()))
    }

    /// The table, and what it was measured with.
    pub(crate) fn text(&self, markdown: bool) -> String {
        if markdown {
            let lines = self.footer().lines().map(|line| format!("    {line}")).collect::<Vec<_>>();
            return format!("{}\n\n{}", table::markdown(&self.rows), lines.join("\n"));
        }
        format!("{}\n{}", table::table(&self.rows), self.footer())
    }

    fn footer(&self) -> String {
        let count = |wanted: fn(&Verdict) -> bool| self.rows.iter().filter(|row| wanted(&row.verdict)).count();
        let part = if self.whole { "" } else { "ended by a signal before all was measured: " };
        let mut lines = vec![format!(
            "{part}{} passed, {} failed, {} skipped, {} noisy (load average before above {NOISY_LOAD}, more than \
             {NOISY_OTHERS} processors busy for others, or more than {NOISY_STEAL} % of the time taken away by the host)",
            count(|verdict| *verdict == Verdict::Pass),
            count(|verdict| *verdict == Verdict::Fail),
            count(|verdict| matches!(verdict, Verdict::Skipped(_))),
            count(|verdict| *verdict == Verdict::Noisy),
        )];
        lines.push(format!("before    {}", self.probe_before.text()));
        lines.extend(self.probe_after.as_ref().map(|probe| format!("after     {}", probe.text())));
        lines.extend(self.peers.iter().map(|about| format!("peer      {about}")));
        lines.extend(self.versions.iter().map(|(name, version)| format!("{name:<9} {version}")));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::{Bound, Found, Goal};
    use super::*;
    use crate::probe::Company;
    use crate::sample::Quantiles;

    const GOAL: Goal = Goal { id: "S1", what: "cycles", unit: "/s", bound: Bound::AtLeast(1.0), steady: false };

    fn results(found: Vec<Found>, company: Company) -> Results {
        let rows = found.into_iter().map(|found| Row::judge(GOAL, found, None, company)).collect();
        let fdatasync_us = Quantiles { mean: 1.0, p50: 1.0, p90: 1.0, p99: 1.0, p999: 1.0, max: 1.0 };
        Results {
            version: 1,
            time: probe::time(),
            quick: true,
            whole: true,
            processors: 2.0,
            versions: BTreeMap::new(),
            peers: Vec::new(),
            probe_before: Probe { fdatasync_us, loop_mhz: 1.0, steal_percent: 0.0, load: 0.0 },
            probe_after: None,
            rows,
            measurements: Vec::new(),
        }
    }

    #[test]
    fn what_broke_or_missed_its_goal_fails_and_nothing_measured_is_an_error() {
        let quiet = Company { load_before: 0.0, load_after: 0.0, others: 0.0, steal_percent: 0.0 };
        let missing = || Found::Missing("not installed".to_owned());
        let (good, bad) = (|| Found::of(vec![1.0]), || Found::of(vec![0.9]));
        let broken = || Found::Wrong("the service has ended".to_owned(), None);
        let outcome = |found, company| results(found, company).outcome().map(|code| code == ExitCode::SUCCESS).ok();
        assert_eq!(outcome(vec![good(), missing()], quiet), Some(true));
        assert_eq!(outcome(vec![good(), bad()], quiet), Some(false));
        assert_eq!(outcome(vec![good(), broken()], quiet), Some(false));
        assert_eq!(outcome(vec![missing(), missing()], quiet), None);
        assert_eq!(outcome(Vec::new(), quiet), None);
        // Noise is no fault of the service.
        let stolen = Company { steal_percent: 50.0, ..quiet };
        assert_eq!(outcome(vec![good(), bad()], stolen), Some(true));
        assert!(results(vec![bad()], stolen).text(false).contains("1 noisy (load average before above 1.5, more than"));
    }
}
