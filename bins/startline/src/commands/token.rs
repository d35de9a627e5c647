//! `startline token`.

use std::process::ExitCode;

use anstream::{eprintln, println};
use jiff::Timestamp;
use startline_client::RunnerClient;
use startline_protocol::runner_api::RegistrationTokenRequest;

use crate::cli::TokenCommand;

pub(super) async fn execute(command: TokenCommand) -> anyhow::Result<ExitCode> {
    let TokenCommand::Registration(args) = command;
    let connect = &args.list.connect;
    let client = RunnerClient::new(connect.network.transport()?, &connect.url)?;
    let request = RegistrationTokenRequest {
        name: None,
        labels: (!args.labels.is_empty()).then_some(args.labels),
        runner_group: args.group,
        expires_in_seconds: Some(args.expires_in),
        max_uses: args.max_uses,
        ephemeral: args.ephemeral,
        ..RegistrationTokenRequest::default()
    };
    let minted = client.request_registration_token(&connect.token()?, &request).await?;
    if args.list.json {
        println!("{}", serde_json::to_string(&minted)?);
    } else {
        println!("{}", minted.token.expose());
        let until = Timestamp::from_second(minted.expires_at)?;
        eprintln!("valid until {until}; register with `startline runner register --url {} --token …`", connect.url);
    }
    Ok(ExitCode::SUCCESS)
}
