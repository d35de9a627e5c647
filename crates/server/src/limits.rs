//! What one address, one bearer or one tenant may take from the others.
//!
//! Three rates are asked before anything is done for a request (`admission.rs`):
//!
//! * an *address* may send so many requests that show no bearer, or one that has never been good;
//! * an address may have so many bearers *refused*; then it is asked to wait, unless it shows one that has been good;
//! * a *bearer* that has been good may send so many requests, whatever the address.
//!
//! So any number of runners behind one address do not get in each other's way, nor in that of a bad neighbour there. What
//! has been good lately is remembered as a keyed hash of 64 bits; a collision gives no access, as the bearer is looked up all
//! the same. What costs much takes turns by tenant (`turns.rs`).

mod admission;
mod familiar;
mod turns;

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use startline_daemon::Clock;
use startline_daemon::limits::{Rate, RateLimiter, RetryAfter, address_key};
use startline_protocol::problem::kind;

use crate::config::ServerConfig;
use crate::problem::ApiError;

pub(crate) use admission::Admission;
pub(crate) use turns::Turns;

use familiar::Familiar;

/// Most addresses and bearers that are counted at the same time, each in a hundred bytes or two.
const KEYS: usize = 65_536;
/// By so many bytes at its end a bearer is known; some have a thousand.
const TAIL: usize = 64;
/// How many seconds' worth may come at once, after a rest.
const BURST_SECONDS: u32 = 10;

/// What the metric of refused requests calls the limits.
pub(crate) const LIMITS: [&str; 4] = [ADDRESS, AUTH_FAILURES, BEARER, TENANT_QUEUE];
const ADDRESS: &str = "address";
const AUTH_FAILURES: &str = "auth_failures";
const BEARER: &str = "bearer";
const TENANT_QUEUE: &str = "tenant_queue";

/// The rates.
pub(crate) struct Limits {
    addresses: Buckets<IpAddr>,
    failures: Buckets<IpAddr>,
    bearers: Buckets<u64>,
    familiar: Mutex<Familiar>,
    hasher: RandomState,
    /// The real time, whatever time the service decides by.
    clock: Clock,
}

/// Which rate was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    Address,
    Failures,
    Bearer,
}

impl Exceeded {
    /// As the metric calls it.
    const fn label(self) -> &'static str {
        match self {
            Self::Address => ADDRESS,
            Self::Failures => AUTH_FAILURES,
            Self::Bearer => BEARER,
        }
    }
}

/// A request that came too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany {
    exceeded: Exceeded,
    per_second: u32,
    wait: RetryAfter,
}

impl From<TooMany> for ApiError {
    fn from(TooMany { exceeded, per_second, wait }: TooMany) -> Self {
        let title = match exceeded {
            Exceeded::Address => format!(
                "too many requests without a bearer from this address; it may send {per_second} a second (`address_rate`)"
            ),
            Exceeded::Failures => format!(
                "too many bearers from this address were refused; it may show {per_second} a second \
                 (`failed_auth_rate`)"
            ),
            Exceeded::Bearer => {
                format!("too many requests with this bearer; it may send {per_second} a second (`bearer_rate`)")
            }
        };
        Self::new(StatusCode::TOO_MANY_REQUESTS, kind::TOO_MANY_REQUESTS, title)
            .detail("try again when the time in `Retry-After` is over; the operator of the service sets the rate")
            .retry_after(u32::try_from(wait.seconds()).unwrap_or(u32::MAX))
    }
}

impl Limits {
    pub(crate) fn new(config: &ServerConfig) -> Self {
        Self {
            addresses: Buckets::new(config.address_rate),
            failures: Buckets::new(config.failed_auth_rate),
            bearers: Buckets::new(config.bearer_rate),
            familiar: Mutex::default(),
            hasher: RandomState::new(),
            clock: Clock::system(),
        }
    }

    /// Whether a request is heard.
    fn admit_now(&self, address: Option<IpAddr>, headers: &HeaderMap) -> Result<(), TooMany> {
        self.admit(self.clock.now(), address, headers)
    }

