//! The house keeps its shape: rooms use only the rooms that they may, and files stay readable.

use std::collections::BTreeMap;
use std::path::Path;

use cargo_metadata::MetadataCommand;

/// Who may use whom, as ARCHITECTURE.md draws it. A room that is not here may use nothing.
const ARROWS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("workflow", &[]),
    ("daemon", &[]),
    ("dispatcher", &["protocol"]),
    ("crypto", &["protocol"]),
    ("store", &["dispatcher", "protocol"]),
    ("client", &["protocol", "crypto"]),
    ("server", &["store", "dispatcher", "workflow", "protocol", "crypto", "daemon"]),
    ("worker", &["workflow", "client", "protocol"]),
    ("runner", &["client", "worker", "protocol", "crypto"]),
    // Not a room: it measures the product from outside.
    ("bench", &[]),
];

/// What measures the rooms may use any of them, and is used by none.
const BENCHES: &[&str] = &["micro"];

/// Longest source file, tests excepted.
const MOST_LINES: usize = 800;

#[test]
fn rooms_use_only_the_rooms_that_they_may() {
    let metadata = MetadataCommand::new().no_deps().other_options(["--offline".to_owned()]).exec().unwrap();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut seen = Vec::new();
    for package in &metadata.packages {
        let Some(room) = package.name.strip_prefix("startline-") else {
            assert_eq!(package.name.as_str(), "startline", "a package that is neither a room nor the binary");
            continue;
        };
        if BENCHES.contains(&room) {
            continue;
        }
        seen.push(room.to_owned());
        let may = allowed.get(room).unwrap_or_else(|| panic!("room `{room}` has no line in the table of arrows"));
        // Tests count too: what a room's tests need of another room, the room knows.
        for dependency in &package.dependencies {
            if let Some(used) = dependency.name.strip_prefix("startline-") {
                assert!(may.contains(&used), "{room} → {used} is not an arrow of the house");
            }
        }
    }
    seen.sort();
    let mut known: Vec<&str> = allowed.keys().copied().collect();
    known.sort_unstable();
    assert_eq!(seen, known, "the rooms that exist are the rooms that are drawn");
}

#[test]
fn no_source_file_is_longer_than_a_person_reads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut long = Vec::new();
    let mut stack = vec![root.join("crates"), root.join("bins"), root.join("bench")];
    while let Some(directory) = stack.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().into_string().unwrap();
            if path.is_dir() {
                if name != "tests" && name != "target" {
                    stack.push(path);
                }
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let lines = std::fs::read_to_string(&path).unwrap().lines().count();
                if lines > MOST_LINES {
                    long.push(format!("{} has {lines} lines", path.display()));
                }
            }
        }
    }
    assert!(long.is_empty(), "split these files: {long:#?}");
}
