//! The scenes do what they count, and the baseline knows exactly them.

use std::collections::BTreeSet;
use std::path::Path;

use startline_micro::{Meter, SCENES};

/// Large enough for every scene; what it costs at its full size is not the question here.
const SMALL: u32 = 1_000;

#[test]
fn every_count_has_a_baseline_and_every_baseline_a_count() {
    let mut counted = BTreeSet::new();
    for scene in SCENES {
        let mut meter = Meter::default();
        (scene.play)(&mut meter, scene.size.min(SMALL));
        for count in meter.counts() {
            assert!(count.operations > 0, "{} counts nothing", count.name);
            let name = format!("{}/{}", scene.name, count.name);
            assert!(counted.insert(name.clone()), "{name} is counted twice");
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json");
    let baseline: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let known: BTreeSet<String> = baseline["counts"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(known, counted, "after `bench/instructions --update` they are the same");
}

#[test]
fn names_of_scenes_are_names_of_files() {
    let mut seen = BTreeSet::new();
    for scene in SCENES {
        assert!(scene.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{}", scene.name);
        assert!(seen.insert(scene.name), "{} is there twice", scene.name);
    }
}
