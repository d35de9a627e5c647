//! Values of a workflow file that may hold expressions, and their evaluation.
//!
//! The shape is the official runner's template token (actions/runner
//! `Sdk/DTObjectTemplating/ObjectTemplating/Tokens`), so that a template lowers to the wire one to one.

use std::sync::Arc;

use thiserror::Error;

use crate::expression::{Expression, Object, Scope, Value};

#[cfg(test)]
mod tests;

/// Deepest nesting evaluated.
const MAX_DEPTH: usize = 50;
/// Most nodes evaluated in one call, those of expression results included.
const MAX_EVENTS: usize = 1_000_000;
/// Largest result, in bytes of text plus [`NODE_COST`] for each node.
const MAX_BYTES: usize = 10 * 1024 * 1024;
const NODE_COST: usize = 24;

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// What it is.
    pub kind: Kind,
    /// Line in its file, from 1; 0 is unknown.
    pub line: u32,
    /// Column in its file, from 1; 0 is unknown.
    pub column: u32,
}

/// What a [`Template`] is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Literal text; `${{` in it has no meaning.
    String(String),
    /// List.
    Sequence(Vec<Template>),
    /// Mapping in order; a key may be an expression or [`Kind::Insert`].
    Mapping(Vec<(Template, Template)>),
    /// Text of an expression, without `${{ }}`.
    Expression(String),
    /// The key `${{ insert }}`: its value is a mapping that is merged in place.
    Insert,
    /// Literal.
    Bool(bool),
    /// Literal.
    Number(f64),
    /// Literal.
    Null,
}

impl Template {
    /// A template without a place.
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        Self { kind, line: 0, column: 0 }
    }

    /// Literal text.
    #[must_use]
    pub fn string(text: impl Into<String>) -> Self {
        Self::new(Kind::String(text.into()))
    }

    /// An expression.
    #[must_use]
    pub fn expression(text: impl Into<String>) -> Self {
        Self::new(Kind::Expression(text.into()))
    }

    /// A mapping.
    #[must_use]
    pub const fn mapping(entries: Vec<(Self, Self)>) -> Self {
        Self::new(Kind::Mapping(entries))
    }

    /// The value under a literal key of a mapping, compared without case.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Kind::Mapping(entries) = &self.kind else { return None };
        entries
            .iter()
            .find(|(known, _)| matches!(&known.kind, Kind::String(text) if text.eq_ignore_ascii_case(key)))
            .map(|(_, value)| value)
    }

    /// The literal text, if it is that.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(text) => Some(text),
            _ => None,
        }
    }

    /// True if an expression stands anywhere in it.
    #[must_use]
    pub fn has_expression(&self) -> bool {
        match &self.kind {
            Kind::Expression(_) | Kind::Insert => true,
            Kind::Sequence(items) => items.iter().any(Self::has_expression),
            Kind::Mapping(entries) => entries.iter().any(|(key, value)| key.has_expression() || value.has_expression()),
            Kind::String(_) | Kind::Bool(_) | Kind::Number(_) | Kind::Null => false,
        }
    }
}

/// Why a template has no value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Error {
    /// What is wrong, with the expression.
    pub message: String,
    /// Line in the template's file; 0 is unknown.
    pub line: u32,
    /// Column in the template's file; 0 is unknown.
    pub column: u32,
}

/// Evaluates a template.
///
/// Limits are those of the official runner: 50 levels, 1,000,000 nodes, 10 MiB
/// (actions/runner `Sdk/DTPipelines/Pipelines/ObjectTemplating/PipelineTemplateEvaluator.cs`).
///
/// # Errors
/// The first expression that fails, a `${{ insert }}` of something that is no mapping, a key that is defined twice, or
/// a limit.
pub fn evaluate(template: &Template, scope: &dyn Scope) -> Result<Value, Error> {
    Evaluation { scope, events: 0, bytes: 0 }.evaluate(template, 0)
}

struct Evaluation<'a> {
    scope: &'a dyn Scope,
    events: usize,
    bytes: usize,
}

