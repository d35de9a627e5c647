//! Who listens: one session a runner, in memory. A restart forgets them all; a runner that goes on with a session that
//! is not known is believed, because its bearer says who it is (released runners do not make a new one when told to).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use startline_daemon::Clock;
use startline_protocol::ids::{Epoch, JobId, RunnerId};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// After this long without a poll a session is one that nobody stands behind.
const SILENT: SignedDuration = SignedDuration::from_secs(75);
/// How long a spent runner may still ask before it is told that it is gone (its clean way out takes some seconds).
pub(super) const FAREWELL: SignedDuration = SignedDuration::from_secs(60);
/// How often an offer is written before the runner is taken for one that cannot read it: a message that crashes a
/// listener would crash it each time.
pub(super) const SENDS: u32 = 3;

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    sessions: HashMap<RunnerId, Session>,
    /// Ephemeral runners that have had their job, and since when.
    spent: HashMap<RunnerId, Timestamp>,
    last_message: i64,
}

/// One session.
#[derive(Debug)]
struct Session {
    id: Uuid,
    /// `<host> (PID: <n>)`.
    owner: String,
    open_polls: u32,
    last_poll: Timestamp,
    /// Ends the polls of a session that is replaced or deleted.
    over: CancellationToken,
    offer: Option<Offer>,
    cancel: Option<Told>,
}

/// A job that was offered in a message and is not acquired yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub job: JobId,
    pub epoch: Epoch,
    pub sends: u32,
}

/// A cancel that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    job: JobId,
    epoch: Epoch,
    /// The status of the poll that carried it: a runner that asks again with the same one has read it.
    status: Status,
    read: bool,
}

/// What a poll says of its runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Online,
    Busy,
}

/// Somebody else listens for the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub owner: String,
}

/// The session is not, or no longer, the runner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replaced;

/// A poll that is being held; the session is told when it ends.
pub(super) struct Listening<'a> {
    sessions: &'a Sessions,
    runner: RunnerId,
    session: Uuid,
    clock: &'a Clock,
    /// Ends with the session.
    pub over: CancellationToken,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        let now = self.clock.now();
        let mut known = self.sessions.lock();
        if let Some(session) = known.sessions.get_mut(&self.runner).filter(|session| session.id == self.session) {
            session.open_polls = session.open_polls.saturating_sub(1);
            session.last_poll = now;
        }
    }
}

/// The part of an owner's name that says where it runs.
fn host(owner: &str) -> &str {
    owner.split(" (PID").next().unwrap_or(owner)
}

impl Session {
    fn new(id: Uuid, owner: String, now: Timestamp) -> Self {
        Self { id, owner, open_polls: 0, last_poll: now, over: CancellationToken::new(), offer: None, cancel: None }
    }

