//! What a `PromQL` expression speaks of: selectors with their matchers, and the labels that it groups by. It reads as much
//! of the language as that takes, and panics about what it does not know.

use std::collections::BTreeSet;

/// A metric with braces, or without.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selector {
    pub metric: String,
    /// Label, operator, value.
    pub matchers: Vec<(String, String, String)>,
}

/// `by (…)` and its like, over these selectors.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Grouping {
    pub labels: BTreeSet<String>,
    /// Places in [`Query::selectors`].
    pub over: std::ops::Range<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Query {
    pub selectors: Vec<Selector>,
    pub groupings: Vec<Grouping>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    /// A number, a duration, or a variable of the dashboard.
    Value,
    Sign(String),
}

const GROUP: [&str; 2] = ["by", "without"];
const MATCH: [&str; 4] = ["on", "ignoring", "group_left", "group_right"];
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// Longer ones first.
const SIGNS: [&str; 22] = [
    "=~", "!~", "!=", "==", ">=", "<=", "=", ">", "<", "(", ")", "{", "}", "[", "]", ",", "+", "-", "*", "/", "%", "^",
];

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = |is: fn(char) -> bool| rest[1..].find(|c| !is(c)).map_or(rest.len(), |at| at + 1);
        let (token, length) = match first {
            c if c.is_whitespace() => (None, 1),
            '"' => {
                let end = rest[1..].find('"').unwrap_or_else(|| panic!("no end of the text in `{text}`"));
                assert!(!rest[1..=end].contains('\\'), "escapes are not read: `{text}`");
                (Some(Token::Text(rest[1..=end].to_owned())), end + 2)
            }
            c if c.is_ascii_digit() => (Some(Token::Value), length(|c| c.is_ascii_alphanumeric() || c == '.')),
            '$' => (Some(Token::Value), length(is_word)),
            c if is_word(c) => {
                let length = length(is_word);
                (Some(Token::Word(rest[..length].to_owned())), length)
            }
            _ => {
                let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
                let sign = sign.unwrap_or_else(|| panic!("what is `{rest}` in `{text}`?"));
                (Some(Token::Sign(sign.to_owned())), sign.len())
            }
        };
        tokens.extend(token);
        rest = &rest[length..];
    }
    tokens
}

/// Reads an expression.
pub(super) fn read(text: &str) -> Query {
    let mut reader = Reader { tokens: tokens(text), at: 0, query: Query::default(), text };
    reader.expression();
    assert_eq!(reader.at, reader.tokens.len(), "something stands behind the end of `{text}`");
    reader.query
}

struct Reader<'a> {
    tokens: Vec<Token>,
    at: usize,
    query: Query,
    text: &'a str,
}

impl Reader<'_> {
    fn word(&self) -> Option<&str> {
        match self.tokens.get(self.at) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.tokens.get(self.at), Some(Token::Sign(found)) if found == sign)
    }

    fn took(&mut self, sign: &str) -> bool {
        let is = self.is_sign(sign);
        self.at += usize::from(is);
        is
    }

    fn take(&mut self, sign: &str) {
        assert!(self.took(sign), "`{sign}` is missing at token {} of `{}`", self.at, self.text);
    }

    /// Up to a bracket that was not opened here, or the end.
    fn expression(&mut self) {
        while self.at < self.tokens.len() && !self.is_sign(")") {
            if let Some(word) = self.word().map(str::to_owned) {
                self.at += 1;
                self.named(word);
            } else if self.took("(") {
                self.expression();
                self.take(")");
            } else if self.took("[") {
                while !self.took("]") {
                    self.at += 1;
                    assert!(self.at < self.tokens.len(), "no `]` in `{}`", self.text);
                }
            } else {
                self.at += 1;
            }
        }
    }

    /// What begins with a word: an operator, a function or aggregation, or a metric.
    fn named(&mut self, word: String) {
        if MATCH.contains(&word.as_str()) {
            // Labels on which two sides are joined must be on both.
            if self.is_sign("(") {
                let labels = self.labels();
                let over = 0..usize::MAX;
                self.query.groupings.push(Grouping { labels, over });
            }
        } else if self.is_sign("(") && !OPERATORS.contains(&word.as_str()) {
            self.call(None);
        } else if self.word().is_some_and(|next| GROUP.contains(&next)) {
            self.at += 1;
            let labels = self.labels();
            self.call(Some(labels));
        } else if !OPERATORS.contains(&word.as_str()) {
            let matchers = self.matchers();
            self.query.selectors.push(Selector { metric: word, matchers });
        }
    }

    /// The arguments of a function or an aggregation, and a grouping before or behind them.
    fn call(&mut self, before: Option<BTreeSet<String>>) {
        let from = self.query.selectors.len();
        self.take("(");
        self.expression();
        self.take(")");
        let over = from..self.query.selectors.len();
        let behind = self.word().is_some_and(|next| GROUP.contains(&next)).then(|| {
            self.at += 1;
            self.labels()
        });
        self.query.groupings.extend(before.or(behind).map(|labels| Grouping { labels, over }));
    }

    fn labels(&mut self) -> BTreeSet<String> {
        self.take("(");
        let mut labels = BTreeSet::new();
        while !self.took(")") {
            let label = self.word().unwrap_or_else(|| panic!("no label in `{}`", self.text)).to_owned();
            self.at += 1;
            labels.insert(label);
            self.took(",");
        }
        labels
    }

    fn matchers(&mut self) -> Vec<(String, String, String)> {
        let mut matchers = Vec::new();
        if !self.took("{") {
            return matchers;
        }
        while !self.took("}") {
            let found = self.tokens.get(self.at..self.at + 3).unwrap_or_default();
            let [Token::Word(label), Token::Sign(operator), Token::Text(value)] = found else {
                panic!("no matcher at token {} of `{}`", self.at, self.text)
            };
            matchers.push((label.clone(), operator.clone(), value.clone()));
            self.at += 3;
            self.took(",");
        }
        matchers
    }
}

#[test]
fn an_expression_is_read_with_its_selectors_and_groupings() {
    let query = read(
        "sum by (a, b) (rate(x_total{c=\"1\",d=~\"2|3\"}[5m])) > 0.5 and on (a) max(y{} / $z) without (e) or absent(up)",
    );
    let metrics: Vec<&str> = query.selectors.iter().map(|selector| selector.metric.as_str()).collect();
    assert_eq!(metrics, ["x_total", "y", "up"]);
    let matchers = [("c", "=", "1"), ("d", "=~", "2|3")].map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
    assert_eq!(query.selectors[0].matchers, matchers);
    let groupings: Vec<(Vec<&str>, _)> = query
        .groupings
        .iter()
        .map(|grouping| (grouping.labels.iter().map(String::as_str).collect(), grouping.over.clone()))
        .collect();
    assert_eq!(groupings, [(vec!["a", "b"], 0..1), (vec!["a"], 0..usize::MAX), (vec!["e"], 1..2)]);
}
