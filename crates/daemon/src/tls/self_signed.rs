//! An authority of our own and a certificate that it signs, kept in a directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{Material, TlsError, crypto, pem, validity};

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// How long an authority is good for, and how much of that must be left: more than a certificate's life.
const AUTHORITY: (SignedDuration, SignedDuration) =
    (SignedDuration::from_hours(3650 * 24), SignedDuration::from_hours(180 * 24));
/// The same of a certificate.
const SERVER: (SignedDuration, SignedDuration) =
    (SignedDuration::from_hours(90 * 24), SignedDuration::from_hours(30 * 24));

/// Where everything is.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    /// Key and certificate of the authority.
    pub(super) authority: PathBuf,
    /// The authority's certificate alone, for everybody.
    pub(super) ca: PathBuf,
    /// Key and certificate of the server; in one file, so that one rename replaces both.
    pub(super) server: PathBuf,
}

impl Files {
    pub(super) fn in_directory(directory: PathBuf) -> Self {
        Self {
            authority: directory.join("authority.pem"),
            ca: directory.join("ca.pem"),
            server: directory.join("server.pem"),
            directory,
        }
    }
}

/// `names` and those that a machine has for itself, each once.
pub(super) fn with_loopback(names: impl IntoIterator<Item = impl Into<String>>) -> Vec<String> {
    let own = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut all: Vec<String> = Vec::new();
    for name in names.into_iter().map(Into::into).chain(own) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// What is in the directory, if it is good for `names` at `now` and for a while; otherwise what is made then.
pub(super) fn read_or_make(files: &Files, names: &[String], now: Timestamp) -> Result<Material, TlsError> {
    let names = names
        .iter()
        .map(|name| match ServerName::try_from(name.clone()) {
            Ok(parsed) => Ok((name.clone(), parsed)),
            Err(source) => Err(TlsError::Name { name: name.clone(), source }),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let unwritable = |source| TlsError::Write { path: files.directory.clone(), source };
    fs::create_dir_all(&files.directory).map_err(unwritable)?;
    // Two processes that start at once would overwrite each other's authority.
    let lock = create(&files.directory.join(".lock"), 0o600).map_err(unwritable)?;
    lock.lock().map_err(unwritable)?;

    let authority = authority(files, now)?;
    let server = match server(&files.server, &authority.certificate, &names, now) {
        Some(server) => server,
        None => make_server(files, &authority, &names, now)?,
    };
    Ok(Material { certificate: (files.server.clone(), server.clone()), key: (files.server.clone(), server) })
}

struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

fn authority(files: &Files, now: Timestamp) -> Result<Authority, TlsError> {
    let (authority, public) = match pem::read("authority", &files.authority) {
        Ok(bytes) => {
            let unusable = |reason: String| TlsError::Authority { path: files.authority.clone(), reason };
            let text = String::from_utf8(bytes).map_err(|error| unusable(error.to_string()))?;
            let certificates = pem::certificates(&files.authority, text.as_bytes());
            let certificate = certificates.map_err(|error| unusable(error.to_string()))?.swap_remove(0);
            let key = KeyPair::from_pem(&text).map_err(|error| unusable(error.to_string()))?;
            let ends = validity::of(&certificate).ok_or_else(|| unusable("its end cannot be read".to_owned()))?.end;
            if ends.duration_since(now) > AUTHORITY.1 {
                let public = text.find("-----BEGIN CERTIFICATE-----").map_or("", |start| &text[start..]).to_owned();
                (Authority { key, certificate }, public)
            } else {
                tracing::warn!(path = %files.ca.display(), "the authority ends soon; a new one is made, which clients have to trust");
                make_authority(files, now)?
            }
        }
        Err(TlsError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => make_authority(files, now)?,
        Err(error) => return Err(error),
    };
    // Also after a start that was cut off between the two files.
    if fs::read(&files.ca).ok().as_deref() != Some(public.as_bytes()) {
        replace(&files.ca, 0o644, public.as_bytes())?;
    }
    Ok(authority)
}

fn make_authority(files: &Files, now: Timestamp) -> Result<(Authority, String), TlsError> {
    let key = KeyPair::generate()?;
    let mut params = authority_params();
    limit(&mut params, now, AUTHORITY.0);
    let certificate = params.self_signed(&key)?;
    let public = certificate.pem();
    replace(&files.authority, 0o600, (key.serialize_pem() + &public).as_bytes())?;
    tracing::info!(path = %files.ca.display(), "made an authority for TLS; clients have to trust it");
    Ok((Authority { key, certificate: certificate.into() }, public))
}

/// What says who the authority is; the same at each start, because what it signs refers to it.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Startline self-signed authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// The certificate that is there, if a client that trusts the authority takes it for all names, now and for a while.
fn server(path: &Path, authority: &CertificateDer<'_>, names: &[Name], now: Timestamp) -> Option<Vec<u8>> {
    let bytes = pem::read("certificate", path).ok()?;
    let certificate = pem::certificates(path, &bytes).ok()?.swap_remove(0);
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned()).ok()?;
    let client = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), crypto()).build().ok()?;
    let good = |name, at: Timestamp| {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0)));
        client.verify_server_cert(&certificate, &[], name, &[], at).is_ok()
    };
    names.iter().all(|(_, name)| good(name, now) && good(name, now + SERVER.1)).then_some(bytes)
}

/// A name as it was given and as it is understood.
type Name = (String, ServerName<'static>);

fn make_server(files: &Files, authority: &Authority, names: &[Name], now: Timestamp) -> Result<Vec<u8>, TlsError> {
    let names: Vec<String> = names.iter().map(|(name, _)| name.clone()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Startline");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    limit(&mut params, now, SERVER.0);
    let key = KeyPair::generate()?;
    let authority_params = authority_params();
    let certificate = params.signed_by(&key, &Issuer::from_params(&authority_params, &authority.key))?;
    let bytes = (key.serialize_pem() + &certificate.pem()).into_bytes();
    replace(&files.server, 0o600, &bytes)?;
    tracing::info!(path = %files.server.display(), "made a certificate for TLS");
    Ok(bytes)
}

/// Makes a certificate good from yesterday, for clients whose clock is behind, until `life` from `now`.
fn limit(params: &mut CertificateParams, now: Timestamp, life: SignedDuration) {
    let day = |at: Timestamp| {
        let date = at.to_zoned(TimeZone::UTC).date();
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    (params.not_before, params.not_after) = (day(now - DAY), day(now + life));
}

/// Writes a file so that nobody ever sees a part of it.
fn replace(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), TlsError> {
    let new = path.with_extension("new");
    let write = || {
        // One from a start that was cut off has perhaps another mode.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = create(&new, mode)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|source| TlsError::Write { path: path.to_owned(), source })
}

fn create(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(mode).open(path)
}
