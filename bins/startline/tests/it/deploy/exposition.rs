//! What `/metrics` says, read back.

use std::collections::{BTreeMap, BTreeSet};

/// One family.
#[derive(Clone, Debug, Default)]
pub(super) struct Family {
    pub kind: String,
    /// Its labels, without `le`, and the values seen.
    pub labels: BTreeMap<String, BTreeSet<String>>,
}

/// Families by the name that queries use: with `_total` or `_info`, of a histogram without `_bucket` and its like.
#[derive(Debug)]
pub(super) struct Exposition(pub BTreeMap<String, Family>);

impl Exposition {
    /// Reads the text; a family that has no sample is left out.
    pub(super) fn read(text: &str) -> Self {
        let mut kinds = BTreeMap::new();
        let mut families = BTreeMap::<String, Family>::new();
        for line in text.lines() {
            if let Some(declared) = line.strip_prefix("# TYPE ") {
                let (name, kind) = declared.split_once(' ').unwrap();
                kinds.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') {
                let end = line.find(['{', ' ']).unwrap();
                let sample = &line[..end];
                let (base, kind) = ["", "_total", "_info", "_bucket", "_sum", "_count"]
                    .into_iter()
                    .filter_map(|suffix| sample.strip_suffix(suffix))
                    .find_map(|base| Some((base, kinds.get(base)?)))
                    .unwrap_or_else(|| panic!("no type for `{line}`"));
                let name = if kind == "histogram" { base } else { sample };
                let family = families.entry(name.to_owned()).or_default();
                family.kind.clone_from(kind);
                for (label, value) in labels(&line[end..]) {
                    if label != "le" {
                        family.labels.entry(label).or_default().insert(value);
                    }
                }
            }
        }
        Self(families)
    }

    /// The family that a query means by this name.
    pub(super) fn family(&self, name: &str) -> Option<&Family> {
        let histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| {
            let family = self.0.get(name.strip_suffix(suffix)?)?;
            (family.kind == "histogram").then_some(family)
        });
        // The bare name of a histogram is no series.
        histogram.or_else(|| self.0.get(name).filter(|family| family.kind != "histogram"))
    }
}

fn labels(sample: &str) -> Vec<(String, String)> {
    let Some(mut rest) = sample.strip_prefix('{') else { return Vec::new() };
    let mut labels = Vec::new();
    while !rest.starts_with('}') {
        let (label, value) = rest.split_once("=\"").unwrap();
        // Our values hold neither quotes nor backslashes.
        let (value, behind) = value.split_once('"').unwrap();
        labels.push((label.to_owned(), value.to_owned()));
        rest = behind.trim_start_matches(',');
    }
    labels
}
