//! Who reads a scale set's queue: one session a set. In memory; a session that is not known after a restart is believed,
//! because its token says what it is.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// After this long without a poll or a refresh nobody stands behind a session: two polls that did not come.
pub(super) const SILENT: SignedDuration = SignedDuration::from_secs(110);
/// How long a token that was replaced still works: a poll may be on its way with it.
const REPLACED: SignedDuration = SignedDuration::from_mins(2);
/// How many sessions are remembered that have ended, so that none comes back.
const ENDED: usize = 64;

/// What the token of a session says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueClaims {
    pub set: i64,
    pub session: Uuid,
    pub owner: String,
    /// When the session began, in microseconds: of two that are met after a restart, the later is the right one.
    pub born: i64,
    /// Grows with each refresh.
    pub serial: u32,
}

/// The sessions of one set.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    current: Option<Session>,
    ended: VecDeque<Uuid>,
    /// Somebody last read, or began to.
    attended: Option<Timestamp>,
}

#[derive(Debug)]
struct Session {
    id: Uuid,
    owner: String,
    born: i64,
    serial: u32,
    refreshed: Timestamp,
    seen: Timestamp,
    polls: u32,
    over: CancellationToken,
}

/// Somebody else reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub owner: String,
}

/// The session is over, or its token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over;

impl Session {
    fn new(id: Uuid, owner: String, born: i64, now: Timestamp) -> Self {
        let over = CancellationToken::new();
        Self { id, owner, born, serial: 0, refreshed: now, seen: now, polls: 0, over }
    }

    fn is_alive(&self, now: Timestamp) -> bool {
        self.polls > 0 || now.duration_since(self.seen) < SILENT
    }

    fn claims(&self, set: i64) -> QueueClaims {
        QueueClaims { set, session: self.id, owner: self.owner.clone(), born: self.born, serial: self.serial }
    }
}

impl Sessions {
    /// Begins a session. The same owner is the restart of the one that has it; another one waits until that is dead.
    pub(super) fn create(&mut self, set: i64, id: Uuid, owner: &str, now: Timestamp) -> Result<QueueClaims, Conflict> {
        if let Some(current) = &self.current
            && current.owner != owner
            && current.is_alive(now)
        {
            return Err(Conflict { owner: current.owner.clone() });
        }
        self.end();
        self.attended = Some(now);
        let session = Session::new(id, owner.to_owned(), now.as_microsecond(), now);
        Ok(self.current.insert(session).claims(set))
    }

    /// A fresh token for a session.
    pub(super) fn refresh(&mut self, set: i64, id: Uuid, now: Timestamp) -> Result<QueueClaims, Over> {
        if self.current.is_none() && !self.ended.contains(&id) {
            // Known before a restart; its owner is in its tokens.
            self.current = Some(Session::new(id, String::new(), now.as_microsecond(), now));
        }
        let session = self.current.as_mut().filter(|session| session.id == id).ok_or(Over)?;
        session.serial += 1;
        (session.refreshed, session.seen) = (now, now);
        self.attended = Some(now);
        Ok(session.claims(set))
    }

    /// Ends a session; a repeat changes nothing.
    pub(super) fn delete(&mut self, id: Uuid) {
        if self.current.as_ref().is_some_and(|session| session.id == id) {
            self.end();
        }
    }

    /// Ends whatever session there is.
    pub(super) fn end(&mut self) {
        if let Some(old) = self.current.take() {
            old.over.cancel();
            self.ended.push_back(old.id);
            if self.ended.len() > ENDED {
                self.ended.pop_front();
            }
        }
    }

    /// Whether the bearer of these claims may read.
    pub(super) fn admit(&mut self, claims: &QueueClaims, now: Timestamp) -> Result<(), Over> {
        if self.ended.contains(&claims.session) {
            return Err(Over);
        }
        if self.current.as_ref().is_some_and(|session| session.id != claims.session && session.born < claims.born) {
            self.end();
        }
        let session = self.current.get_or_insert_with(|| {
            let mut session = Session::new(claims.session, claims.owner.clone(), claims.born, now);
            session.serial = claims.serial;
            session
        });
        if session.id != claims.session {
            return Err(Over);
        }
        if session.owner.is_empty() {
            session.owner.clone_from(&claims.owner);
        }
        session.serial = session.serial.max(claims.serial);
        if claims.serial < session.serial && now.duration_since(session.refreshed) >= REPLACED {
            return Err(Over);
        }
        session.seen = now;
        self.attended = Some(now);
        Ok(())
    }

