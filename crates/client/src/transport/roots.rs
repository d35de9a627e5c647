//! Which certificate authorities are trusted.

use std::path::Path;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::Error;

/// Where systems keep their certificate authorities as one PEM file.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The TLS settings with the system's authorities and those of `extra`.
pub(super) fn client_config(extra: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::invalid(format!("cannot set TLS up: {error}")))?;
    let mut config = match extra {
        None => builder
            .with_native_roots()
            .map_err(|error| Error::invalid(format!("{error}; install ca-certificates or name a CA file")))?,
        Some(path) => builder.with_root_certificates(with_system(path)?),
    }
    .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn with_system(extra: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let unreadable = |error: &dyn std::fmt::Display| {
        Error::invalid(format!("cannot use CA file {}: {error}; it must hold PEM certificates", extra.display()))
    };
    for certificate in CertificateDer::pem_file_iter(extra).map_err(|error| unreadable(&error))? {
        roots.add(certificate.map_err(|error| unreadable(&error))?).map_err(|error| unreadable(&error))?;
    }
    if roots.is_empty() {
        return Err(unreadable(&"it holds no certificate"));
    }
    let bundle = BUNDLES.iter().find_map(|path| CertificateDer::pem_file_iter(path).ok());
    roots.add_parsable_certificates(bundle.into_iter().flatten().filter_map(Result::ok));
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_certificates_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, "hello").unwrap();
        let error = client_config(Some(&path)).unwrap_err();
        assert!(error.to_string().contains("ca.pem"), "{error}");
        assert!(client_config(Some(&dir.path().join("missing.pem"))).is_err());
    }
}
