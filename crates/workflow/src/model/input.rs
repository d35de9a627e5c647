//! `inputs` of `workflow_dispatch` and `workflow_call`, and the values given for them.

use std::collections::BTreeMap;

use thiserror::Error;

use super::place;
use super::{Reader, Trigger, Workflow, spelling};
use crate::diagnostic::Diagnostic;
use crate::expression::Value;
use crate::template::{Template, article};
use crate::yaml::{Entry, Literal, Node};

/// Most inputs of one `workflow_dispatch`.
const MAX_INPUTS: usize = 25;

/// An input.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// Name.
    pub name: String,
    /// `type`.
    pub kind: InputKind,
    /// `required`.
    pub required: bool,
    /// `default`, of the type of the input.
    pub default: Option<Value>,
    /// `default` of a called workflow's input where that is an expression.
    pub computed: Option<Template>,
    /// `options` of a choice.
    pub options: Vec<String>,
    /// `description`.
    pub description: Option<String>,
}

/// The type of an [`Input`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// `string`, the default.
    String,
    /// `boolean`.
    Boolean,
    /// `number`.
    Number,
    /// `choice`: one of `options`.
    Choice,
    /// `environment`: the name of one.
    Environment,
}

impl InputKind {
    const ALL: [(&'static str, Self); 5] = [
        ("string", Self::String),
        ("boolean", Self::Boolean),
        ("number", Self::Number),
        ("choice", Self::Choice),
        ("environment", Self::Environment),
    ];
}

/// A value that does not fit the inputs of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InputError {
    /// The workflow has no such input.
    #[error("unknown input `{name}`: {remedy}")]
    Unknown {
        /// Name given.
        name: String,
        /// What to do.
        remedy: String,
    },
    /// A required input without a default has no value.
    #[error("the input `{name}` is required and has no default")]
    Missing {
        /// Name.
        name: String,
    },
    /// A value is not of the type of its input.
    #[error("the input `{name}` cannot be `{value}`: {reason}")]
    Value {
        /// Name.
        name: String,
        /// Value given.
        value: String,
        /// What it should be.
        reason: String,
    },
}

/// The `inputs` context of a run that is started by hand with these values, typed as declared under
/// `on.workflow_dispatch.inputs`.
///
/// Names are compared without case. An input without value and default is `false`, 0, the first option of a choice, or
/// empty text.
///
/// # Errors
/// All values that do not fit, and all required inputs without a value.
pub fn resolve_inputs(workflow: &Workflow, given: &BTreeMap<String, String>) -> Result<Value, Vec<InputError>> {
    let declared = workflow.on.get("workflow_dispatch").map(|trigger| trigger.inputs.as_slice()).unwrap_or_default();
    let mut errors = Vec::new();
    for name in given.keys() {
        if !declared.iter().any(|input| input.name.eq_ignore_ascii_case(name)) {
            let remedy = if declared.is_empty() {
                "the workflow declares none under `on.workflow_dispatch.inputs`".to_owned()
            } else {
                spelling::remedy(name, declared.iter().map(|input| input.name.as_str()), "inputs")
            };
            errors.push(InputError::Unknown { name: name.clone(), remedy });
        }
    }
    let mut values = Vec::with_capacity(declared.len());
    for input in declared {
        let text = given.iter().find(|(name, _)| name.eq_ignore_ascii_case(&input.name)).map(|(_, text)| text);
        let value = match (text, &input.default) {
            (Some(text), _) => match input.coerce(text) {
                Ok(value) => value,
                Err(reason) => {
                    errors.push(InputError::Value { name: input.name.clone(), value: text.clone(), reason });
                    continue;
                }
            },
            (None, Some(default)) => default.clone(),
            (None, None) if input.required => {
                errors.push(InputError::Missing { name: input.name.clone() });
                continue;
            }
            (None, None) => input.empty(),
        };
        values.push((input.name.clone(), value));
    }
    if errors.is_empty() { Ok(Value::object(values)) } else { Err(errors) }
}

