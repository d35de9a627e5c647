//! The one table of the API's operations: the router is built from it, and so are the document and the tests of who may
//! call what.

use http::Method;
use startline_protocol::admin_api::{
    AuditPage, AuditVerification, AuditView, CreateTokenRequest, CreatedToken, GroupPage, GroupRequest, GroupView,
    SecretPage, SecretView, TokenPage, ValueRequest, VariablePage, VariableView,
};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::event::Event;
use startline_protocol::permission::Permission;
use startline_protocol::problem::kind;
use startline_protocol::runner_api::{
    AcquireRequest, CompleteRequest, HeartbeatRequest, HeartbeatResponse, JobAssignment, LogOffset, PollRequest,
    RegisterRequest, RegisterResponse, RegistrationTokenRequest, RegistrationTokenResponse, RenewRequest,
    RenewResponse, RunnerTokenResponse, StatusRequest,
};
use startline_protocol::runs_api::{
    Explanation, JobPage, JobRequest, JobView, LogEvent, RerunRequest, RunDetail, RunPage, RunView, RunnerPage,
    RunnerView, SubmitRequest,
};
use startline_protocol::token::TokenKind;

use super::{audit, events, groups, jobs, polls, rerun, runners, runs, single, tokens, values, work};
use crate::endpoint::{Class, Endpoint, payload};
use crate::intake::IDEMPOTENCY_KEY;
use crate::openapi;

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const PATCH: Method = Method::PATCH;
const DELETE: Method = Method::DELETE;

const REGISTRATION: &[TokenKind] = &[TokenKind::Registration];
const RUNNER: &[TokenKind] = &[TokenKind::Runner];
const JOB: &[TokenKind] = &[TokenKind::Job];

/// All operations.
pub(crate) fn table() -> Vec<Endpoint> {
    let mut table = Vec::from(registration());
    table.extend(held_jobs());
    table.extend(runs_and_jobs());
    table.extend(tokens_and_audit());
    table.extend(groups_and_values());
    table.extend([
        Endpoint::new(GET, "/api/v1/events", "followEvents", events::follow)
            .says(
                "Follow what happens, as it happens",
                "Over a WebSocket when the request asks for the upgrade (each text message is one `Event`), else as \
                 server-sent events (`id` is the `sequence`, `data` the `Event`). The reader is told `lagged` when it \
                 was too slow or resumes at what is no longer kept. A ping comes every 15 s; a WebSocket that leaves \
                 two unanswered is cut. The bearer is checked again every 2 s: when it is revoked or expired, a \
                 WebSocket is closed with code 4401, and an event named `error` with a `Problem` ends the other form. \
                 When the service stops, a WebSocket is closed with 1001. Tokens are taken from the header alone, \
                 never from the query; a browser reads the stream with `fetch`, which can set headers, instead of \
                 `EventSource` or `WebSocket`, which cannot.",
            )
            .class(Class::Held)
            .api_or_runner(Permission::EventsRead)
            .query::<events::Wanted>()
            .header("last-event-id", false, "The last `sequence` seen; wins over `after`.")
            .answers_as(200, "Events until the stream is closed.", vec![payload::<Event>("text/event-stream")])
            .answers_nothing(101, "The connection is a WebSocket from here on.")
            .problems(&[kind::TOO_MANY_REQUESTS, kind::INVALID]),
        Endpoint::new(GET, "/api/v1/openapi.json", "describeApi", openapi::answer)
            .says("This document", "OpenAPI 3.1 of everything under `/api/v1`.")
            .answers::<serde_json::Value>(200, "The document."),
    ]);
    table
}

