//! What stands under `deploy/` and in the operator's page, held against the service that is built: metrics, labels,
//! anchors and flags.

mod exposition;
mod promql;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use http::Method;
use serde_json::{Value, json};
use startline_protocol::capabilities::Capabilities;
use startline_workflow::yaml::{self, Node};

use crate::harness::{Service, eventually, root, run};
use crate::http::Wire;
use exposition::Exposition;
use promql::Query;

/// Labels that the scrape itself adds.
const TARGET: [&str; 2] = ["job", "instance"];

/// What the API promises to measure, with the labels of each.
const PROMISED: &[(&str, &[&str])] = &[
    ("startline_runners", &["status"]),
    ("startline_polls_open", &[]),
    ("startline_poll_duration_seconds", &[]),
    ("startline_jobs", &["state"]),
    ("startline_dispatch_latency_seconds", &[]),
    ("startline_job_queue_seconds", &[]),
    ("startline_job_duration_seconds", &[]),
    ("startline_jobs_completed_total", &["conclusion"]),
    ("startline_offers_expired_total", &["reason"]),
    ("startline_leases_lapsed_total", &[]),
    ("startline_registrations_total", &["kind", "outcome"]),
    ("startline_auth_failures_total", &["plane", "reason"]),
    ("startline_store_commit_seconds", &[]),
    ("startline_store_batch_size", &[]),
    ("startline_http_requests_total", &["route", "code"]),
    ("startline_build_info", &["version", "commit"]),
    ("process_resident_memory_bytes", &[]),
    ("process_cpu_seconds_total", &[]),
];

/// Files of a directory under `deploy/` that end so, with their text.
fn files(directory: &str, end: &str) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(root().join("deploy").join(directory)).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<(PathBuf, String)> = entries
        .filter(|path| path.to_str().is_some_and(|path| path.ends_with(end)))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    assert!(!files.is_empty(), "nothing in deploy/{directory}");
    files
}

fn operators_page() -> String {
    fs::read_to_string(root().join("docs/operate.md")).unwrap()
}

/// A service that has done and refused all that it measures, and what it then says.
async fn scrape() -> Exposition {
    let service = Service::start(&["--header-timeout", "1s", "--offer-window", "1s"]);
    let mut wire = Wire::open(&service.url).await;
    let mint = json!({"labels": ["fake"]});
    let minted = wire.post("/api/v1/runners/registration-token", &service.token, &mint).await.json();
    let registrar = minted["token"].as_str().unwrap().to_owned();
    let registration = json!({"name": "fake", "labels": ["fake"], "capabilities": Capabilities::default()});
    let registered = wire.post("/api/v1/runners", &registrar, &registration).await.json();
    // The name is taken.
    assert_eq!(wire.post("/api/v1/runners", &registrar, &registration).await.code(), 409);
    for (bearer, code) in [(None, 401), (Some("nonsense"), 401), (Some(registrar.as_str()), 401)] {
        assert_eq!(wire.send(Method::GET, "/api/v1/runs", bearer, &[], b"").await.code(), code, "{bearer:?}");
    }
    assert_eq!(wire.get("/nowhere", "").await.code(), 404);

    let workflow = |label| format!("on: push\njobs:\n  a:\n    runs-on: {label}\n    steps:\n      - run: exit 0\n");
    service.submit(&workflow("fake")).await;
    let runner = registered["runner_token"].as_str().unwrap();
    let poll = |seconds: u32| json!({"timeout_seconds": seconds});
    assert_eq!(wire.post("/api/v1/runners/jobs/poll", runner, &poll(30)).await.code(), 200);
    let _runner = service.runner("real", &[]);
    let ended = service.submit(&workflow("ubuntu-latest")).await;
    assert!(service.ended(ended).await.run.conclusion.is_some());

    let mut half = TcpStream::connect(service.url.trim_start_matches("http://")).unwrap();
    half.write_all(b"GET /healthz HT").unwrap();
    assert_eq!(half.read_to_end(&mut Vec::new()).unwrap(), 0, "half a head is cut without an answer");
    let text = eventually("the offer expires", async || {
        let text = wire.get("/metrics", "").await.text();
        text.contains("startline_offers_expired_total{reason=\"window\"} 1\n").then_some(text)
    })
    .await;
    Exposition::read(&text)
}

