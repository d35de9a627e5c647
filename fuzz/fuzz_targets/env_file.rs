//! `GITHUB_ENV`, `GITHUB_OUTPUT`, `GITHUB_STATE` and `GITHUB_PATH`: pairs that are written as they were read are read the
//! same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/worker/src/file_command.rs"]
mod file_command;

use file_command::{pairs, paths};

fuzz_target!(|bytes: &[u8]| {
    // As the worker reads files.
    let text = String::from_utf8_lossy(bytes);
    let (found, error) = pairs(&text);
    if let Some(error) = error {
        assert!(!error.to_string().is_empty());
    }
    let written: String = found.iter().map(|(name, value)| entry(name, value)).collect();
    assert_eq!(pairs(&written), (found, None), "{text:?}");
    for path in paths(&text) {
        assert!(!path.is_empty() && !path.contains('\n'), "{path:?}");
    }
});

fn entry(name: &str, value: &str) -> String {
    assert!(!name.is_empty() && !name.contains('\n'), "{name:?}");
    if !value.contains('\n') {
        return format!("{name}={value}\n");
    }
    let mut delimiter = String::from("_");
    while value.split('\n').any(|line| line == delimiter) {
        delimiter.push('_');
    }
    format!("{name}<<{delimiter}\n{value}\n{delimiter}\n")
}
