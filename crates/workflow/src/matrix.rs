//! `strategy` to combinations: cross product, `exclude`, `include`.
//!
//! The rules are those of actions/runner `Sdk/WorkflowParser/Conversion/MatrixBuilder.cs`, and the conversion of
//! `strategy` those of `WorkflowTemplateConverter.ConvertToStrategy`.

use thiserror::Error;

use crate::expression::{Object, Value};
use crate::template::article;

#[cfg(test)]
mod tests;

/// Most jobs that one matrix may make.
pub const MAX_COMBINATIONS: usize = 256;
/// Largest cross product that is walked; `exclude` could bring it below [`MAX_COMBINATIONS`].
const MAX_PRODUCT: usize = 16_384;
/// Most comparisons of a combination with an entry of `include` or `exclude`: the planner expands matrices while others
/// wait for it.
const MAX_COMPARISONS: usize = 500_000;
/// Longest display name of a job, in characters.
const MAX_NAME: usize = 100;

/// An evaluated `strategy`.
#[derive(Clone, Debug, PartialEq)]
pub struct Strategy {
    /// Whether the first failure cancels the others; default true.
    pub fail_fast: bool,
    /// Most jobs that run at once; none is no limit.
    pub max_parallel: Option<u32>,
    /// The combinations in order; empty means one job without a matrix.
    pub combinations: Vec<Combination>,
}

impl Default for Strategy {
    fn default() -> Self {
        Self { fail_fast: true, max_parallel: None, combinations: Vec::new() }
    }
}

/// One job of a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Combination {
    /// The `matrix` context.
    pub values: Value,
    /// What the display name shows of it.
    pub labels: Vec<String>,
}

/// A step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Under a key.
    Key(String),
    /// An item of a list.
    Index(usize),
}

/// What is wrong with a `strategy`, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Problem {
    /// Where, from `strategy`.
    pub path: Vec<Step>,
    /// What is wrong.
    pub message: String,
}

/// The display name of a job of a matrix: `base (label, label)`, at most 100 characters
/// (actions/runner `Sdk/WorkflowParser/Conversion/JobNameBuilder.cs`).
#[must_use]
pub fn display_name(base: &str, labels: &[String]) -> String {
    let name = if labels.is_empty() { base.to_owned() } else { format!("{base} ({})", labels.join(", ")) };
    if name.chars().count() <= MAX_NAME {
        return name;
    }
    name.chars().take(MAX_NAME - 3).chain("...".chars()).collect()
}

/// Expands an evaluated `strategy` (null when the job has none).
///
/// Combinations come in the order of the cross product, the first key slowest, then entries of `include` that matched
/// none. When all is excluded there is no combination, which means one job without a matrix.
///
/// # Errors
/// Everything that is wrong with it.
pub fn expand(strategy: &Value) -> Result<Strategy, Vec<Problem>> {
    let mut builder = Builder::default();
    let result = builder.strategy(strategy);
    if builder.problems.is_empty() { Ok(result) } else { Err(builder.problems) }
}

#[derive(Default)]
struct Builder {
    problems: Vec<Problem>,
}

/// An entry of `include`.
struct Include<'a> {
    /// Keys that are vectors too: all must match.
    filter: Vec<(&'a str, &'a Value)>,
    /// The rest: added to each match.
    extras: Vec<(&'a str, &'a Value)>,
    matched: bool,
}

impl Builder {
    fn problem(&mut self, path: &[Step], message: impl Into<String>) {
        self.problems.push(Problem { path: path.to_vec(), message: message.into() });
    }

