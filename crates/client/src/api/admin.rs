//! The calls of administrators: tokens, runner groups, secrets, variables, the audit log.

use std::time::Duration;

use http::{HeaderValue, Method, header};
use startline_protocol::admin_api::{
    AuditPage, AuditVerification, AuditView, CreateTokenRequest, CreatedToken, GroupPage, GroupRequest, GroupView,
    SecretPage, SecretView, TokenPage, TokenView, ValueRequest, VariablePage, VariableView,
};
use startline_protocol::scope::Scope;
use startline_protocol::token::TokenKind;
use startline_protocol::value_scope::ValueScope;

use super::lines::Lines;
use super::{ApiClient, escaped, number, query};
use crate::call::Call;
use crate::error::Error;

/// How long the whole chain of the audit log may take to be checked.
const VERIFY_DEADLINE: Duration = Duration::from_secs(300);

/// Which lines of the audit log are asked for; all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only this action, such as `runner.register`.
    pub action: Option<String>,
    /// Only this actor, such as `runner:7`.
    pub actor: Option<String>,
}

/// A path in one scope; `None` and [`Scope::Instance`] leave it to the service, which takes the token's own.
fn at(path: &str, scope: Option<&Scope>) -> String {
    let (organization, repository) = match scope {
        None | Some(Scope::Instance) => (None, None),
        Some(Scope::Organization(name)) => (Some(name.as_str()), None),
        Some(Scope::Repository(name)) => (None, Some(name.as_str())),
    };
    format!("/api/v1/{path}{}", query(&[("organization", organization), ("repository", repository)]))
}

/// A path of values in one place.
fn of(path: &str, place: Option<&ValueScope>) -> String {
    match place {
        None => at(path, None),
        Some(ValueScope::Scope(scope)) => at(path, Some(scope)),
        Some(ValueScope::Environment { repository, name }) => {
            let place = [("repository", Some(repository.as_str())), ("environment", Some(name.as_str()))];
            format!("/api/v1/{path}{}", query(&place))
        }
    }
}

fn named(collection: &str, name: &str, place: Option<&ValueScope>) -> String {
    of(&format!("{collection}/{}", escaped(name)), place)
}

/// In all calls below that take a scope, `None` and [`Scope::Instance`] mean the token's own.
impl ApiClient {
    /// Mints an API token. Not repeated once the service may have acted, so that no token is left that nobody knows.
    ///
    /// # Errors
    /// When more is asked for than this client's token may do; otherwise as every call.
    pub async fn create_token(&self, request: &CreateTokenRequest) -> Result<CreatedToken, Error> {
        let call = Call::post(self.service.url("/api/v1/tokens")).bearer(self.token.expose())?.json(request)?;
        self.retry.run(Error::was_refused_unprocessed, || call.receive(&self.service.transport)).await
    }

