//! What administrators say to the service: tokens, groups, secrets, variables, the audit log.

use std::io::Write;
use std::process::Stdio;

use crate::harness::{Said, startline};

/// A command line to a service that is not there, with `input` on standard input.
fn unheard(arguments: &[&str], input: &str) -> Said {
    let mut child = startline()
        .args(arguments)
        .args(["--url", "http://127.0.0.1:9"])
        .env("STARTLINE_TOKEN", "slp_x")
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
