//! Tokens and registrations.

use jiff::Timestamp;
use startline_protocol::ids::RunnerId;

use super::{Registration, RunnerToken, State, duplicate, next_id};
use crate::error::Error;
use crate::record::{
    ApiTokenRecord, Hash, NewApiToken, NewRegistrationToken, NewRunner, Registered, RegistrationTokenRecord,
    RunnerRecord, kept, name_key, replaced_token_end,
};

impl State {
    pub(super) fn create_api_token(&mut self, token: NewApiToken) -> Result<ApiTokenRecord, Error> {
        if self.api_tokens.iter().any(|(hash, _)| *hash == token.hash) {
            return Err(duplicate("add an API token"));
        }
        let record = ApiTokenRecord {
            id: next_id(self.api_tokens.last().map(|(_, token)| token.id)),
            name: token.name,
            created_at: kept(token.created_at),
            expires_at: token.expires_at.map(kept),
        };
        self.api_tokens.push((token.hash, record.clone()));
        Ok(record)
    }

    pub(super) fn create_registration_token(
        &mut self,
        mut token: NewRegistrationToken,
    ) -> Result<RegistrationTokenRecord, Error> {
        if self.registration_tokens.iter().any(|known| known.token.hash == token.hash) {
            return Err(duplicate("add a registration token"));
        }
        token.created_at = kept(token.created_at);
        token.expires_at = kept(token.expires_at);
        let id = next_id(self.registration_tokens.last().map(|token| token.id));
        let record = RegistrationTokenRecord { id, uses: 0, token };
        self.registration_tokens.push(record.clone());
        Ok(record)
    }

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
        let RegistrationTokenRecord { uses, token: rules, .. } = &self.registration_tokens[token];
        if rules.expires_at <= now {
            return Err(Error::TokenExpired);
        }
        if rules.max_uses.is_some_and(|max| *uses >= max) {
            return Err(Error::TokenExhausted(*uses));
        }
        let refused = rules.refused(&new.labels);
        if !refused.is_empty() {
            return Err(Error::LabelNotAllowed(refused));
        }
        let (group, ephemeral) = (rules.group.clone(), rules.ephemeral || new.ephemeral);
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
            group,
            capabilities: new.capabilities,
            ephemeral,
            version: new.version,
            created_at: kept(now),
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

    pub(super) fn live_runner(&mut self, runner: RunnerId) -> Result<&mut RunnerRecord, Error> {
        match self.runners.get_mut(&runner) {
            Some(known) if !known.deleted => Ok(&mut known.record),
            _ => Err(Error::RunnerGone(runner)),
        }
    }
}
