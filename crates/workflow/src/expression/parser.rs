//! Tokens to tree, by operator precedence over explicit stacks: text cannot exhaust the call stack.
//!
//! Precedence, tightest first: `.` and `[ ]`, then `!`, then `< <= > >=`, then `== !=`, then `&&`, then `||`
//! (actions/runner src/Sdk/Expressions/Tokens/Token.cs).

use super::lexer::{Lexer, Token, TokenKind};
use super::node::{Comparison, Kind, Node};
use super::value::Value;
use super::{MAX_DEPTH, MAX_LENGTH, ParseError};

/// Something opened and not yet closed, with what was read inside it so far.
struct Frame {
    opening: Opening,
    operands: Vec<Node>,
    operators: Vec<Operator>,
}

enum Opening {
    Root,
    Group { offset: usize },
    Index { offset: usize, target: Node },
    Call { offset: usize, parenthesis: usize, name: String, arguments: Vec<Node> },
}

#[derive(Clone, Copy)]
enum Operator {
    Not { offset: usize },
    Compare(Comparison),
    And,
    Or,
}

impl Operator {
    fn precedence(self) -> u8 {
        match self {
            Self::Not { .. } => 5,
            Self::Compare(comparison) if comparison.is_equality() => 3,
            Self::Compare(_) => 4,
            Self::And => 2,
            Self::Or => 1,
        }
    }
}

/// Parses a whole expression.
pub(super) fn parse(text: &str) -> Result<Node, ParseError> {
    let units = text.encode_utf16().count();
    if units > MAX_LENGTH {
        let message = format!("the expression has {units} characters and at most {MAX_LENGTH} are allowed: split it");
        return Err(ParseError::new(message, 0, text.len()));
    }
    Parser { text, lexer: Lexer::new(text), frames: vec![Frame::new(Opening::Root)], last: None, literal_last: false }
        .run()
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    /// Never empty: the first is the root.
    frames: Vec<Frame>,
    /// Where the last token lies, for messages about the end.
    last: Option<(usize, usize)>,
    /// Whether the last token was a literal, which has no properties unless parentheses surround it.
    literal_last: bool,
}

