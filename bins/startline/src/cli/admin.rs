//! The command line of administrators: tokens, groups, secrets, variables, the audit log.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};
use startline_protocol::permission::Permission;
use startline_protocol::scope::Scope;

use super::ListArgs;
use super::life::Life;
use crate::connect::Connect;

#[derive(Subcommand, Debug)]
pub(crate) enum TokenCommand {
    /// Mint an API token with some of your own permissions
    ///
    /// The token goes to standard output, this once; the service keeps only its hash.
    #[command(after_help = "Example:\n  startline token create --name forge --scope organization:acme \\\n      \
                            --permission jobs:write,jobs:read --expires-in 30d")]
    Create(CreateTokenArgs),
    /// List tokens; their text is not kept anywhere
    #[command(after_help = "Example:\n  startline token list --organization acme")]
    List(ListTokensArgs),
    /// Revoke a token; connections opened with it are closed within seconds
    #[command(after_help = "Examples:\n  startline token revoke api 3\n  startline token revoke registration 14")]
    Revoke(RevokeTokenArgs),
    /// Mint a token that registers runners and can do nothing else
    #[command(
        after_help = "Example:\n  startline token registration --scope repository:acme/demo --label linux \\\n      \
                            --cidr 10.0.0.0/8 --expires-in 1d"
    )]
    Registration(RegistrationTokenArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CreateTokenArgs {
    /// A note for people, shown in lists and in the audit log
    #[arg(long, value_name = "TEXT")]
    pub name: String,
    /// What it may act on: `instance`, `organization:NAME` or `repository:OWNER/NAME` [default: your token's own scope]
    #[arg(long, value_name = "SCOPE")]
    pub scope: Option<Scope>,
    /// What it may do, no more than your own token; may be repeated, or separated by commas
    #[arg(long = "permission", value_name = "PERMISSION", required = true, value_delimiter = ',',
          value_parser = permission())]
    pub permissions: Vec<Permission>,
    /// Life, such as `30d` or `12h` [default: until revoked]
    #[arg(long, value_name = "TIME")]
    pub expires_in: Option<Life>,
    #[command(flatten)]
    pub list: ListArgs,
}

fn permission() -> impl TypedValueParser<Value = Permission> {
    PossibleValuesParser::new(Permission::ALL.iter().map(|permission| permission.as_str()))
        .try_map(|text| Permission::parse(&text).ok_or("no permission"))
}

/// The kinds of token that can be revoked.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub(crate) enum RevocableKind {
    /// Administers (`slp_…`)
    Api,
    /// Registers runners (`slr_…`); those that it registered stay
    Registration,
}

#[derive(Args, Debug)]
pub(crate) struct RevokeTokenArgs {
    /// Which kind of token
    pub kind: RevocableKind,
    /// Its number in `startline token list`
    #[arg(value_name = "ID")]
    pub id: i64,
    #[command(flatten)]
    pub connect: Connect,
}

#[derive(Args, Debug)]
pub(crate) struct RegistrationTokenArgs {
    #[command(flatten)]
    pub list: ListArgs,
    /// A note for people
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    /// What its runners belong to: `instance`, `organization:NAME` or `repository:OWNER/NAME` [default: your token's
    /// own scope]
    #[arg(long, value_name = "SCOPE")]
    pub scope: Option<Scope>,
    /// Label that its runners may carry; may be repeated [default: any]
    #[arg(long = "label", value_name = "LABEL")]
    pub labels: Vec<String>,
    /// Group that its runners join
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Network from which it may be used, such as `10.0.0.0/8`; may be repeated [default: any]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub cidr: Vec<String>,
    /// Life, one minute to seven days, such as `90m` or `1d`; a bare number is seconds
    #[arg(long, default_value = "1h", value_name = "TIME")]
    pub expires_in: Life,
    /// How often it may be used [default: once for ephemeral runners, else unlimited]
    #[arg(long, value_name = "N")]
    pub max_uses: Option<u32>,
    /// Its runners take one job each
    #[arg(long)]
    pub ephemeral: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum GroupCommand {
    /// List runner groups with their policies
    #[command(after_help = "Example:\n  startline group list")]
    List(ListArgs),
    /// Make a group, or replace its policy: what is not given falls back to its default
    #[command(
        after_help = "Example:\n  startline group set deploy --organization acme --repository acme/shop \\\n      \
                            --protected-label prod --max-running-jobs-per-repository 2"
    )]
    Set(SetGroupArgs),
    /// Delete a group that has no runners
    #[command(after_help = "Example:\n  startline group delete deploy --organization acme")]
    Delete(DeleteGroupArgs),
}

