//! `startline server`.

use std::process::ExitCode;

use anstream::{eprintln, print, println};
use startline_daemon::Signals;
use startline_server::Args;

use crate::descriptors;
use crate::exit::Usage;
use crate::render::style::{BOLD, RESET};

pub(super) async fn execute(args: Args) -> anyhow::Result<ExitCode> {
    let (print, another) = (args.print_config, args.new_admin_token);
    let resolved = args.resolve().map_err(|error| Usage(error.to_string()))?;
    if print {
        print!("{}", resolved.to_toml());
        return Ok(ExitCode::SUCCESS);
    }
    let config = resolved.config;
    config.check().map_err(|error| Usage(error.to_string()))?;
    startline_daemon::logs::init(config.log_format, &config.log)?;
    allow_connections(config.max_connections);
    // Before the start, so that a signal during it is not lost.
    let mut signals = Signals::listen()?;
    let running = startline_server::start(config, another).await?;
    if let Some(token) = running.admin_token() {
        println!("admin token: {}", token.expose());
        eprintln!(
            "{BOLD}This is the only time that the admin token is shown; keep it safe.{RESET}\n\
             Use it as STARTLINE_TOKEN with `startline submit`, `startline runs` and `startline runner register`.\n\
             If it is lost, `startline server --new-admin-token` prints another."
        );
    }
    if let Some(authority) = running.authority() {
        println!("authority: {}", authority.display());
        eprintln!(
            "Clients and runners must trust this authority: give them the file, and its place there as STARTLINE_CA_FILE or \
             --ca-file."
        );
    }
    println!("API: {}/api/v1", running.url());
    let drain = running.drain();
    let mut stopped = std::pin::pin!(running.wait());
    tokio::select! {
        report = &mut stopped => {
            tracing::info!(connections = report.connections, "stopped");
            return Ok(ExitCode::SUCCESS);
        }
        _ = signals.recv() => {}
    }
    eprintln!("stopping; open requests are answered first. Again to stop at once.");
    drain.start();
    tokio::select! {
        _ = &mut stopped => Ok(ExitCode::SUCCESS),
        signal = signals.recv() => {
            drain.abort();
            stopped.await;
            Ok(ExitCode::from(signal.exit_code()))
        }
    }
}

/// Makes room for the connections that the settings allow, as far as the system does.
fn allow_connections(wanted: usize) {
    match descriptors::raise_limit() {
        Ok(limit) if u64::try_from(wanted).unwrap_or(u64::MAX).saturating_add(descriptors::RESERVE) > limit => {
            tracing::warn!(
                max_connections = wanted,
                open_files = limit,
                "the system allows fewer open files than --max-connections needs; raise the hard limit (`ulimit -Hn`, \
                 LimitNOFILE= in a systemd unit) or lower --max-connections"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
}
