//! Registrations.

use jiff::Timestamp;
use startline_protocol::ids::RunnerId;
use startline_protocol::scope::Scope;
use uuid::Uuid;

use super::{Registration, RunnerToken, State, duplicate};
use crate::error::Error;
use crate::record::{
    Hash, NewRunner, NewRunnerToken, Registered, RunnerRecord, TokenBearer, kept, name_key, replaced_token_end,
};

impl State {
    pub(super) fn register_runner(
        &mut self,
        registration: Hash,
        new: NewRunner,
        now: Timestamp,
    ) -> Result<Registered, Error> {
        let token = self
            .registration_tokens
            .iter()
            .position(|known| known.token.hash == registration)
            .ok_or(Error::TokenUnknown)?;
        let record = &self.registration_tokens[token];
        record.check(now)?;
        let rules = &record.token;
        rules.check_labels(&new.labels, self.resolve_group(&rules.scope, &rules.group)?)?;
        let (scope, group, ephemeral) = (rules.scope.clone(), rules.group.clone(), rules.ephemeral || new.ephemeral);
        let registered = self.add_runner(scope, group, NewRunner { ephemeral, ..new }, now)?;
        self.registration_tokens[token].uses += 1;
        Ok(registered)
    }

    pub(super) fn create_runner(
        &mut self,
        scope: Scope,
        group: String,
        new: NewRunner,
        now: Timestamp,
    ) -> Result<Registered, Error> {
        self.resolve_group(&scope, &group)?;
        let set = new.actions.as_ref().and_then(|actions| actions.scale_set);
        if let Some(set) = set.filter(|set| !self.scale_sets.contains_key(set)) {
            return Err(Error::NoScaleSet(set));
        }
        self.add_runner(scope, group, new, now)
    }

    fn add_runner(&mut self, scope: Scope, group: String, new: NewRunner, now: Timestamp) -> Result<Registered, Error> {
        let holder = self.runners.values().filter(|known| known.deleted_at.is_none() && known.record.scope == scope);
        let holder = holder
            .map(|known| &known.record)
            .find(|record| name_key(&record.name) == name_key(&new.name))
            .map(|record| record.id);
        if holder.is_some() && !new.replace {
            return Err(Error::NameTaken(new.name));
        }
        let (token, client) = (new.token, new.actions.as_ref().map(|actions| actions.client_id));
        if token.is_some_and(|token| self.runner_tokens.contains_key(&token.hash))
            || client.is_some_and(|client| self.by_client(client).is_some())
        {
            return Err(duplicate("register a runner"));
        }

        if let Some(holder) = holder {
            self.delete_runner(holder, now);
        }
        self.last_runner += 1;
        let id = RunnerId(self.last_runner);
        let record = new.into_record(id, scope, group, now);
        self.runners.insert(id, Registration { record: record.clone(), deleted_at: None });
        if let Some(NewRunnerToken { hash, expires_at }) = token {
            self.runner_tokens.insert(hash, RunnerToken { runner: id, expires_at: kept(expires_at) });
        }
        Ok(Registered { runner: record, replaced: holder })
    }

    pub(super) fn renew_runner_token(
        &mut self,
        runner: RunnerId,
        token: Hash,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.live_runner(runner)?;
        if self.runner_tokens.contains_key(&token) {
            return Err(duplicate("renew a runner token"));
        }
        self.runner_tokens.retain(|_, known| known.runner != runner || known.expires_at > now);
        for known in self.runner_tokens.values_mut().filter(|known| known.runner == runner) {
            known.expires_at = known.expires_at.min(replaced_token_end(now));
        }
        self.runner_tokens.insert(token, RunnerToken { runner, expires_at: kept(expires_at) });
        Ok(())
    }

    pub(super) fn runner_by_token(&mut self, token: Hash, now: Timestamp) -> Result<Option<TokenBearer>, Error> {
        let Some(&RunnerToken { runner, expires_at }) = self.runner_tokens.get(&token) else { return Ok(None) };
        let runner = self.live_runner(runner)?.clone();
        Ok((expires_at > now).then_some(TokenBearer { runner, expires_at }))
    }

    pub(super) fn runner_by_client(&self, client: Uuid) -> Result<Option<RunnerRecord>, Error> {
        match self.by_client(client) {
            Some(known) if known.deleted_at.is_some() => Err(Error::RunnerGone(known.record.id)),
            known => Ok(known.map(|known| known.record.clone())),
        }
    }

    fn by_client(&self, client: Uuid) -> Option<&Registration> {
        let is_it = |known: &&Registration| known.record.actions.as_ref().is_some_and(|own| own.client_id == client);
        self.runners.values().find(is_it)
    }

    pub(super) fn delete_runner(&mut self, runner: RunnerId, now: Timestamp) -> bool {
        let known = self.runners.get_mut(&runner).filter(|known| known.deleted_at.is_none());
        known.map(|known| known.deleted_at = Some(kept(now))).is_some()
    }

    /// An ephemeral runner has had its job.
    pub(super) fn delete_if_ephemeral(&mut self, runner: Option<RunnerId>, now: Timestamp) {
        let known = runner.and_then(|runner| self.runners.get_mut(&runner));
        if let Some(known) = known.filter(|known| known.record.ephemeral) {
            known.deleted_at.get_or_insert_with(|| kept(now));
        }
    }

    pub(super) fn live_runner(&mut self, runner: RunnerId) -> Result<&mut RunnerRecord, Error> {
        match self.runners.get_mut(&runner) {
            Some(known) if known.deleted_at.is_none() => Ok(&mut known.record),
            _ => Err(Error::RunnerGone(runner)),
        }
    }
}
