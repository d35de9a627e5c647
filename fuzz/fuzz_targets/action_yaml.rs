//! The manifest of an action: read and compiled. Every finding lies inside the text and can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use startline_workflow::{action, diagnostic::Diagnostic};

fuzz_target!(|source: &str| {
    let (manifest, findings) = action::parse(source);
    assert_eq!(manifest.is_none(), findings.iter().any(Diagnostic::is_error), "no manifest without a reason");
    for finding in findings {
        assert!(source.is_char_boundary(finding.span.start.offset), "{finding:?}");
        assert!(finding.render(source, "action.yml", false).contains(finding.code));
    }
});
