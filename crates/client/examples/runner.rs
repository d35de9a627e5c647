//! The least that a runner does: `cargo run -p startline-client --example runner -- URL REGISTRATION-TOKEN`.

use std::error::Error;

use startline_client::{Credentials, JobClient, Options, PollResult, RunnerClient, Transport};
use startline_protocol::runner_api::{CompleteRequest, PollRequest, RegisterRequest};
use startline_protocol::state::Conclusion;
use startline_protocol::token::RegistrationToken;

/// Registers, takes one job, writes a line into its log, says that it succeeded, and is gone.
pub(crate) async fn one_job(url: &str, token: &str, labels: &[&str]) -> Result<(), Box<dyn Error + Send + Sync>> {
    let transport = Transport::new(&Options::default())?;
    let client = RunnerClient::new(transport.clone(), url)?;
    let labels = labels.iter().map(ToString::to_string).collect();
    let runner = RegisterRequest { name: "example".to_owned(), labels, ephemeral: true, ..RegisterRequest::default() };
    let registered = client.register(&RegistrationToken::parse(token)?, &runner).await?;
    let session = client.session(Credentials::of(&registered, jiff::Timestamp::now()));
    let poll = PollRequest { auto_acquire: true, ..PollRequest::default() };
    let lease = loop {
        match session.poll_for_job(&poll).await {
            PollResult::JobAssigned(lease) => break lease,
            PollResult::NoJobs => {}
            refused => return Err(format!("{refused:?}").into()),
        }
    };
    let job = JobClient::new(transport, lease.urls, lease.job_token.ok_or("a lease has a token")?);
    job.append_log(0, "Hello from the example\n".into()).await?;
    Ok(job.complete_job(&CompleteRequest::new(Conclusion::Success)).await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, token] = &*arguments else { return Err("usage: runner URL REGISTRATION-TOKEN".into()) };
    one_job(url, token, &["example"]).await
}
