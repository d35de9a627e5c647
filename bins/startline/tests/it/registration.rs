//! Registration by a person at a terminal, and without one; units for systemd.

use std::path::Path;
use std::process::Command;

use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::attended::Attended;
use crate::harness::{Said, Service, run, startline};

fn register(arguments: &[&str], dir: &Path) -> Command {
    let mut command = startline();
    command.args(["runner", "register"]).args(arguments).arg("--dir").arg(dir);
    command
}

#[tokio::test]
async fn a_person_is_shown_the_machine_and_asked_for_what_is_missing() {
    let service = Service::start(&[]);
    let token = service.says(&["token", "registration"]).out.trim().to_owned();
    let dir = tempfile::tempdir().unwrap();
    let mut person = Attended::start(&mut register(&[], &dir.path().join("runner")));
    for shown in
        ["architecture", "system", "processors", "memory", "free disk", "docker", "kubernetes", "gpu", "in brackets"]
    {
        person.sees(shown).await;
    }
    person.answer("Address of the service [http://127.0.0.1:7070]:", "nonsense\n").await;
    person.sees("is not the address of a server").await;
    person.answer("Address of the service", &format!("{}\n", service.url)).await;
    person.answer("not shown:", "secret-of-another-kind\n").await;
    person.sees("That is neither").await;
    person.answer("not shown:", &format!("{token}\n")).await;
    person.answer("Name [", &format!("{}\n", "n".repeat(65))).await;
    person.sees("at most 64 characters").await;
    person.answer("Name [", "build 1\n").await;
    person.answer("Labels, separated by commas [self-hosted, ", "linux, gpu\n").await;
    person.answer("Jobs at once [1]:", "none\n").await;
    person.sees("A number from 1 to 1000").await;
    person.answer("Jobs at once [1]:", "3\n").await;
    person.answer("(ephemeral)? [y/N]:", "perhaps\n").await;
    person.sees("Answer y or n").await;
    person.answer("(ephemeral)? [y/N]:", "\n").await;
    person.sees("--label linux --label gpu --parallel 3").await;
    person.answer("Register now? [Y/n]:", "\n").await;
    person.sees("start it: startline runner start").await;
    let (code, out, screen) = person.ended().await;
    assert_eq!((code, out.as_str()), (Some(0), "runner 1 registered as `build 1`\n"), "{screen}");
    assert!(!screen.contains(&token) && !screen.contains("secret-of-another-kind"), "{screen}");
    let command = format!("startline runner register --yes --url {} --name 'build 1'", service.url);
    assert!(screen.contains(&command), "{screen}");
    let runner = &service.client.runners().await.unwrap()[0];
    assert_eq!((runner.name.as_str(), &*runner.labels), ("build 1", &["linux".to_owned(), "gpu".to_owned()][..]));
    assert_eq!((runner.capabilities.max_parallel_jobs, runner.ephemeral), (3, false));
}

