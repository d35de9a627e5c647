//! What administrators say to the service: tokens, groups, secrets, variables, the audit log.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Said, Service, startline};

/// A command with `input` on standard input, to the service at this address.
fn fed(url: &str, token: &str, arguments: &[&str], input: &str) -> Said {
    let mut child = startline()
        .args(arguments)
        .env("STARTLINE_URL", url)
        .env("STARTLINE_TOKEN", token)
        .env("STARTLINE_VALUE", "canary-env")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap().into()
}

/// A command line to a service that is not there.
fn unheard(arguments: &[&str], input: &str) -> Said {
    fed("http://127.0.0.1:9", "slp_x", arguments, input)
}

#[test]
fn a_slip_of_the_fingers_is_refused_before_the_service_is_asked() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    std::fs::write(path, [0xff, 0xfe]).unwrap();
    for (arguments, input, wanted) in [
        (&["secret", "set", "A-B"][..], "x", "`A-B` is not a secret's name"),
        (&["variable", "set", "=x"], "", "`` is not a variable's name"),
        (&["secret", "set", "A"], "", "standard input is empty"),
        (&["secret", "set", "A=1", "--env", "STARTLINE_VALUE"], "", "given twice"),
        (&["secret", "set", "A", "--env", "STARTLINE_NOT_SET"], "", "STARTLINE_NOT_SET"),
        (&["secret", "set", "A", "--file", path], "", "not UTF-8"),
        (&["secret", "set", "A", "--repository", "acme"], "x", "not OWNER/NAME"),
        (&["variable", "list", "--organization", "a/b"], "", "`a/b` is not a name"),
        (&["group", "set", "g", "--repository", "acme"], "", "not OWNER/NAME"),
        (&["token", "create", "--name", "x", "--permission", "jobs:rule"], "", "jobs:write"),
        (&["token", "create", "--name", "x", "--permission", "jobs:read", "--scope", "acme"], "", "organization:NAME"),
        (&["token", "registration", "--expires-in", "8d"], "", "1m to 7d"),
        (&["token", "revoke", "runner", "1"], "", "registration"),
    ] {
        let said = unheard(arguments, input);
        assert!(said.code == Some(2) && said.err.contains(wanted), "{arguments:?}: {said:?}");
        assert!(!said.err.contains("canary"), "{said:?}");
    }
}

#[test]
fn a_secret_on_the_command_line_is_warned_of_and_a_variable_is_not() {
    std::thread::scope(|scope| {
        // Each tries for a few seconds to reach the service.
        let secret = scope.spawn(|| unheard(&["secret", "set", "KEY=canary-argv"], ""));
        let variable = scope.spawn(|| unheard(&["variable", "set", "KEY=canary-argv"], ""));
        let environment = scope.spawn(|| unheard(&["secret", "set", "KEY", "--env", "STARTLINE_VALUE"], ""));
        let secret = secret.join().unwrap();
        assert!(secret.code == Some(3) && secret.err.contains("warning: other users"), "{secret:?}");
        for quiet in [variable, environment] {
            let said = quiet.join().unwrap();
            assert!(said.code == Some(3) && !said.err.contains("warning: other users"), "{said:?}");
            assert!(!said.err.contains("canary"), "{said:?}");
        }
    });
}

/// A command of the admin with `input` on standard input.
fn told(service: &Service, arguments: &[&str], input: &str) -> Said {
    fed(&service.url, &service.token, arguments, input)
}

#[track_caller]
fn well(said: Said) -> Said {
    assert_eq!(said.code, Some(0), "{said:?}");
    said
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap()
}

