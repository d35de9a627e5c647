//! From the command line's words to a submission.

use std::collections::BTreeMap;
use std::path::Path;

use anstream::eprint;
use anyhow::Context;
use startline_client::ApiClient;
use startline_protocol::problem::kind;
use startline_protocol::runs_api::{RunDetail, SubmitRequest};
use startline_workflow::model::{self, FileName, Finding};

use super::given::{Given, Read, pairs};
use super::tree::{Tree, git};
use crate::cli::Submission;
use crate::exit::{Nothing, Usage};
use crate::render::style::{RESET, YELLOW};

/// A workflow file that compiles, and what is to be done with it.
pub(crate) struct Prepared {
    pub request: SubmitRequest,
    /// The work tree that the file belongs to.
    pub tree: Tree,
    /// Files with values that were read.
    pub files: Vec<Read>,
}

/// Where the job's values come from besides flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usual {
    /// From files with the usual names, too.
    Read,
    /// From files that are named.
    Ignored,
}

/// Reads and checks everything that can be checked before anything is started. `None` when the workflow has mistakes:
/// they were printed.
pub(crate) fn prepare(args: &Submission, usual: Usual) -> anyhow::Result<Option<Prepared>> {
    let source = read(&args.file)?;
    let tree = Tree::ask(&args.file)?.told();
    let root = tree.root.clone();
    let absolute = std::fs::canonicalize(&args.file).unwrap_or_else(|_| args.file.clone());
    let path = absolute.strip_prefix(&root).unwrap_or(&args.file).display().to_string();
    let Some(files) = called(&source, &path, &root, args) else { return Ok(None) };
    let given = Given::read(args, (usual == Usual::Read).then_some(root.as_path()))?;
    for warning in &given.warnings {
        eprint!("{YELLOW}warning{RESET}: {warning}\n");
    }
    let event = match &args.event_file {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the event file {}", file.display()))?;
            let value = serde_json::from_str(&text)
                .map_err(|error| Usage(format!("the event file {} is not JSON: {error}", file.display())))?;
            Some(value)
        }
        None => None,
    };
    let event = with_default_branch(event, &root);
    let mut matrix: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in pairs("--matrix", &args.matrix)? {
        matrix.entry(key).or_default().push(value);
    }
    let request = SubmitRequest {
        workflow: source,
        files,
        path: Some(path),
        repository: Some(args.repository.clone().unwrap_or_else(|| local_name(&root))),
        event_name: args.event.clone(),
        event,
        git_ref: tree.git_ref.clone(),
        sha: tree.sha.clone(),
        actor: tree.actor.clone(),
        inputs: given.inputs,
        secrets: given.secrets,
        variables: given.variables,
        env: given.env,
        job: args.job.clone(),
        matrix,
        untrusted: false,
        only_if_triggered: args.if_triggered,
        changed_files: (!args.changed.is_empty()).then(|| args.changed.clone()),
    };
    Ok(Some(Prepared { request, tree, files: given.files }))
}

/// The files of the repository that the workflow calls, directly or indirectly; those of other repositories are left to
/// the service. `None` when something is wrong with any of them, or with the workflow itself: that was printed.
fn called(source: &str, path: &str, root: &Path, args: &Submission) -> Option<BTreeMap<String, String>> {
    let name = FileName::local(path);
    let mut files: BTreeMap<FileName, String> = BTreeMap::new();
    loop {
        let mut linked = model::link(source, &name, &files);
        let mut read = 0;
        for (file, (caller, span)) in linked.missing.iter().filter(|(file, _)| file.repository.is_none()) {
            match self::read(&root.join(&file.path)) {
                Ok(text) => {
                    files.insert(file.clone(), text);
                    read += 1;
                }
                Err(error) => linked.findings.push(model::absent(file, caller, *span, &format!("{error:#}"))),
            }
        }
        if read > 0 {
            continue;
        }
        let wrong = linked.findings.iter().any(|finding| finding.diagnostic.is_error());
        report(&linked.findings, |file| {
            if *file == name {
                return (source, args.file.display().to_string());
            }
            (files.get(file).map_or("", String::as_str), shown(&root.join(&file.path)))
        });
        let texts = files.into_iter().map(|(name, text)| (name.to_string(), text)).collect();
        return (!wrong).then_some(texts);
    }
}

