//! What is said about a job: its message, the answer that carries it, and the small requests.

use std::collections::BTreeMap;

use startline_protocol::ids::{Epoch, JobId, RunId};
use startline_protocol::job_message::JobMessage;
use startline_protocol::runner_api::{
    CompleteRequest, HeartbeatRequest, JobAssignment, JobUrls, PollRequest, RenewRequest, RenewResponse, StatusRequest,
};
use startline_protocol::token::JobToken;

use crate::meter::Meter;
use crate::sample;

const POLL: &str = r#"{"timeout_seconds":50,"auto_acquire":true}"#;
const POLL_WITH_MACHINE: &str = r#"{"timeout_seconds":50,"auto_acquire":true,"capabilities":{"architecture":"x64","operating_system":"linux","memory_gb":64,"cpu_cores":16,"disk_space_gb":412,"docker_enabled":true,"kubernetes_enabled":false,"gpu_enabled":false,"max_parallel_jobs":4,"supported_actions":["actions/checkout","actions/cache"]}}"#;
const HEARTBEAT: &str = r#"{"status":"busy","current_jobs":[1234,1235],"system_info":{"cpu_usage":12.5,"memory_usage":40.25,"disk_usage":71.0}}"#;
const RENEW: &str = r#"{"wait_seconds":30}"#;

pub(super) fn play(meter: &mut Meter, _: u32) {
    let message = sample::job_message();
    let stored = serde_json::to_string(&message).expect("JSON");
    assert!(stored.len() > 10_000, "{}", stored.len());
    assert_eq!(serde_json::from_str::<JobMessage>(&stored).expect("a message"), message);
    meter.repeat("decode a job message", 16, || serde_json::from_str::<JobMessage>(&stored).is_ok());
    meter.repeat("encode a job message", 16, || serde_json::to_string(&message));

    let lease = assignment(Some(message));
    let text = serde_json::to_vec(&lease).expect("JSON");
    assert_eq!(serde_json::from_slice::<JobAssignment>(&text).expect("an assignment"), lease);
    meter.repeat("encode a lease", 16, || serde_json::to_vec(&lease));
    meter.repeat("decode a lease", 16, || serde_json::from_slice::<JobAssignment>(&text).is_ok());
    let offer = assignment(None);
    meter.repeat("encode an offer", 64, || serde_json::to_vec(&offer));

    let poll = |text: &str| serde_json::from_slice::<PollRequest>(text.as_bytes()).expect("a poll");
    assert!(poll(POLL).auto_acquire && poll(POLL_WITH_MACHINE).capabilities.is_some());
    meter.repeat("decode a poll", 64, || poll(POLL));
    meter.repeat("decode a poll with capabilities", 64, || poll(POLL_WITH_MACHINE));
    let heartbeat = || serde_json::from_slice::<HeartbeatRequest>(HEARTBEAT.as_bytes()).expect("a heartbeat");
    assert_eq!(heartbeat().current_jobs.len(), 2);
    meter.repeat("decode a heartbeat", 64, heartbeat);

    let renewed = RenewResponse { lease_expires_at: 1_777_629_600, cancel_reason: None, cancel_requested: false };
    meter.repeat("decode a renewal, encode its answer", 64, || {
        let asked: RenewRequest = serde_json::from_slice(RENEW.as_bytes()).expect("a renewal");
        (asked, serde_json::to_vec(&renewed))
    });
    let steps = sample::steps();
    let status = serde_json::to_vec(&StatusRequest { steps: steps.clone() }).expect("JSON");
    meter.repeat("decode 12 step records", 16, || serde_json::from_slice::<StatusRequest>(&status).is_ok());
    let mut end = CompleteRequest::new(startline_protocol::state::Conclusion::Success);
    end.steps = steps;
    let end = serde_json::to_vec(&end).expect("JSON");
    meter.repeat("decode a completion", 16, || serde_json::from_slice::<CompleteRequest>(&end).is_ok());
}

/// As the service fills it in.
fn assignment(message: Option<JobMessage>) -> JobAssignment {
    let url = |what: &str| format!("http://ci.example.internal:8080/api/v1/runners/jobs/123456/{what}");
    let is_lease = message.is_some();
    let secrets =
        [("NPM_TOKEN", "npm_0123456789"), ("DEPLOY_KEY", "-----BEGIN KEY-----\nAAAA\nBBBB\n-----END KEY-----\n")];
    JobAssignment {
        job_assigned: true,
        job_id: JobId(123_456),
        workflow_run_id: RunId(65_432),
        attempt: 1,
        epoch: Epoch(3),
        job_definition: message.map(Box::new),
        secrets: if is_lease {
            secrets.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
        } else {
            BTreeMap::new()
        },
        timeout_minutes: 360,
        offer_expires_at: (!is_lease).then_some(1_777_629_600),
        lease_expires_at: is_lease.then_some(1_777_629_600),
        renew_interval_seconds: 30,
        job_token: is_lease.then(|| JobToken::parse("eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.e30.AAAA").expect("a token")),
        urls: JobUrls {
            acquire: url("acquire"),
            renew: url("renew"),
            status: url("status"),
            logs: url("logs"),
            complete: url("complete"),
        },
    }
}
