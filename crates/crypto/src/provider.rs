/// Makes aws-lc-rs the TLS library of this process.
///
/// Called first by every `main` and by every test that opens a TLS connection; a second call changes nothing.
pub fn install_provider() {
    // The error only says that a provider is installed already, which is what we want.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installing_twice_leaves_a_provider_installed() {
        install_provider();
        install_provider();
        let provider = rustls::crypto::CryptoProvider::get_default().expect("installed");
        assert!(!provider.cipher_suites.is_empty());
    }
}
