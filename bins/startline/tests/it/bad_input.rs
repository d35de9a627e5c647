//! One clear message for each mistake of an operator, with the remedy and the right exit code.

use std::net::TcpListener;

use crate::harness::{Said, Service, run, startline};

#[test]
fn a_port_in_use_is_named() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("fresh");
    let said = run(&["server", "--listen", &address, "--data-dir", path.to_str().unwrap()]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.err.contains(&address) && said.err.contains("in use"), "{said:?}");
    assert!(!path.exists(), "nothing was created");
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for path in [file.path().to_str().unwrap(), "/proc/startline"] {
        let said = run(&["server", "--listen", "127.0.0.1:0", "--data-dir", path]);
        assert_eq!(said.code, Some(3), "{said:?}");
        assert!(said.err.contains(path) && said.err.contains("--data-dir"), "{said:?}");
    }
}

#[tokio::test]
async fn a_newer_data_directory_is_refused_and_left_alone() {
    let mut service = Service::start(&[]);
    service.process.crash();
    let database = service.data.path().join("startline.db");
    {
        let connection = rusqlite::Connection::open(&database).unwrap();
        let columns = "INSERT INTO schema_migrations SELECT version + 1000, name || '-later', checksum, applied_at FROM schema_migrations \
             ORDER BY version DESC LIMIT 1";
        connection.execute(columns, []).unwrap();
    }
    let said = run(&["server", "--listen", "127.0.0.1:0", "--data-dir", service.data.path().to_str().unwrap()]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.err.contains("newer"), "{said:?}");
}

#[tokio::test]
async fn a_second_service_cannot_share_a_data_directory() {
    let service = Service::start(&[]);
    let said = run(&["server", "--listen", "127.0.0.1:0", "--data-dir", service.data.path().to_str().unwrap()]);
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.err.contains("another"), "{said:?}");
}

#[tokio::test]
async fn a_wrong_token_is_refused_with_a_remedy() {
    let service = Service::start(&[]);
    let ask = |token: &str| -> Said {
        startline().args(["runs", "--url", &service.url]).env("STARTLINE_TOKEN", token).output().unwrap().into()
    };
    let unknown = ask("slp_doesnotexist");
    assert_eq!(unknown.code, Some(3), "{unknown:?}");
    assert!(unknown.err.contains("unknown, expired or revoked"), "{unknown:?}");
    let malformed = ask("hello");
    assert!(malformed.code == Some(3) && malformed.err.contains("slp_"), "{malformed:?}");
    let none: Said = startline().args(["runs", "--url", &service.url]).output().unwrap().into();
    assert!(none.code == Some(3) && none.err.contains("STARTLINE_TOKEN"), "{none:?}");
    let expired: Said = startline()
        .args(["runner", "register", "--url", &service.url, "--token", "slr_expired", "--dir"])
        .arg(service.data.path().join("runner"))
        .output()
        .unwrap()
        .into();
    assert!(expired.code == Some(3) && expired.err.contains("registration token"), "{expired:?}");
}

#[test]
fn a_service_that_is_not_there_is_named() {
    let said: Said = startline()
        .args(["runs", "--url", "http://127.0.0.1:9"])
        .env("STARTLINE_TOKEN", "slp_x")
        .output()
        .unwrap()
        .into();
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.err.contains("127.0.0.1:9") && said.err.contains("startline server"), "{said:?}");
}

#[test]
fn settings_come_from_flags_over_environment_over_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("startline.toml");
    std::fs::write(&file, "lease = \"10s\"\nrequeues = 7\nmax_connections = 11\n").unwrap();
    let said: Said = startline()
        .args(["server", "--print-config", "--requeues", "9", "--config"])
        .arg(&file)
        .env("STARTLINE_REQUEUES", "8")
        .env("STARTLINE_MAX_CONNECTIONS", "12")
        .output()
        .unwrap()
        .into();
    assert_eq!(said.code, Some(0), "{said:?}");
    for wanted in ["requeues = 9", "max_connections = 12", "lease = \"10s\"", "listen = \"127.0.0.1:7070\""] {
        assert!(said.out.contains(wanted), "no `{wanted}` in {}", said.out);
    }
    std::fs::write(&file, "leese = \"10s\"\n").unwrap();
    let said: Said = startline().args(["server", "--print-config", "--config"]).arg(&file).output().unwrap().into();
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("leese") && said.err.contains("startline.toml"), "{said:?}");
}

#[test]
fn plain_http_beyond_loopback_must_be_asked_for() {
    let said = run(&["server", "--listen", "0.0.0.0:0"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("--allow-plain-http"), "{said:?}");
}
