//! Tree to value.

use super::check::wrong_argument_count;
use super::function;
use super::node::{Comparison, Kind, Node};
use super::value::{Object, Value};

/// The most bytes that the values one evaluation makes may hold at a time, so that a few nested calls of `format`,
/// `join` or `toJSON` cannot exhaust memory.
pub const MAX_RESULT_BYTES: usize = 10 * 1024 * 1024;

/// What an expression can see: contexts, status functions and `hashFiles`.
pub trait Scope {
    /// The value of a context; the name is in lower case. `None` fails the evaluation: answer `Value::Null` for a
    /// context that exists and is empty.
    fn context(&self, name: &str) -> Option<Value>;

    /// Calls a function that the language itself lacks; the name is in lower case (`hashfiles`). `None` means that
    /// there is none and fails the evaluation.
    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, EvalError>>;
}

/// An object is a scope without functions: each key is a context.
impl Scope for Object {
    fn context(&self, name: &str) -> Option<Value> {
        self.get(name).cloned()
    }

    fn call(&self, _name: &str, _arguments: &[Value]) -> Option<Result<Value, EvalError>> {
        None
    }
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The scope has no such context.
    #[error("unknown context '{name}'")]
    UnknownContext {
        /// The name as written.
        name: String,
    },
    /// Neither the language nor the scope has the function.
    #[error("unknown function '{name}'")]
    UnknownFunction {
        /// The name as written.
        name: String,
    },
    /// A built-in function was called with the wrong number of arguments.
    #[error("{name} takes {takes} and got {given}")]
    ArgumentCount {
        /// The function.
        name: String,
        /// How many it was given.
        given: usize,
        /// How many it takes, in words.
        takes: String,
    },
    /// The first argument of `format` is malformed.
    #[error("invalid format string '{format}': {reason}")]
    Format {
        /// The format string, shortened.
        format: String,
        /// What is wrong in it.
        reason: String,
    },
    /// The argument of `fromJSON` is not JSON.
    #[error("fromJSON: {reason} at line {line}, column {column}")]
    Json {
        /// What is wrong.
        reason: String,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
    },
    /// A condition of `case` is not a boolean.
    #[error("case: condition {position} is a {kind} and must be a boolean; compare it, for example with == true")]
    CaseCondition {
        /// Which condition, from 1.
        position: usize,
        /// What it is.
        kind: &'static str,
    },
    /// The values made would exceed [`MAX_RESULT_BYTES`].
    #[error("the result exceeds {} MiB", MAX_RESULT_BYTES / (1024 * 1024))]
    TooLarge,
    /// A function of the scope failed.
    #[error("{function}: {message}")]
    Function {
        /// The function.
        function: String,
        /// Why.
        message: String,
    },
}

impl EvalError {
    /// The failure of a function that a [`Scope`] provides.
    pub fn function(function: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Function { function: function.into(), message: message.into() }
    }
}

pub(super) fn evaluate(root: &Node, scope: &dyn Scope) -> Result<Value, EvalError> {
    let mut evaluator = Evaluator { scope, contexts: Vec::new(), budget: Budget::default() };
    evaluator.value(root)
}

/// Counts the bytes of values made and still held; strings and collections of contexts are shared and cost nothing.
#[derive(Default)]
pub(super) struct Budget {
    used: usize,
}

impl Budget {
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), EvalError> {
        self.used = self.used.saturating_add(bytes);
        if self.used > MAX_RESULT_BYTES { Err(EvalError::TooLarge) } else { Ok(()) }
    }

    /// Appends text and pays for it first.
    pub(super) fn push(&mut self, target: &mut String, text: &str) -> Result<(), EvalError> {
        self.charge(text.len())?;
        target.push_str(text);
        Ok(())
    }
}

pub(super) struct Evaluator<'a> {
    scope: &'a dyn Scope,
    /// Contexts already asked for, so that one evaluation sees one instance of each.
    contexts: Vec<(String, Value)>,
    pub(super) budget: Budget,
}

/// A value and whether a filter made it: then an index applies to each item in place of the array.
struct Outcome {
    value: Value,
    filtered: bool,
}

impl From<Value> for Outcome {
    fn from(value: Value) -> Self {
        Self { value, filtered: false }
    }
}

