//! `startline token`.

use std::process::ExitCode;

use anstream::{eprintln, println};
use jiff::Timestamp;
use startline_client::RunnerClient;
use startline_protocol::admin_api::{CreateTokenRequest, TokenView};
use startline_protocol::runner_api::RegistrationTokenRequest;
use startline_protocol::token::TokenKind;

use super::listing::{json, table};
use super::value;
use crate::cli::{
    CreateTokenArgs, ListTokensArgs, RegistrationTokenArgs, RevocableKind, RevokeTokenArgs, TokenCommand,
};
use crate::exit::Usage;
use crate::render::style::{BOLD, RESET};
use crate::render::table::{Listing, ago, until};

pub(super) async fn execute(command: TokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Create(args) => create(args).await,
        TokenCommand::List(args) => list(args).await,
        TokenCommand::Revoke(args) => revoke(args).await,
        TokenCommand::Registration(args) => registration(args).await,
    }
}

async fn create(args: CreateTokenArgs) -> anyhow::Result<ExitCode> {
    let client = args.list.connect.client()?;
    let request = CreateTokenRequest {
        name: args.name,
        scope: args.scope,
        permissions: args.permissions,
        expires_in_seconds: args.expires_in.map(|life| life.0),
    };
    let created = client.create_token(&request).await?;
    if args.list.json {
        return json(&created);
    }
    println!("{}", created.token.expose());
    let TokenView { id, name, scope, expires_at, .. } = created.view;
    let life = expires_at.map_or_else(|| "until it is revoked".to_owned(), |end| format!("until {end}"));
    eprintln!(
        "token {id} `{name}` for {scope}, valid {life}. {BOLD}It is not shown again.{RESET}\n\
         revoke it: startline token revoke api {id}"
    );
    Ok(ExitCode::SUCCESS)
}

async fn list(args: ListTokensArgs) -> anyhow::Result<ExitCode> {
    let scope = value::scope(&args.place)?;
    let tokens = args.list.connect.client()?.tokens(scope.as_ref()).await?;
    if args.list.json {
        return json(&tokens);
    }
    let now = Timestamp::now();
    let mut listing = Listing::new(&["KIND", "ID", "NAME", "SCOPE", "MAY", "USED", "MADE", "ENDS"]);
    for token in tokens {
        let may = may(&token);
        listing.row([
            kind(token.kind).to_owned(),
            token.id.to_string(),
            token.name,
            token.scope.to_string(),
            may,
            match (token.kind, token.max_uses) {
                (TokenKind::Registration, Some(most)) => format!("{} of {most}", token.uses),
                (TokenKind::Registration, None) => token.uses.to_string(),
                _ => String::new(),
            },
            ago(token.created_at, now),
            match (token.revoked_at, token.expires_at) {
                (Some(_), _) => "revoked".to_owned(),
                (None, Some(end)) if end <= now => "expired".to_owned(),
                (None, Some(end)) => until(end, now),
                (None, None) => "never".to_owned(),
            },
        ]);
    }
    Ok(table(&listing, &format!("there are no tokens of {}", value::shown(scope.as_ref())), None))
}

const fn kind(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Api => "api",
        TokenKind::Registration => "registration",
        TokenKind::Runner => "runner",
        TokenKind::Job => "job",
    }
}

/// What a token is good for, in one cell.
fn may(token: &TokenView) -> String {
    if token.kind == TokenKind::Api {
        let words: Vec<&str> = token.permissions.iter().map(|permission| permission.as_str()).collect();
        return words.join(" ");
    }
    let mut parts = vec!["register".to_owned()];
    if let Some(labels) = &token.labels {
        parts.push(format!("with {}", labels.join(", ")));
    }
    if let Some(group) = &token.runner_group {
        parts.push(format!("in {group}"));
    }
    if let Some(networks) = &token.cidr {
        parts.push(format!("from {}", networks.join(", ")));
    }
    parts.join(" ")
}

async fn revoke(args: RevokeTokenArgs) -> anyhow::Result<ExitCode> {
    let of = match args.kind {
        RevocableKind::Api => TokenKind::Api,
        RevocableKind::Registration => TokenKind::Registration,
    };
    args.connect.client()?.revoke_token(of, args.id).await?;
    eprintln!("{} {} is revoked", of.name(), args.id);
    Ok(ExitCode::SUCCESS)
}

async fn registration(args: RegistrationTokenArgs) -> anyhow::Result<ExitCode> {
    let connect = &args.list.connect;
    let life = u32::try_from(args.expires_in.0).ok().filter(|life| (60..=604_800).contains(life)).ok_or_else(|| {
        Usage(format!("--expires-in is {} s; a registration token lives from 1m to 7d", args.expires_in.0))
    })?;
    let client = RunnerClient::new(connect.network.transport()?, &connect.url)?;
    let request = RegistrationTokenRequest {
        name: args.name,
        labels: (!args.labels.is_empty()).then_some(args.labels),
        runner_group: args.group,
        expires_in_seconds: Some(life),
        max_uses: args.max_uses,
        ephemeral: args.ephemeral,
        scope: args.scope,
        cidr: (!args.cidr.is_empty()).then_some(args.cidr),
    };
    let minted = client.request_registration_token(&connect.token()?, &request).await?;
    if args.list.json {
        return json(&minted);
    }
    println!("{}", minted.token.expose());
    let until = Timestamp::from_second(minted.expires_at)?;
    eprintln!(
        "valid until {until}; on the runner's machine, with it as STARTLINE_TOKEN: startline runner register --url {}",
        connect.url
    );
    Ok(ExitCode::SUCCESS)
}