/// Words of a command line without blanks in them.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[tokio::test]
async fn a_token_is_printed_once_does_what_it_may_and_ends_when_it_is_revoked() {
    let service = Service::start(&[]);
    let created = well(service.says(&words(
        "token create --name forge --scope organization:acme --permission jobs:read,tokens:read --expires-in 30d",
    )));
    let token = created.out.trim();
    assert!(token.starts_with("slp_") && created.out.lines().count() == 1, "{created:?}");
    assert!(!created.err.contains(token) && created.err.contains("organization:acme"), "{created:?}");
    let with = |token: &str, arguments: &[&str]| -> Said {
        let mut command = startline();
        command.args(arguments).env("STARTLINE_URL", &service.url).env("STARTLINE_TOKEN", token);
        command.output().unwrap().into()
    };
    well(with(token, &["runs"]));
    let refused = with(token, &["runners"]);
    assert!(refused.code == Some(3) && refused.err.contains("runners:read"), "{refused:?}");

    let listed = well(service.says(&["token", "list"]));
    assert!(listed.out.contains("forge") && listed.out.contains("jobs:read tokens:read"), "{}", listed.out);
    assert!(listed.out.contains("in 29d"), "{}", listed.out);
    let all = json(&well(service.says(&["token", "list", "--json"])));
    assert!(!all.to_string().contains("slp_"), "{all}");
    let id = all.as_array().unwrap().iter().find(|token| token["name"] == "forge").unwrap()["id"].to_string();
    // The scope's own listing has it; another's does not.
    for (organization, count) in [("acme", 1), ("other", 0)] {
        let some = json(&well(service.says(&["token", "list", "--organization", organization, "--json"])));
        assert_eq!(some.as_array().unwrap().len(), count, "{some}");
    }

    well(service.says(&["token", "revoke", "api", &id]));
    let gone = with(token, &["runs"]);
    assert!(gone.code == Some(3) && gone.err.contains("revoked"), "{gone:?}");
    let missing = service.says(&["token", "revoke", "api", "999"]);
    assert!(missing.code == Some(3) && missing.err.contains("999"), "{missing:?}");
}

#[tokio::test]
async fn a_registration_token_is_bound_to_its_networks_and_labels() {
    let service = Service::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let register = |flags: &str, label: &str| -> Said {
        let minted = well(service.says(&words(&format!("token registration --expires-in 90m {flags}"))));
        let mut command = startline();
        command.args(["runner", "register", "--url", &service.url, "--label", label, "--name", label]);
        command.arg("--dir").arg(dir.path().join(label)).env("STARTLINE_TOKEN", minted.out.trim());
        command.output().unwrap().into()
    };
    let elsewhere = register("--cidr 192.0.2.0/24", "a");
    assert_eq!(elsewhere.code, Some(3), "{elsewhere:?}");
    let wrong = register("--label linux", "prod");
    assert!(wrong.code == Some(3) && wrong.err.contains("prod"), "{wrong:?}");
    well(register("--cidr 127.0.0.0/8,::1/128 --label linux --scope repository:acme/demo", "linux"));
}

