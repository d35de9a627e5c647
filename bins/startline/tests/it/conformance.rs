//! The page of pitfalls, held against the sources: each pitfall names tests that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::harness::root;

/// How many ids each part of the page has, from 1.
const PARTS: [(&str, usize); 4] = [("R", 24), ("E", 12), ("J", 24), ("S", 20)];

/// A line of the page: an id, what it is about, and the names of its tests.
struct Row {
    id: String,
    about: String,
    tests: Vec<String>,
}

fn rows(page: &str) -> Vec<Row> {
    let cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = cells.filter(|row| !row.starts_with("id |") && !row.starts_with("---"));
    let rows = rows.map(|row| {
        let cells: Vec<&str> = row.split(" | ").collect();
        let [id, about, tests] = cells[..] else { panic!("`{row}` has not three columns") };
        let tests = tests.split(", ").map(|test| {
            let name = test.strip_prefix('`').and_then(|test| test.strip_suffix('`'));
            name.unwrap_or_else(|| panic!("`{test}` of {id} is not the name of a test")).to_owned()
        });
        Row { id: id.to_owned(), about: about.to_owned(), tests: tests.collect() }
    });
    rows.collect()
}

/// The names of all tests below a directory: functions with an attribute that ends in `test`.
fn tests_below(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            tests_below(&entry, names);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&entry).unwrap();
            let mut marked = false;
            for line in text.lines().map(str::trim_start) {
                if let Some(attribute) = line.strip_prefix("#[") {
                    let path = attribute.split(['(', ']']).next().unwrap_or_default();
                    marked |= path == "test" || path.ends_with("::test");
                } else if let Some((_, after)) = line.split_once("fn ").filter(|_| marked) {
                    names.insert(after.split('(').next().unwrap_or_default().to_owned());
                    marked = false;
                }
            }
        }
    }
}

#[test]
fn every_pitfall_has_a_test_that_exists() {
    let mut known = BTreeSet::new();
    for room in ["crates", "bins"] {
        tests_below(&root().join(room), &mut known);
    }
    assert!(known.contains("every_pitfall_has_a_test_that_exists"), "tests are not found at all");
    let page = fs::read_to_string(root().join("docs/conformance.md")).unwrap();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows(&page) {
        assert!(row.about.len() > 20, "{} does not say what it is about", row.id);
        let missing: Vec<&String> = row.tests.iter().filter(|test| !known.contains(*test)).collect();
        assert!(missing.is_empty(), "{} names tests that do not exist: {missing:?}", row.id);
        *seen.entry(row.id).or_default() += 1;
    }
    for (letter, count) in PARTS {
        // The last part comes as a whole.
        let begun = letter != "S" || seen.keys().any(|id| id.starts_with(letter));
        for id in (1..=count).map(|number| format!("{letter}{number}")) {
            match seen.remove(&id) {
                Some(times) => assert_eq!(times, 1, "{id} stands there {times} times"),
                None => assert!(!begun, "{id} is missing"),
            }
        }
    }
    assert!(seen.is_empty(), "ids that nobody expects: {seen:?}");
}