/// Runners come, live and go.
fn registration() -> [Endpoint; 8] {
    [
        Endpoint::new(
            POST,
            "/api/v1/runners/registration-token",
            "createRegistrationToken",
            runners::registration_token,
        )
        .says("Mint a registration token", "It registers runners and does nothing else.")
        .api(Permission::RunnersRegister)
        .json::<RegistrationTokenRequest>()
        .answers::<RegistrationTokenResponse>(200, "The token; shown this once."),
        Endpoint::new(POST, "/api/v1/runners", "registerRunner", runners::register)
            .says("Register a runner", "Counts as a use of the token unless it is refused.")
            .bearer(REGISTRATION)
            .json::<RegisterRequest>()
            .answers::<RegisterResponse>(201, "The registration, with the runner's own bearer.")
            .problems(&[kind::NAME_TAKEN, kind::TOKEN_EXHAUSTED, kind::LABEL_NOT_ALLOWED]),
        Endpoint::new(GET, "/api/v1/runners", "listRunners", runners::list)
            .says("List runners", "")
            .api(Permission::RunnersRead)
            .answers::<RunnerPage>(200, "The runners."),
        Endpoint::new(GET, "/api/v1/runners/{id}", "getRunner", runners::get)
            .says("Show a runner", "A runner sees itself alone.")
            .api_or_runner(Permission::RunnersRead)
            .answers::<RunnerView>(200, "The runner."),
        Endpoint::new(DELETE, "/api/v1/runners/{id}", "deleteRunner", runners::delete)
            .says("Remove a registration", "A repeat changes nothing. A runner removes itself alone.")
            .api_or_runner(Permission::RunnersWrite)
            .query::<runners::DeleteQuery>()
            .answers_nothing(204, "It is gone.")
            .problems(&[kind::RUNNER_BUSY]),
        Endpoint::new(POST, "/api/v1/runners/heartbeat", "sendHeartbeat", runners::heartbeat)
            .says("Say that the runner lives", "")
            .bearer(RUNNER)
            .json::<HeartbeatRequest>()
            .answers::<HeartbeatResponse>(200, "What the service wants of the runner."),
        Endpoint::new(PATCH, "/api/v1/runners/capabilities", "updateCapabilities", runners::capabilities)
            .says("Tell what the machine can do now", "Takes effect for open polls at once.")
            .bearer(RUNNER)
            .json::<Capabilities>()
            .answers_nothing(200, "Noted."),
        Endpoint::new(POST, "/api/v1/runners/token", "renewRunnerToken", runners::renew_token)
            .says("Renew the runner's bearer", "The old one stays valid for 2 minutes.")
            .bearer(RUNNER)
            .answers::<RunnerTokenResponse>(200, "The new bearer."),
    ]
}

/// Runners take jobs and report on them.
fn held_jobs() -> [Endpoint; 6] {
    [
        Endpoint::new(POST, crate::front::POLL, "pollForJob", polls::poll)
            .says("Ask for a job", "Held until a job fits or the time has passed. A broken poll gives its job back.")
            .class(Class::Held)
            .bearer(RUNNER)
            .json::<PollRequest>()
            .answers::<JobAssignment>(200, "An offer, or with `auto_acquire` a lease.")
            .answers_nothing(204, "No job.")
            .problems(&[kind::RUNNER_BUSY]),
        Endpoint::new(POST, "/api/v1/runners/jobs/{id}/acquire", "acquireJob", polls::acquire)
            .says("Take an offered job", "")
            .bearer(RUNNER)
            .json::<AcquireRequest>()
            .answers::<JobAssignment>(200, "The lease, with all that the job needs.")
            .problems(&[kind::STALE_EPOCH]),
        Endpoint::new(POST, "/api/v1/runners/jobs/{id}/renew", "renewJob", work::renew)
            .says("Extend a lease", "Extended when the request arrives; with `wait_seconds` the answer is held.")
            .class(Class::Held)
            .bearer(JOB)
            .json::<RenewRequest>()
            .answers::<RenewResponse>(200, "Until when, and whether to stop.")
            .problems(&[kind::STALE_EPOCH]),
        Endpoint::new(POST, "/api/v1/runners/jobs/{id}/status", "reportSteps", work::status)
            .says("Report all steps as they stand", "")
            .bearer(JOB)
            .json::<StatusRequest>()
            .answers_nothing(200, "Noted.")
            .problems(&[kind::STALE_EPOCH]),
        Endpoint::new(PATCH, "/api/v1/runners/jobs/{id}/logs", "appendLog", work::logs)
            .says("Append to a job's log", "A part that is there already is skipped; a gap is refused.")
            .class(Class::Log)
            .bearer(JOB)
            .header("content-range", true, "`bytes FIRST-LAST/*`: where the body begins in the log, in bytes.")
            .text_body("text/plain")
            .answers::<LogOffset>(200, "How much there is now.")
            .problems(&[kind::STALE_EPOCH, kind::LOG_GAP]),
        Endpoint::new(POST, "/api/v1/runners/jobs/{id}/complete", "completeJob", work::complete)
            .says("End a job", "A repeat changes nothing.")
            .bearer(JOB)
            .json::<CompleteRequest>()
            .answers_nothing(200, "Durable.")
            .problems(&[kind::STALE_EPOCH]),
    ]
}

