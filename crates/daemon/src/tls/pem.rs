//! Certificates and keys in PEM files.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// No chain is as large as this.
const MAX_FILE: u64 = 1 << 20;

pub(super) fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
        }
        Ok(bytes)
    };
    read().map_err(|source| TlsError::Read { what, path: path.to_owned(), source })
}

/// The certificates, at least one.
pub(super) fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError::Certificate { path: path.to_owned(), reason };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(format!("not PEM ({error})")))?;
    if !certificates.is_empty() {
        Ok(certificates)
    } else if has(bytes, "PRIVATE KEY-----") {
        Err(wrong("it has a private key and no certificate (are the two files swapped?)".to_owned()))
    } else {
        Err(wrong("there is no certificate in it".to_owned()))
    }
}

pub(super) fn private_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let wrong = |reason: String| TlsError::Key { path: path.to_owned(), reason };
    // Before the attempt: the old form of encryption looks like a plain key from outside.
    if has(bytes, "ENCRYPTED") {
        let path = path.display();
        return Err(wrong(format!("the key is encrypted; decrypt it with `openssl pkey -in {path} -out plain.pem`")));
    }
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
        pem::Error::NoItemsFound if has(bytes, "BEGIN CERTIFICATE-----") => {
            wrong("it has a certificate and no private key; are the two files swapped?".to_owned())
        }
        pem::Error::NoItemsFound => {
            wrong("there is no private key in it; it must be PEM with PKCS#8, PKCS#1 or SEC1 inside".to_owned())
        }
        error => wrong(format!("not PEM ({error}); it must have PKCS#8, PKCS#1 or SEC1 inside")),
    })
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// What is to be said about a key that users who have nothing to do with it can read.
pub(super) fn exposed(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let path = path.display();
    (mode & 0o004 != 0).then(|| {
        format!("key file {path} can be read by every user of this machine (mode {mode:03o}); chmod 600 {path}")
    })
}