#[derive(Args, Debug)]
pub(crate) struct SetGroupArgs {
    /// Name of the group; `default` always exists
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Organization that it belongs to [default: your token's own scope]
    #[arg(long, value_name = "NAME")]
    pub organization: Option<String>,
    /// Repository whose jobs its runners take; may be repeated [default: all in the group's scope]
    #[arg(long = "repository", value_name = "OWNER/NAME")]
    pub repositories: Vec<String>,
    /// Take jobs whose code is not trusted, such as those of pull requests from forks, on ephemeral runners
    #[arg(long)]
    pub accepts_untrusted: bool,
    /// Label that a runner may carry only if its registration token names it; may be repeated
    #[arg(long = "protected-label", value_name = "LABEL")]
    pub protected_labels: Vec<String>,
    /// Most jobs of the group at the same time [default: no limit]
    #[arg(long, value_name = "N")]
    pub max_running_jobs: Option<u32>,
    /// Most jobs of one repository in the group at the same time [default: no limit]
    #[arg(long, value_name = "N")]
    pub max_running_jobs_per_repository: Option<u32>,
    #[command(flatten)]
    pub connect: Connect,
}

#[derive(Args, Debug)]
pub(crate) struct DeleteGroupArgs {
    /// The group
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Organization that it belongs to [default: your token's own scope]
    #[arg(long, value_name = "NAME")]
    pub organization: Option<String>,
    #[command(flatten)]
    pub connect: Connect,
}

/// What is looked at or set: an organization's or a repository's.
#[derive(Args, Debug)]
pub(crate) struct Place {
    /// Of this organization, for all its repositories [default: your token's own scope]
    #[arg(long, value_name = "NAME", conflicts_with = "repository")]
    pub organization: Option<String>,
    /// Of this repository
    #[arg(long, value_name = "OWNER/NAME")]
    pub repository: Option<String>,
}

/// Where a secret or a variable is set, environments included.
#[derive(Args, Debug)]
pub(crate) struct ValuePlace {
    #[command(flatten)]
    pub place: Place,
    /// Of this environment of the repository, for the jobs that name it
    #[arg(long, value_name = "NAME", requires = "repository")]
    pub environment: Option<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ValueCommand {
    /// List what is set in one scope
    #[command(after_help = "Examples:\n  startline secret list --repository acme/demo\n  \
                            startline variable list --organization acme --json")]
    List(ListValuesArgs),
    /// Set one: the value comes from standard input, a file or an environment variable
    ///
    /// One line break at the end of standard input is not part of the value; a file is taken as it is.
    #[command(after_help = "Examples:\n  startline secret set NPM_TOKEN --repository acme/demo < token.txt\n  \
                            startline secret set DEPLOY_KEY --organization acme --file deploy.pem\n  \
                            startline secret set DEPLOY_KEY --repository acme/demo --environment production --env KEY\n  \
                            startline variable set REGION=eu-1 --repository acme/demo")]
    Set(SetValueArgs),
    /// Delete one
    #[command(after_help = "Examples:\n  startline secret delete NPM_TOKEN --repository acme/demo\n  \
                            startline variable delete REGION")]
    Delete(DeleteValueArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ListTokensArgs {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ListValuesArgs {
    #[command(flatten)]
    pub place: ValuePlace,
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Args, Debug)]
pub(crate) struct SetValueArgs {
    /// The name: letters, digits and underscores. NAME=VALUE is for variables; other users of this machine could read a
    /// secret that is given so
    #[arg(value_name = "NAME[=VALUE]")]
    pub name: String,
    /// Take the value from this file
    #[arg(long, value_name = "FILE", conflicts_with = "env")]
    pub file: Option<PathBuf>,
    /// Take the value from this environment variable
    #[arg(long, value_name = "VARIABLE")]
    pub env: Option<String>,
    #[command(flatten)]
    pub place: ValuePlace,
    #[command(flatten)]
    pub connect: Connect,
}

#[derive(Args, Debug)]
pub(crate) struct DeleteValueArgs {
    /// The name
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub place: ValuePlace,
    #[command(flatten)]
    pub connect: Connect,
}

#[derive(Subcommand, Debug)]
pub(crate) enum AuditCommand {
    /// List lines of the audit log, oldest first
    #[command(after_help = "Example:\n  startline audit list --action token.revoke --limit 100")]
    List(AuditListArgs),
    /// Check that no line was changed or taken out; exits with 1 if one was
    #[command(after_help = "Example:\n  startline audit verify")]
    Verify(ListArgs),
    /// Write the audit log as JSON lines
    #[command(after_help = "Example:\n  startline audit export --output audit.ndjson")]
    Export(AuditExportArgs),
}

/// Which lines.
#[derive(Args, Debug)]
pub(crate) struct AuditFilterArgs {
    /// Only this action, such as `runner.register`
    #[arg(long, value_name = "ACTION")]
    pub action: Option<String>,
    /// Only this actor, such as `runner:7`
    #[arg(long, value_name = "ACTOR")]
    pub actor: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct AuditListArgs {
    #[command(flatten)]
    pub filter: AuditFilterArgs,
    /// At most so many
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub limit: u32,
    /// Go on where an earlier listing ended
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
    #[command(flatten)]
    pub list: ListArgs,
}

#[derive(Args, Debug)]
pub(crate) struct AuditExportArgs {
    #[command(flatten)]
    pub filter: AuditFilterArgs,
    /// Write to this new file [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub connect: Connect,
}
