use serde_json::{Value as Json, json};

use super::*;

fn strategy(json: &Json) -> Result<Strategy, Vec<Problem>> {
    expand(&Value::from_json(json))
}

/// The combinations as JSON text.
fn combinations(matrix: &Json) -> Vec<String> {
    let strategy = strategy(&json!({ "matrix": matrix })).unwrap();
    strategy.combinations.iter().map(|combination| combination.values.to_json().to_string()).collect()
}

fn names(matrix: &Json) -> Vec<String> {
    let strategy = strategy(&json!({ "matrix": matrix })).unwrap();
    strategy.combinations.iter().map(|combination| display_name("job", &combination.labels)).collect()
}

fn problems(value: &Json) -> Vec<String> {
    let path = |problem: &Problem| {
        let step = |step: &Step| match step {
            Step::Key(key) => key.clone(),
            Step::Index(index) => index.to_string(),
        };
        problem.path.iter().map(step).collect::<Vec<_>>().join(".")
    };
    strategy(value).unwrap_err().iter().map(|problem| format!("{}: {problem}", path(problem))).collect()
}

// The next tests are the examples of GitHub's page "Running variations of jobs in a workflow".

#[test]
fn two_vectors_make_their_product_with_the_first_key_slowest() {
    let matrix = json!({"version": [10, 12, 14], "os": ["ubuntu-latest", "windows-latest"]});
    assert_eq!(
        combinations(&matrix),
        [
            r#"{"version":10,"os":"ubuntu-latest"}"#,
            r#"{"version":10,"os":"windows-latest"}"#,
            r#"{"version":12,"os":"ubuntu-latest"}"#,
            r#"{"version":12,"os":"windows-latest"}"#,
            r#"{"version":14,"os":"ubuntu-latest"}"#,
            r#"{"version":14,"os":"windows-latest"}"#,
        ]
    );
    assert_eq!(names(&matrix)[3], "job (12, windows-latest)");
}

#[test]
fn vectors_may_hold_objects() {
    let matrix = json!({
        "os": ["ubuntu-latest", "macos-latest"],
        "node": [{"version": 14}, {"version": 20, "env": "NODE_OPTIONS=--openssl-legacy-provider"}]
    });
    assert_eq!(
        names(&matrix),
        [
            "job (ubuntu-latest, 14)",
            "job (ubuntu-latest, 20, NODE_OPTIONS=--openssl-legacy-provider)",
            "job (macos-latest, 14)",
            "job (macos-latest, 20, NODE_OPTIONS=--openssl-legacy-provider)",
        ]
    );
}

#[test]
fn include_extends_matching_combinations_and_adds_the_others() {
    let matrix = json!({
        "fruit": ["apple", "pear"],
        "animal": ["cat", "dog"],
        "include": [
            {"color": "green"},
            {"color": "pink", "animal": "cat"},
            {"fruit": "apple", "shape": "circle"},
            {"fruit": "banana"},
            {"fruit": "banana", "animal": "cat"}
        ]
    });
    assert_eq!(
        combinations(&matrix),
        [
            r#"{"fruit":"apple","animal":"cat","color":"pink","shape":"circle"}"#,
            r#"{"fruit":"apple","animal":"dog","color":"green","shape":"circle"}"#,
            r#"{"fruit":"pear","animal":"cat","color":"pink"}"#,
            r#"{"fruit":"pear","animal":"dog","color":"green"}"#,
            r#"{"fruit":"banana"}"#,
            r#"{"fruit":"banana","animal":"cat"}"#,
        ]
    );
    assert_eq!(names(&matrix)[0], "job (apple, cat)", "extras are not shown");
    assert_eq!(names(&matrix)[5], "job (banana, cat)", "of an added combination all is shown");
}

#[test]
fn include_expands_one_configuration() {
    let matrix = json!({
        "os": ["windows-latest", "ubuntu-latest"],
        "node": [14, 16],
        "include": [{"os": "windows-latest", "node": 16, "npm": 6}]
    });
    assert_eq!(
        combinations(&matrix),
        [
            r#"{"os":"windows-latest","node":14}"#,
            r#"{"os":"windows-latest","node":16,"npm":6}"#,
            r#"{"os":"ubuntu-latest","node":14}"#,
            r#"{"os":"ubuntu-latest","node":16}"#,
        ]
    );
}

