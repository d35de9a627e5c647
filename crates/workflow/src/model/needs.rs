//! `needs`: the graph of jobs.

use std::collections::HashMap;

use super::{Job, Reader, spelling};
use crate::diagnostic::Diagnostic;
use crate::span::Span;
use crate::yaml::{Kind, Node};

/// Most cycles reported; mending one often mends others.
const MAX_CYCLES: usize = 10;
/// Most jobs of a cycle that are named.
const NAMED: usize = 20;

/// A job's `needs` as written, with places.
pub(crate) type Written = Vec<(String, Span)>;

impl Reader<'_> {
    /// The names in a `needs`.
    pub(crate) fn needs(&mut self, node: Option<&Node>) -> Written {
        let Some(node) = node.filter(|node| !node.is_null()) else { return Vec::new() };
        let items = match &node.kind {
            Kind::Scalar(_) => std::slice::from_ref(node),
            Kind::Sequence(items) => items.as_slice(),
            Kind::Mapping(_) => {
                self.wrong_type(node, "`needs`", "a job id or a list of job ids");
                return Vec::new();
            }
        };
        items.iter().filter_map(|item| Some((self.literal(item, "an entry of `needs`")?, item.span))).collect()
    }

    /// Resolves `needs` against the jobs and reports unknown ones, self-references and cycles.
    ///
    /// Every workflow without those has a job that needs nothing, so that need not be looked at.
    pub(crate) fn resolve_needs(&mut self, jobs: &mut [Job], written: &[Written], all_ids: &[String]) {
        let index: HashMap<String, usize> =
            jobs.iter().enumerate().map(|(number, job)| (job.id.to_lowercase(), number)).collect();
        let mut edges: Vec<Vec<(usize, Span)>> = vec![Vec::new(); jobs.len()];
        for (number, needs) in written.iter().enumerate() {
            for (name, span) in needs {
                match index.get(&name.to_lowercase()) {
                    Some(other) if *other == number => {
                        let message = format!("the job `{}` needs itself", jobs[number].id);
                        self.report(Diagnostic::error("needs-cycle", *span, message).remedy("remove it from `needs`"));
                    }
                    Some(other) if edges[number].iter().any(|(known, _)| known == other) => {}
                    Some(other) => edges[number].push((*other, *span)),
                    // A job with errors of its own is not among the jobs, but its name is known.
                    None if all_ids.iter().any(|id| id.eq_ignore_ascii_case(name)) => {}
                    None => {
                        let message = format!("the job `{}` needs `{name}`, which is no job here", jobs[number].id);
                        let remedy = spelling::remedy(name, all_ids.iter().map(String::as_str), "jobs");
                        self.report(Diagnostic::error("unknown-need", *span, message).remedy(remedy));
                    }
                }
            }
        }
        for cycle in cycles(&edges) {
            let mut names: Vec<String> =
                cycle.iter().take(NAMED).map(|(job, _)| format!("`{}`", jobs[*job].id)).collect();
            if cycle.len() > NAMED {
                names.push(format!("{} more", cycle.len() - NAMED));
            }
            let message = format!("`needs` goes round in a circle: {} → {}", names.join(" → "), names[0]);
            let mut finding = Diagnostic::error("needs-cycle", cycle[0].1, message)
                .remedy("remove one of these, so that one job can start first");
            for (job, span) in cycle[1..].iter().take(NAMED) {
                finding = finding.note_at(*span, format!("`{}` continues the circle here", jobs[*job].id));
            }
            self.report(finding);
        }
        for (number, needs) in edges.into_iter().enumerate() {
            let names: Vec<String> = needs.into_iter().map(|(other, _)| jobs[other].id.clone()).collect();
            jobs[number].needs = names;
        }
    }
}

/// One cycle for each place where a walk comes back to a job on its own path; each begins at its first job in file
/// order and names, for each job, the place of the need that leads on.
fn cycles(edges: &[Vec<(usize, Span)>]) -> Vec<Vec<(usize, Span)>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        OnPath,
        Done,
    }
    let mut marks = vec![Mark::New; edges.len()];
    let mut found = Vec::new();
    for start in 0..edges.len() {
        if marks[start] != Mark::New {
            continue;
        }
        // (job, next edge to follow)
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        marks[start] = Mark::OnPath;
        while let Some((job, next)) = path.last_mut() {
            let Some((other, _)) = edges[*job].get(*next).copied() else {
                marks[*job] = Mark::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match marks[other] {
                Mark::Done => {}
                Mark::New => {
                    marks[other] = Mark::OnPath;
                    path.push((other, 0));
                }
                Mark::OnPath => {
                    let from = path.iter().position(|(job, _)| *job == other).unwrap_or_default();
                    let mut cycle: Vec<(usize, Span)> =
                        path[from..].iter().map(|(job, next)| (*job, edges[*job][next - 1].1)).collect();
                    let first = cycle.iter().enumerate().min_by_key(|(_, (job, _))| *job).map_or(0, |(at, _)| at);
                    cycle.rotate_left(first);
                    found.push(cycle);
                    if found.len() == MAX_CYCLES {
                        return found;
                    }
                }
            }
        }
    }
    found
}
