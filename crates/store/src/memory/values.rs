//! Secrets and variables.

use jiff::Timestamp;
use startline_protocol::value_scope::ValueScope;

use super::State;
use crate::error::Error;
use crate::record::{MAX_SECRETS, MAX_VARIABLES, SealedSecret, SecretRecord, VariableRecord, kept, value_key};

impl State {
    pub(super) fn put_secret(
        &mut self,
        scope: ValueScope,
        name: &str,
        sealed: Vec<u8>,
        now: Timestamp,
    ) -> Result<SecretRecord, Error> {
        let key = (scope.clone(), value_key(name));
        let known = self.secrets.get(&key).map(|(_, known)| known.created_at);
        if known.is_none() && self.secrets_of(&scope).count() >= most(MAX_SECRETS) {
            return Err(Error::TooMany { what: "secrets", scope, limit: MAX_SECRETS });
        }
        let created_at = known.unwrap_or_else(|| kept(now));
        let record = SecretRecord { scope, name: key.1.clone(), created_at, updated_at: kept(now) };
        self.secrets.insert(key, (sealed, record.clone()));
        Ok(record)
    }

    pub(super) fn delete_secret(&mut self, scope: ValueScope, name: &str) -> bool {
        self.secrets.remove(&(scope, value_key(name))).is_some()
    }

    pub(super) fn secrets(&self, scope: &ValueScope) -> Vec<SecretRecord> {
        self.secrets_of(scope).map(|(_, known)| known.clone()).collect()
    }

    pub(super) fn sealed_secrets(&self, scopes: &[ValueScope]) -> Vec<SealedSecret> {
        let sealed = |(sealed, known): &(Vec<u8>, SecretRecord)| SealedSecret {
            scope: known.scope.clone(),
            name: known.name.clone(),
            sealed: sealed.clone(),
        };
        scopes.iter().flat_map(|scope| self.secrets_of(scope)).map(sealed).collect()
    }

    fn secrets_of(&self, scope: &ValueScope) -> impl Iterator<Item = &(Vec<u8>, SecretRecord)> {
        self.secrets.values().filter(move |(_, known)| known.scope == *scope)
    }

    pub(super) fn put_variable(
        &mut self,
        scope: ValueScope,
        name: &str,
        value: String,
        now: Timestamp,
    ) -> Result<VariableRecord, Error> {
        let key = (scope.clone(), value_key(name));
        let known = self.variables.get(&key).map(|known| known.created_at);
        if known.is_none() && self.variables_of(&scope).count() >= most(MAX_VARIABLES) {
            return Err(Error::TooMany { what: "variables", scope, limit: MAX_VARIABLES });
        }
        let created_at = known.unwrap_or_else(|| kept(now));
        let record = VariableRecord { scope, name: key.1.clone(), value, created_at, updated_at: kept(now) };
        self.variables.insert(key, record.clone());
        Ok(record)
    }

    pub(super) fn delete_variable(&mut self, scope: ValueScope, name: &str) -> bool {
        self.variables.remove(&(scope, value_key(name))).is_some()
    }

    pub(super) fn variables(&self, scopes: &[ValueScope]) -> Vec<VariableRecord> {
        scopes.iter().flat_map(|scope| self.variables_of(scope)).cloned().collect()
    }

    fn variables_of(&self, scope: &ValueScope) -> impl Iterator<Item = &VariableRecord> {
        self.variables.values().filter(move |known| known.scope == *scope)
    }
}

fn most(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
