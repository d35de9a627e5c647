//! Workflows, contexts and messages such as those of an ordinary repository.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value as Json, json};
use startline_protocol::context::ContextData;
use startline_protocol::job_message::{
    ActionStep, Authorization, Endpoint, JobMessage, MESSAGE_TYPE, Plan, Resources, StepKind, StepReference, Timeline,
    Variable,
};
use startline_protocol::state::{Conclusion, StepStatus};
use startline_protocol::step::StepRecord;
use startline_protocol::template::TemplateToken;
use startline_workflow::expression::{Object, Value};
use uuid::Uuid;

const STEPS: u32 = 12;

/// Eight label sets of jobs with the usual steps: 40 jobs, 30 KB.
pub(crate) fn large_workflow() -> String {
    let mut text = "name: Everything\non:\n  push:\n    branches: [main, 'release/**']\n  pull_request:\n\
        \x20 workflow_dispatch:\n    inputs:\n      level: {type: choice, options: [low, high], default: high}\n\
        env:\n  CARGO_TERM_COLOR: always\n  REF: \"${{ github.ref_name }}-${{ github.run_number }}\"\n\
        permissions: {contents: read}\njobs:\n"
        .to_owned();
    for job in 0..40 {
        let needs = if job % 5 == 0 { String::new() } else { format!("    needs: [job-{}]\n", job - 1) };
        let _ = write!(
            text,
            "  job-{job}:\n    name: Job {job} on ${{{{ matrix.os }}}}\n{needs}    runs-on: [self-hosted, linux, \"pool-{}\"]\n\
             \x20   timeout-minutes: 30\n    if: github.event_name != 'pull_request' || github.actor != 'bot-{job}'\n\
             \x20   strategy:\n      fail-fast: false\n      matrix:\n        os: [linux, mac]\n        version: [18, 20, 22]\n\
             \x20   outputs:\n      tag: ${{{{ steps.build.outputs.tag }}}}\n    steps:\n      - uses: actions/checkout@v4\n\
             \x20       with:\n          fetch-depth: 0\n      - name: Build\n        id: build\n        run: |\n\
             \x20         set -eu\n          make build VERSION=${{{{ matrix.version }}}}\n          echo tag=build-{job} >> \"$GITHUB_OUTPUT\"\n\
             \x20       env:\n          TOKEN: ${{{{ secrets.TOKEN }}}}\n      - name: Test\n        if: success() && matrix.os == 'linux'\n\
             \x20       run: make test\n        continue-on-error: ${{{{ matrix.version == 22 }}}}\n      - run: make report\n\
             \x20       if: always()\n        shell: bash\n",
            job % 8
        );
    }
    text
}

/// A matrix as large as one may be, and a job behind it.
pub(crate) fn matrix_workflow() -> String {
    let numbers: Vec<String> = (0..16).map(|number| number.to_string()).collect();
    let numbers = numbers.join(", ");
    format!(
        "on: push\njobs:\n  test:\n    name: Test ${{{{ matrix.shard }}}} of ${{{{ matrix.version }}}}\n    runs-on: [self-hosted, linux]\n\
         \x20   strategy:\n      fail-fast: true\n      matrix:\n        shard: [{numbers}]\n        version: [{numbers}]\n\
         \x20   steps:\n      - run: make test SHARD=${{{{ matrix.shard }}}}\n      - run: make report\n        if: always()\n\
         \x20 publish:\n    needs: test\n    runs-on: linux\n    if: github.ref == 'refs/heads/main'\n    steps: [{{run: make publish}}]\n"
    )
}

fn github_json() -> Json {
    let commits: Vec<Json> = (0..12)
        .map(|number| {
            json!({"id": format!("{:040x}", number * 7919), "message": format!("Change number {number}\n\nfor good reasons"),
                "timestamp": "2026-05-01T10:00:00Z", "distinct": true,
                "author": {"name": "Mona Lisa", "email": "mona@example.com", "username": "mona"},
                "added": [], "removed": [], "modified": [format!("src/module_{number}.rs")]})
        })
        .collect();
    json!({"ref": "refs/heads/main", "sha": "0123456789abcdef0123456789abcdef01234567", "repository": "acme/app",
        "repository_owner": "acme", "actor": "mona", "triggering_actor": "mona", "event_name": "push", "ref_name": "main",
        "ref_type": "branch", "run_id": "65432", "run_number": "77", "run_attempt": "1", "workflow": "Everything",
        "server_url": "http://ci.example.internal:8080", "api_url": "http://ci.example.internal:8080/api/v3",
        "workflow_ref": "acme/app/.github/workflows/ci.yml@refs/heads/main",
        "event": {"ref": "refs/heads/main", "forced": false, "commits": commits,
            "repository": {"name": "app", "full_name": "acme/app", "private": true, "default_branch": "main"},
            "sender": {"login": "mona", "id": 583_231, "site_admin": false}}})
}

/// A `github` context.
pub(crate) fn github() -> Value {
    Value::from_json(&github_json())
}