impl Evaluation<'_> {
    fn evaluate(&mut self, template: &Template, depth: usize) -> Result<Value, Error> {
        self.spend(template, 0, depth)?;
        match &template.kind {
            Kind::Null => Ok(Value::Null),
            Kind::Bool(value) => Ok(Value::Bool(*value)),
            Kind::Number(value) => Ok(Value::Number(*value)),
            Kind::String(text) => {
                self.spend(template, text.len(), depth)?;
                Ok(Value::string(text.as_str()))
            }
            Kind::Expression(text) => self.expression(template, text, depth),
            Kind::Insert => Err(fail(template, "`${{ insert }}` may only be used as a key")),
            Kind::Sequence(items) => {
                let items: Result<Vec<Value>, Error> =
                    items.iter().map(|item| self.evaluate(item, depth + 1)).collect();
                Ok(Value::array(items?))
            }
            Kind::Mapping(entries) => self.mapping(entries, depth),
        }
    }

    fn expression(&mut self, template: &Template, text: &str, depth: usize) -> Result<Value, Error> {
        let expression =
            Expression::parse(text).map_err(|error| fail(template, format!("`{text}`: {}", error.message)))?;
        let value = expression.evaluate(self.scope).map_err(|error| fail(template, format!("`{text}`: {error}")))?;
        self.measure(template, &value, depth)?;
        Ok(value)
    }

    fn mapping(&mut self, entries: &[(Template, Template)], depth: usize) -> Result<Value, Error> {
        let mut object = Object::new();
        for (key, value) in entries {
            if key.kind == Kind::Insert {
                match self.evaluate(value, depth + 1)? {
                    Value::Object(inserted) => {
                        for (name, item) in inserted.iter() {
                            define(&mut object, key, name, item.clone())?;
                        }
                    }
                    Value::Null => {}
                    other => {
                        let message = format!("`${{{{ insert }}}}` needs a mapping, not {}", article(&other));
                        return Err(fail(key, message));
                    }
                }
                continue;
            }
            let name = self.evaluate(key, depth + 1)?;
            if !name.is_primitive() {
                return Err(fail(key, format!("a key must be text, not {}", article(&name))));
            }
            let item = self.evaluate(value, depth + 1)?;
            define(&mut object, key, &name.to_text(), item)?;
        }
        Ok(Value::Object(Arc::new(object)))
    }

    fn measure(&mut self, template: &Template, value: &Value, depth: usize) -> Result<(), Error> {
        match value {
            Value::String(text) => self.spend(template, text.len(), depth),
            Value::Array(items) => {
                self.spend(template, 0, depth)?;
                items.iter().try_for_each(|item| self.measure(template, item, depth + 1))
            }
            Value::Object(object) => {
                self.spend(template, 0, depth)?;
                object.iter().try_for_each(|(key, item)| {
                    self.spend(template, key.len(), depth)?;
                    self.measure(template, item, depth + 1)
                })
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => self.spend(template, 0, depth),
        }
    }

    fn spend(&mut self, template: &Template, bytes: usize, depth: usize) -> Result<(), Error> {
        self.events += 1;
        self.bytes = self.bytes.saturating_add(bytes + NODE_COST);
        if depth > MAX_DEPTH {
            return Err(fail(template, format!("the value is nested more than {MAX_DEPTH} levels deep")));
        }
        if self.events > MAX_EVENTS {
            return Err(fail(template, format!("the value has more than {MAX_EVENTS} parts")));
        }
        if self.bytes > MAX_BYTES {
            return Err(fail(template, format!("the value is larger than {MAX_BYTES} bytes")));
        }
        Ok(())
    }
}

fn define(object: &mut Object, place: &Template, key: &str, value: Value) -> Result<(), Error> {
    if object.contains_key(key) {
        return Err(fail(place, format!("the key `{key}` is defined twice")));
    }
    object.insert(key, value);
    Ok(())
}

fn fail(template: &Template, message: impl Into<String>) -> Error {
    Error { message: message.into(), line: template.line, column: template.column }
}

/// The kind of a value with its article, for messages.
pub(crate) fn article(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Array(_) | Value::Object(_) => format!("an {}", value.kind()),
        _ => format!("a {}", value.kind()),
    }
}
