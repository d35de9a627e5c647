use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;

fn at(text: &str) -> Clock {
    Clock::fixed(text.parse().unwrap())
}

/// A directory with `cert.pem` and `key.pem`.
struct Pair {
    dir: TempDir,
}

impl Pair {
    fn new() -> Self {
        let pair = Self { dir: tempfile::tempdir().unwrap() };
        pair.make(4000);
        pair
    }

    /// Replaces both.
    fn make(&self, until: i32) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        self.put("cert.pem", &params.self_signed(&key).unwrap().pem());
        self.put("key.pem", &key.serialize_pem());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn load(&self) -> Result<Tls, TlsError> {
        Tls::from_files(self.path("cert.pem"), self.path("key.pem"))
    }

    fn error(&self) -> String {
        self.load().unwrap_err().to_string()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

#[test]
fn a_good_pair_has_no_warnings() {
    let tls = Pair::new().load().unwrap();
    assert_eq!(tls.warnings(), Vec::<String>::new());
    assert_eq!(tls.expires_at(), Some("4000-01-01T00:00:00Z".parse().unwrap()));
}

#[test]
fn a_missing_file_is_named() {
    for name in ["cert.pem", "key.pem"] {
        let pair = Pair::new();
        fs::remove_file(pair.path(name)).unwrap();
        let error = pair.error();
        assert!(error.contains(&pair.path(name).display().to_string()) && error.contains("check the path"), "{error}");
    }
}

#[test]
fn every_wrong_content_is_named_with_its_file_and_the_remedy() {
    let pair = Pair::new();
    let (cert, key) = (pair.text("cert.pem"), pair.text("key.pem"));
    let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let old_encrypted =
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let bad_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (cert, key, file, text) in [
        ("", &*key, "cert.pem", "there is no certificate in it; it must be PEM"),
        (&*key, &*key, "cert.pem", "swapped"),
        (garbage, &*key, "cert.pem", "it must be PEM"),
        (&*cert, "", "key.pem", "there is no private key in it; it must be PEM"),
        (&*cert, &*cert, "key.pem", "swapped"),
        (&*cert, &*encrypted, "key.pem", "openssl pkey -in"),
        (&*cert, old_encrypted, "key.pem", "openssl pkey -in"),
        (&*cert, bad_key, "key.pem", "make one with"),
        (&*cert, "-----BEGIN PRIVATE KEY-----\n", "key.pem", "not PEM"),
    ] {
        pair.put("cert.pem", cert);
        pair.put("key.pem", key);
        let error = pair.error();
        assert!(error.contains(&pair.path(file).display().to_string()) && error.contains(text), "{error}");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (pair, other) = (Pair::new(), Pair::new());
    pair.put("key.pem", &other.text("key.pem"));
    let error = pair.error();
    assert!(error.contains("the pair that was made together") && error.contains("cert.pem"), "{error}");
}

#[test]
fn a_key_that_everybody_can_read_is_warned_of() {
    let pair = Pair::new();
    fs::set_permissions(pair.path("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = pair.load().unwrap().warnings();
    let key = pair.path("key.pem").display().to_string();
    assert!(
        matches!(&*warnings, [one] if one.contains("644") && one.ends_with(&format!("chmod 600 {key}"))),
        "{warnings:?}"
    );
}

#[test]
fn a_certificate_that_has_ended_is_warned_of() {
    let pair = Pair::new();
    pair.make(2001);
    let warnings = pair.load().unwrap().warnings();
    assert!(matches!(&*warnings, [one] if one.contains("ended at 2001-01-01")), "{warnings:?}");
}

#[test]
fn a_changed_pair_is_taken_and_a_broken_one_is_not() {
    let pair = Pair::new();
    let tls = pair.load().unwrap();
    assert!(!tls.reload().unwrap());
    let before = tls.expires_at();

    pair.put("cert.pem", "half a cert");
    tls.reload().unwrap_err();
    assert_eq!(tls.expires_at(), before);

    pair.make(3000);
    assert!(tls.reload().unwrap());
    assert!(!tls.reload().unwrap());
    assert_eq!(tls.expires_at(), Some("3000-01-01T00:00:00Z".parse().unwrap()));
}

const START: &str = "2026-11-01T10:00:00Z";

fn self_signed(directory: &Path, names: &[&str], now: &str) -> (Tls, String) {
    let (tls, ca) = Tls::self_signed_at(directory, names.iter().copied(), at(now)).unwrap();
    (tls, fs::read_to_string(ca).unwrap())
}

#[test]
fn the_second_start_uses_what_the_first_has_made() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("new/tls");
    let (first, ca) = self_signed(&directory, &["ci.example.com", "192.0.2.7"], START);
    let (second, same_ca) = self_signed(&directory, &["ci.example.com"], "2026-11-20T10:00:00Z");
    assert_eq!(first.current().digest, second.current().digest);
    assert_eq!(ca, same_ca);
    assert!(!ca.contains("PRIVATE"));
    for (name, mode) in [("authority.pem", 0o600), ("server.pem", 0o600), ("ca.pem", 0o644)] {
        let found = fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
        // The umask may forbid more.
        assert_eq!(found & !mode, 0, "{name} has mode {found:o}");
        assert_eq!(found & 0o600, 0o600, "{name} has mode {found:o}");
    }
    assert_eq!(first.warnings(), Vec::<String>::new());
}

#[test]
fn another_name_needs_another_certificate_but_no_other_authority() {
    let dir = tempfile::tempdir().unwrap();
    let (first, ca) = self_signed(dir.path(), &[], START);
    let (second, same_ca) = self_signed(dir.path(), &["ci.example.com"], START);
    assert_ne!(first.current().digest, second.current().digest);
    assert_eq!(ca, same_ca);
}

#[test]
fn a_certificate_is_renewed_before_its_end_and_the_authority_before_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (first, ca) = self_signed(dir.path(), &[], START);
    let (fresh, _) = self_signed(dir.path(), &[], "2026-12-29T10:00:00Z");
    assert_eq!(first.current().digest, fresh.current().digest, "there were more than 30 days left");
    let (renewed, same_ca) = self_signed(dir.path(), &[], "2027-01-02T10:00:00Z");
    assert_ne!(first.current().digest, renewed.current().digest);
    assert_eq!(renewed.expires_at(), Some("2027-04-02T00:00:00Z".parse().unwrap()));
    assert_eq!(ca, same_ca);
    let (late, other_ca) = self_signed(dir.path(), &[], "2036-06-01T00:00:00Z");
    assert_ne!(ca, other_ca);
    assert_eq!(late.warnings(), Vec::<String>::new());
}

#[test]
fn a_certificate_is_renewed_while_the_process_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, _) = self_signed(dir.path(), &[], START);
    assert!(!tls.reload().unwrap());
    // As if its time had come.
    fs::remove_file(dir.path().join("server.pem")).unwrap();
    assert!(tls.reload().unwrap());
}

#[test]
fn what_is_not_a_name_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["", "*.example.com", "two words", "https://ci.example.com"] {
        let error = Tls::self_signed(dir.path(), [name]).unwrap_err().to_string();
        assert!(error.contains(&format!("`{name}`")) && error.contains("give host names"), "{error}");
    }
}

#[test]
fn a_broken_authority_is_not_replaced_behind_anybodys_back() {
    let dir = tempfile::tempdir().unwrap();
    self_signed(dir.path(), &[], START);
    let authority = dir.path().join("authority.pem");
    fs::write(&authority, "").unwrap();
    let error = Tls::self_signed(dir.path(), ["localhost"]).unwrap_err().to_string();
    assert!(error.contains(&authority.display().to_string()) && error.contains("remove the file"), "{error}");
    fs::remove_file(&authority).unwrap();
    Tls::self_signed(dir.path(), ["localhost"]).unwrap();
}

#[test]
fn those_who_start_at_once_agree_on_the_authority() {
    let dir = tempfile::tempdir().unwrap();
    let digests: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| self_signed(dir.path(), &[], START))).collect();
        starts
            .into_iter()
            .map(|start| start.join().unwrap())
            .map(|(tls, ca)| (tls.current().digest.clone(), ca))
            .collect()
    });
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
}
