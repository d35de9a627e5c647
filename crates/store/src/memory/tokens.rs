//! API and registration tokens.

use jiff::Timestamp;

use super::{State, duplicate, next_id};
use crate::error::Error;
use crate::record::{ApiTokenRecord, NewApiToken, NewRegistrationToken, RegistrationTokenRecord, kept};

impl State {
    pub(super) fn create_api_token(&mut self, token: NewApiToken) -> Result<ApiTokenRecord, Error> {
        if self.api_tokens.iter().any(|(hash, _)| *hash == token.hash) {
            return Err(duplicate("add an API token"));
        }
        let record = ApiTokenRecord {
            id: next_id(Some(self.last_api_token)),
            name: token.name,
            scope: token.scope,
            permissions: token.permissions,
            created_at: kept(token.created_at),
            expires_at: token.expires_at.map(kept),
            revoked_at: None,
        };
        self.last_api_token = record.id;
        self.api_tokens.push((token.hash, record.clone()));
        Ok(record)
    }

    pub(super) fn create_registration_token(
        &mut self,
        mut token: NewRegistrationToken,
    ) -> Result<RegistrationTokenRecord, Error> {
        self.resolve_group(&token.scope, &token.group)?;
        if self.registration_tokens.iter().any(|known| known.token.hash == token.hash) {
            return Err(duplicate("add a registration token"));
        }
        token.created_at = kept(token.created_at);
        token.expires_at = kept(token.expires_at);
        let id = next_id(Some(self.last_registration_token));
        self.last_registration_token = id;
        let record = RegistrationTokenRecord { id, uses: 0, revoked_at: None, token };
        self.registration_tokens.push(record.clone());
        Ok(record)
    }

    pub(super) fn revoke_api_token(&mut self, id: i64, now: Timestamp) -> bool {
        let token = self.api_tokens.iter_mut().map(|(_, token)| token).find(|token| token.id == id);
        token.is_some_and(|token| revoke(&mut token.revoked_at, now))
    }

    pub(super) fn revoke_registration_token(&mut self, id: i64, now: Timestamp) -> bool {
        let token = self.registration_tokens.iter_mut().find(|token| token.id == id);
        token.is_some_and(|token| revoke(&mut token.revoked_at, now))
    }
}

fn revoke(revoked_at: &mut Option<Timestamp>, now: Timestamp) -> bool {
    let is_new = revoked_at.is_none();
    revoked_at.get_or_insert(kept(now));
    is_new
}