/// People and forges submit runs and look at them.
fn runs_and_jobs() -> [Endpoint; 10] {
    [
        Endpoint::new(POST, "/api/v1/runs", "submitRun", runs::submit)
            .says("Submit a workflow", "The file becomes a run of jobs.")
            .class(Class::Submission)
            .api(Permission::JobsWrite)
            .header(IDEMPOTENCY_KEY, false, "A repeat under the same key within 24 h answers what the first one made.")
            .json::<SubmitRequest>()
            .answers::<RunDetail>(201, "The run.")
            .problems(&[kind::NOT_TRIGGERED, kind::WORKFLOW_INVALID]),
        Endpoint::new(GET, "/api/v1/runs", "listRuns", runs::list)
            .says("List runs, newest first", "")
            .api(Permission::JobsRead)
            .query::<runs::Window>()
            .answers::<RunPage>(200, "One page."),
        Endpoint::new(GET, "/api/v1/runs/{id}", "getRun", runs::get)
            .says("Show a run with its jobs", "With `after_version` the answer is held until there is news.")
            .class(Class::Held)
            .api(Permission::JobsRead)
            .query::<runs::Held>()
            .answers::<RunDetail>(200, "The run."),
        Endpoint::new(POST, "/api/v1/runs/{id}/cancel", "cancelRun", runs::cancel)
            .says("Cancel a run", "Waiting jobs end at once, running ones are told to stop. A repeat changes nothing.")
            .api(Permission::JobsWrite)
            .answers::<RunView>(200, "The run."),
        Endpoint::new(POST, "/api/v1/runs/{id}/rerun", "rerunRun", rerun::rerun)
            .says("Run again what has ended", "A new run from the same submission, with its secrets.")
            .api(Permission::JobsWrite)
            .header(IDEMPOTENCY_KEY, false, "A repeat under the same key within 24 h answers what the first one made.")
            .json::<RerunRequest>()
            .answers::<RunDetail>(201, "The new run.")
            .problems(&[kind::RUN_ACTIVE, kind::WORKFLOW_INVALID]),
        Endpoint::new(POST, "/api/v1/jobs", "submitJob", single::submit)
            .says("Submit one job without a workflow file", "It is the only job of a run of its own.")
            .class(Class::Submission)
            .api(Permission::JobsWrite)
            .header(IDEMPOTENCY_KEY, false, "A repeat under the same key within 24 h answers what the first one made.")
            .json::<JobRequest>()
            .answers::<JobView>(201, "The job, queued."),
        Endpoint::new(GET, "/api/v1/jobs", "listJobs", jobs::list)
            .says("List jobs, newest first", "Without their steps.")
            .api(Permission::JobsRead)
            .query::<jobs::Filter>()
            .answers::<JobPage>(200, "One page."),
        Endpoint::new(GET, "/api/v1/jobs/{id}", "getJob", jobs::get)
            .says("Show a job with its steps", "")
            .api(Permission::JobsRead)
            .answers::<JobView>(200, "The job."),
        Endpoint::new(GET, "/api/v1/jobs/{id}/logs", "readLog", jobs::logs)
            .says("Read or follow a job's log", "")
            .class(Class::Held)
            .api(Permission::JobsRead)
            .query::<jobs::Follow>()
            .answers_as(
                200,
                "The log's text; with `Accept: application/x-ndjson` one `LogEvent` a line.",
                vec![payload::<String>("text/plain"), payload::<LogEvent>("application/x-ndjson")],
            ),
        Endpoint::new(GET, "/api/v1/jobs/{id}/explain", "explainJob", jobs::explain)
            .says("Tell why a job waits", "Names each runner and what it lacks.")
            .api(Permission::JobsRead)
            .answers::<Explanation>(200, "The reasons."),
    ]
}