    fn strategy(&mut self, value: &Value) -> Strategy {
        let mut strategy = Strategy::default();
        let object = match value {
            Value::Null => return strategy,
            Value::Object(object) => object,
            other => {
                self.problem(&[], format!("`strategy` must be a mapping, not {}", article(other)));
                return strategy;
            }
        };
        for (key, value) in object.iter() {
            let path = [Step::Key(key.to_owned())];
            match (key, value) {
                ("fail-fast", Value::Bool(fail_fast)) => strategy.fail_fast = *fail_fast,
                ("fail-fast", other) => {
                    self.problem(&path, format!("`fail-fast` must be `true` or `false`, not {}", article(other)));
                }
                ("max-parallel", Value::Number(number)) => match whole(*number) {
                    // The official converter takes zero for no limit.
                    Some(0) => strategy.max_parallel = None,
                    Some(limit) => strategy.max_parallel = Some(limit),
                    None => self.problem(&path, "`max-parallel` must be a whole number that is not negative"),
                },
                ("max-parallel", other) => {
                    self.problem(&path, format!("`max-parallel` must be a number, not {}", article(other)));
                }
                ("matrix", Value::Object(matrix)) => strategy.combinations = self.matrix(matrix),
                ("matrix", other) => {
                    self.problem(&path, format!("`matrix` must be a mapping, not {}", article(other)));
                }
                _ => self.problem(&path, format!("unknown key `{key}` in `strategy`")),
            }
        }
        strategy
    }

    fn matrix(&mut self, matrix: &Object) -> Vec<Combination> {
        let path = |rest: &[Step]| [&[Step::Key("matrix".to_owned())], rest].concat();
        let mut vectors: Vec<(&str, &[Value])> = Vec::new();
        let mut has_vector = false;
        for (key, value) in matrix.iter().filter(|(key, _)| !matches!(*key, "include" | "exclude")) {
            has_vector = true;
            let place = path(&[Step::Key(key.to_owned())]);
            match value.as_array() {
                Some([]) => self.problem(&place, format!("the matrix key `{key}` has no values")),
                Some(items) => vectors.push((key, items)),
                None => self.problem(&place, format!("the matrix key `{key}` must be a list, not {}", article(value))),
            }
        }
        let includes = self.entries(matrix, "include");
        let excludes = self.entries(matrix, "exclude");
        if !has_vector && includes.is_empty() {
            self.problem(&path(&[]), "the matrix needs at least one key with values, or an `include`");
        }
        let before = self.problems.len();
        for (index, exclude) in excludes.iter().enumerate() {
            let place = |rest: &[Step]| path(&[&[Step::Key("exclude".to_owned()), Step::Index(index)], rest].concat());
            if exclude.is_empty() {
                self.problem(&place(&[]), "an entry of `exclude` must not be empty");
            }
            for key in exclude.keys().filter(|key| !matrix.contains_key(key) || matches!(*key, "include" | "exclude")) {
                let message = format!("`exclude` names `{key}`, which is not a key of the matrix");
                self.problem(&place(&[Step::Key(key.to_owned())]), message);
            }
        }
        for (index, _) in includes.iter().enumerate().filter(|(_, include)| include.is_empty()) {
            let place = path(&[Step::Key("include".to_owned()), Step::Index(index)]);
            self.problem(&place, "an entry of `include` must not be empty");
        }
        if self.problems.len() > before {
            return Vec::new();
        }
        self.combine(&vectors, &includes, &excludes)
    }