    /// API tokens and registration tokens of `scope` and what lies in it; never their text.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn tokens(&self, scope: Option<&Scope>) -> Result<Vec<TokenView>, Error> {
        self.get::<TokenPage>(&at("tokens", scope)).await.map(|page| page.tokens)
    }

    /// Revokes an API token or a registration token; a repeat changes nothing.
    ///
    /// # Errors
    /// When `kind` is neither, the service refuses, or does not answer in all tries.
    pub async fn revoke_token(&self, kind: TokenKind, id: i64) -> Result<(), Error> {
        let kind = match kind {
            TokenKind::Api => "api",
            TokenKind::Registration => "registration",
            TokenKind::Runner => {
                return Err(Error::invalid("a runner's token cannot be revoked by itself; remove the runner"));
            }
            TokenKind::Job => {
                return Err(Error::invalid("a job's token cannot be revoked by itself; cancel the run"));
            }
        };
        self.delete(&format!("/api/v1/tokens/{kind}/{id}")).await
    }

    /// Runner groups within the scope of this client's token.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn groups(&self) -> Result<Vec<GroupView>, Error> {
        self.get::<GroupPage>("/api/v1/runner-groups").await.map(|page| page.groups)
    }

    /// Makes or replaces the group `name`, of `organization` or of the token's own scope.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn put_group(&self, name: &str, organization: Option<&str>, group: &GroupRequest) -> Result<(), Error> {
        self.put(&group_path(name, organization), group).await
    }

    /// Deletes the group `name`, of `organization` or of the token's own scope.
    ///
    /// # Errors
    /// When there is none or it has runners; otherwise as every call.
    pub async fn delete_group(&self, name: &str, organization: Option<&str>) -> Result<(), Error> {
        self.delete(&group_path(name, organization)).await
    }

    /// The secrets set in `scope`; never their values.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn secrets(&self, scope: Option<&ValueScope>) -> Result<Vec<SecretView>, Error> {
        self.get::<SecretPage>(&of("secrets", scope)).await.map(|page| page.secrets)
    }

    /// Sets a secret in `scope`; jobs that begin from now on get it.
    ///
    /// # Errors
    /// When the name is none or the value too long; otherwise as every call.
    pub async fn put_secret(&self, name: &str, scope: Option<&ValueScope>, value: &ValueRequest) -> Result<(), Error> {
        self.put(&named("secrets", name, scope), value).await
    }

    /// Deletes a secret of `scope`.
    ///
    /// # Errors
    /// When there is none; otherwise as every call.
    pub async fn delete_secret(&self, name: &str, scope: Option<&ValueScope>) -> Result<(), Error> {
        self.delete(&named("secrets", name, scope)).await
    }

    /// The variables set in `scope`.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn variables(&self, scope: Option<&ValueScope>) -> Result<Vec<VariableView>, Error> {
        self.get::<VariablePage>(&of("variables", scope)).await.map(|page| page.variables)
    }

    /// Sets a variable in `scope`.
    ///
    /// # Errors
    /// When the name is none or the value too long; otherwise as every call.
    pub async fn put_variable(
        &self,
        name: &str,
        scope: Option<&ValueScope>,
        value: &ValueRequest,
    ) -> Result<(), Error> {
        self.put(&named("variables", name, scope), value).await
    }

    /// Deletes a variable of `scope`.
    ///
    /// # Errors
    /// When there is none; otherwise as every call.
    pub async fn delete_variable(&self, name: &str, scope: Option<&ValueScope>) -> Result<(), Error> {
        self.delete(&named("variables", name, scope)).await
    }

    /// One page of the audit log, oldest first.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn audit_page(
        &self,
        filter: &AuditFilter,
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<AuditPage, Error> {
        let query = query(&[
            ("cursor", cursor),
            ("limit", number(limit).as_deref()),
            ("action", filter.action.as_deref()),
            ("actor", filter.actor.as_deref()),
        ]);
        self.get(&format!("/api/v1/audit{query}")).await
    }

    /// Lets the service check the chain of the whole audit log.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries. A broken chain is an answer, not an error.
    pub async fn verify_audit(&self) -> Result<AuditVerification, Error> {
        let call = Call::get(self.service.url("/api/v1/audit/verify")).bearer(self.token.expose())?;
        let call = call.deadline(VERIFY_DEADLINE);
        self.retry.run(Error::is_transient, || call.receive(&self.service.transport)).await
    }

    /// The audit log from its beginning to what is in it now, line by line as the service writes it.
    ///
    /// # Errors
    /// When the service refuses, or does not answer in all tries.
    pub async fn export_audit(&self, filter: &AuditFilter) -> Result<AuditExport, Error> {
        let query = query(&[("action", filter.action.as_deref()), ("actor", filter.actor.as_deref())]);
        let url = self.service.url(&format!("/api/v1/audit{query}"));
        let call = Call::get(&*url)
            .bearer(self.token.expose())?
            .header(header::ACCEPT, HeaderValue::from_static("application/x-ndjson"));
        let open = || Lines::open(&self.service.transport, call.clone(), url.clone());
        let lines = self.retry.run(Error::is_transient, open).await?;
        Ok(AuditExport { lines, last: None })
    }

    async fn put(&self, path: &str, body: &impl serde::Serialize) -> Result<(), Error> {
        let call = Call::new(Method::PUT, self.service.url(path)).bearer(self.token.expose())?.json(body)?;
        self.retry.run(Error::is_transient, || call.done(&self.service.transport)).await
    }

    async fn delete(&self, path: &str) -> Result<(), Error> {
        let call = Call::new(Method::DELETE, self.service.url(path)).bearer(self.token.expose())?;
        self.retry.run(Error::is_transient, || call.done(&self.service.transport)).await
    }
}

fn group_path(name: &str, organization: Option<&str>) -> String {
    format!("/api/v1/runner-groups/{}{}", escaped(name), query(&[("organization", organization)]))
}

/// The audit log as it arrives. See [`ApiClient::export_audit`].
#[derive(Debug)]
pub struct AuditExport {
    lines: Lines,
    last: Option<i64>,
}

impl AuditExport {
    /// The next line, as text and read; `None` at the end.
    ///
    /// Cancel-safe. A connection that is cut is an error and never looks like the end.
    ///
    /// # Errors
    /// When the connection breaks, or a line is none of an audit log or does not come after the one before.
    pub async fn next(&mut self) -> Result<Option<(String, AuditView)>, Error> {
        let Some(line) = self.lines.next().await? else { return Ok(None) };
        let record: AuditView = self.lines.decode(&line)?;
        if let Some(last) = self.last
            && record.sequence <= last
        {
            return Err(self.lines.unreadable(format!("line {} comes after line {last}", record.sequence)));
        }
        self.last = Some(record.sequence);
        // It was read as JSON, which is UTF-8.
        Ok(Some((String::from_utf8_lossy(&line).into_owned(), record)))
    }
}
