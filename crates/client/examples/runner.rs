//! The least that a runner does: `cargo run -p startline-client --example runner -- URL REGISTRATION-TOKEN`.

use std::error::Error;

use startline_client::{AppendOutcome, Credentials, JobClient, Options, PollResult, RunnerClient, Transport};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::runner_api::{CompleteRequest, PollRequest, RegisterRequest};
use startline_protocol::state::Conclusion;
use startline_protocol::token::RegistrationToken;

/// Registers, takes one job, writes a line into its log, says that it succeeded, and is gone.
pub(crate) async fn one_job(url: &str, token: &str, labels: &[&str]) -> Result<(), Box<dyn Error + Send + Sync>> {
    let transport = Transport::new(&Options::default())?;
    let client = RunnerClient::new(transport.clone(), url)?;
    let registration = RegisterRequest {
        name: "example".to_owned(),
        labels: labels.iter().map(ToString::to_string).collect(),
        capabilities: Capabilities::default(),
        ephemeral: true,
        replace: true,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let registered = client.register(&RegistrationToken::parse(token)?, &registration).await?;
    let session = client.session(Credentials::of(&registered, jiff::Timestamp::now()));
    let poll = PollRequest { timeout_seconds: 30, capabilities: None, auto_acquire: false };
    let offer = loop {
        match session.poll_for_job(&poll).await {
            PollResult::JobAssigned(offer) => break offer,
            PollResult::NoJobs => {}
            PollResult::RunnerOffline => return Err("the registration is gone".into()),
            PollResult::ServerError(error) => return Err(error.into()),
        }
    };
    let lease = session.acquire(&offer).await?;
    let job = JobClient::new(transport, lease.urls, lease.job_token.ok_or("a lease has a token")?);
    let AppendOutcome::Stored { .. } = job.append_log(0, "Hello from the example\n".into()).await? else {
        return Err("the log is not empty".into());
    };
    let success = Conclusion::Success;
    let end = CompleteRequest { conclusion: success, outputs: [].into(), steps: Vec::new(), annotations: Vec::new() };
    Ok(job.complete(&end).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, token] = &*arguments else { return Err("usage: runner URL REGISTRATION-TOKEN".into()) };
    one_job(url, token, &["example"]).await
}