    /// Begins a poll; answers what ends with the session.
    pub(super) fn open(&mut self, claims: &QueueClaims, now: Timestamp) -> Result<CancellationToken, Over> {
        self.admit(claims, now)?;
        let session = self.current.as_mut().ok_or(Over)?;
        session.polls += 1;
        Ok(session.over.clone())
    }

    /// Ends a poll.
    pub(super) fn close(&mut self, id: Uuid, now: Timestamp) {
        if let Some(session) = self.current.as_mut().filter(|session| session.id == id) {
            session.polls = session.polls.saturating_sub(1);
            session.seen = now;
            self.attended = Some(now);
        }
    }

    /// Whether somebody reads, or did a moment ago.
    pub(super) fn is_attended(&self, now: Timestamp) -> bool {
        self.current.as_ref().is_some_and(|session| session.is_alive(now))
            || self.attended.is_some_and(|at| now.duration_since(at) < SILENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn begin(sessions: &mut Sessions, owner: &str, second: i64) -> Result<QueueClaims, Conflict> {
        sessions.create(12, Uuid::new_v4(), owner, at(second))
    }

    #[test]
    fn the_same_owner_takes_over_at_once_and_another_when_the_session_is_dead() {
        let mut sessions = Sessions::default();
        let first = begin(&mut sessions, "listener-a", 0).unwrap();
        let over = sessions.open(&first, at(0)).unwrap();
        assert_eq!(begin(&mut sessions, "listener-b", 500), Err(Conflict { owner: "listener-a".to_owned() }));
        let second = begin(&mut sessions, "listener-a", 1).unwrap();
        assert!(over.is_cancelled(), "the poll of the one before ends");
        assert_eq!(sessions.admit(&first, at(2)), Err(Over));
        assert_eq!(sessions.refresh(12, first.session, at(2)), Err(Over));
        assert_eq!(sessions.admit(&second, at(2)), Ok(()));
        assert!(begin(&mut sessions, "listener-b", 111).is_err(), "it was seen 109 s ago");
        assert!(sessions.is_attended(at(111)));
        begin(&mut sessions, "listener-b", 112).unwrap();
        assert_eq!(sessions.admit(&second, at(113)), Err(Over));
    }

    #[test]
    fn a_poll_that_is_held_keeps_its_session_alive() {
        let mut sessions = Sessions::default();
        let claims = begin(&mut sessions, "a", 0).unwrap();
        sessions.open(&claims, at(0)).unwrap();
        assert!(begin(&mut sessions, "b", 1000).is_err());
        sessions.close(claims.session, at(1000));
        assert!(begin(&mut sessions, "b", 1109).is_err());
        assert!(begin(&mut sessions, "b", 1110).is_ok());
    }

    #[test]
    fn a_refreshed_session_keeps_its_old_token_for_two_minutes() {
        let mut sessions = Sessions::default();
        let old = begin(&mut sessions, "a", 0).unwrap();
        let new = sessions.refresh(12, old.session, at(10)).unwrap();
        assert_ne!(old, new);
        assert_eq!(sessions.admit(&old, at(129)), Ok(()));
        assert_eq!(sessions.admit(&old, at(130)), Err(Over));
        assert_eq!(sessions.admit(&new, at(130)), Ok(()));
        assert!(sessions.refresh(12, old.session, at(5000)).is_ok(), "never refused while nobody else has it");
    }

    #[test]
    fn after_a_restart_a_session_goes_on_and_the_later_one_wins() {
        let mut before = Sessions::default();
        let first = begin(&mut before, "a", 0).unwrap();
        let second = begin(&mut before, "a", 1).unwrap();
        let mut after = Sessions::default();
        assert_eq!(after.admit(&first, at(2)), Ok(()), "nothing else is known");
        assert_eq!(after.admit(&second, at(2)), Ok(()));
        assert_eq!(after.admit(&first, at(3)), Err(Over));
        let mut after = Sessions::default();
        let refreshed = after.refresh(12, second.session, at(4)).unwrap();
        assert_eq!(after.admit(&second, at(4)), Ok(()));
        assert_eq!(refreshed.session, second.session);
        assert!(begin(&mut after, "b", 5).is_err(), "the owner is known again from the token");
    }

    #[test]
    fn a_deleted_session_does_not_come_back() {
        let mut sessions = Sessions::default();
        let claims = begin(&mut sessions, "a", 0).unwrap();
        sessions.delete(claims.session);
        sessions.delete(claims.session);
        assert_eq!(sessions.admit(&claims, at(1)), Err(Over));
        assert_eq!(sessions.refresh(12, claims.session, at(1)), Err(Over));
        assert!(begin(&mut sessions, "b", 1).is_ok());
    }
}