/// Tokens and the audit log.
fn tokens_and_audit() -> [Endpoint; 5] {
    [
        Endpoint::new(GET, "/api/v1/tokens", "listTokens", tokens::list)
            .says("List API and registration tokens", "Never their text.")
            .api(Permission::TokensRead)
            .query::<tokens::Whose>()
            .answers::<TokenPage>(200, "The tokens of the scope and of what lies in it."),
        Endpoint::new(POST, "/api/v1/tokens", "createToken", tokens::create)
            .says("Mint an API token", "With no more than the caller's own permissions, scope and life.")
            .api(Permission::TokensWrite)
            .json::<CreateTokenRequest>()
            .answers::<CreatedToken>(201, "The token; shown this once."),
        Endpoint::new(DELETE, "/api/v1/tokens/{kind}/{id}", "revokeToken", tokens::revoke)
            .says("Revoke a token", "`kind` is `api` or `registration`. A repeat changes nothing.")
            .api(Permission::TokensWrite)
            .answers_nothing(204, "Whoever shows it is refused; open streams end within 5 s."),
        Endpoint::new(GET, "/api/v1/audit", "readAudit", audit::list)
            .says("Read the audit log, oldest first", "")
            .api(Permission::AuditRead)
            .query::<audit::Wanted>()
            .answers_as(
                200,
                "One page; with `Accept: application/x-ndjson` everything from the cursor on, one line each.",
                vec![payload::<AuditPage>("application/json"), payload::<AuditView>("application/x-ndjson")],
            ),
        Endpoint::new(GET, "/api/v1/audit/verify", "verifyAudit", audit::verify)
            .says("Check the chain of the audit log", "Needs a token of the scope `instance`.")
            .api(Permission::AuditRead)
            .answers::<AuditVerification>(200, "Whether it holds."),
    ]
}

/// Runner groups, secrets and variables.
fn groups_and_values() -> [Endpoint; 9] {
    [
        Endpoint::new(GET, "/api/v1/runner-groups", "listGroups", groups::list)
            .says("List runner groups", "")
            .api(Permission::GroupsRead)
            .answers::<GroupPage>(200, "The groups of the token's scope and of what lies in it."),
        Endpoint::new(PUT, "/api/v1/runner-groups/{name}", "putGroup", groups::put)
            .says("Make or replace a runner group", "Takes effect for jobs that wait.")
            .api(Permission::GroupsWrite)
            .query::<tokens::Whose>()
            .json::<GroupRequest>()
            .answers::<GroupView>(200, "The group."),
        Endpoint::new(DELETE, "/api/v1/runner-groups/{name}", "deleteGroup", groups::delete)
            .says("Delete a runner group", "A repeat changes nothing.")
            .api(Permission::GroupsWrite)
            .query::<tokens::Whose>()
            .answers_nothing(204, "It is gone.")
            .problems(&[kind::IN_USE]),
        Endpoint::new(GET, "/api/v1/secrets", "listSecrets", values::secrets)
            .says("List the secrets of one scope", "Never their values.")
            .api(Permission::SecretsRead)
            .query::<values::Where>()
            .answers::<SecretPage>(200, "Their names."),
        Endpoint::new(PUT, "/api/v1/secrets/{name}", "putSecret", values::put_secret)
            .says("Set a secret", "Its value is sealed and never returned.")
            .api(Permission::SecretsWrite)
            .query::<values::Where>()
            .json::<ValueRequest>()
            .answers::<SecretView>(200, "The secret, without its value."),
        Endpoint::new(DELETE, "/api/v1/secrets/{name}", "deleteSecret", values::delete_secret)
            .says("Delete a secret", "A repeat changes nothing.")
            .api(Permission::SecretsWrite)
            .query::<values::Where>()
            .answers_nothing(204, "It is gone."),
        Endpoint::new(GET, "/api/v1/variables", "listVariables", values::variables)
            .says("List the variables of one scope", "")
            .api(Permission::VariablesRead)
            .query::<values::Where>()
            .answers::<VariablePage>(200, "The variables."),
        Endpoint::new(PUT, "/api/v1/variables/{name}", "putVariable", values::put_variable)
            .says("Set a variable", "")
            .api(Permission::VariablesWrite)
            .query::<values::Where>()
            .json::<ValueRequest>()
            .answers::<VariableView>(200, "The variable."),
        Endpoint::new(DELETE, "/api/v1/variables/{name}", "deleteVariable", values::delete_variable)
            .says("Delete a variable", "A repeat changes nothing.")
            .api(Permission::VariablesWrite)
            .query::<values::Where>()
            .answers_nothing(204, "It is gone."),
    ]
}