impl Input {
    /// The value that a called workflow gets, which must be of the type of the input; text takes any scalar.
    pub(crate) fn accept(&self, value: &Value) -> Result<Value, String> {
        match (self.kind, value) {
            (InputKind::Boolean, Value::Bool(_)) | (InputKind::Number, Value::Number(_)) => Ok(value.clone()),
            (InputKind::Boolean | InputKind::Number, Value::String(_)) => {
                let kind = if self.kind == InputKind::Boolean { "boolean" } else { "number" };
                Err(format!("it must be a {kind}, not text; `fromJSON` makes one of text"))
            }
            (InputKind::Boolean, other) => Err(format!("it must be a boolean, not {}", article(other))),
            (InputKind::Number, other) => Err(format!("it must be a number, not {}", article(other))),
            (_, value) if value.is_primitive() => Ok(Value::string(value.to_text().as_ref())),
            (_, other) => Err(format!("it must be text, not {}", article(other))),
        }
    }

    fn coerce(&self, text: &str) -> Result<Value, String> {
        match self.kind {
            InputKind::String | InputKind::Environment => Ok(Value::string(text)),
            InputKind::Boolean => match text.trim() {
                text if text.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
                text if text.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
                _ => Err("it must be `true` or `false`".to_owned()),
            },
            InputKind::Number => {
                let number = Value::string(text.trim()).to_number();
                if number.is_finite() && !text.trim().is_empty() {
                    Ok(Value::Number(number))
                } else {
                    Err("it must be a number".to_owned())
                }
            }
            InputKind::Choice if self.options.iter().any(|option| option == text) => Ok(Value::string(text)),
            InputKind::Choice => Err(spelling::remedy(text, self.options.iter().map(String::as_str), "options")),
        }
    }

    pub(crate) fn empty(&self) -> Value {
        match self.kind {
            InputKind::Boolean => Value::Bool(false),
            InputKind::Number => Value::Number(0.0),
            InputKind::Choice => Value::string(self.options.first().map_or("", String::as_str)),
            InputKind::String | InputKind::Environment => Value::string(""),
        }
    }
}

fn has_expression(node: &Node) -> bool {
    node.text().is_some_and(|text| text.contains("${{"))
}

