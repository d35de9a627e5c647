//! Where a service keeps its records and keys: on disk, or no longer than it runs.

use std::sync::Arc;

use startline_crypto::{JobTokenKey, KeyPool, KeyRing, PurposeKey, SealingKey, UrlKey};
use startline_store::Store;
use startline_store::logs::{self, Logs};
use startline_store::memory::Memory;
use startline_store::sqlite::{self, Sqlite};

use crate::config::{ServerConfig, Synchronous};
use crate::data_dir::DataDir;
use crate::metrics::Metrics;

/// For how long a service keeps what it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// In its data directory: what was answered survives the process.
    OnDisk,
    /// While it runs: nobody comes back to what it knew.
    InMemory,
}

/// What is kept.
pub(crate) struct Kept {
    pub store: Arc<dyn Store>,
    pub logs: Logs,
    pub job_tokens: JobTokenKey,
    pub sealing: KeyRing,
    pub bearers: PurposeKey,
    pub addresses: UrlKey,
    /// Keys for just-in-time runners.
    pub runner_keys: KeyPool,
}

impl Kept {
    /// The database and the keys in the data directory, made if they are not there.
    pub(crate) fn on_disk(config: &ServerConfig, directory: &DataDir, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let observer = Arc::clone(metrics);
        let options = sqlite::Options {
            synchronous: match config.synchronous {
                Synchronous::Full => sqlite::Synchronous::Full,
                Synchronous::Normal => sqlite::Synchronous::Normal,
            },
            observer: Some(Arc::new(move |took, batch| observer.commit(took, batch))),
            ..sqlite::Options::new(startline_crypto::sha256)
        };
        let store: Arc<dyn Store> = Arc::new(Sqlite::open(&directory.database(), &options)?);
        let logs = Logs::open(&directory.logs(), &logs::Options::default())?;
        let job_tokens = JobTokenKey::load_or_create(directory.job_token_key())?;
        let secrets_key = config.secrets_key_file.clone().unwrap_or_else(|| directory.secrets_key());
        let sealing = KeyRing::load_or_create(&secrets_key)?;
        tracing::info!(key = %sealing.current().id(), keys = sealing.len(), file = %secrets_key.display(), "secrets are sealed");
        let bearers = PurposeKey::load_or_create(directory.bearer_key())?;
        let addresses = UrlKey::load_or_create(directory.url_key())?;
        let runner_keys = KeyPool::new(crate::actions::KEYS_READY);
        Ok(Self { store, logs, job_tokens, sealing, bearers, addresses, runner_keys })
    }

    /// Records in memory and keys that nobody else ever has.
    pub(crate) fn in_memory(directory: &DataDir) -> anyhow::Result<Self> {
        let options = logs::Options { durable: false, ..logs::Options::default() };
        Ok(Self {
            store: Arc::new(Memory::new(startline_crypto::sha256)),
            logs: Logs::open(&directory.logs(), &options)?,
            job_tokens: JobTokenKey::generate(),
            sealing: KeyRing::new(SealingKey::generate(), []),
            bearers: PurposeKey::generate(),
            addresses: UrlKey::generate(),
            // Nobody asks a passing service for many, and making them ahead takes seconds of a processor.
            runner_keys: KeyPool::new(0),
        })
    }
}
