//! `startline audit`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anstream::{eprintln, println};
use anyhow::Context;
use startline_client::AuditFilter;

use super::listing::{json, table};
use crate::cli::{AuditCommand, AuditExportArgs, AuditFilterArgs, AuditListArgs, ListArgs};
use crate::exit;
use crate::render::style::{GREEN, RED, RESET, harmless};
use crate::render::table::Listing;

pub(super) async fn execute(command: AuditCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::List(args) => list(args).await,
        AuditCommand::Verify(args) => verify(args).await,
        AuditCommand::Export(args) => export(args).await,
    }
}

fn filter(args: AuditFilterArgs) -> AuditFilter {
    AuditFilter { action: args.action, actor: args.actor }
}

async fn list(args: AuditListArgs) -> anyhow::Result<ExitCode> {
    let client = args.list.connect.client()?;
    let page = client.audit_page(&filter(args.filter), args.cursor.as_deref(), Some(args.limit)).await?;
    if args.list.json {
        return json(&page);
    }
    let mut listing = Listing::new(&["LINE", "AT", "ACTOR", "ACTION", "SUBJECT", "OUTCOME", "SCOPE", "FROM"]);
    for record in page.records {
        listing.row([
            record.sequence.to_string(),
            format!("{:.0}", record.at),
            record.actor,
            record.action,
            record.subject,
            record.outcome,
            record.scope.to_string(),
            record.address.unwrap_or_default(),
        ]);
    }
    Ok(table(&listing, "no line of the audit log fits", page.next_cursor.as_deref()))
}

async fn verify(args: ListArgs) -> anyhow::Result<ExitCode> {
    let found = args.connect.client()?.verify_audit().await?;
    let code = if found.valid { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) };
    if args.json {
        json(&found)?;
        return Ok(code);
    }
    if found.valid {
        println!("{GREEN}✓{RESET} {} lines, none changed or taken out", found.records);
        if let Some(begin) = found.begin {
            println!("begins behind line {} of {:.0}; it and those before it were purged", begin.sequence, begin.at);
        }
        if let Some(head) = found.head {
            println!("head: {head}");
            eprintln!("keep the head elsewhere: a log that was cut off at its end has another");
        }
    } else {
        let broken = found.broken.unwrap_or_else(|| "the service does not say where".to_owned());
        println!("{RED}✗{RESET} the chain is broken: {}", harmless(&broken));
        eprintln!("somebody has changed the database past the service; compare it with an earlier export or backup");
    }
    Ok(code)
}

async fn export(args: AuditExportArgs) -> anyhow::Result<ExitCode> {
    let client = args.connect.client()?;
    let mut export = client.export_audit(&filter(args.filter)).await?;
    let mut sink = Sink::open(args.output.as_deref())?;
    let mut lines: u64 = 0;
    loop {
        let next = export.next().await.with_context(|| format!("the export broke off after {lines} lines"))?;
        let Some((text, _)) = next else { break };
        if !sink.write(&text)? {
            return Ok(ExitCode::SUCCESS);
        }
        lines += 1;
    }
    sink.finish()?;
    eprintln!("{lines} lines");
    Ok(ExitCode::SUCCESS)
}

/// Where the lines go.
struct Sink {
    to: Box<dyn Write + Send>,
    name: String,
    is_pipe: bool,
}

impl Sink {
    fn open(output: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = output else {
            let to = Box::new(io::BufWriter::new(io::stdout()));
            return Ok(Self { to, name: "standard output".to_owned(), is_pipe: true });
        };
        let name = path.display().to_string();
        // New: an earlier export is evidence.
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("cannot create --output {name}; name a file that does not exist yet"))?;
        Ok(Self { to: Box::new(io::BufWriter::new(file)), name, is_pipe: false })
    }

    /// False when whoever reads wants no more.
    fn write(&mut self, line: &str) -> anyhow::Result<bool> {
        match writeln!(self.to, "{line}") {
            Err(error) if self.is_pipe && error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            written => written.map(|()| true).with_context(|| format!("cannot write to {}", self.name)),
        }
    }

    fn finish(mut self) -> anyhow::Result<()> {
        match self.to.flush() {
            Err(error) if self.is_pipe && error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed.with_context(|| format!("cannot write to {}", self.name)),
        }
    }
}