#[tokio::test]
async fn values_come_from_input_files_and_environment_and_secrets_are_never_shown() {
    let service = Service::start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("value");
    std::fs::write(&file, "canary-file\n").unwrap();
    let file = file.to_str().unwrap();
    for kind in ["secret", "variable"] {
        well(told(&service, &[kind, "set", "PIPED", "--repository", "acme/demo"], "canary-input\r\n"));
        well(told(&service, &[kind, "set", "READ", "--repository", "acme/demo", "--file", file], ""));
        well(told(&service, &[kind, "set", "TAKEN", "--repository", "acme/demo", "--env", "STARTLINE_VALUE"], ""));
        let said = well(told(&service, &[kind, "set", "GIVEN=canary-argv"], ""));
        assert!(!said.err.contains("canary") && said.err.contains("the token's own scope"), "{said:?}");
        let names = |place: &[&str]| -> Vec<String> {
            let listed = json(&well(service.says(&[&[kind, "list", "--json"], place].concat())));
            listed.as_array().unwrap().iter().map(|value| value["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&["--repository", "acme/demo"]), ["PIPED", "READ", "TAKEN"]);
        assert_eq!(names(&[]), ["GIVEN"]);
        well(service.says(&[kind, "delete", "GIVEN"]));
        let none = well(service.says(&[kind, "list"]));
        assert!(none.out.contains("there are no"), "{none:?}");
        let refused = told(&service, &[kind, "set", "GITHUB_X"], "1");
        assert!(refused.code == Some(3) && refused.err.contains("GITHUB_"), "{refused:?}");
    }
    let table = well(service.says(&["secret", "list", "--repository", "acme/demo"]));
    assert!(table.out.contains("PIPED") && !table.out.contains("canary"), "{table:?}");
    let variables = json(&well(service.says(&["variable", "list", "--repository", "acme/demo", "--json"])));
    let values: Vec<&str> =
        variables.as_array().unwrap().iter().map(|variable| variable["value"].as_str().unwrap()).collect();
    assert_eq!(values, ["canary-input", "canary-file\n", "canary-env"]);
}

#[tokio::test]
async fn groups_are_set_shown_replaced_and_deleted() {
    let service = Service::start(&[]);
    let flags = "--organization acme --repository acme/shop --accepts-untrusted --protected-label prod \
                 --max-running-jobs 9 --max-running-jobs-per-repository 2";
    well(service.says(&[&["group", "set", "big ones"][..], &words(flags)].concat()));
    let shown = well(service.says(&["group", "list"])).out;
    let line = shown.lines().find(|line| line.contains("big ones")).unwrap().to_owned();
    for wanted in ["organization:acme", "acme/shop", "yes", "prod", "9 jobs, 2 a repository"] {
        assert!(line.contains(wanted), "{wanted} in {shown}");
    }
    well(service.says(&["group", "set", "big ones", "--organization", "acme"]));
    let groups = json(&well(service.says(&["group", "list", "--json"])));
    let group = groups.as_array().unwrap().iter().find(|group| group["name"] == "big ones").unwrap();
    assert_eq!(group["policy"]["accepts_untrusted"], false, "{group}");
    well(service.says(&["group", "delete", "big ones", "--organization", "acme"]));
    assert!(!well(service.says(&["group", "list"])).out.contains("big ones"));
}

#[tokio::test]
async fn the_audit_log_is_listed_exported_and_found_out_when_it_was_changed() {
    let mut service = Service::start(&[]);
    well(service.says(&words("token create --name x --permission jobs:read")));
    let table = well(service.says(&words("audit list --action token.create --limit 5"))).out;
    assert!(table.contains("token.create") && table.contains("success") && table.contains("127.0.0.1"), "{table}");
    let verified = well(service.says(&["audit", "verify"]));
    assert!(verified.out.contains("none changed") && verified.out.contains("head: "), "{verified:?}");

    let exported = well(service.says(&["audit", "export"]));
    let sequences: Vec<u64> = exported
        .out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["sequence"].as_u64().unwrap())
        .collect();
    assert!(sequences.len() >= 2 && sequences.iter().zip(1..).all(|(found, wanted)| *found == wanted), "{exported:?}");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.ndjson");
    let path = file.to_str().unwrap();
    well(service.says(&["audit", "export", "--output", path, "--action", "token.create"]));
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(!kept.is_empty() && kept.lines().all(|line| line.contains("token.create")), "{kept}");
    let again = service.says(&["audit", "export", "--output", path]);
    assert!(again.code == Some(3) && again.err.contains("does not exist yet"), "{again:?}");

    service.process.crash();
    {
        // Whoever can write to the database can take the guard away too; the chain still tells.
        let connection = rusqlite::Connection::open(service.data.path().join("startline.db")).unwrap();
        let change = "DROP TRIGGER audit_is_not_changed; UPDATE audit SET actor = 'nobody' WHERE sequence = 2;";
        connection.execute_batch(change).unwrap();
    }
    service.restart();
    let broken = service.says(&["audit", "verify"]);
    assert!(broken.code == Some(1) && broken.out.contains("the chain is broken: "), "{broken:?}");
    let broken = json(&service.says(&["audit", "verify", "--json"]));
    assert_eq!(broken["valid"], false);
}
