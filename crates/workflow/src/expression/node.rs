//! The tree of an expression and its canonical text.

use std::fmt;

use super::value::Value;

/// One node; `offset` and `length` are bytes of the text it was parsed from.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) offset: usize,
    pub(super) length: usize,
    /// Levels from here to the deepest leaf, this one included.
    pub(super) depth: usize,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// `null`, a boolean, a number or a string. The name after a dot is a string here.
    Literal(Value),
    /// The name of a context, as written.
    Context(String),
    /// A call; the name begins at the node's offset.
    Call { name: String, arguments: Vec<Node> },
    /// `target.name` or `target[index]`.
    Index { target: Box<Node>, index: Box<Node> },
    /// `target.*` or `target[*]`.
    Filter(Box<Node>),
    /// `!operand`.
    Not(Box<Node>),
    /// Operands joined by `&&` (`all`) or `||`; chains are flat, so that length does not count as depth.
    Chain { all: bool, operands: Vec<Node> },
    /// `left < right` and its kin.
    Compare { comparison: Comparison, left: Box<Node>, right: Box<Node> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    pub(super) fn is_equality(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual)
    }
}

impl Node {
    pub(super) fn new(kind: Kind, offset: usize, end: usize) -> Self {
        let depth = match &kind {
            Kind::Literal(_) | Kind::Context(_) => 1,
            Kind::Call { arguments: nodes, .. } | Kind::Chain { operands: nodes, .. } => 1 + deepest(nodes),
            Kind::Index { target, index } => 1 + target.depth.max(index.depth),
            Kind::Filter(node) | Kind::Not(node) => 1 + node.depth,
            Kind::Compare { left, right, .. } => 1 + left.depth.max(right.depth),
        };
        Self { kind, offset, length: end - offset, depth }
    }

    /// Joins this node and another by `&&` (`all`) or `||`, taking in chains of the same operator. Works in the
    /// size of `right`, so that a long chain is not built in quadratic time.
    pub(super) fn chain(self, all: bool, right: Node) -> Self {
        let (offset, end) = (self.offset, right.end());
        let (mut operands, left_depth) = self.into_operands(all);
        let (more, right_depth) = right.into_operands(all);
        operands.extend(more);
        let depth = 1 + left_depth.max(right_depth);
        Self { kind: Kind::Chain { all, operands }, offset, length: end - offset, depth }
    }

    fn into_operands(self, all: bool) -> (Vec<Node>, usize) {
        let depth = self.depth;
        match self.kind {
            Kind::Chain { all: inner, operands } if inner == all => (operands, depth - 1),
            kind => (vec![Node { kind, ..self }], depth),
        }
    }

    pub(super) fn end(&self) -> usize {
        self.offset + self.length
    }

    /// Visits this node, then everything below it, left to right.
    pub(super) fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Node)) {
        visit(self);
        match &self.kind {
            Kind::Literal(_) | Kind::Context(_) => {}
            Kind::Call { arguments: nodes, .. } | Kind::Chain { operands: nodes, .. } => {
                nodes.iter().for_each(|node| node.walk(visit));
            }
            Kind::Index { target: left, index: right } | Kind::Compare { left, right, .. } => {
                left.walk(visit);
                right.walk(visit);
            }
            Kind::Filter(node) | Kind::Not(node) => node.walk(visit),
        }
    }

    /// How tightly the node holds together: an operand that binds looser than its operator needs parentheses.
    fn binding(&self) -> u8 {
        match &self.kind {
            Kind::Chain { all: false, .. } => 1,
            Kind::Chain { all: true, .. } => 2,
            Kind::Compare { comparison, .. } if comparison.is_equality() => 3,
            Kind::Compare { .. } => 4,
            Kind::Not(_) => 5,
            Kind::Literal(_) => 6, // Takes no property without parentheses.
            Kind::Context(_) | Kind::Call { .. } | Kind::Index { .. } | Kind::Filter(_) => 7,
        }
    }

    fn write_operand(&self, formatter: &mut fmt::Formatter<'_>, least: u8) -> fmt::Result {
        if self.binding() < least { write!(formatter, "({self})") } else { write!(formatter, "{self}") }
    }
}

fn deepest(nodes: &[Node]) -> usize {
    nodes.iter().map(|node| node.depth).max().unwrap_or(0)
}

/// Whether the text may stand after a dot, or be the name of a context or function.
pub(super) fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && characters.all(|character| character.is_ascii_alphanumeric() || matches!(character, '_' | '-'))
}

/// Canonical text: single spaces, only the parentheses that are needed, `.name` where a name is legal.
impl fmt::Display for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Literal(value) => write_literal(formatter, value),
            Kind::Context(name) => formatter.write_str(name),
            Kind::Call { name, arguments } => {
                write!(formatter, "{name}(")?;
                write_list(formatter, arguments, ", ", 0)?;
                formatter.write_str(")")
            }
            Kind::Index { target, index } => {
                target.write_operand(formatter, 7)?;
                match &index.kind {
                    Kind::Literal(Value::String(name)) if is_name(name) => write!(formatter, ".{name}"),
                    _ => write!(formatter, "[{index}]"),
                }
            }
            Kind::Filter(target) => {
                target.write_operand(formatter, 7)?;
                formatter.write_str(".*")
            }
            Kind::Not(operand) => {
                formatter.write_str("!")?;
                operand.write_operand(formatter, 5)
            }
            Kind::Chain { all, operands } => {
                write_list(formatter, operands, if *all { " && " } else { " || " }, self.binding() + 1)
            }
            Kind::Compare { comparison, left, right } => {
                left.write_operand(formatter, self.binding())?;
                write!(formatter, " {} ", comparison.symbol())?;
                right.write_operand(formatter, self.binding() + 1)
            }
        }
    }
}

fn write_list(formatter: &mut fmt::Formatter<'_>, nodes: &[Node], separator: &str, least: u8) -> fmt::Result {
    for (position, node) in nodes.iter().enumerate() {
        if position > 0 {
            formatter.write_str(separator)?;
        }
        node.write_operand(formatter, least)?;
    }
    Ok(())
}

fn write_literal(formatter: &mut fmt::Formatter<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Null => formatter.write_str("null"),
        Value::String(text) => formatter.write_str(&quote(text)),
        // Coercion keeps 15 digits; the literal keeps them all.
        Value::Number(number) if number.is_finite() => {
            let text = format!("{number:?}");
            formatter.write_str(text.strip_suffix(".0").unwrap_or(&text))
        }
        other => formatter.write_str(&other.to_text()),
    }
}

/// The text as a string literal.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
