//! Registration by questions, for whoever sits at a terminal.

use anstream::eprintln;
use startline_client::{ApiClient, Transport};
use startline_protocol::capabilities::Capabilities;
use startline_protocol::token::{ApiToken, TokenKind};
use startline_runner::{Overrides, Registration};

use super::Plan;
use crate::cli::RegisterArgs;
use crate::render::style::{BOLD, DIM, RESET, YELLOW};
use crate::terminal::{self, NoAnswer};

/// The address of a service on this machine.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:7070";
/// Most labels of a runner, and the longest.
const LABELS: (usize, usize) = (64, 256);

/// Asks for what the command line does not say. `None` when whoever was asked does not want to go on.
pub(super) async fn ask(args: &RegisterArgs, transport: &Transport) -> anyhow::Result<Option<Plan>> {
    let dir = &args.place.dir;
    let mut replace = args.replace;
    if !replace && let Ok(Registration { name, url, .. }) = Registration::load(dir) {
        eprintln!("{} is registered with {url} as `{name}` already.", dir.display());
        if !yes_or_no("Register it anew? The old registration then ends", false)? {
            return Ok(None);
        }
        replace = true;
    }
    show(&startline_runner::detect(dir, 1, &Overrides::default()), &dir.display().to_string());
    let url = match &args.url {
        Some(url) => url.clone(),
        None => address(transport).await?,
    };
    let token = loop {
        let given = terminal::ask_hidden("Registration token (slr_…) or API token (slp_…), not shown: ")?;
        match TokenKind::of(&given) {
            Some(TokenKind::Registration | TokenKind::Api) => break given,
            _ => {
                eprintln!(
                    "That is neither; `startline token registration`, where the service is administered, mints one."
                )
            }
        }
    };
    let name = match &args.name {
        Some(name) => name.clone(),
        None => question("Name", &startline_runner::default_name(), name)?,
    };
    let labels = if args.labels.is_empty() {
        question("Labels, separated by commas", &startline_runner::default_labels().join(", "), labels)?
    } else {
        args.labels.clone()
    };
    let parallel = match args.parallel {
        Some(parallel) => parallel,
        None => question("Jobs at once", "1", parallel)?,
    };
    let ephemeral = args.ephemeral || yes_or_no("Take one job and go (ephemeral)?", false)?;
    let plan = Plan { url, token, name, labels, parallel, ephemeral, replace };
    eprintln!(
        "\nThe same without questions, with the token in STARTLINE_TOKEN:\n  {}\n",
        command(&plan, args).join(" ")
    );
    Ok(yes_or_no("Register now?", true)?.then_some(plan))
}

/// Asks whether to take over a name that another runner has.
pub(super) fn take_over(name: &str) -> Result<bool, NoAnswer> {
    yes_or_no(&format!("A runner named `{name}` is registered already. Take its place?"), false)
}

fn show(found: &Capabilities, dir: &str) {
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    eprintln!("{BOLD}This machine{RESET}");
    for (what, value) in [
        ("architecture", found.architecture.clone()),
        ("system", found.operating_system.clone()),
        ("processors", found.cpu_cores.to_string()),
        ("memory", format!("{} GiB", found.memory_gb)),
        ("free disk", format!("{} GiB for {dir}", found.disk_space_gb)),
        ("docker", yes(found.docker_enabled)),
        ("kubernetes", yes(found.kubernetes_enabled)),
        ("gpu", yes(found.gpu_enabled)),
    ] {
        eprintln!("  {what:<14}{value}");
    }
    eprintln!("{DIM}An empty answer takes what is in brackets.{RESET}\n");
}

async fn address(transport: &Transport) -> anyhow::Result<String> {
    loop {
        let given = question("Address of the service", DEFAULT_URL, |text| Ok(text.to_owned()))?;
        // The token is not sent: whether the service is there is asked without one.
        let unused = ApiToken::parse("slp_none")?;
        let client = match ApiClient::new(transport.clone(), &given, unused) {
            Ok(client) => client,
            Err(error) => {
                eprintln!("{error}");
                continue;
            }
        };
        match client.health().await {
            Ok(()) => return Ok(given),
            Err(error) => eprintln!("{YELLOW}warning{RESET}: {error}"),
        }
        if yes_or_no("Use this address anyway?", false)? {
            return Ok(given);
        }
    }
}

/// Asks until the answer can be used.
fn question<T>(text: &str, default: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<T, NoAnswer> {
    loop {
        let answer = terminal::ask(&format!("{text} [{default}]: "))?;
        match read(if answer.is_empty() { default } else { &answer }) {
            Ok(value) => return Ok(value),
            Err(why) => eprintln!("{why}"),
        }
    }
}

fn yes_or_no(text: &str, default: bool) -> Result<bool, NoAnswer> {
    loop {
        let answer = terminal::ask(&format!("{text} [{}]: ", if default { "Y/n" } else { "y/N" }))?;
        match answer.to_ascii_lowercase().as_str() {
            "" => return Ok(default),
            "y" | "yes" => return Ok(true),
            "n" | "no" => return Ok(false),
            _ => eprintln!("Answer y or n."),
        }
    }
}

fn name(text: &str) -> Result<String, String> {
    if text.chars().count() <= 64 && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err("A name has at most 64 characters, all of them printable.".to_owned())
    }
}

fn labels(text: &str) -> Result<Vec<String>, String> {
    let labels: Vec<String> =
        text.split(',').map(str::trim).filter(|label| !label.is_empty()).map(str::to_owned).collect();
    if labels.is_empty() {
        return Err("A runner without labels gets no jobs; give at least one.".to_owned());
    }
    if labels.len() > LABELS.0 || labels.iter().any(|label| label.len() > LABELS.1) {
        return Err(format!("At most {} labels, of {} bytes each.", LABELS.0, LABELS.1));
    }
    Ok(labels)
}

fn parallel(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|jobs| (1..=1000).contains(jobs)).ok_or_else(|| "A number from 1 to 1000.".to_owned())
}

/// The words of a command line that registers the same runner, as a shell reads them; never the token.
fn command(plan: &Plan, args: &RegisterArgs) -> Vec<String> {
    let mut words: Vec<String> = ["startline", "runner", "register", "--yes"].map(str::to_owned).to_vec();
    let mut flag = |name: &str, value: &str| words.extend([name.to_owned(), shell_word(value)]);
    flag("--url", &plan.url);
    flag("--name", &plan.name);
    for label in &plan.labels {
        flag("--label", label);
    }
    flag("--parallel", &plan.parallel.to_string());
    flag("--dir", &args.place.dir.display().to_string());
    if let Some(file) = &args.network.ca_file {
        flag("--ca-file", &file.display().to_string());
    }
    words.extend(plan.ephemeral.then(|| "--ephemeral".to_owned()));
    words.extend(plan.replace.then(|| "--replace".to_owned()));
    words
}

fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@,%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_cannot_be_used_say_why() {
        assert_eq!(labels(" linux, gpu ,,").unwrap(), ["linux", "gpu"]);
        assert!(labels(" , ").unwrap_err().contains("at least one"));
        assert!(labels(&"x".repeat(257)).unwrap_err().contains("256"));
        assert!(name(&"n".repeat(65)).is_err() && name("build 1").is_ok());
        assert_eq!(["4", "0", "1001", "two"].map(|text| parallel(text).ok()), [Some(4), None, None, None]);
    }

    #[test]
    fn words_are_quoted_for_the_shell_only_where_they_must_be() {
        assert_eq!(shell_word("https://ci.example.com:1/x"), "https://ci.example.com:1/x");
        assert_eq!(shell_word("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(shell_word(""), "''");
    }
}
