//! A file of problem matchers, a NUL, and lines of output that they are held against.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/worker/src/matcher.rs"]
mod matcher;

use matcher::Matchers;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (file, rest) = bytes.split_at(end);
    let mut matchers = Matchers::default();
    let Ok(owners) = matchers.add(file) else { return };
    assert_eq!(Matchers::owners(file).expect("it was read"), owners);
    let output = String::from_utf8_lossy(rest);
    for line in output.split('\n') {
        if let Some(problem) = matchers.find(line) {
            assert!(!problem.message.is_empty());
            let _ = problem.level();
        }
    }
    owners.iter().for_each(|owner| matchers.remove(owner));
    assert_eq!(matchers.find(&output), None, "none are left");
});