/// A path as people write it: from where they are.
pub(crate) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(std::fs::canonicalize).ok();
    here.and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path).display().to_string()
}

fn report<'a>(findings: &[Finding], file: impl Fn(&FileName) -> (&'a str, String)) {
    let mut wrong: BTreeMap<String, usize> = BTreeMap::new();
    for Finding { file: name, diagnostic } in findings {
        let (source, path) = file(name);
        // anstream takes the colours out again where they are not wanted.
        eprint!("{}\n", diagnostic.render(source, &path, true));
        if diagnostic.is_error() {
            *wrong.entry(path).or_default() += 1;
        }
    }
    let counted = |(path, errors): (&String, &usize)| {
        format!("{errors} mistake{} in {path}", if *errors == 1 { "" } else { "s" })
    };
    if !wrong.is_empty() {
        eprint!("{}; nothing was started\n", wrong.iter().map(counted).collect::<Vec<_>>().join(", "));
    }
}

/// Submits; what the service finds wrong with the request is a mistake of the command line.
pub(crate) async fn submit(client: &ApiClient, request: &SubmitRequest) -> anyhow::Result<RunDetail> {
    client.submit_run(request).await.map_err(|error| match error.problem() {
        Some(problem) if problem.kind == kind::NOT_TRIGGERED => Nothing(problem.title.clone()).into(),
        Some(problem) if problem.status == 422 => {
            let detail = problem.detail.as_deref().map(|detail| format!("; {detail}")).unwrap_or_default();
            Usage(format!("{}{detail}", problem.title)).into()
        }
        _ => error.into(),
    })
}

/// A file far larger than any workflow is not worth reading whole.
const READ_LIMIT: u64 = 64 * 1024 * 1024;

fn read(file: &Path) -> anyhow::Result<String> {
    let size = std::fs::metadata(file)
        .map_err(|error| Usage(format!("cannot read the workflow file {}: {error}", file.display())))?
        .len();
    if size > READ_LIMIT {
        return Err(Usage(format!("{} has {size} bytes; a workflow file has at most 1 MiB", file.display())).into());
    }
    let bytes = std::fs::read(file)
        .map_err(|error| Usage(format!("cannot read the workflow file {}: {error}", file.display())))?;
    Ok(String::from_utf8(bytes).map_err(|error| {
        Usage(format!("{} is not UTF-8 at byte {}", file.display(), error.utf8_error().valid_up_to()))
    })?)
}

/// The event with the branch that the repository was cloned from, which the service cannot know; a body that says one
/// stays as it is.
fn with_default_branch(event: Option<serde_json::Value>, root: &Path) -> Option<serde_json::Value> {
    let Some(head) = git(root, &["symbolic-ref", "-q", "--short", "refs/remotes/origin/HEAD"]) else { return event };
    let branch = head.strip_prefix("origin/").unwrap_or(&head);
    let mut event = event.unwrap_or_else(|| serde_json::json!({}));
    if let Some(body) = event.as_object_mut()
        && let Some(repository) = body.entry("repository").or_insert_with(|| serde_json::json!({})).as_object_mut()
    {
        repository.entry("default_branch").or_insert_with(|| branch.into());
    }
    Some(event)
}

/// `local/<directory>`, with everything replaced that a repository's name may not hold.
fn local_name(root: &Path) -> String {
    let name = root.file_name().and_then(|name| name.to_str()).unwrap_or("workspace");
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' }).collect();
    match name.as_str() {
        "" | "." | ".." => "local/workspace".to_owned(),
        name => format!("local/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_becomes_a_repository_name() {
        assert_eq!(local_name(Path::new("/home/me/my app")), "local/my-app");
        assert_eq!(local_name(Path::new("/")), "local/workspace");
    }
}