    /// Whether `owner` may take the session's place. A live one is never robbed: told of it, it would make a new session
    /// and the two would fight for ever. A host that crashed and came back must not wait for a time-out, since runners
    /// give up for good after four minutes of conflict.
    fn yields_to(&self, owner: &str, now: Timestamp) -> bool {
        self.open_polls == 0 && (host(&self.owner) == host(owner) || now.duration_since(self.last_poll) > SILENT)
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session in the place of one that nobody stands behind any more. An open offer stays the runner's.
    pub(super) fn create(&self, runner: RunnerId, owner: &str, now: Timestamp) -> Result<Uuid, Conflict> {
        let mut known = self.lock();
        let mut offer = None;
        if let Some(old) = known.sessions.get(&runner) {
            if !old.yields_to(owner, now) {
                return Err(Conflict { owner: old.owner.clone() });
            }
            old.over.cancel();
            offer = old.offer;
        }
        let id = Uuid::new_v4();
        known.sessions.insert(runner, Session { offer, ..Session::new(id, owner.to_owned(), now) });
        Ok(id)
    }

    /// Ends a runner's session; what was offered in it and not acquired is answered. A delete without a session's id may
    /// come late from a process whose session was replaced, so one with an open poll stays.
    pub(super) fn delete(&self, runner: RunnerId) -> Option<Offer> {
        let mut known = self.lock();
        if known.sessions.get(&runner).is_some_and(|session| session.open_polls > 0) {
            return None;
        }
        let session = known.sessions.remove(&runner)?;
        session.over.cancel();
        session.offer
    }

    /// Begins a poll. An unknown session is adopted when the runner has none.
    pub(super) fn listen<'a>(
        &'a self,
        runner: RunnerId,
        session: Uuid,
        clock: &'a Clock,
    ) -> Result<Listening<'a>, Replaced> {
        let now = clock.now();
        let mut known = self.lock();
        let found = known.sessions.entry(runner).or_insert_with(|| Session::new(session, String::new(), now));
        if found.id != session {
            // The one that is known may be dead, and this one alive since before a restart.
            if !found.yields_to("", now) {
                return Err(Replaced);
            }
            found.over.cancel();
            let offer = found.offer;
            *found = Session { offer, ..Session::new(session, String::new(), now) };
        }
        found.open_polls += 1;
        found.last_poll = now;
        let over = found.over.clone();
        drop(known);
        Ok(Listening { sessions: self, runner, session, clock, over })
    }

    /// Notes that a job was offered to the runner's session.
    pub(super) fn offered(&self, runner: RunnerId, job: JobId, epoch: Epoch) {
        if let Some(session) = self.lock().sessions.get_mut(&runner) {
            session.offer = Some(Offer { job, epoch, sends: 1 });
        }
    }

    /// The open offer, counted as written once more.
    pub(super) fn offer_again(&self, runner: RunnerId) -> Option<Offer> {
        let mut known = self.lock();
        let offer = known.sessions.get_mut(&runner)?.offer.as_mut()?;
        offer.sends += 1;
        Some(*offer)
    }

    /// Forgets the offer: it was acquired, withdrawn or given up.
    pub(super) fn settle(&self, runner: RunnerId) {
        if let Some(session) = self.lock().sessions.get_mut(&runner) {
            session.offer = None;
        }
    }

    /// Whether a cancel of this assignment is still to be written to a poll with this status. What was written to a poll
    /// that the runner threw away is written again; what it read is not, because each copy starts its timer anew.
    pub(super) fn must_tell(&self, runner: RunnerId, job: JobId, epoch: Epoch, status: Status) -> bool {
        let mut known = self.lock();
        let Some(session) = known.sessions.get_mut(&runner) else { return true };
        match &mut session.cancel {
            Some(told) if (told.job, told.epoch) == (job, epoch) => {
                told.read |= told.status == status;
                !told.read
            }
            _ => true,
        }
    }

    /// Notes that a cancel was written.
    pub(super) fn told(&self, runner: RunnerId, job: JobId, epoch: Epoch, status: Status) {
        if let Some(session) = self.lock().sessions.get_mut(&runner) {
            session.cancel = Some(Told { job, epoch, status, read: false });
        }
    }

    /// Notes that an ephemeral runner has had its job: its last polls are held, not refused.
    pub(crate) fn spent(&self, runner: RunnerId, now: Timestamp) {
        let mut known = self.lock();
        known.spent.retain(|_, since| now.duration_since(*since) <= FAREWELL);
        known.spent.insert(runner, now);
    }

    /// Whether the runner has had its job a moment ago.
    pub(super) fn is_leaving(&self, runner: RunnerId, now: Timestamp) -> bool {
        self.lock().spent.get(&runner).is_some_and(|since| now.duration_since(*since) <= FAREWELL)
    }

    /// Forgets a runner whose registration is gone, and ends its polls.
    pub(crate) fn forget(&self, runner: RunnerId) {
        if let Some(session) = self.lock().sessions.remove(&runner) {
            session.over.cancel();
        }
    }

    /// The id of a new message; ids grow over restarts too.
    pub(super) fn next_message(&self, now: Timestamp) -> i64 {
        let mut known = self.lock();
        known.last_message = now.as_millisecond().max(known.last_message + 1);
        known.last_message
    }
}

#[cfg(test)]
mod tests;