    /// The mappings of `include` or `exclude`.
    fn entries<'a>(&mut self, matrix: &'a Object, name: &str) -> Vec<&'a Object> {
        let base = [Step::Key("matrix".to_owned()), Step::Key(name.to_owned())];
        let Some(value) = matrix.get(name) else { return Vec::new() };
        let Some(items) = value.as_array() else {
            self.problem(&base, format!("`{name}` must be a list of mappings, not {}", article(value)));
            return Vec::new();
        };
        let mut entries = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match item.as_object() {
                Some(entry) => entries.push(entry),
                None => {
                    let place = [&base[..], &[Step::Index(index)]].concat();
                    self.problem(&place, format!("an entry of `{name}` must be a mapping, not {}", article(item)));
                }
            }
        }
        entries
    }

    fn combine(
        &mut self,
        vectors: &[(&str, &[Value])],
        includes: &[&Object],
        excludes: &[&Object],
    ) -> Vec<Combination> {
        let path = [Step::Key("matrix".to_owned())];
        let is_vector = |key: &str| vectors.iter().any(|(vector, _)| vector.eq_ignore_ascii_case(key));
        let mut includes: Vec<Include<'_>> = includes
            .iter()
            .map(|entry| {
                let (filter, extras) = entry.iter().partition(|(key, _)| is_vector(key));
                Include { filter, extras, matched: false }
            })
            .collect();
        let product = vectors
            .iter()
            .try_fold(1_usize, |size, (_, values)| size.checked_mul(values.len()).filter(|size| *size <= MAX_PRODUCT));
        let Some(product) = product else {
            self.problem(&path, format!("the matrix makes more than {MAX_PRODUCT} combinations; {LIMIT}"));
            return Vec::new();
        };
        let product = if vectors.is_empty() { 0 } else { product };
        if product.saturating_mul(includes.len() + excludes.len()) > MAX_COMPARISONS {
            let entries = includes.len() + excludes.len();
            let message =
                format!("{product} combinations and {entries} entries of `include` and `exclude` are too many");
            self.problem(&path, format!("{message}; {LIMIT}"));
            return Vec::new();
        }
        let mut combinations = Vec::new();
        let mut count = 0_usize;
        for number in 0..product {
            let mut block = product;
            let mut values = Object::new();
            for (key, items) in vectors {
                block /= items.len();
                values.insert(*key, items[number / block % items.len()].clone());
            }
            if excludes.iter().any(|exclude| exclude.iter().all(|(key, filter)| matches(filter, values.get(key)))) {
                continue;
            }
            let labels = labels(&values);
            let mut extras: Vec<(&str, &Value)> = Vec::new();
            for include in &mut includes {
                if include.filter.iter().all(|(key, filter)| matches(filter, values.get(key))) {
                    include.matched = true;
                    extras.extend(&include.extras);
                }
            }
            count += 1;
            if count <= MAX_COMBINATIONS {
                for (key, value) in extras {
                    values.insert(key, value.clone());
                }
                combinations.push(Combination { values: values.into(), labels });
            }
        }
        for include in includes.iter().filter(|include| !include.matched) {
            count += 1;
            if count <= MAX_COMBINATIONS {
                let entries = include.filter.iter().chain(&include.extras);
                let values: Object = entries.map(|(key, value)| ((*key).to_owned(), (*value).clone())).collect();
                let labels = labels(&values);
                combinations.push(Combination { values: values.into(), labels });
            }
        }
        if count > MAX_COMBINATIONS {
            self.problem(&path, format!("the matrix makes {count} jobs; {LIMIT}"));
        }
        combinations
    }
}

const LIMIT: &str = "the limit is 256 jobs for one matrix: use fewer values, `exclude`, or several jobs";

/// Whether all leaves of a filter equal those of a value, loosely; what the filter does not name does not matter.
fn matches(filter: &Value, value: Option<&Value>) -> bool {
    match filter {
        Value::Object(object) => {
            object.iter().all(|(key, filter)| matches(filter, value.and_then(|value| value.get(key))))
        }
        Value::Array(items) => items.iter().enumerate().all(|(index, filter)| {
            matches(filter, value.and_then(Value::as_array).and_then(|values| values.get(index)))
        }),
        leaf => leaf.loose_eq(value.unwrap_or(&Value::Null)),
    }
}

/// The scalar leaves that have text, in order.
fn labels(values: &Object) -> Vec<String> {
    fn collect(value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Null => {}
            Value::Array(items) => items.iter().for_each(|item| collect(item, out)),
            Value::Object(object) => object.values().for_each(|item| collect(item, out)),
            scalar => {
                let text = scalar.to_text();
                if !text.is_empty() {
                    out.push(text.into_owned());
                }
            }
        }
    }
    let mut out = Vec::new();
    values.values().for_each(|value| collect(value, &mut out));
    out
}

/// A number as a count, if it is whole and not negative; a fraction is cut off, as the official converter does.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
pub(crate) fn whole(number: f64) -> Option<u32> {
    (number >= 0.0 && number <= f64::from(u32::MAX)).then_some(number as u32)
}