    /// Whether a request is heard at `now`.
    fn admit(&self, now: Timestamp, address: Option<IpAddr>, headers: &HeaderMap) -> Result<(), TooMany> {
        let bearer = token(headers).ok().map(|text| self.key(text));
        if let Some(bearer) = bearer
            && self.familiar().knows(bearer)
        {
            return self.bearers.take(now, &bearer).map_err(|wait| self.bearers.too_many(Exceeded::Bearer, wait));
        }
        // Somebody without an address comes through no socket of ours.
        let Some(address) = address.map(address_key) else { return Ok(()) };
        if bearer.is_some() {
            let failed = self.failures.peek(now, &address);
            failed.map_err(|wait| self.failures.too_many(Exceeded::Failures, wait))?;
        }
        self.addresses.take(now, &address).map_err(|wait| self.addresses.too_many(Exceeded::Address, wait))
    }

    /// The bearer was good: its request is not counted for the address.
    pub(crate) fn was_good(&self, bearer: &str, address: Option<IpAddr>) {
        if self.familiar().insert(self.key(bearer))
            && let Some(address) = address
        {
            self.addresses.give_back(&address_key(address));
        }
    }

    /// The bearer was just minted.
    pub(crate) fn minted(&self, bearer: &str) {
        self.familiar().insert(self.key(bearer));
    }

    /// The bearer was refused.
    pub(crate) fn was_refused(&self, bearer: &str, address: Option<IpAddr>) {
        self.refused_at(self.clock.now(), bearer, address);
    }

    fn refused_at(&self, now: Timestamp, bearer: &str, address: Option<IpAddr>) {
        self.familiar().remove(self.key(bearer));
        if let Some(address) = address {
            // More may come at the same moment than there is room for; they find the bucket empty.
            let _ = self.failures.take(now, &address_key(address));
        }
    }

    /// What a bearer is counted and remembered as. Its end tells it apart: there is what was drawn at random, or a signature.
    fn key(&self, bearer: &str) -> u64 {
        let bytes = bearer.as_bytes();
        self.hasher.hash_one((bytes.len(), &bytes[bytes.len().saturating_sub(TAIL)..]))
    }

    fn familiar(&self) -> MutexGuard<'_, Familiar> {
        self.familiar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a request shows no bearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoBearer {
    Missing,
    /// The header is not `Bearer <token>`.
    Scheme,
}

/// The bearer that a request shows.
pub(crate) fn token(headers: &HeaderMap) -> Result<&str, NoBearer> {
    let header = headers.get(header::AUTHORIZATION).ok_or(NoBearer::Missing)?;
    // Its letters are not looked at one by one: what is no token is refused by whoever looks it up.
    match std::str::from_utf8(header.as_bytes()).unwrap_or_default().split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(NoBearer::Scheme),
    }
}

/// A rate by key; none where the setting is 0.
struct Buckets<K> {
    per_second: u32,
    limiter: Option<Mutex<RateLimiter<K>>>,
}

impl<K: Clone + Eq + Hash> Buckets<K> {
    fn new(per_second: u32) -> Self {
        let limiter = NonZeroU32::new(per_second).map(|per_second| {
            let burst = per_second.saturating_mul(NonZeroU32::MIN.saturating_add(BURST_SECONDS - 1));
            Mutex::new(RateLimiter::new(Rate { per_second, burst }, KEYS))
        });
        Self { per_second, limiter }
    }

    fn with<T>(&self, deed: impl FnOnce(&mut RateLimiter<K>) -> T) -> Option<T> {
        let limiter = self.limiter.as_ref()?;
        Some(deed(&mut limiter.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn take(&self, now: Timestamp, key: &K) -> Result<(), RetryAfter> {
        self.with(|limiter| limiter.check(now, key)).unwrap_or(Ok(()))
    }

    fn peek(&self, now: Timestamp, key: &K) -> Result<(), RetryAfter> {
        self.with(|limiter| limiter.peek(now, key)).unwrap_or(Ok(()))
    }

    fn give_back(&self, key: &K) {
        self.with(|limiter| limiter.give_back(key));
    }

    const fn too_many(&self, exceeded: Exceeded, wait: RetryAfter) -> TooMany {
        TooMany { exceeded, per_second: self.per_second, wait }
    }
}

#[cfg(test)]
mod tests;