#[tokio::test]
async fn what_the_command_line_says_is_not_asked_and_a_name_can_be_taken_over() {
    let service = Service::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--url", &service.url, "--name", "one", "--label", "linux", "--parallel", "1", "--ephemeral"];
    // The second finds the name taken, the third its own directory.
    for (number, place) in ["a", "b", "a"].into_iter().enumerate() {
        let mut person = Attended::start(&mut register(&flags, &dir.path().join(place)));
        if number == 2 {
            person.answer("Register it anew?", "y\n").await;
        }
        person.answer("not shown:", &format!("{}\n", service.token)).await;
        person.answer("Register now?", "y\n").await;
        if number == 1 {
            person.answer("Take its place? [y/N]:", "y\n").await;
        }
        let (code, _, screen) = person.ended().await;
        assert_eq!(code, Some(0), "{screen}");
        for question in ["Address", "Name [", "Labels", "Jobs at once", "ephemeral)?"] {
            assert!(!screen.contains(question), "{question}: {screen}");
        }
    }
    assert_eq!(service.client.runners().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_person_who_leaves_registers_nothing_and_gets_the_terminal_back() {
    let service = Service::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--url", &service.url, "--name", "one", "--label", "linux", "--parallel", "1", "--ephemeral"];
    // The end of input, and Ctrl-C, in hidden input.
    for (keys, wanted) in [("\x04", "the input ended"), ("slr_x\x03", "interrupted")] {
        let mut person = Attended::start(&mut register(&flags, dir.path()));
        let keyboard = person.keyboard.try_clone().unwrap();
        person.answer("not shown:", keys).await;
        person.sees(wanted).await;
        person.sees("nothing was done").await;
        let (code, out, screen) = person.ended().await;
        assert!(code == Some(3) && out.is_empty() && !screen.contains("slr_x"), "{code:?} {out} {screen}");
        let modes = tcgetattr(&keyboard).unwrap().local_flags;
        assert!(modes.contains(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG), "{modes:?}");
    }
    // The end of input where it is shown, and a plain no.
    let mut person = Attended::start(&mut register(&["--url", &service.url], dir.path()));
    person.answer("not shown:", "slr_x\n").await;
    person.answer("Name [", "\x04").await;
    person.sees("the input ended").await;
    assert_eq!(person.ended().await.0, Some(3));
    let mut person = Attended::start(&mut register(&flags, dir.path()));
    person.answer("not shown:", "slr_x\n").await;
    person.answer("Register now?", "n\n").await;
    person.sees("nothing was registered").await;
    assert_eq!(person.ended().await.0, Some(1));
    assert!(service.client.runners().await.unwrap().is_empty());
}

#[tokio::test]
async fn nobody_is_asked_where_nobody_sits_or_with_yes() {
    let service = Service::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let refused: Said = register(&[], dir.path()).output().unwrap().into();
    assert!(refused.code == Some(2) && refused.err.contains("STARTLINE_TOKEN"), "{refused:?}");
    let mut person = Attended::start(&mut register(&["--yes"], dir.path()));
    person.sees("STARTLINE_TOKEN").await;
    assert_eq!(person.ended().await.0, Some(2));

    let file = dir.path().join("token");
    std::fs::write(&file, format!("{}\n", service.token)).unwrap();
    let flags = ["--url", &service.url, "--token-file", file.to_str().unwrap(), "--name", "two"];
    let (code, out, screen) = Attended::start(&mut register(&flags, dir.path())).ended().await;
    assert!(code == Some(0) && out.contains("registered as `two`"), "{screen}");
}

#[tokio::test]
async fn a_secret_typed_at_a_terminal_is_not_shown() {
    let service = Service::start(&[]);
    let mut command = startline();
    command.args(["secret", "set", "KEY"]).env("STARTLINE_URL", &service.url).env("STARTLINE_TOKEN", &service.token);
    let mut person = Attended::start(&mut command);
    person.answer("value of KEY: (hidden)", "canary-typed\n").await;
    person.sees("is set").await;
    let (code, _, screen) = person.ended().await;
    assert!(code == Some(0) && !screen.contains("canary"), "{screen}");
    assert_eq!(service.client.secrets(None).await.unwrap()[0].name, "KEY");
}

#[test]
fn units_go_to_standard_output_and_what_to_do_with_them_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    let said = run(&["runner", "service", "--user", "ci", "--dir", place, "--ca-file", "ca.pem"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let program = env!("CARGO_BIN_EXE_startline");
    for wanted in ["User=ci\n", &format!("ExecStart={program} runner start --dir {place}\n"), "/ca.pem\n"] {
        assert!(said.out.contains(wanted), "{wanted} in {}", said.out);
    }
    assert!(said.out.starts_with("[Unit]\n") && said.out.ends_with("WantedBy=multi-user.target\n"), "{}", said.out);
    assert!(said.err.contains("systemctl enable --now") && said.err.contains("startline runner register"), "{said:?}");
    let said = run(&["server", "service", "--data-dir", place, "--config", "/etc/startline/server.toml"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let start = format!("ExecStart={program} server --data-dir {place} --config /etc/startline/server.toml\n");
    assert!(said.out.contains(&start) && said.out.contains("LimitNOFILE="), "{}", said.out);
    let said = run(&["runner", "service", "--user", "ro ot"]);
    assert!(said.code == Some(2) && said.err.contains("`ro ot` is not a user's name"), "{said:?}");
}