/// What a condition of a step sees.
pub(crate) fn contexts() -> Object {
    let plain = |value: Json| Value::from_json(&value);
    [
        ("github".to_owned(), github()),
        ("matrix".to_owned(), plain(json!({"os": "linux", "version": 22}))),
        ("runner".to_owned(), plain(json!({"os": "Linux", "arch": "X64", "temp": "/tmp"}))),
    ]
    .into_iter()
    .collect()
}

/// The message of a job of twelve steps, as the service stores and sends it.
pub(crate) fn job_message() -> JobMessage {
    let text = |text: &str| TemplateToken::string(text);
    let id = Uuid::from_u128(0x3b7f_6b52_5d0c_4b3e_9a54_0f3b_1a6d_2c11);
    let plain = |value: Json| ContextData::from_plain(value);
    let variables = (0..24).map(|number| {
        (format!("system.feature.number_{number}"), Variable { value: format!("{}", number % 2), is_secret: false })
    });
    let environment = (0..8).map(|number| (text(&format!("SETTING_{number}")), text("a value of some length")));
    let url = "http://ci.example.internal:8080/";
    JobMessage {
        message_type: MESSAGE_TYPE.to_owned(),
        plan: Plan { plan_id: id, plan_type: "actions".to_owned(), version: 0 },
        timeline: Timeline { id, change_id: 0 },
        job_id: id,
        job_display_name: "Test 7 of 22".to_owned(),
        job_name: "test_7".to_owned(),
        request_id: 0,
        resources: Resources {
            endpoints: vec![Endpoint {
                name: "SystemVssConnection".to_owned(),
                url: url.to_owned(),
                authorization: Authorization {
                    scheme: "OAuth".to_owned(),
                    parameters: BTreeMap::from([("AccessToken".to_owned(), "eyJ0eXAi".repeat(50))]),
                },
                data: ["CacheServerUrl", "ResultsServiceUrl", "GenerateIdTokenUrl"]
                    .map(|name| (name.to_owned(), url.to_owned()))
                    .into(),
                ..Endpoint::default()
            }],
        },
        variables: variables.collect(),
        context_data: [
            ("github", plain(github_json())),
            ("inputs", plain(json!({}))),
            ("vars", plain(json!({"REGION": "eu-1", "REGISTRY": "registry.example.internal"}))),
            ("needs", plain(json!({"build": {"result": "success", "outputs": {"artifact": "build-77"}}}))),
            ("strategy", plain(json!({"fail-fast": true, "job-index": 7, "job-total": 256, "max-parallel": 256}))),
            ("matrix", plain(json!({"shard": 7, "version": 22}))),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
        steps: (0..STEPS).map(step).collect(),
        environment_variables: vec![TemplateToken::mapping(environment.collect())],
        defaults: Vec::new(),
        job_outputs: Some(TemplateToken::mapping(vec![(
            text("tag"),
            TemplateToken::expression("steps.step_3.outputs.tag"),
        )])),
        actions_environment: None,
        job_container: None,
        job_service_containers: None,
        mask: Vec::new(),
        file_table: vec![".github/workflows/ci.yml".to_owned()],
    }
}

fn step(number: u32) -> ActionStep {
    let text = |text: &str| TemplateToken::string(text);
    let is_action = number.is_multiple_of(4);
    let name = format!("step_{number}");
    ActionStep {
        kind: StepKind::Action,
        id: Uuid::from_u128(0xa000_0000_0000_4000_8000_0000_0000_0000 + u128::from(number)),
        name: name.clone(),
        context_name: name,
        reference: if is_action {
            StepReference::Repository {
                name: Some("actions/checkout".to_owned()),
                git_ref: Some("v4".to_owned()),
                repository_type: "GitHub".to_owned(),
                path: None,
            }
        } else {
            StepReference::Script
        },
        inputs: if is_action {
            TemplateToken::mapping(vec![(text("fetch-depth"), text("0")), (text("path"), text("source"))])
        } else {
            let script = "set -eu\nmake build VERSION=$VERSION\necho tag=build >> \"$GITHUB_OUTPUT\"\n";
            TemplateToken::mapping(vec![(text("script"), text(script))])
        },
        condition: "success() && github.ref == 'refs/heads/main'".to_owned(),
        environment: Some(TemplateToken::mapping(vec![(text("TOKEN"), TemplateToken::expression("secrets.TOKEN"))])),
        continue_on_error: None,
        timeout_in_minutes: None,
        display_name_token: Some(text("Build and test")),
    }
}

/// The steps of that job when they have ended.
pub(crate) fn steps() -> Vec<StepRecord> {
    let now: Timestamp = "2026-05-01T10:00:00.1234567Z".parse().expect("a time");
    let ended = |number: u32| StepRecord {
        status: StepStatus::Completed,
        conclusion: Some(Conclusion::Success),
        outcome: Some(Conclusion::Success),
        started_at: Some(now),
        completed_at: Some(now),
        log_start: Some(u64::from(number) * 4_000),
        log_end: Some(u64::from(number) * 4_000 + 3_999),
        ..StepRecord::pending(number, format!("Run the step number {number}"))
    };
    (1..=STEPS).map(ended).collect()
}
