//! What the service speaks on its port: HTTPS from files or of its own making, or plain HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::bail;
use startline_daemon::{Listen, Tls};

use crate::config::ServerConfig;

/// HTTP or HTTPS, and whom clients must trust for it.
#[derive(Debug)]
pub(crate) struct Transport {
    pub listen: Listen,
    /// The certificate of the service's own authority, where it has one.
    pub authority: Option<PathBuf>,
}

impl Transport {
    /// As `config` says; what the service makes for itself is kept in `directory`.
    ///
    /// # Errors
    /// When certificate or key cannot be read, used or made. The text names the file and the remedy.
    pub(crate) fn new(config: &ServerConfig, directory: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        let transport = match (&config.tls_cert, &config.tls_key) {
            (Some(certificate), Some(key)) => {
                let tls = Tls::from_files(certificate, key)?;
                Self { listen: Listen::Tls(tls), authority: None }
            }
            _ if config.tls_self_signed => {
                let (tls, authority) = Tls::self_signed(directory, names(config.url.as_deref(), address))?;
                Self { listen: Listen::Tls(tls), authority: Some(authority) }
            }
            _ => Self { listen: Listen::Plain, authority: None },
        };
        if let Listen::Tls(tls) = &transport.listen {
            tls.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        Ok(transport)
    }
}

/// Refuses settings that contradict each other.
pub(crate) fn check(config: &ServerConfig) -> anyhow::Result<()> {
    match (&config.tls_cert, &config.tls_key) {
        (Some(_), None) => bail!("--tls-cert needs --tls-key: the file with the certificate's private key"),
        (None, Some(_)) => bail!("--tls-key needs --tls-cert: the file with the key's certificate"),
        (Some(_), Some(_)) if config.tls_self_signed => {
            bail!("--tls-self-signed makes a certificate, --tls-cert names one; leave one of them out")
        }
        _ => {}
    }
    let speaks_tls = config.tls_self_signed || config.tls_cert.is_some();
    if !speaks_tls && !config.listen.ip().is_loopback() && !config.allow_plain_http {
        bail!(
            "refusing to serve tokens and secrets over plain HTTP on {}; give --tls-cert and --tls-key, or \
             --tls-self-signed for first steps, or listen on 127.0.0.1 behind a proxy that speaks TLS, or pass \
             --allow-plain-http if the network is trusted",
            config.listen
        );
    }
    if speaks_tls && let Some(url) = config.url.as_ref().filter(|url| url.starts_with("http://")) {
        bail!("--public-url `{url}` is plain HTTP, but the service speaks TLS; write it with https://");
    }
    Ok(())
}

/// The names that clients call the service by.
fn names(url: Option<&str>, address: SocketAddr) -> Vec<String> {
    let host = url.and_then(|url| url.parse::<http::Uri>().ok()).and_then(|uri| uri.host().map(str::to_owned));
    // An IPv6 address stands in brackets there.
    let host = host.map(|host| host.trim_start_matches('[').trim_end_matches(']').to_owned());
    let own = (!address.ip().is_unspecified()).then(|| address.ip().to_string());
    host.into_iter().chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_beyond_loopback_needs_no_leave_and_half_of_it_is_refused() {
        let config = ServerConfig { listen: "0.0.0.0:7070".parse().unwrap(), ..ServerConfig::defaults() };
        let (cert, key) = (Some(PathBuf::from("c.pem")), Some(PathBuf::from("k.pem")));
        let files = ServerConfig { tls_cert: cert.clone(), tls_key: key.clone(), ..config.clone() };
        check(&files).unwrap();
        let own = ServerConfig { tls_self_signed: true, ..config.clone() };
        check(&own).unwrap();
        for (wrong, wanted) in [
            (ServerConfig { tls_cert: cert, ..config.clone() }, "--tls-key"),
            (ServerConfig { tls_key: key, ..config.clone() }, "--tls-cert"),
            (ServerConfig { tls_self_signed: true, ..files }, "leave one"),
            (ServerConfig { url: Some("http://ci".to_owned()), ..own }, "https://"),
            (config, "--tls-self-signed"),
        ] {
            let error = check(&wrong).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn a_certificate_is_for_the_public_name_and_the_address() {
        let names = |url: Option<&str>, address: &str| super::names(url, address.parse().unwrap());
        assert_eq!(names(Some("https://ci.example.com:8443/x"), "0.0.0.0:1"), ["ci.example.com"]);
        assert_eq!(names(Some("https://[2001:db8::1]/"), "192.0.2.1:1"), ["2001:db8::1", "192.0.2.1"]);
        assert!(names(None, "[::]:1").is_empty());
    }
}
