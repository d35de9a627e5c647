//! HTTPS: certificates from files, or made on the spot, and replaced while the process runs.

mod listen;
mod pem;
mod self_signed;
mod stream;
mod validity;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::digest::{self, SHA256};
use jiff::{SignedDuration, Timestamp};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls_pki_types::InvalidDnsNameError;

pub use listen::{Listen, Stream};
pub use stream::TlsStream;

use crate::clock::Clock;
use crate::serve::{Socket, Transport};

/// How often the files are looked at, unless somebody says otherwise.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);
/// How long before the end of a certificate one is told.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
/// How often one is told.
const REMIND: SignedDuration = SignedDuration::from_hours(24);

/// HTTP over TLS 1.2 and 1.3, HTTP/2 or HTTP/1.1 as the client chooses (ALPN). A copy is the same.
///
/// While [`serve_with`](crate::serve::serve_with) runs, the certificate is looked at every few seconds and replaced
/// when it has changed; connections that are open keep the one they began with. What cannot be used is logged, once,
/// and the old one stays.
#[derive(Clone, Debug)]
pub struct Tls {
    inner: Arc<Inner>,
    interval: Duration,
}

#[derive(Debug)]
struct Inner {
    source: Source,
    clock: Clock,
    current: RwLock<Arc<Current>>,
    /// Held while a new certificate is read, so that the older of two never comes last.
    reloading: Mutex<()>,
}

#[derive(Debug)]
enum Source {
    Files { certificate: PathBuf, key: PathBuf },
    SelfSigned { files: self_signed::Files, names: Vec<String> },
}

/// A certificate and its key as files have them.
struct Material {
    certificate: (PathBuf, Vec<u8>),
    key: (PathBuf, Vec<u8>),
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    digest: Vec<u8>,
    /// None for what we cannot read but rustls can.
    expires_at: Option<Timestamp>,
}

/// A certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The operating system refused.
    #[error("failed to read {what} file {}: {source}; check the path and that this user may read it", path.display())]
    Read {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// What was made cannot be kept.
    #[error("failed to write {}: {source}; check that this user may write to the directory", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// There is no certificate in the file.
    #[error("certificate file {}: {reason}; it must be PEM with the server's own certificate first, then those between \
             it and the root", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no usable private key in the file.
    #[error("key file {}: {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Both are good, but not for each other.
    #[error("the key in {} is not that of the first certificate in {}; give the pair that was made together, the \
             server's own certificate first", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// No certificate can be made for the name.
    #[error("cannot make a certificate for `{name}`: {source}; give host names or IP addresses")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: InvalidDnsNameError,
    },
    /// The authority that has been made before cannot be used.
    #[error("the authority in {} cannot be used: {reason}; remove the file to make a new one, which clients then have \
             to trust anew", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The cryptography failed.
    #[error("failed to make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The cryptography failed.
    #[error("failed to set TLS up: {0}")]
    Setup(#[from] rustls::Error),
}

impl Tls {
    /// The certificate (with its chain) and the private key in these PEM files.
    ///
    /// # Errors
    /// When they cannot be read or used; the text names the file and what to do about it.
    pub fn from_files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsError> {
        Self::new(Source::Files { certificate: certificate.into(), key: key.into() }, Clock::system())
    }

    /// A certificate for `names` (host names, IP addresses), `localhost` and the loopback addresses, signed by an
    /// authority of our own; and the file of the authority's certificate, which clients have to trust.
    ///
    /// Both are made in `directory` if they are not there, and are used again by the next start, so that clients need
    /// the authority once only. The certificate lives for 90 days and is replaced 30 days before its end, also while
    /// the process runs; the authority lives for ten years. Keys are readable by their owner alone.
    ///
    /// # Errors
    /// When a name is none, or the files cannot be read or written.
    pub fn self_signed(
        directory: impl Into<PathBuf>,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<(Self, PathBuf), TlsError> {
        Self::self_signed_at(directory, names, Clock::system())
    }

    /// [`self_signed`](Self::self_signed) at the time of another clock.
    ///
    /// # Errors
    /// As there.
    pub fn self_signed_at(
        directory: impl Into<PathBuf>,
        names: impl IntoIterator<Item = impl Into<String>>,
        clock: Clock,
    ) -> Result<(Self, PathBuf), TlsError> {
        let files = self_signed::Files::in_directory(directory.into());
        let trusted = files.ca.clone();
        let names = self_signed::with_loopback(names);
        Ok((Self::new(Source::SelfSigned { files, names }, clock)?, trusted))
    }

    fn new(source: Source, clock: Clock) -> Result<Self, TlsError> {
        let current = source.read(clock.now())?.load()?;
        let current = RwLock::new(Arc::new(current));
        let inner = Inner { source, clock, current, reloading: Mutex::new(()) };
        Ok(Self { inner: Arc::new(inner), interval: RELOAD_INTERVAL })
    }

    /// The same, looked at every `interval`.
    #[must_use]
    pub fn reload_every(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Takes the certificate that is there now for connections to come; whether it is another than before. What is
    /// self-signed is renewed if it is time. Blocks on files.
    ///
    /// # Errors
    /// When it cannot be used; the one before stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let inner = &*self.inner;
        let _reloading = inner.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let material = inner.source.read(inner.clock.now())?;
        if material.digest() == self.current().digest {
            return Ok(false);
        }
        let current = Arc::new(material.load()?);
        *inner.current.write().unwrap_or_else(PoisonError::into_inner) = current;
        Ok(true)
    }

    /// When the certificate ends; none if that cannot be told.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.current().expires_at
    }

