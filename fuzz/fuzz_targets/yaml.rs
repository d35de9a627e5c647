//! A workflow file: read, compiled, linked with itself as the file that it calls, and planned as far as it goes at once.
//! Every finding lies inside the text and can be shown.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use startline_workflow::expression::{Object, Value};
use startline_workflow::model::{FileName, link};
use startline_workflow::plan::{self, RunContext};
use startline_workflow::{diagnostic::Diagnostic, parse};

fuzz_target!(|source: &str| {
    let (workflow, findings) = parse(source);
    assert_eq!(workflow.is_none(), findings.iter().any(Diagnostic::is_error), "no workflow without a reason");
    for finding in &findings {
        let places = finding.notes.iter().filter_map(|note| note.span).chain([finding.span]);
        for place in places {
            assert!(source.is_char_boundary(place.start.offset), "{finding:?}");
        }
        let shown = finding.render(source, "ci.yml", true);
        assert!(shown.contains(finding.code));
    }
    let name = FileName::local(".github/workflows/a.yml");
    let called = FileName::local(".github/workflows/b.yml");
    let files = BTreeMap::from([(name.clone(), source.to_owned()), (called, source.to_owned())]);
    let linked = link(source, &name, &files);
    let Some(workflow) = linked.workflow else { return };
    let context = RunContext { github: Value::from(Object::new()), ..RunContext::default() };
    let decisions = plan::advance(&workflow, &context, &[]);
    assert!(linked.missing.is_empty() || !decisions.is_empty());
    let _ = plan::pending(&workflow, &context, &[]);
    let _ = plan::conclusion(&workflow, &context, &[]);
});