#[test]
fn include_adds_a_configuration() {
    let matrix = json!({
        "os": ["macos-latest", "windows-latest", "ubuntu-latest"],
        "version": [12, 14, 16],
        "include": [{"os": "windows-latest", "version": 17}]
    });
    let found = combinations(&matrix);
    assert_eq!(found.len(), 10);
    assert_eq!(found[9], r#"{"os":"windows-latest","version":17}"#);
}

#[test]
fn include_alone_makes_one_job_for_each_entry() {
    let matrix = json!({"include": [{"site": "production", "datacenter": "site-a"}, {"site": "staging", "datacenter": "site-b"}]});
    assert_eq!(
        combinations(&matrix),
        [r#"{"site":"production","datacenter":"site-a"}"#, r#"{"site":"staging","datacenter":"site-b"}"#]
    );
}

#[test]
fn exclude_removes_partial_matches() {
    let matrix = json!({
        "os": ["macos-latest", "windows-latest"],
        "version": [12, 14, 16],
        "environment": ["staging", "production"],
        "exclude": [
            {"os": "macos-latest", "version": 12, "environment": "production"},
            {"os": "windows-latest", "version": 16}
        ]
    });
    let found = combinations(&matrix);
    assert_eq!(found.len(), 9);
    assert!(!found.iter().any(|text| text.contains("windows-latest") && text.contains("16")));
    assert!(found.contains(&r#"{"os":"macos-latest","version":12,"environment":"staging"}"#.to_owned()));
}

#[test]
fn include_comes_after_exclude() {
    let matrix = json!({"a": [1, 2], "exclude": [{"a": 1}], "include": [{"a": 1, "b": 2}]});
    assert_eq!(combinations(&matrix), [r#"{"a":2}"#, r#"{"a":1,"b":2}"#]);
}

#[test]
fn filters_compare_loosely_and_deep() {
    let matrix = json!({
        "v": [{"node": 12, "os": "Linux"}, {"node": 14, "os": "Linux"}],
        "l": [["a", "b"]],
        "exclude": [{"v": {"node": "12"}, "l": ["A"]}]
    });
    assert_eq!(combinations(&matrix), [r#"{"v":{"node":14,"os":"Linux"},"l":["a","b"]}"#]);
}

#[test]
fn an_added_combination_gets_nothing_from_other_entries() {
    let matrix = json!({"a": [1], "include": [{"a": 2}, {"x": 1}]});
    assert_eq!(combinations(&matrix), [r#"{"a":1,"x":1}"#, r#"{"a":2}"#]);
}

#[test]
fn a_matrix_that_is_excluded_whole_leaves_one_job_without_matrix() {
    assert_eq!(combinations(&json!({"a": [1], "exclude": [{"a": 1}]})), [] as [&str; 0]);
    assert_eq!(strategy(&Value::Null.to_json()).unwrap(), Strategy::default());
}

#[test]
fn fail_fast_and_max_parallel_are_read() {
    let read = strategy(&json!({"fail-fast": false, "max-parallel": 2, "matrix": {"a": [1]}})).unwrap();
    assert_eq!((read.fail_fast, read.max_parallel), (false, Some(2)));
    let read = strategy(&json!({"matrix": {"a": [1]}, "max-parallel": 0})).unwrap();
    assert_eq!((read.fail_fast, read.max_parallel), (true, None));
}

#[test]
fn every_mistake_is_reported_with_its_path() {
    assert_eq!(
        problems(&json!({"matrix": {"a": [], "b": 1, "include": {}, "exclude": [1]}, "fail-fast": "no", "x": 1})),
        [
            "matrix.a: the matrix key `a` has no values",
            "matrix.b: the matrix key `b` must be a list, not a number",
            "matrix.include: `include` must be a list of mappings, not an object",
            "matrix.exclude.0: an entry of `exclude` must be a mapping, not a number",
            "fail-fast: `fail-fast` must be `true` or `false`, not a string",
            "x: unknown key `x` in `strategy`",
        ]
    );
    assert_eq!(
        problems(&json!({"matrix": {"a": [1], "exclude": [{"b": 1}, {}], "include": [{}]}})),
        [
            "matrix.exclude.0.b: `exclude` names `b`, which is not a key of the matrix",
            "matrix.exclude.1: an entry of `exclude` must not be empty",
            "matrix.include.0: an entry of `include` must not be empty",
        ]
    );
    assert_eq!(
        problems(&json!({"matrix": {"include": []}})),
        ["matrix: the matrix needs at least one key with values, or an `include`"]
    );
    assert_eq!(
        problems(&json!({"max-parallel": -1})),
        ["max-parallel: `max-parallel` must be a whole number that is not negative"]
    );
    assert_eq!(problems(&json!([1])), [": `strategy` must be a mapping, not an array"]);
}

#[test]
fn more_than_256_jobs_are_refused_with_their_number() {
    let vector = |n: usize| (0..n).collect::<Vec<_>>();
    assert_eq!(combinations(&json!({"a": vector(16), "b": vector(16)})).len(), 256);
    assert_eq!(
        problems(&json!({"matrix": {"a": vector(16), "b": vector(16), "include": [{"a": 99}]}})),
        [format!("matrix: the matrix makes 257 jobs; {LIMIT}")]
    );
    let excluded =
        json!({"a": vector(20), "b": vector(20), "exclude": (2..20).map(|n| json!({"a": n})).collect::<Vec<_>>()});
    assert_eq!(combinations(&excluded).len(), 40);
    assert_eq!(problems(&json!({"matrix": {"a": vector(5000), "b": vector(5000), "c": vector(5000)}})).len(), 1);
    let entries: Vec<Json> = (0..9000).map(|n| json!({"a": n})).collect();
    let slow = problems(&json!({"matrix": {"a": vector(100), "b": vector(100), "exclude": entries}}));
    assert!(slow[0].contains("10000 combinations and 9000 entries"), "{slow:?}");
}

#[test]
fn long_names_are_cut_at_a_hundred_characters() {
    let name = display_name("é", &["x".repeat(200)]);
    assert_eq!(name.chars().count(), 100);
    assert!(name.starts_with("é (xxx") && name.ends_with("x..."));
    assert_eq!(display_name("a", &[]), "a");
}
