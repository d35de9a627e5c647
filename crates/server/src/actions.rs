//! The second front door: GitHub's own protocol, so that its unmodified clients work against this service.
//!
//! Everything ends in the same dispatcher, store, bearers and audit log as the Runner API; what is here is how GitHub's
//! clients say it. Paths at the host's root are where those clients look for them (`config.sh` and the toolkit drop any
//! path of the URL that they are given).

mod apps;
mod artifacts;
mod blobs;
mod broker;
mod caches;
mod clearing;
mod configuration;
mod dialect;
mod doors;
mod feed;
mod git;
mod grants;
mod groups;
mod holder;
mod jit;
mod json_number;
mod labels;
mod launch;
mod official;
mod oidc;
mod ranges;
mod rest;
mod results;
mod run_service;
mod scale_sets;
mod sessions;
mod steps;
mod stop;
mod storage;
mod token;
mod urls;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use startline_crypto::UrlKey;
use startline_crypto::client_assertion::ReplayCache;
use startline_crypto::purpose_token::PurposeKey;
use startline_crypto::runner_key::KeyPool;
use tokio::sync::Semaphore;

use crate::{App, routes};
use doors::Doors;

pub(crate) use apps::Apps;
pub(crate) use broker::LONGEST_POLL;
pub(crate) use dialect::{Dialect, translate};
pub use doors::Door;
pub(crate) use grants::may_have_tokens;
pub(crate) use oidc::{Identity, IdentityRules};
pub(crate) use run_service::patience;
pub(crate) use scale_sets::ScaleSets;
pub(crate) use sessions::Sessions;
pub(crate) use storage::{Quotas, Storage};
pub(crate) use urls::Urls;

/// Largest body of a request of this protocol, unless its route says otherwise. A completion with all annotations of a
/// large job stays below it.
const BODY_LIMIT: usize = 8 * 1024 * 1024;
/// How many assertions are remembered, so that none is used twice.
const REPLAYS: usize = 200_000;
/// How many keys for just-in-time runners lie ready.
pub(crate) const KEYS_READY: usize = 64;

/// What the Actions protocol needs of its own.
pub(crate) struct Actions {
    pub tokens: PurposeKey,
    /// Signs addresses for uploads and downloads without a bearer.
    pub addresses: UrlKey,
    pub keys: KeyPool,
    /// Turns at making keys when none lies ready.
    pub making: Semaphore,
    pub replays: Mutex<ReplayCache>,
    pub sessions: Sessions,
    pub results: results::Results,
    pub scale_sets: Arc<ScaleSets>,
    pub stops: stop::Stops,
    pub urls: Urls,
    pub storage: Storage,
    pub identity: Identity,
    pub poll_timeout: std::time::Duration,
    pub lease: jiff::SignedDuration,
    pub apps: Apps,
}

/// What the service gives the protocol at its start.
pub(crate) struct Given {
    pub tokens: PurposeKey,
    pub addresses: UrlKey,
    pub keys: KeyPool,
    pub storage: Storage,
    pub identity: Identity,
    pub scale_sets: Arc<ScaleSets>,
    /// The public URL.
    pub url: String,
    pub poll_timeout: std::time::Duration,
    pub lease: jiff::SignedDuration,
    pub apps: Apps,
}

impl Actions {
    pub(crate) fn new(given: Given) -> Self {
        let Given { tokens, addresses, keys, storage, identity, scale_sets, url, poll_timeout, lease, apps } = given;
        Self {
            tokens,
            addresses,
            keys,
            making: Semaphore::new(makers()),
            replays: Mutex::new(ReplayCache::new(REPLAYS)),
            sessions: Sessions::default(),
            results: results::Results::default(),
            scale_sets,
            stops: stop::Stops::default(),
            urls: Urls::new(&url),
            storage,
            identity,
            poll_timeout,
            lease,
            apps,
        }
    }
}

/// How many keys are made at once for requests that found none ready: half of the processors, besides the thread that
/// fills the pool and gives way to everything.
fn makers() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| (processors.get() / 2).max(1))
}

/// All routes of the protocol.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let routes = doors().into_router().layer(DefaultBodyLimit::max(BODY_LIMIT));
    routes::answering(routes).with_state(Arc::clone(app))
}

/// Every route of the protocol by its method and path.
pub(crate) fn list() -> Vec<Door> {
    doors().list()
}

fn doors() -> Doors {
    rest::routes()
        .merge(apps::routes())
        .merge(token::routes())
        .merge(broker::routes())
        .merge(run_service::routes())
        .merge(launch::routes())
        .merge(results::routes())
        .merge(feed::routes())
        .merge(artifacts::routes())
        .merge(caches::twirp_routes())
        .merge(caches::rest_routes())
        .merge(blobs::routes())
        .merge(oidc::routes())
        .merge(scale_sets::administration())
        .merge(scale_sets::queue_plane())
        .merge(git::routes())
}
