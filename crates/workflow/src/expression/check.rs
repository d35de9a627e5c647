//! Checks that need no values: are the names known, available here, and called with the right number of arguments.

use super::node::{Kind, Node};

/// What a place in a workflow lets expressions use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed<'a> {
    /// Names of contexts.
    pub contexts: &'a [&'a str],
    /// Functions beyond those always available: `success`, `failure`, `cancelled`, `always`, `hashFiles`. A name may
    /// carry its argument counts as GitHub's workflow schema writes them: `success(0,MAX)` for a job's `if`.
    pub functions: &'a [&'a str],
}

/// One finding of [`super::Expression::check`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct CheckError {
    /// Where the name begins, in bytes of the expression's text.
    pub offset: usize,
    /// How many bytes the name has.
    pub length: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

pub(super) const STATUS_FUNCTIONS: [&str; 4] = ["success", "failure", "cancelled", "always"];

const CONTEXTS: [&str; 12] =
    ["github", "env", "vars", "job", "jobs", "steps", "runner", "secrets", "strategy", "matrix", "needs", "inputs"];

/// A function's name and how many arguments it takes.
#[derive(Clone, Copy)]
struct Signature<'a> {
    name: &'a str,
    least: usize,
    most: usize,
}

/// actions/runner src/Sdk/Expressions/ExpressionConstants.cs; names in GitHub's documented spelling.
const BUILT_IN: [Signature<'static>; 8] = [
    signature("case", 3, 255),
    signature("contains", 2, 2),
    signature("endsWith", 2, 2),
    signature("format", 1, 255),
    signature("fromJSON", 1, 1),
    signature("join", 1, 2),
    signature("startsWith", 2, 2),
    signature("toJSON", 1, 1),
];

/// Functions the scope provides, with the counts of steps' `if` and `hashFiles` (workflow-v1.0.json).
const PROVIDED: [Signature<'static>; 5] = [
    signature("success", 0, 0),
    signature("failure", 0, 0),
    signature("cancelled", 0, 0),
    signature("always", 0, 0),
    signature("hashFiles", 1, 255),
];

const fn signature(name: &str, least: usize, most: usize) -> Signature<'_> {
    Signature { name, least, most }
}

impl Signature<'_> {
    /// Why the number of arguments is wrong, if it is.
    fn complaint(&self, given: usize) -> Option<String> {
        if (self.least..=self.most).contains(&given) && !(self.name == "case" && given.is_multiple_of(2)) {
            return None;
        }
        let takes = match (self.least, self.most) {
            _ if self.name == "case" => {
                "an odd number of arguments from 3: condition and value in turn, then a default".to_owned()
            }
            (0, 0) => "no arguments".to_owned(),
            (1, 1) => "1 argument".to_owned(),
            (least, most) if least == most => format!("{least} arguments"),
            (least, 255..) => format!("{least} or more arguments"),
            (least, most) => format!("{least} to {most} arguments"),
        };
        Some(takes)
    }
}

/// Checks a call of a built-in function at evaluation; `None` when it is not built in or the count is right.
pub(super) fn wrong_argument_count(name: &str, given: usize) -> Option<String> {
    BUILT_IN.iter().find(|known| known.name.eq_ignore_ascii_case(name))?.complaint(given)
}

pub(super) fn check(root: &Node, allowed: &Allowed<'_>) -> Vec<CheckError> {
    let functions: Vec<Signature<'_>> =
        BUILT_IN.into_iter().chain(allowed.functions.iter().map(|declared| read_signature(declared))).collect();
    let mut errors = Vec::new();
    root.walk(&mut |node| match &node.kind {
        Kind::Context(name) => errors.extend(check_context(name, node.offset, allowed, &functions)),
        Kind::Call { name, arguments } => {
            errors.extend(check_call(name, arguments.len(), node.offset, allowed, &functions));
        }
        _ => {}
    });
    errors
}

