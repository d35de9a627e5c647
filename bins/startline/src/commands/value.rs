//! `startline secret` and `startline variable`.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;

use anstream::eprintln;
use anyhow::Context;
use jiff::Timestamp;
use startline_protocol::admin_api::ValueRequest;
use startline_protocol::scope::Scope;
use startline_protocol::value_scope::ValueScope;

use super::listing::{json, table};
use crate::cli::{DeleteValueArgs, ListValuesArgs, Place, SetValueArgs, ValueCommand, ValuePlace};
use crate::exit::Usage;
use crate::render::style::{RESET, YELLOW};
use crate::render::table::{Listing, ago};
use crate::terminal;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Secret,
    Variable,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Variable => "variable",
        }
    }
}

pub(super) async fn execute(kind: Kind, command: ValueCommand) -> anyhow::Result<ExitCode> {
    match command {
        ValueCommand::List(args) => list(kind, args).await,
        ValueCommand::Set(args) => set(kind, args).await,
        ValueCommand::Delete(args) => delete(kind, args).await,
    }
}

pub(super) fn scope(place: &Place) -> anyhow::Result<Option<Scope>> {
    let parsed = match (&place.organization, &place.repository) {
        (Some(name), _) => Scope::organization(name)
            .map_err(|_| Usage(format!("--organization `{name}` is not a name, such as acme")))?,
        (None, Some(name)) => Scope::repository(name)
            .map_err(|_| Usage(format!("--repository `{name}` is not OWNER/NAME, such as acme/shop")))?,
        (None, None) => return Ok(None),
    };
    Ok(Some(parsed))
}

fn value_scope(args: &ValuePlace) -> anyhow::Result<Option<ValueScope>> {
    Ok(match (scope(&args.place)?, &args.environment) {
        (Some(Scope::Repository(repository)), Some(name)) => {
            Some(ValueScope::environment(&repository, name).map_err(|error| Usage(format!("--environment: {error}")))?)
        }
        (found, _) => found.map(ValueScope::from),
    })
}

pub(super) fn shown(scope: Option<&impl ToString>) -> String {
    scope.map_or_else(|| "the token's own scope".to_owned(), ToString::to_string)
}

async fn list(kind: Kind, args: ListValuesArgs) -> anyhow::Result<ExitCode> {
    let (client, scope) = (args.list.connect.client()?, value_scope(&args.place)?);
    let now = Timestamp::now();
    let empty = format!("there are no {}s of {}", kind.name(), shown(scope.as_ref()));
    match kind {
        Kind::Secret => {
            let secrets = client.secrets(scope.as_ref()).await?;
            if args.list.json {
                return json(&secrets);
            }
            let mut listing = Listing::new(&["SECRET", "SCOPE", "MADE", "SET"]);
            for secret in secrets {
                let times = [ago(secret.created_at, now), ago(secret.updated_at, now)];
                listing.row([secret.name, secret.scope.to_string()].into_iter().chain(times));
            }
            Ok(table(&listing, &empty, None))
        }
        Kind::Variable => {
            let variables = client.variables(scope.as_ref()).await?;
            if args.list.json {
                return json(&variables);
            }
            let mut listing = Listing::new(&["VARIABLE", "VALUE", "SCOPE", "SET"]);
            for variable in variables {
                let set = ago(variable.updated_at, now);
                listing.row([variable.name, variable.value, variable.scope.to_string(), set]);
            }
            Ok(table(&listing, &empty, None))
        }
    }
}

async fn set(kind: Kind, args: SetValueArgs) -> anyhow::Result<ExitCode> {
    let scope = value_scope(&args.place)?;
    let client = args.connect.client()?;
    let (name, value) = name_and_value(kind, &args)?;
    let request = ValueRequest { value };
    match kind {
        Kind::Secret => client.put_secret(&name, scope.as_ref(), &request).await?,
        Kind::Variable => client.put_variable(&name, scope.as_ref(), &request).await?,
    }
    eprintln!("{} {name} of {} is set", kind.name(), shown(scope.as_ref()));
    Ok(ExitCode::SUCCESS)
}

fn name_and_value(kind: Kind, args: &SetValueArgs) -> anyhow::Result<(String, String)> {
    let (name, given) = match args.name.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (args.name.as_str(), None),
    };
    // The service knows all the rules; this one keeps a slip of the fingers from becoming a value in its log.
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(
            Usage(format!("`{name}` is not a {}'s name; it has letters, digits and underscores", kind.name())).into()
        );
    }
    let value = match (given, &args.file, &args.env) {
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            return Err(Usage("the value is given twice; leave `=VALUE` or --file or --env out".to_owned()).into());
        }
        (Some(value), None, None) => {
            if kind == Kind::Secret {
                eprintln!(
                    "{YELLOW}warning{RESET}: other users of this machine can read a command line, and the shell keeps \
                     it; pipe the value in: startline secret set {name} < FILE"
                );
            }
            value.to_owned()
        }
        (None, Some(file), _) => {
            let bytes = std::fs::read(file).with_context(|| format!("cannot read --file {}", file.display()))?;
            text(bytes, &file.display().to_string())?
        }
        (None, None, Some(variable)) => {
            #[expect(clippy::disallowed_methods, reason = "the user names the variable on the command line")]
            let value = std::env::var(variable);
            value.map_err(|_| Usage(format!("--env {variable}: it is not set, or not UTF-8; export it first")))?
        }
        (None, None, None) => piped(kind, name)?,
    };
    Ok((name.to_owned(), value))
}

/// The value from standard input, or from whoever sits there.
fn piped(kind: Kind, name: &str) -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        let question = format!("value of {name}: ");
        return Ok(match kind {
            Kind::Secret => terminal::ask_hidden(&format!("{} (hidden) ", question.trim_end()))?,
            Kind::Variable => terminal::ask(&question)?,
        });
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).context("cannot read the value from standard input")?;
    let mut value = text(bytes, "standard input")?;
    if value.is_empty() {
        return Err(Usage("standard input is empty; pipe the value in, or give --file or --env".to_owned()).into());
    }
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    Ok(value)
}

fn text(bytes: Vec<u8>, what: &str) -> Result<String, Usage> {
    String::from_utf8(bytes)
        .map_err(|_| Usage(format!("{what} is not UTF-8 text; encode it first, for example with base64")))
}

async fn delete(kind: Kind, args: DeleteValueArgs) -> anyhow::Result<ExitCode> {
    let (client, scope) = (args.connect.client()?, value_scope(&args.place)?);
    match kind {
        Kind::Secret => client.delete_secret(&args.name, scope.as_ref()).await?,
        Kind::Variable => client.delete_variable(&args.name, scope.as_ref()).await?,
    }
    eprintln!("{} {} of {} is deleted", kind.name(), args.name, shown(scope.as_ref()));
    Ok(ExitCode::SUCCESS)
}
