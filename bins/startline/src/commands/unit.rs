//! `startline runner service` and `startline server service`: units for systemd.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::{eprintln, print};
use anyhow::Context;
use startline_runner::{Overrides, Registration};

use crate::cli::{RunnerServiceArgs, ServerServiceArgs};
use crate::exit::Usage;
use crate::render::unit::Unit;

pub(super) fn runner(args: &RunnerServiceArgs) -> anyhow::Result<ExitCode> {
    let directory = absolute(&args.place.dir)?;
    let registration = Registration::load(&directory);
    let (name, ephemeral) = match &registration {
        Ok(registration) => (registration.name.clone(), registration.ephemeral),
        Err(_) => (startline_runner::default_name(), false),
    };
    let unit = Unit {
        what: format!("runner {name}"),
        user: user(&args.user)?,
        program: program()?,
        arguments: ["runner", "start", "--dir"].map(str::to_owned).into_iter().chain([text(&directory)?]).collect(),
        ca_file: args.network.ca_file.as_deref().map(absolute).transpose()?,
        environment_file: "/etc/startline/runner.env",
        directory,
    };
    let gpu = startline_runner::detect(&unit.directory, 1, &Overrides::default()).gpu_enabled;
    print!("{}", unit.runner(ephemeral, gpu));
    if let Err(error) = registration {
        eprintln!("before it can start: {error}");
    }
    install(&unit, "startline-runner", "startline runner service", "HTTPS_PROXY and the like");
    Ok(ExitCode::SUCCESS)
}

pub(super) fn server(args: &ServerServiceArgs) -> anyhow::Result<ExitCode> {
    let directory = absolute(&args.data_dir)?;
    let mut arguments = vec!["server".to_owned(), "--data-dir".to_owned(), text(&directory)?];
    if let Some(file) = &args.config {
        arguments.extend(["--config".to_owned(), text(&absolute(file)?)?]);
    }
    let unit = Unit {
        what: "service".to_owned(),
        user: user(&args.user)?,
        program: program()?,
        arguments,
        ca_file: None,
        environment_file: "/etc/startline/server.env",
        directory,
    };
    print!("{}", unit.server());
    install(&unit, "startline-server", "startline server service", "settings, such as STARTLINE_LISTEN");
    eprintln!(
        "the admin token is printed once, into the journal; take it with `journalctl -u startline-server`, make tokens \
         for daily use with it, and revoke it"
    );
    Ok(ExitCode::SUCCESS)
}

/// What to do with the unit that was printed.
fn install(unit: &Unit, name: &str, command: &str, environment: &str) {
    let (user, directory) = (&unit.user, unit.directory.display());
    eprintln!(
        "install it, as root:\n  \
         useradd --system --home-dir {directory} --shell /usr/sbin/nologin {user}\n  \
         mkdir -p {directory} && chown -R {user}: {directory}\n  \
         {command} … > /etc/systemd/system/{name}.service\n  \
         systemctl daemon-reload && systemctl enable --now {name}\n\
         {environment} go into {}",
        unit.environment_file
    );
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot tell where {} is", path.display()))
}

fn text(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    Ok(text.map(str::to_owned).ok_or_else(|| {
        Usage(format!("{} has characters that a unit cannot have; choose another path", path.display()))
    })?)
}

fn program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot tell where this program is")
}

fn user(name: &str) -> Result<String, Usage> {
    let mut chars = name.chars();
    let begins = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    if begins && name.len() <= 31 && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c)) {
        Ok(name.to_owned())
    } else {
        Err(Usage(format!("--user `{name}` is not a user's name; write it like startline-runner")))
    }
}
