//! Registrations.

use jiff::Timestamp;
use startline_protocol::ids::RunnerId;

use super::{Registration, RunnerToken, State, duplicate, next_id};
use crate::error::Error;
use crate::record::{Hash, NewRunner, Registered, RunnerRecord, kept, name_key, replaced_token_end};

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
        let holder = self
            .runners
            .values()
            .find(|known| !known.deleted && name_key(&known.record.name) == name_key(&new.name))
            .map(|known| known.record.id);
        if holder.is_some() && !new.replace {
            return Err(Error::NameTaken(new.name));
        }
        if self.runner_tokens.contains_key(&new.token) {
            return Err(duplicate("register a runner"));
        }

        if let Some(holder) = holder {
            self.delete_runner(holder);
        }
        self.registration_tokens[token].uses += 1;
        let id = RunnerId(next_id(self.runners.keys().next_back().map(|id| id.0)));
        let record = RunnerRecord {
            id,
            name: new.name,
            labels: new.labels,
            scope,
            group,
            capabilities: new.capabilities,
            ephemeral,
            version: new.version,
            created_at: kept(now),
            last_seen_at: None,
        };
        self.runners.insert(id, Registration { record: record.clone(), deleted: false });
        self.runner_tokens.insert(new.token, RunnerToken { runner: id, expires_at: kept(new.token_expires_at) });
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

    pub(super) fn runner_by_token(&mut self, token: Hash, now: Timestamp) -> Result<Option<RunnerRecord>, Error> {
        let Some(&RunnerToken { runner, expires_at }) = self.runner_tokens.get(&token) else { return Ok(None) };
        let record = self.live_runner(runner)?;
        Ok((expires_at > now).then(|| record.clone()))
    }

    pub(super) fn delete_runner(&mut self, runner: RunnerId) -> bool {
        self.runners.get_mut(&runner).is_some_and(|known| !std::mem::replace(&mut known.deleted, true))
    }

    /// An ephemeral runner has had its job.
    pub(super) fn delete_if_ephemeral(&mut self, runner: Option<RunnerId>) {
        let known = runner.and_then(|runner| self.runners.get_mut(&runner));
        if let Some(known) = known.filter(|known| known.record.ephemeral) {
            known.deleted = true;
        }
    }

    pub(super) fn live_runner(&mut self, runner: RunnerId) -> Result<&mut RunnerRecord, Error> {
        match self.runners.get_mut(&runner) {
            Some(known) if !known.deleted => Ok(&mut known.record),
            _ => Err(Error::RunnerGone(runner)),
        }
    }
}