impl Evaluator<'_> {
    /// Evaluates a node to a plain value.
    pub(super) fn value(&mut self, node: &Node) -> Result<Value, EvalError> {
        Ok(self.outcome(node)?.value)
    }

    fn outcome(&mut self, node: &Node) -> Result<Outcome, EvalError> {
        let before = self.budget.used;
        match &node.kind {
            Kind::Literal(value) => Ok(value.clone().into()),
            Kind::Context(name) => Ok(self.context(name)?.into()),
            Kind::Call { name, arguments } => self.call(name, arguments, before),
            Kind::Index { target, index } => self.index(target, index),
            Kind::Filter(target) => self.filter(target),
            Kind::Not(operand) => {
                let value = self.value(operand)?;
                self.budget.used = before;
                Ok(Value::Bool(!value.truthy()).into())
            }
            Kind::Chain { all, operands } => self.chain(*all, operands),
            Kind::Compare { comparison, left, right } => {
                let left = self.value(left)?;
                let right = self.value(right)?;
                self.budget.used = before;
                Ok(Value::Bool(compare(*comparison, &left, &right)).into())
            }
        }
    }

    fn context(&mut self, written: &str) -> Result<Value, EvalError> {
        let name = written.to_ascii_lowercase();
        if let Some((_, value)) = self.contexts.iter().find(|(known, _)| *known == name) {
            return Ok(value.clone());
        }
        let value = self.scope.context(&name).ok_or_else(|| EvalError::UnknownContext { name: written.to_owned() })?;
        self.contexts.push((name, value.clone()));
        Ok(value)
    }

    /// `&&` gives the first falsy operand, `||` the first truthy one, both else the last.
    fn chain(&mut self, all: bool, operands: &[Node]) -> Result<Outcome, EvalError> {
        let before = self.budget.used;
        let (last, rest) = operands.split_last().expect("a chain has operands");
        for operand in rest {
            let outcome = self.outcome(operand)?;
            if outcome.value.truthy() != all {
                return Ok(outcome);
            }
            self.budget.used = before;
        }
        self.outcome(last)
    }

    fn call(&mut self, written: &str, arguments: &[Node], before: usize) -> Result<Outcome, EvalError> {
        let name = written.to_ascii_lowercase();
        if let Some(takes) = wrong_argument_count(&name, arguments.len()) {
            return Err(EvalError::ArgumentCount { name: written.to_owned(), given: arguments.len(), takes });
        }
        if name == "case" {
            return self.case(arguments);
        }
        let value = match function::call(self, &name, arguments)? {
            Some(value) => value,
            None => {
                let values = arguments.iter().map(|argument| self.value(argument)).collect::<Result<Vec<_>, _>>()?;
                self.scope
                    .call(&name, &values)
                    .unwrap_or_else(|| Err(EvalError::UnknownFunction { name: written.to_owned() }))?
            }
        };
        if value.is_primitive() {
            // What the arguments took is free again; a collection may share parts with them.
            self.budget.used = before;
            self.budget.charge(value.as_str().map_or(0, str::len))?;
        }
        Ok(value.into())
    }

    /// `case(condition, value, …, default)`; here and not among the functions because the result of a filter passes
    /// through it and stays one.
    fn case(&mut self, arguments: &[Node]) -> Result<Outcome, EvalError> {
        let (default, pairs) = arguments.split_last().expect("the count was checked");
        for (position, pair) in pairs.chunks_exact(2).enumerate() {
            match self.value(&pair[0])? {
                Value::Bool(true) => return self.outcome(&pair[1]),
                Value::Bool(false) => {}
                other => return Err(EvalError::CaseCondition { position: position + 1, kind: other.kind() }),
            }
        }
        self.outcome(default)
    }

    fn index(&mut self, target: &Node, index: &Node) -> Result<Outcome, EvalError> {
        let target = self.outcome(target)?;
        if target.value.is_primitive() {
            return Ok(Value::Null.into());
        }
        let index = self.value(index)?;
        let Outcome { value: Value::Array(items), filtered: true } = &target else {
            return Ok(item(&target.value, &index).cloned().unwrap_or_default().into());
        };
        let found: Vec<Value> = items.iter().filter_map(|value| item(value, &index)).cloned().collect();
        self.filtered(found)
    }

    fn filter(&mut self, target: &Node) -> Result<Outcome, EvalError> {
        let target = self.outcome(target)?;
        let mut found = Vec::new();
        match &target.value {
            Value::Array(items) if target.filtered => items.iter().for_each(|item| spread(item, &mut found)),
            value => spread(value, &mut found),
        }
        self.filtered(found)
    }

    fn filtered(&mut self, found: Vec<Value>) -> Result<Outcome, EvalError> {
        self.budget.charge(found.len().saturating_mul(size_of::<Value>()))?;
        Ok(Outcome { value: Value::array(found), filtered: true })
    }
}

/// What an index finds in one collection. An object takes any primitive as text, an array any as a number.
fn item<'a>(collection: &'a Value, index: &Value) -> Option<&'a Value> {
    match collection {
        Value::Object(object) if index.is_primitive() => object.get(&index.to_text()),
        Value::Array(items) => items.get(position(index.to_number())?),
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked first")]
fn position(number: f64) -> Option<usize> {
    (0.0..=f64::from(i32::MAX)).contains(&number).then_some(number as usize)
}

fn spread(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Array(items) => found.extend(items.iter().cloned()),
        Value::Object(object) => found.extend(object.values().cloned()),
        _ => {}
    }
}

fn compare(comparison: Comparison, left: &Value, right: &Value) -> bool {
    match comparison {
        Comparison::Equal => left.loose_eq(right),
        Comparison::NotEqual => !left.loose_eq(right),
        Comparison::Less => left.loose_cmp(right).is_some_and(std::cmp::Ordering::is_lt),
        Comparison::Greater => left.loose_cmp(right).is_some_and(std::cmp::Ordering::is_gt),
        // Equality counts on its own: it holds for two nulls and for one collection, which have no order.
        Comparison::LessOrEqual => left.loose_eq(right) || left.loose_cmp(right).is_some_and(std::cmp::Ordering::is_lt),
        Comparison::GreaterOrEqual => {
            left.loose_eq(right) || left.loose_cmp(right).is_some_and(std::cmp::Ordering::is_gt)
        }
    }
}