/// Fails unless all of the query is about what exists: series, labels, values of labels.
fn check(query: &Query, found: &Exposition, recorded: &BTreeMap<String, BTreeSet<String>>, place: &str) {
    let mut labels = Vec::new();
    for selector in &query.selectors {
        let metric = selector.metric.as_str();
        let mut known: BTreeSet<String> = TARGET.map(str::to_owned).into();
        let family = found.family(metric);
        if let Some(family) = family {
            known.extend(family.labels.keys().cloned());
            known.extend(metric.ends_with("_bucket").then(|| "le".to_owned()));
        } else if let Some(recorded) = recorded.get(metric) {
            known.extend(recorded.iter().cloned());
        } else {
            // Prometheus makes this one itself.
            assert_eq!(metric, "up", "{place}: there is no such metric");
        }
        for (label, operator, value) in &selector.matchers {
            assert!(known.contains(label), "{place}: {metric} has no label {label}");
            let Some(values) = family.and_then(|family| family.labels.get(label)) else { continue };
            let wanted: Vec<&str> = if operator.ends_with('~') { value.split('|').collect() } else { vec![value] };
            for value in wanted {
                // Which statuses have been answered says nothing of which can be.
                let is_status = label == "code" && value.len() == 3 && value.starts_with(['2', '3', '4', '5']);
                assert!(
                    is_status || values.contains(value),
                    "{place}: {metric} has {label} in {values:?}, not {value}"
                );
            }
        }
        labels.push(known);
    }
    for grouping in &query.groupings {
        let over = grouping.over.start..grouping.over.end.min(labels.len());
        for (known, selector) in labels[over.clone()].iter().zip(&query.selectors[over]) {
            let missing: Vec<&String> = grouping.labels.difference(known).collect();
            assert!(missing.is_empty(), "{place}: {} has no label {missing:?}", selector.metric);
        }
    }
}

fn text<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.get(key)?.text()
}

/// The rules of all groups of all files.
fn rules() -> Vec<Node> {
    let mut rules = Vec::new();
    for (path, source) in files("prometheus", ".yml") {
        let (tree, findings) = yaml::parse(&source);
        assert!(findings.is_empty(), "{}: {findings:?}", path.display());
        let tree = tree.unwrap();
        for group in tree.get("groups").and_then(Node::sequence).unwrap() {
            assert!(text(group, "name").is_some(), "{}: a group without a name", path.display());
            rules.extend_from_slice(group.get("rules").and_then(Node::sequence).unwrap());
        }
    }
    rules
}

/// The dashboards, each with its panels.
fn dashboards() -> Vec<(Value, Vec<Value>)> {
    let parse = |(_, text): (_, String)| {
        let board: Value = serde_json::from_str(&text).unwrap();
        let panels = board["panels"].as_array().unwrap().clone();
        (board, panels)
    };
    files("grafana", ".json").into_iter().map(parse).collect()
}

fn check_rules(found: &Exposition) {
    let mut recorded = BTreeMap::new();
    for rule in rules() {
        let name = text(&rule, "record").or_else(|| text(&rule, "alert")).expect("a rule records or alerts").to_owned();
        let query = promql::read(text(&rule, "expr").unwrap());
        assert!(!query.selectors.is_empty(), "{name} asks for nothing");
        check(&query, found, &recorded, &name);
        if rule.get("record").is_some() {
            let labels = query.groupings.into_iter().flat_map(|grouping| grouping.labels).filter(|label| label != "le");
            assert!(recorded.insert(name.clone(), labels.collect()).is_none(), "{name} is recorded twice");
        }
    }
}

fn check_dashboards(found: &Exposition) {
    for (board, panels) in dashboards() {
        for variable in board["templating"]["list"].as_array().unwrap() {
            let Some(query) = variable["query"]["query"].as_str() else { continue };
            let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (metric, label) = inside.and_then(|inside| inside.split_once(", ")).expect("a query that is known");
            let family = found.family(metric).unwrap_or_else(|| panic!("there is no {metric}"));
            assert!(TARGET.contains(&label) || family.labels.contains_key(label), "{metric} has no label {label}");
        }
        for panel in panels {
            let title = panel["title"].as_str().unwrap();
            for target in panel["targets"].as_array().unwrap() {
                let query = promql::read(target["expr"].as_str().unwrap());
                assert!(!query.selectors.is_empty(), "{title} asks for nothing");
                check(&query, found, &BTreeMap::new(), title);
                let shown = target["legendFormat"].as_str().unwrap_or_default().split("{{").skip(1);
                for label in shown.map(|rest| rest.split_once("}}").unwrap().0) {
                    let is_there = query.groupings.iter().any(|grouping| grouping.labels.contains(label));
                    assert!(is_there, "{title} shows {label}, by which it does not group");
                }
            }
        }
    }
}

/// The table of metrics on the operator's page: name, type, labels.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let page = operators_page();
    let (_, table) = page.split_once("| metric | type |").expect("a table of metrics");
    let mut documented = BTreeMap::new();
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, meaning] = cells[..] else { panic!("three cells are wanted: {row}") };
        let name = name.trim_matches('`');
        let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
        assert!(!meaning.is_empty(), "{name} has no meaning");
        let entry = (kind.to_owned(), labels.map(str::to_owned).collect());
        assert!(documented.insert(name.to_owned(), entry).is_none(), "{name} stands there twice");
    }
    documented
}