impl Reader<'_> {
    /// `inputs` of `workflow_dispatch`.
    pub(crate) fn dispatch_inputs(&mut self, node: &Node) -> Vec<Input> {
        let Some(entries) = node.mapping() else {
            self.wrong_type(node, "`inputs`", "a mapping of inputs");
            return Vec::new();
        };
        if let Some(extra) = entries.get(MAX_INPUTS) {
            let message = format!("`workflow_dispatch` has {} inputs; the limit is {MAX_INPUTS}", entries.len());
            self.report(
                Diagnostic::error("value", extra.key.span, message)
                    .remedy("join some of them, for example as JSON text"),
            );
        }
        let keys = ["description", "type", "required", "default", "options", "deprecationMessage"];
        entries.iter().filter_map(|entry| self.input(entry, &keys, &InputKind::ALL)).collect()
    }

    /// `workflow_call`: what the file takes and gives when it is called.
    pub(crate) fn workflow_call(&mut self, node: &Node, trigger: &mut Trigger) {
        if node.is_null() {
            return;
        }
        let Some(fields) = self.fields(node, "`workflow_call`", &["inputs", "secrets", "outputs"]) else { return };
        trigger.inputs = fields.given("inputs").map(|node| self.call_inputs(node)).unwrap_or_default();
        trigger.secrets = fields.given("secrets").map(|node| self.call_secrets(node)).unwrap_or_default();
        trigger.outputs = fields.given("outputs").map(|node| self.call_outputs(node)).unwrap_or_default();
    }

    fn call_inputs(&mut self, node: &Node) -> Vec<Input> {
        let Some(entries) = node.mapping() else {
            self.wrong_type(node, "`inputs`", "a mapping of inputs");
            return Vec::new();
        };
        let keys = ["description", "type", "required", "default", "deprecationMessage"];
        let mut declared = Vec::new();
        for entry in entries {
            if entry.value.mapping().is_some() && entry.value.get("type").is_none() {
                let what = format!("the input `{}`", entry.key.text().unwrap_or_default());
                self.missing(entry.key.span, "type", &what, "add `type: string`, `boolean` or `number`");
            }
            declared.extend(self.input(entry, &keys, &InputKind::ALL[..3]));
        }
        declared
    }

    fn input(&mut self, entry: &Entry, keys: &[&'static str], kinds: &[(&'static str, InputKind)]) -> Option<Input> {
        let name = self.literal(&entry.key, "the name of an input")?;
        self.check_id(&name, "input", entry.key.span);
        let mut input = Input {
            name,
            kind: InputKind::String,
            required: false,
            default: None,
            computed: None,
            options: Vec::new(),
            description: None,
        };
        if entry.value.is_null() {
            return Some(input);
        }
        let what = format!("the input `{}`", input.name);
        let fields = self.fields(&entry.value, &what, keys)?;
        if let Some(node) = fields.given("type") {
            let text = self.literal(node, "`type`")?;
            let Some((_, kind)) = kinds.iter().find(|(name, _)| *name == text) else {
                let remedy = spelling::remedy(&text, kinds.iter().map(|(name, _)| *name), "types");
                let message = format!("unknown type `{text}` of {what}");
                self.report(Diagnostic::error("value", node.span, message).remedy(remedy));
                return None;
            };
            input.kind = *kind;
        }
        input.description = fields.given("description").and_then(Node::text).map(str::to_owned);
        input.required = fields.given("required").and_then(|node| self.flag(node, "`required`")).unwrap_or_default();
        let options = fields.entry("options");
        match (input.kind, options) {
            (InputKind::Choice, Some(options)) => input.options = self.options(options),
            (InputKind::Choice, None) => {
                self.missing(entry.key.span, "options", &what, "list the values to choose from")
            }
            (_, Some(options)) => self.report(
                Diagnostic::error(
                    "value",
                    options.key.span,
                    format!("`options` belongs to inputs of `type: choice`, and {what} is none"),
                )
                .remedy("add `type: choice`, or remove `options`"),
            ),
            (_, None) => {}
        }
        match fields.given("default") {
            // Only inputs of calls have no `options`.
            Some(node) if !keys.contains(&"options") && has_expression(node) => {
                input.computed = Some(self.scalar(node, place::RUN));
            }
            Some(node) => input.default = self.input_default(node, &input, &what),
            None => {}
        }
        Some(input)
    }

    fn options(&mut self, entry: &Entry) -> Vec<String> {
        let Some(items) = entry.value.sequence() else {
            self.wrong_type(&entry.value, "`options`", "a list of values");
            return Vec::new();
        };
        if items.is_empty() {
            self.report(
                Diagnostic::error("value", entry.key.span, "`options` is empty")
                    .remedy("list the values to choose from"),
            );
        }
        items.iter().filter_map(|item| self.literal(item, "an option")).collect()
    }

    fn input_default(&mut self, node: &Node, input: &Input, what: &str) -> Option<Value> {
        let Some(scalar) = node.scalar() else {
            self.wrong_type(node, "`default`", "text, a number or a boolean");
            return None;
        };
        if has_expression(node) {
            let message = format!("the `default` of {what} cannot hold an expression");
            self.report(Diagnostic::error("expression-not-allowed", node.span, message).remedy("write the value out"));
            return None;
        }
        if scalar.literal == Literal::String && input.kind == InputKind::Boolean {
            self.wrong_type(node, "`default` of a boolean input", "`true` or `false` without quotes");
            return None;
        }
        match input.coerce(&scalar.text) {
            Ok(value) => Some(value),
            Err(reason) => {
                let message = format!("the default `{}` does not fit {what}", scalar.text);
                self.report(Diagnostic::error("value", node.span, message).remedy(reason));
                None
            }
        }
    }
}
