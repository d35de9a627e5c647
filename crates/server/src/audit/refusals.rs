//! Refusals in the audit log: the first of its kind at once, its repeats as one line with their number a minute later.
//!
//! Of one kind are those of the same actor, action, reason and address (of IPv6, the network of 64 bits that one client
//! commands). When there are more kinds in a minute than an honest installation has, all further ones are one kind.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use startline_protocol::problem::kind;
use startline_protocol::scope::Scope;
use startline_store::NewAudit;
use tokio::time::Instant;

use crate::App;
use crate::auth::Origin;

/// How long repeats are gathered.
const WINDOW: Duration = Duration::from_secs(60);
/// Most kinds at the same time.
const MOST: usize = 256;

/// Something that was refused.
pub(crate) struct Refused<'a> {
    pub origin: &'a Origin,
    pub actor: String,
    pub action: &'static str,
    pub subject: String,
    pub scope: Scope,
    pub reason: &'static str,
}

/// What was refused lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    lately: Mutex<HashMap<Kind, Seen>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    One { actor: String, action: &'static str, reason: &'static str, network: Option<IpAddr> },
    Further,
}

#[derive(Debug)]
struct Seen {
    since: Instant,
    /// Refusals that have no line yet.
    repeats: u64,
}

/// What becomes of a refusal.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The first of its kind: a line of its own.
    Write,
    /// The first repeat: somebody must come back at the end of the window.
    CountFirst(Kind, Instant),
    /// One more.
    Count,
}

impl Refusals {
    fn note(&self, kind: Kind, now: Instant) -> Verdict {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        // One with repeats stays until they are written.
        let is_over = |seen: &Seen| seen.repeats == 0 && now.duration_since(seen.since) >= WINDOW;
        let kind = if lately.len() < MOST || lately.contains_key(&kind) {
            kind
        } else {
            lately.retain(|_, seen| !is_over(seen));
            if lately.len() < MOST { kind } else { Kind::Further }
        };
        match lately.get_mut(&kind) {
            Some(seen) if !is_over(seen) => {
                seen.repeats += 1;
                if seen.repeats == 1 { Verdict::CountFirst(kind, seen.since + WINDOW) } else { Verdict::Count }
            }
            _ => {
                lately.insert(kind, Seen { since: now, repeats: 0 });
                Verdict::Write
            }
        }
    }

    /// Ends a window; how many repeats it had.
    fn take(&self, kind: &Kind) -> u64 {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner).remove(kind).map_or(0, |seen| seen.repeats)
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !(u128::from(u64::MAX)))),
    }
}

impl App {
    /// Writes down a refusal, or counts it with others of its kind.
    pub(crate) async fn refused(self: &Arc<Self>, refused: Refused<'_>) {
        let Refused { origin, actor, action, subject, scope, reason } = refused;
        let network = origin.address.map(network);
        let kind = Kind::One { actor: actor.clone(), action, reason, network };
        let mut entry = NewAudit {
            at: self.clock.now(),
            actor: super::bounded(&actor),
            action: action.to_owned(),
            subject,
            outcome: format!("refused: {reason}"),
            scope,
            request_id: origin.request_id.clone(),
            address: origin.address.map(|address| address.to_string()),
            details: BTreeMap::new(),
        };
        match self.refusals.note(kind, Instant::now()) {
            Verdict::Count => {}
            Verdict::Write => {
                if let Err(error) = self.store.append_audit(entry).await {
                    tracing::error!(%error, "a refusal was not written into the audit log");
                }
            }
            Verdict::CountFirst(kind, until) => {
                let app = Arc::clone(self);
                self.tasks.spawn(async move {
                    tokio::select! {
                        () = app.drain.cancelled() => {}
                        () = tokio::time::sleep_until(until) => {}
                    }
                    entry.at = app.clock.now();
                    entry.request_id = None;
                    entry.details.insert("repeats".to_owned(), app.refusals.take(&kind).to_string());
                    if kind == Kind::Further {
                        entry.actor = "anonymous".to_owned();
                        entry.subject = "many".to_owned();
                        entry.address = None;
                        entry.scope = Scope::Instance;
                        entry.outcome = "refused: many".to_owned();
                    }
                    if let Err(error) = app.store.append_audit(entry).await {
                        tracing::error!(%error, "refusals were not written into the audit log");
                    }
                });
            }
        }
    }
}

/// The code of a problem as text that lives for ever; the log says `other` for one that is not known here.
pub(super) fn known(code: &str) -> &'static str {
    const CODES: [&str; 16] = [
        kind::UNAUTHENTICATED,
        kind::FORBIDDEN,
        kind::NOT_FOUND,
        kind::INVALID,
        kind::WORKFLOW_INVALID,
        kind::NAME_TAKEN,
        kind::TOKEN_EXHAUSTED,
        kind::LABEL_NOT_ALLOWED,
        kind::RUNNER_BUSY,
        kind::STALE_EPOCH,
        kind::RUN_ACTIVE,
        kind::NOT_TRIGGERED,
        kind::RUNNER_OFFLINE,
        kind::IN_USE,
        kind::TOO_LARGE,
        kind::TOO_MANY_REQUESTS,
    ];
    CODES.into_iter().find(|known| *known == code).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(actor: usize) -> Kind {
        Kind::One { actor: actor.to_string(), action: "authenticate", reason: "unknown", network: None }
    }

    #[test]
    fn the_first_is_written_and_its_repeats_are_counted_until_the_window_ends() {
        let refusals = Refusals::default();
        let now = Instant::now();
        assert_eq!(refusals.note(kind(1), now), Verdict::Write);
        assert_eq!(refusals.note(kind(2), now), Verdict::Write);
        assert_eq!(refusals.note(kind(1), now), Verdict::CountFirst(kind(1), now + WINDOW));
        assert_eq!(refusals.note(kind(1), now + WINDOW), Verdict::Count, "its line is not written yet");
        assert_eq!(refusals.take(&kind(1)), 2);
        assert_eq!(refusals.note(kind(1), now + WINDOW), Verdict::Write);
        assert_eq!(refusals.note(kind(2), now + WINDOW), Verdict::Write, "a window without repeats ends by itself");
    }

    #[test]
    fn an_attacker_with_many_faces_gets_a_bounded_number_of_lines() {
        let refusals = Refusals::default();
        let now = Instant::now();
        let written = (0..10_000).filter(|face| refusals.note(kind(*face), now) == Verdict::Write).count();
        assert_eq!(written, MOST + 1);
        assert_eq!(refusals.take(&Kind::Further), 10_000 - 1 - u64::try_from(MOST).unwrap());
        let later = now + WINDOW;
        assert_eq!(refusals.note(kind(20_000), later), Verdict::Write);
        assert_eq!(refusals.lately.lock().unwrap().len(), 1);
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(network(address("2001:db8:1:2:3:4:5:6")), address("2001:db8:1:2::"));
        assert_eq!(network(address("192.0.2.7")), address("192.0.2.7"));
    }
}