fn check_page(found: &Exposition) {
    let documented = documented();
    for (name, family) in &found.0 {
        let labels: BTreeSet<String> = family.labels.keys().cloned().collect();
        let is = (family.kind.clone(), labels);
        assert_eq!(documented.get(name), Some(&is), "docs/operate.md does not say how {name} is");
    }
    for name in documented.keys() {
        assert!(found.0.contains_key(name), "docs/operate.md tells of {name}, which is not there");
    }
}

#[tokio::test]
async fn rules_dashboards_and_the_operators_page_speak_of_the_metrics_that_exist() {
    let found = scrape().await;
    for (name, labels) in PROMISED {
        let family = found.0.get(*name).unwrap_or_else(|| panic!("{name} was promised"));
        let has: BTreeSet<&str> = family.labels.keys().map(String::as_str).collect();
        assert_eq!(has, labels.iter().copied().collect(), "labels of {name}");
    }
    check_page(&found);
    check_rules(&found);
    check_dashboards(&found);
}

/// Where the headings of a page can be linked to.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let slug = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    headings.map(|heading| slug(heading.trim_start_matches('#').trim())).collect()
}

#[test]
fn every_alert_says_what_it_means_how_bad_it_is_and_where_help_is() {
    let anchors = anchors(&operators_page());
    let mut names = BTreeSet::new();
    for rule in rules() {
        let Some(name) = text(&rule, "alert") else { continue };
        assert!(names.insert(name.to_owned()), "{name} is there twice");
        let severity = rule.get("labels").and_then(|labels| text(labels, "severity"));
        assert!(severity.is_some_and(|severity| ["critical", "warning"].contains(&severity)), "{name}: {severity:?}");
        assert!(text(&rule, "for").is_some(), "{name} does not say for how long");
        let annotations = rule.get("annotations").unwrap();
        for key in ["summary", "description"] {
            assert!(text(annotations, key).is_some_and(|text| text.len() > 10), "{name} has no {key}");
        }
        let runbook = text(annotations, "runbook_url").unwrap_or_else(|| panic!("{name} has no runbook_url"));
        let anchor = runbook.strip_prefix("docs/operate.md#").expect("the runbook is on the operator's page");
        assert!(anchors.contains(anchor), "{name}: nothing in docs/operate.md is called #{anchor}");
    }
    assert!(!names.is_empty());
}

#[test]
fn dashboards_can_be_told_apart_and_every_panel_has_a_unit() {
    let (mut uids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for (board, panels) in dashboards() {
        for (key, seen) in [("uid", &mut uids), ("title", &mut titles)] {
            let value = board[key].as_str().unwrap().to_owned();
            assert!(!value.is_empty() && seen.insert(value), "two dashboards have one {key}, or none");
        }
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for panel in &panels {
            let title = panel["title"].as_str().unwrap();
            assert!(names.insert(title), "two panels are called {title}");
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels have the id of {title}");
            let unit = panel["fieldConfig"]["defaults"]["unit"].as_str();
            assert!(unit.is_some_and(|unit| !unit.is_empty()), "{title} has no unit");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title} asks a source of somebody else's");
        }
    }
}

/// The commands of a unit.
fn commands(unit: &str) -> Vec<&str> {
    unit.lines().filter_map(|line| line.strip_prefix("ExecStart=")).collect()
}

#[test]
fn units_use_flags_and_settings_that_exist() {
    let (help, page) = (run(&["server", "--help"]).out, operators_page());
    for (path, unit) in files("systemd", ".service") {
        let commands = commands(&unit);
        assert_eq!(commands.len(), 1, "{}", path.display());
        let (_, arguments) = commands[0].split_once(" server ").expect("the unit starts the service");
        for flag in arguments.split_whitespace().filter(|word| word.starts_with("--")) {
            let is_there = help.split_whitespace().any(|word| word.trim_end_matches(',') == flag);
            assert!(is_there, "{}: `startline server` has no {flag}", path.display());
        }
        for name in unit.split(|c: char| !(c.is_ascii_uppercase() || c == '_')) {
            let is_setting = name.starts_with("STARTLINE_") && name != "STARTLINE_";
            assert!(!is_setting || page.contains(name), "{}: there is no {name}", path.display());
        }
    }
}

#[test]
fn systemd_understands_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("there is no systemd-analyze here; the units are not verified");
        return;
    }
    for (path, unit) in files("systemd", ".service") {
        // It looks whether the command can be executed.
        let (program, _) = commands(&unit)[0].split_once(' ').unwrap();
        let here = tempfile::tempdir().unwrap();
        let copy = here.path().join(path.file_name().unwrap());
        fs::write(&copy, unit.replace(program, env!("CARGO_BIN_EXE_startline"))).unwrap();
        let verified = Command::new("systemd-analyze").args(["--man=no", "verify"]).arg(&copy).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        // It speaks of other units of the machine too.
        let name = path.file_name().unwrap().to_str().unwrap();
        let ours: Vec<&str> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(verified.status.success() && ours.is_empty(), "{}: {said}", path.display());
    }
}