    /// What the operator should know, a sentence each: a key that others can read, a certificate that ends soon.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.inner.source.exposed_keys().into_iter().chain(self.expiry_warning()).collect()
    }

    fn expiry_warning(&self) -> Option<String> {
        let expires_at = self.expires_at()?;
        let left = expires_at.duration_since(self.inner.clock.now());
        if left <= SignedDuration::ZERO {
            Some(format!("the TLS certificate ended at {expires_at}; clients refuse it, replace it"))
        } else if left <= EXPIRES_SOON {
            Some(format!("the TLS certificate ends at {expires_at}; replace it before, no restart is needed"))
        } else {
            None
        }
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&self.inner.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn watch(&self) {
        let path = self.inner.source.certificate().display();
        let mut complained = None;
        let mut reminded: Option<Timestamp> = None;
        loop {
            tokio::time::sleep(self.interval).await;
            let tls = self.clone();
            match tokio::task::spawn_blocking(move || tls.reload()).await {
                Ok(Ok(changed)) => {
                    complained = None;
                    if changed {
                        let expires_at = self.expires_at().map(tracing::field::display);
                        tracing::info!(%path, expires_at, "the TLS certificate was replaced");
                        self.inner.source.exposed_keys().iter().for_each(|warning| tracing::warn!("{warning}"));
                    }
                }
                Ok(Err(error)) => {
                    let text = error.to_string();
                    if complained.as_ref() != Some(&text) {
                        tracing::warn!(%path, error = text, "the new TLS certificate cannot be used; the old one stays");
                        complained = Some(text);
                    }
                }
                Err(error) => tracing::error!(%error, "looking at the TLS certificate failed"),
            }
            let now = self.inner.clock.now();
            if reminded.is_none_or(|last| now.duration_since(last) >= REMIND) {
                reminded = Some(now);
                self.expiry_warning().iter().for_each(|warning| tracing::warn!("{warning}"));
            }
        }
    }
}

impl Transport for Tls {
    type Io = TlsStream<Socket>;

    async fn handshake(&self, socket: Socket) -> io::Result<TlsStream<Socket>> {
        TlsStream::accept(Arc::clone(&self.current().config), socket).await
    }

    async fn maintain(&self) {
        self.watch().await;
    }
}

impl Source {
    fn read(&self, now: Timestamp) -> Result<Material, TlsError> {
        match self {
            Self::Files { certificate, key } => Ok(Material {
                certificate: (certificate.clone(), pem::read("certificate", certificate)?),
                key: (key.clone(), pem::read("key", key)?),
            }),
            Self::SelfSigned { files, names } => self_signed::read_or_make(files, names, now),
        }
    }

    const fn certificate(&self) -> &PathBuf {
        match self {
            Self::Files { certificate, .. } => certificate,
            Self::SelfSigned { files, .. } => &files.server,
        }
    }

    fn exposed_keys(&self) -> Vec<String> {
        match self {
            Self::Files { key, .. } => pem::exposed(key).into_iter().collect(),
            Self::SelfSigned { files, .. } => {
                [&files.authority, &files.server].into_iter().filter_map(|path| pem::exposed(path)).collect()
            }
        }
    }
}

impl Material {
    fn digest(&self) -> Vec<u8> {
        let mut digest = digest::Context::new(&SHA256);
        for (_, bytes) in [&self.certificate, &self.key] {
            digest.update(&bytes.len().to_le_bytes());
            digest.update(bytes);
        }
        digest.finish().as_ref().to_vec()
    }

    fn load(&self) -> Result<Current, TlsError> {
        let chain = pem::certificates(&self.certificate.0, &self.certificate.1)?;
        let key = pem::private_key(&self.key.0, &self.key.1)?;
        let expires_at = validity::of(&chain[0]).map(|validity| validity.end);
        let provider = crypto();
        let unusable = |error: &rustls::Error| format!("{error}; make one with ECDSA P-256, RSA or Ed25519");
        provider
            .key_provider
            .load_private_key(key.clone_key())
            .map_err(|error| TlsError::Key { path: self.key.0.clone(), reason: unusable(&error) })?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    TlsError::Mismatch { certificate: self.certificate.0.clone(), key: self.key.0.clone() }
                }
                error => TlsError::Certificate { path: self.certificate.0.clone(), reason: error.to_string() },
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Sessions are kept by the clients, however many come; with another certificate none is taken up again.
        config.ticketer = provider::Ticketer::new()?;
        Ok(Current { config: Arc::new(config), digest: self.digest(), expires_at })
    }
}

/// The one crypto library, named so that it does not matter whether somebody has installed it for the process.
fn crypto() -> Arc<CryptoProvider> {
    Arc::new(provider::default_provider())
}
