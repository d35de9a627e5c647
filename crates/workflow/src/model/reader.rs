//! Nodes to templates, with the checks that every expression gets where it stands.

use crate::diagnostic::{Diagnostic, MAX_DIAGNOSTICS};
use crate::expression::{Expression, Piece, Scalar as Folded, Value, split};
use crate::model::place::Place;
use crate::span::{LineIndex, Span};
use crate::template::{Kind, Template};
use crate::yaml::{self, Literal, Node};

/// Most findings in one scalar.
const MAX_IN_SCALAR: usize = 20;

/// A file that is being read, and what has been found in it so far.
pub(crate) struct Reader<'a> {
    source: &'a str,
    index: LineIndex<'a>,
    pub(crate) findings: Vec<Diagnostic>,
    /// What expressions may refer to by name here; absent where nothing is known.
    pub(crate) names: Names,
}

/// Names that a context has at a place. None: not known, so not checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    /// Direct needs of the job.
    pub(crate) needs: Option<Vec<String>>,
    /// Ids of the steps of the job or action.
    pub(crate) steps: Option<Vec<String>>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a str, findings: Vec<Diagnostic>) -> Self {
        Self { source, index: LineIndex::new(source), findings, names: Names::default() }
    }

    pub(crate) fn report(&mut self, finding: Diagnostic) {
        self.findings.push(finding);
    }

    /// True once there are more findings than are shown. Nobody reads the others, so they need neither an exact place nor
    /// a proposal, both of which take time that a hostile file could multiply.
    pub(crate) fn is_full(&self) -> bool {
        self.findings.len() > 2 * MAX_DIAGNOSTICS
    }

    /// The range of a part of a scalar, given in bytes of its text.
    pub(crate) fn locate(&self, node: &Node, offset: usize, length: usize) -> Span {
        match node.scalar() {
            // Finding the place takes a walk over the scalar; nobody reads the thousandth finding.
            Some(scalar) if self.findings.len() < 1000 => {
                scalar.locate(&self.index, self.source, node.span, offset, length)
            }
            _ => node.span,
        }
    }

    /// Reports what is wrong with the names in an expression that stands at `offset` in a scalar.
    pub(crate) fn check(&mut self, node: &Node, expression: &Expression, offset: usize, place: Place) {
        for error in expression.check(&place) {
            let span = self.locate(node, offset + error.offset, error.length);
            self.report(Diagnostic::error("expression", span, error.message).remedy(error.remedy));
        }
        for reference in expression.references() {
            let (known, what, remedy) = match reference.context.as_str() {
                "needs" => (&self.names.needs, "job", "add it to `needs` of this job"),
                "steps" => (&self.names.steps, "step", "give the step that `id`, or correct the name"),
                _ => continue,
            };
            let (Some(known), Some(name)) = (known, reference.name()) else { continue };
            if known.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                continue;
            }
            let message = match what {
                "job" => format!("`needs.{name}` is always empty: this job does not need a job `{name}`"),
                _ => format!("`steps.{name}` is always empty: no step here has the id `{name}`"),
            };
            let span = self.locate(node, offset + reference.offset, reference.length);
            self.report(Diagnostic::warning("empty-reference", span, message).remedy(remedy));
        }
    }

    /// A scalar that may hold expressions.
    pub(crate) fn scalar(&mut self, node: &Node, place: Place) -> Template {
        let Some(scalar) = node.scalar() else { return at(node, Kind::Null) };
        let kind = match scalar.literal {
            Literal::Null => Kind::Null,
            Literal::Bool(value) => Kind::Bool(value),
            Literal::Number(value) => {
                self.warn_about_number(node, &scalar.text, value);
                Kind::Number(value)
            }
            Literal::String if scalar.text.contains("${{") => self.expressions(node, &scalar.text, place),
            Literal::String => Kind::String(scalar.text.clone()),
        };
        at(node, kind)
    }

    /// `1.10` is the number 1.1, on GitHub too; that is rarely what is meant where the digits matter.
    fn warn_about_number(&mut self, node: &Node, text: &str, value: f64) {
        let number = Value::Number(value);
        let read = number.to_text();
        if read != text && text.contains('.') && !text.starts_with('.') {
            let message = format!("`{text}` is a number and reads `{read}`");
            self.report(
                Diagnostic::warning("number", node.span, message).remedy(format!("write '{text}' to keep the text")),
            );
        }
    }

    fn expressions(&mut self, node: &Node, text: &str, place: Place) -> Kind {
        let before = self.findings.len();
        match split(text) {
            Err(error) => self.syntax(node, &error.message, error.offset, error.length),
            Ok(pieces) => {
                // What is wrong with many of them is most often wrong with all.
                for piece in pieces {
                    if self.findings.len() >= before + MAX_IN_SCALAR {
                        break;
                    }
                    let Piece::Expression { text, offset } = piece else { continue };
                    match Expression::parse(&text) {
                        Ok(expression) => self.check(node, &expression, offset, place),
                        Err(error) => self.syntax(node, &error.message, offset + error.offset, error.length),
                    }
                }
            }
        }
        match Folded::read(text) {
            Ok(Folded::Literal(text)) => Kind::String(text),
            Ok(Folded::Expression(text)) => Kind::Expression(text),
            Err(error) => {
                if self.findings.len() == before {
                    self.syntax(node, &error.message, error.offset, error.length);
                }
                Kind::Null
            }
        }
    }

    pub(crate) fn syntax(&mut self, node: &Node, message: &str, offset: usize, length: usize) {
        let span = self.locate(node, offset, length);
        self.report(Diagnostic::error("expression-syntax", span, message));
    }

    /// Any value that may hold expressions, also in keys.
    pub(crate) fn template(&mut self, node: &Node, place: Place) -> Template {
        match &node.kind {
            yaml::Kind::Scalar(_) => self.scalar(node, place),
            yaml::Kind::Sequence(items) => {
                let items = items.iter().map(|item| self.template(item, place)).collect();
                at(node, Kind::Sequence(items))
            }
            yaml::Kind::Mapping(entries) => {
                let entries = entries
                    .iter()
                    .map(|entry| (self.key(&entry.key, place), self.template(&entry.value, place)))
                    .collect();
                at(node, Kind::Mapping(entries))
            }
        }
    }

    /// A key: literal keys are text whatever they look like.
    pub(crate) fn key(&mut self, node: &Node, place: Place) -> Template {
        let Some(text) = node.text() else { return at(node, Kind::Null) };
        if !text.contains("${{") {
            return at(node, Kind::String(text.to_owned()));
        }
        match split(text).as_deref() {
            Ok([Piece::Expression { text, .. }]) if text == "insert" => at(node, Kind::Insert),
            _ => self.scalar(node, place),
        }
    }

    /// A mapping whose values are scalars (`env`, `with`, `outputs`), or an expression for the whole of it.
    pub(crate) fn flat_mapping(&mut self, node: &Node, what: &str, place: Place) -> Option<Template> {
        if node.is_null() {
            return None;
        }
        if let Some(entries) = node.mapping() {
            for entry in entries.iter().filter(|entry| entry.value.scalar().is_none()) {
                let insert = entry.key.text().is_some_and(|key| key.starts_with("${{"));
                if !insert {
                    let message = format!("a value of {what} must be text, not {}", entry.value.describe());
                    let remedy = "write it on one line, or as JSON text in quotes";
                    self.report(Diagnostic::error("type", entry.value.span, message).remedy(remedy));
                }
            }
            for entry in entries.iter().filter(|entry| entry.key.text().is_some_and(str::is_empty)) {
                self.report(Diagnostic::error("type", entry.key.span, format!("a key of {what} must not be empty")));
            }
            return Some(self.template(node, place));
        }
        let template = self.scalar(node, place);
        if node.scalar().is_none() || !matches!(template.kind, Kind::Expression(_)) {
            self.wrong_type(node, what, "a mapping");
        }
        Some(template)
    }

    /// Text without expressions; numbers and booleans are taken as they are written.
    pub(crate) fn literal(&mut self, node: &Node, what: &str) -> Option<String> {
        let Some(scalar) = node.scalar().filter(|scalar| scalar.literal != Literal::Null) else {
            self.wrong_type(node, what, "text");
            return None;
        };
        if scalar.text.contains("${{") {
            self.report(
                Diagnostic::error("expression-not-allowed", node.span, format!("{what} cannot hold an expression"))
                    .remedy("write the value out"),
            );
            return None;
        }
        if scalar.text.trim().is_empty() {
            self.report(Diagnostic::error("type", node.span, format!("{what} must not be empty")));
            return None;
        }
        Some(scalar.text.clone())
    }

    /// Text with expressions.
    pub(crate) fn text(&mut self, node: &Node, what: &str, place: Place) -> Option<Template> {
        if node.scalar().is_none() {
            self.wrong_type(node, what, "text");
            return None;
        }
        Some(self.scalar(node, place))
    }

    /// `true`, `false` or an expression.
    pub(crate) fn boolean(&mut self, node: &Node, what: &str, place: Place) -> Option<Template> {
        const EXPECTED: &str = "`true`, `false` or an expression";
        if node.scalar().is_none() {
            self.wrong_type(node, what, EXPECTED);
            return None;
        }
        let template = self.scalar(node, place);
        if !matches!(template.kind, Kind::Bool(_) | Kind::Expression(_)) {
            self.wrong_type(node, what, EXPECTED);
            return None;
        }
        Some(template)
    }

    /// A number of minutes over zero, or an expression.
    pub(crate) fn minutes(&mut self, node: &Node, what: &str, place: Place) -> Option<Template> {
        const EXPECTED: &str = "a number of minutes or an expression";
        if node.scalar().is_none() {
            self.wrong_type(node, what, EXPECTED);
            return None;
        }
        let template = self.scalar(node, place);
        match template.kind {
            Kind::Expression(_) => Some(template),
            Kind::Number(minutes) if minutes > 0.0 && minutes <= f64::from(u32::MAX) => Some(template),
            Kind::Number(_) => {
                self.report(
                    Diagnostic::error("value", node.span, format!("{what} must be more than 0"))
                        .remedy("give the number of minutes, such as `timeout-minutes: 10`"),
                );
                None
            }
            _ => {
                self.wrong_type(node, what, EXPECTED);
                None
            }
        }
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, node: &Node, what: &str) -> Option<bool> {
        match node.scalar().map(|scalar| scalar.literal) {
            Some(Literal::Bool(value)) => Some(value),
            _ => {
                self.wrong_type(node, what, "`true` or `false`");
                None
            }
        }
    }

    pub(crate) fn wrong_type(&mut self, node: &Node, what: &str, expected: &str) {
        let found = node.describe();
        self.report(Diagnostic::error("type", node.span, format!("{what} must be {expected}, not {found}")));
    }

    /// Says that a key is understood but not supported.
    pub(crate) fn unsupported(&mut self, span: Span, what: &str, remedy: &str) {
        self.report(Diagnostic::error("unsupported", span, format!("{what} is not supported yet")).remedy(remedy));
    }
}

/// A template with the place of a node.
pub(crate) fn at(node: &Node, kind: Kind) -> Template {
    Template { kind, line: node.span.start.line, column: node.span.start.column }
}