impl Parser<'_> {
    fn run(mut self) -> Result<Node, ParseError> {
        let mut operand_expected = true;
        while let Some(token) = self.lexer.next(operand_expected)? {
            self.last = Some((token.offset, token.length));
            let is_literal = matches!(token.kind, TokenKind::Literal(_));
            operand_expected = if operand_expected { self.operand(token)? } else { self.after_operand(token)? };
            self.literal_last = is_literal;
        }
        self.finish(operand_expected)
    }

    /// Takes a token where an operand may begin; answers whether one is still expected.
    fn operand(&mut self, token: Token) -> Result<bool, ParseError> {
        let (offset, end) = (token.offset, token.end());
        match token.kind {
            TokenKind::OpenGroup => {
                self.frames.push(Frame::new(Opening::Group { offset }));
                Ok(true)
            }
            TokenKind::Not => {
                self.top().operators.push(Operator::Not { offset });
                Ok(true)
            }
            TokenKind::Literal(value) => self.push(Node::new(Kind::Literal(value), offset, end)),
            TokenKind::Name(name) if self.lexer.at_open_group() => {
                let parenthesis = self.lexer.next(true)?.map_or(end, |token| token.offset);
                self.last = Some((parenthesis, 1));
                self.frames.push(Frame::new(Opening::Call { offset, parenthesis, name, arguments: Vec::new() }));
                Ok(true)
            }
            TokenKind::Name(name) => self.push(Node::new(Kind::Context(name), offset, end)),
            TokenKind::CloseGroup if self.top().is_call_without_arguments() => self.close_call(end),
            _ => Err(self.operand_expected_at(&token)),
        }
    }

    /// Takes a token after a complete operand; answers whether an operand is expected next.
    fn after_operand(&mut self, token: Token) -> Result<bool, ParseError> {
        match token.kind {
            TokenKind::Dot => {
                self.check_target(&token)?;
                let property = self.lexer.property()?;
                self.last = Some((property.offset, property.length));
                let (offset, end) = (property.offset, property.end());
                match property.kind {
                    TokenKind::Name(name) => {
                        let index = Node::new(Kind::Literal(Value::from(name)), offset, end);
                        self.index_last(index, end)
                    }
                    _ => self.filter_last(end),
                }
            }
            TokenKind::OpenIndex => {
                self.check_target(&token)?;
                let target = self.pop_operand();
                self.frames.push(Frame::new(Opening::Index { offset: token.offset, target }));
                self.star_index()
            }
            TokenKind::Compare(comparison) => self.push_operator(Operator::Compare(comparison)),
            TokenKind::And => self.push_operator(Operator::And),
            TokenKind::Or => self.push_operator(Operator::Or),
            TokenKind::Comma => self.next_argument(&token),
            TokenKind::CloseGroup => self.close_group(&token),
            TokenKind::CloseIndex => self.close_index(&token),
            _ => Err(self.operator_expected_at(&token)),
        }
    }

    /// After `[`: a star makes a filter at once, anything else is an index expression.
    fn star_index(&mut self) -> Result<bool, ParseError> {
        let before = self.lexer.position();
        let star = match self.lexer.next(true) {
            Ok(Some(token)) if matches!(token.kind, TokenKind::Star) => token,
            _ => {
                self.lexer.rewind(before);
                return Ok(true);
            }
        };
        self.last = Some((star.offset, star.length));
        match self.lexer.next(false)? {
            Some(close) if matches!(close.kind, TokenKind::CloseIndex) => {
                self.last = Some((close.offset, close.length));
                if let Some(Frame { opening: Opening::Index { target, .. }, .. }) = self.frames.pop() {
                    self.top().operands.push(target);
                }
                self.filter_last(close.end())
            }
            _ => Err(ParseError::new("expected ']' after '[*'", star.offset, star.length)),
        }
    }

    fn top(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the root frame stays until the end")
    }

    fn push(&mut self, node: Node) -> Result<bool, ParseError> {
        if node.depth > MAX_DEPTH {
            let message =
                format!("the expression nests deeper than {MAX_DEPTH} levels: compute a part of it in a step");
            return Err(ParseError::new(message, node.offset, node.length));
        }
        self.top().operands.push(node);
        Ok(false)
    }

    fn pop_operand(&mut self) -> Node {
        self.top().operands.pop().expect("an operand precedes every operator that takes one")
    }

    fn index_last(&mut self, index: Node, end: usize) -> Result<bool, ParseError> {
        let target = self.pop_operand();
        let offset = target.offset;
        self.push(Node::new(Kind::Index { target: Box::new(target), index: Box::new(index) }, offset, end))
    }

    fn filter_last(&mut self, end: usize) -> Result<bool, ParseError> {
        let target = self.pop_operand();
        let offset = target.offset;
        self.push(Node::new(Kind::Filter(Box::new(target)), offset, end))
    }

    fn push_operator(&mut self, operator: Operator) -> Result<bool, ParseError> {
        self.reduce(operator.precedence())?;
        self.top().operators.push(operator);
        Ok(true)
    }

    /// Applies the operators that bind at least as tightly as `precedence`; all are left-associative.
    fn reduce(&mut self, precedence: u8) -> Result<(), ParseError> {
        while let Some(&operator) = self.top().operators.last() {
            if operator.precedence() < precedence {
                break;
            }
            self.top().operators.pop();
            let right = self.pop_operand();
            let end = right.end();
            let node = match operator {
                Operator::Not { offset } => Node::new(Kind::Not(Box::new(right)), offset, end),
                Operator::Compare(comparison) => {
                    let left = self.pop_operand();
                    let offset = left.offset;
                    Node::new(Kind::Compare { comparison, left: Box::new(left), right: Box::new(right) }, offset, end)
                }
                Operator::And | Operator::Or => {
                    let left = self.pop_operand();
                    left.chain(matches!(operator, Operator::And), right)
                }
            };
            self.push(node)?;
        }
        Ok(())
    }

    fn next_argument(&mut self, comma: &Token) -> Result<bool, ParseError> {
        if !matches!(self.top().opening, Opening::Call { .. }) {
            return Err(ParseError::new(
                "unexpected ',': commas separate the arguments of a function only",
                comma.offset,
                comma.length,
            ));
        }
        self.take_argument()?;
        Ok(true)
    }

    fn take_argument(&mut self) -> Result<(), ParseError> {
        self.reduce(0)?;
        let argument = self.pop_operand();
        if let Opening::Call { arguments, .. } = &mut self.top().opening {
            arguments.push(argument);
        }
        Ok(())
    }

    fn close_group(&mut self, token: &Token) -> Result<bool, ParseError> {
        match self.top().opening {
            Opening::Call { .. } => {
                self.take_argument()?;
                self.close_call(token.end())
            }
            Opening::Group { .. } => {
                self.reduce(0)?;
                let inner = self.pop_operand();
                self.frames.pop();
                self.push(inner)
            }
            Opening::Index { .. } => Err(ParseError::new("unexpected ')': ']' is expected first", token.offset, 1)),
            Opening::Root => Err(ParseError::new("unexpected ')': no '(' is open; remove it", token.offset, 1)),
        }
    }

    fn close_call(&mut self, end: usize) -> Result<bool, ParseError> {
        if let Some(Frame { opening: Opening::Call { offset, name, arguments, .. }, .. }) = self.frames.pop() {
            self.push(Node::new(Kind::Call { name, arguments }, offset, end))?;
        }
        Ok(false)
    }

    fn close_index(&mut self, token: &Token) -> Result<bool, ParseError> {
        match self.top().opening {
            Opening::Index { .. } => {
                self.reduce(0)?;
                let index = self.pop_operand();
                if let Some(Frame { opening: Opening::Index { target, .. }, .. }) = self.frames.pop() {
                    self.top().operands.push(target);
                }
                self.index_last(index, token.end())
            }
            Opening::Root => Err(ParseError::new("unexpected ']': no '[' is open; remove it", token.offset, 1)),
            _ => Err(ParseError::new("unexpected ']': ')' is expected first", token.offset, 1)),
        }
    }

    /// Only contexts, calls, groups and what was read from them have properties; a bare literal has none.
    fn check_target(&self, token: &Token) -> Result<(), ParseError> {
        if self.literal_last {
            let message = format!("unexpected '{}': a literal has no properties", self.slice(token));
            return Err(ParseError::new(message, token.offset, token.length));
        }
        Ok(())
    }

    fn finish(mut self, operand_expected: bool) -> Result<Node, ParseError> {
        let Some((offset, length)) = self.last else {
            return Err(ParseError::new("an expression is expected here", 0, self.text.len()));
        };
        match &self.top().opening {
            Opening::Root => {}
            Opening::Group { offset } => return Err(unclosed("(", ")", *offset)),
            Opening::Index { offset, .. } => return Err(unclosed("[", "]", *offset)),
            Opening::Call { parenthesis, .. } => return Err(unclosed("(", ")", *parenthesis)),
        }
        if operand_expected {
            let last = &self.text[offset..offset + length];
            let message = format!("the expression ends after '{last}': a value is expected there");
            return Err(ParseError::new(message, offset, length));
        }
        self.reduce(0)?;
        Ok(self.pop_operand())
    }

    fn slice(&self, token: &Token) -> &str {
        &self.text[token.offset..token.end()]
    }

    fn operand_expected_at(&self, token: &Token) -> ParseError {
        let message = match token.kind {
            TokenKind::Star => "unexpected '*': it stands only after '.' or inside '[ ]'".to_owned(),
            TokenKind::OpenIndex => {
                "unexpected '[': expressions have no array literals; write fromJSON('[…]')".to_owned()
            }
            _ => format!("unexpected '{}': a value is expected before it", self.slice(token)),
        };
        ParseError::new(message, token.offset, token.length)
    }

    fn operator_expected_at(&self, token: &Token) -> ParseError {
        let message = match token.kind {
            TokenKind::Not => "unexpected '!': write '!=' to compare, or '&&' or '||' before it".to_owned(),
            TokenKind::OpenGroup => "unexpected '(': an operator is expected before it".to_owned(),
            TokenKind::Star => {
                "unexpected '*': expressions have no arithmetic, and a filter is written '.*'".to_owned()
            }
            _ => format!(
                "unexpected '{}': an operator such as '==' or '&&' is expected before it, and text takes single quotes",
                self.slice(token)
            ),
        };
        ParseError::new(message, token.offset, token.length)
    }
}

impl Frame {
    fn new(opening: Opening) -> Self {
        Self { opening, operands: Vec::new(), operators: Vec::new() }
    }

    fn is_call_without_arguments(&self) -> bool {
        let Opening::Call { arguments, .. } = &self.opening else { return false };
        arguments.is_empty() && self.operators.is_empty()
    }
}

fn unclosed(opening: &str, closing: &str, offset: usize) -> ParseError {
    ParseError::new(format!("'{opening}' is not closed: add '{closing}'"), offset, 1)
}