/// Reads `name` or `name(least,most)`.
fn read_signature(declared: &str) -> Signature<'_> {
    let (name, counts) = declared.split_once('(').unwrap_or((declared, ""));
    let counts = counts.trim_end_matches(')').split_once(',');
    let known = PROVIDED.iter().find(|known| known.name.eq_ignore_ascii_case(name));
    let (least, most) = match counts {
        Some((least, most)) => (least.trim().parse().unwrap_or(0), most.trim().parse().unwrap_or(255)),
        None => known.map_or((0, 255), |known| (known.least, known.most)),
    };
    Signature { name: known.map_or(name, |known| known.name), least, most }
}

fn check_context(name: &str, offset: usize, allowed: &Allowed<'_>, functions: &[Signature<'_>]) -> Option<CheckError> {
    if contains(allowed.contexts, name) {
        return None;
    }
    let (message, remedy) = if contains(&CONTEXTS, name) {
        (format!("the context '{name}' is not available here"), available("contexts", allowed.contexts))
    } else {
        (format!("unknown context '{name}'"), unknown_context_remedy(name, allowed, functions))
    };
    Some(CheckError { offset, length: name.len(), message, remedy })
}

fn unknown_context_remedy(name: &str, allowed: &Allowed<'_>, functions: &[Signature<'_>]) -> String {
    if let Some(literal) = ["true", "false", "null"].into_iter().find(|literal| literal.eq_ignore_ascii_case(name)) {
        return format!("write {literal} in lower case");
    }
    if let Some(function) = functions.iter().find(|function| function.name.eq_ignore_ascii_case(name)) {
        return format!("to call the function write {}()", function.name);
    }
    match nearest(name, allowed.contexts.iter().copied()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("put text in single quotes: '{name}'; {}", available("contexts", allowed.contexts)),
    }
}

fn check_call(
    name: &str,
    given: usize,
    offset: usize,
    allowed: &Allowed<'_>,
    functions: &[Signature<'_>],
) -> Option<CheckError> {
    let (message, remedy) = match functions.iter().find(|function| function.name.eq_ignore_ascii_case(name)) {
        Some(function) => {
            let takes = function.complaint(given)?;
            (format!("{} got {}", function.name, count(given)), format!("it takes {takes}"))
        }
        None if PROVIDED.iter().any(|known| known.name.eq_ignore_ascii_case(name)) => {
            let names: Vec<&str> = functions.iter().map(|function| function.name).collect();
            (format!("the function '{name}' is not available here"), available("functions", &names))
        }
        None => {
            let names: Vec<&str> = functions.iter().map(|function| function.name).collect();
            let remedy = if contains(allowed.contexts, name) {
                format!("'{name}' is a context: write {name}.property or {name}['property']")
            } else {
                match nearest(name, names.iter().copied()) {
                    Some(near) => format!("did you mean '{near}'?"),
                    None => available("functions", &names),
                }
            };
            (format!("unknown function '{name}'"), remedy)
        }
    };
    Some(CheckError { offset, length: name.len(), message, remedy })
}

fn count(given: usize) -> String {
    match given {
        0 => "no arguments".to_owned(),
        1 => "1 argument".to_owned(),
        _ => format!("{given} arguments"),
    }
}

fn contains(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn available(what: &str, names: &[&str]) -> String {
    if names.is_empty() {
        format!("no {what} are available here")
    } else {
        format!("available {what}: {}", names.join(", "))
    }
}

/// The candidate the fewest edits away, if it is near enough to be a typo.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.len() / 3).clamp(1, 3);
    candidates
        .map(|candidate| (edits(&name.to_ascii_lowercase(), &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours between two short names.
fn edits(left: &str, right: &str) -> usize {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len().abs_diff(right.len()) > 3 {
        return usize::MAX;
    }
    let mut before_last = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i; right.len() + 1];
        for j in 1..=right.len() {
            let replaced = last[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}
