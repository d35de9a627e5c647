//! What is kept of a run, as `results-<time>.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::verdict::{NOISY_LOAD, NOISY_OTHERS, Row, Verdict};
use super::{GoalsArgs, table};
use crate::figures::Figures;
use crate::machine;
use crate::probe::Probe;

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
    pub(super) async fn begin(args: &GoalsArgs, probe_before: Probe) -> Self {
        Self {
            version: 1,
            time: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            quick: args.quick,
            whole: true,
            processors: machine::processors(),
            versions: super::versions(&args.startline).await.into_iter().collect(),
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
            "{part}{} passed, {} failed, {} skipped, {} noisy (load average before above {NOISY_LOAD}, or more than \
             {NOISY_OTHERS} processors busy for others)",
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
