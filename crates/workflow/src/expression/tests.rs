//! Tests of the parser's shape and its bounds; behaviour is tested through the public interface in `tests/it`.

mod constants;
mod generate;
mod oracle;
mod worth;

use proptest::prelude::*;

use super::node::{Kind, Node};
use super::*;

/// The tree as text, without positions: what two parses must agree on.
fn shape(node: &Node) -> String {
    let list = |nodes: &[Node]| nodes.iter().map(shape).collect::<Vec<_>>().join(" ");
    match &node.kind {
        Kind::Literal(Value::Number(number)) => format!("{number:?}"),
        Kind::Literal(Value::String(text)) => format!("{text:?}"),
        Kind::Literal(value) => node::quote(&value.to_text()),
        Kind::Context(name) => format!("@{name}"),
        Kind::Call { name, arguments } => format!("({} {})", name.to_ascii_lowercase(), list(arguments)),
        Kind::Index { target, index } => format!("(. {} {})", shape(target), shape(index)),
        Kind::Filter(target) => format!("(* {})", shape(target)),
        Kind::Not(operand) => format!("(! {})", shape(operand)),
        Kind::Chain { all, operands } => format!("({} {})", if *all { "&&" } else { "||" }, list(operands)),
        Kind::Compare { comparison, left, right } => {
            format!("({} {} {})", comparison.symbol(), shape(left), shape(right))
        }
    }
}

fn shape_of(text: &str) -> String {
    shape(&Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).root)
}

#[test]
fn operators_bind_as_documented() {
    for (text, expected) in [
        ("!github == 1", "(== (! @github) 1.0)"),
        ("!github.a", "(! (. @github \"a\"))"),
        ("!!true", "(! (! 'true'))"),
        ("1 < 2 == 3 > 4", "(== (< 1.0 2.0) (> 3.0 4.0))"),
        ("1 < 2 < 3", "(< (< 1.0 2.0) 3.0)"),
        ("1 != 2 == 3", "(== (!= 1.0 2.0) 3.0)"),
        ("1 || 2 && 3 || 4", "(|| 1.0 (&& 2.0 3.0) 4.0)"),
        ("1 && 2 == 3 && 4", "(&& 1.0 (== 2.0 3.0) 4.0)"),
        ("1 && (2 && 3)", "(&& 1.0 2.0 3.0)"),
        ("(1 || 2) && 3", "(&& (|| 1.0 2.0) 3.0)"),
        ("1 == !2 == 3", "(== (== 1.0 (! 2.0)) 3.0)"),
        ("a['x'][0].y.*[*]", "(* (* (. (. (. @a \"x\") 0.0) \"y\")))"),
        ("a[b.c || 'd'].e", "(. (. @a (|| (. @b \"c\") \"d\")) \"e\")"),
        ("fromJSON( a )[ 'b' ] . c", "(. (. (fromjson @a) \"b\") \"c\")"),
        ("(a).b", "(. @a \"b\")"),
        ("('a').b", "(. \"a\" \"b\")"),
        ("a.true.null.NaN", "(. (. (. @a \"true\") \"null\") \"NaN\")"),
        ("success ()", "(success )"),
        ("case(true,1,2)", "(case 'true' 1.0 2.0)"),
        ("a.b-c._d", "(. (. @a \"b-c\") \"_d\")"),
        ("a [.5]", "(. @a 0.5)"),
    ] {
        assert_eq!(shape_of(text), expected, "{text}");
    }
}

#[test]
fn canonical_text_has_only_the_parentheses_it_needs() {
    for (text, expected) in [
        ("((a.b))==( 'x' )", "a.b == 'x'"),
        ("!(a&&b)||c", "!(a && b) || c"),
        ("(a||b)&&c", "(a || b) && c"),
        ("a<(b<c)", "a < (b < c)"),
        ("(a==b)[0]", "(a == b)[0]"),
        ("(!a).b", "(!a).b"),
        ("a['b']['c d'][*]", "a.b['c d'].*"),
        ("'it''s'", "'it''s'"),
        ("0x10", "16"),
        ("1e300", "1e300"),
        ("('x').y", "('x').y"),
    ] {
        let expression = Expression::parse(text).expect("the table holds expressions");
        assert_eq!(expression.to_string(), expected);
        assert_eq!(expression.text(), text);
    }
}

#[test]
fn depth_is_bounded_and_parentheses_are_free() {
    let nested = |depth: usize| format!("{}true", "!".repeat(depth - 1));
    assert!(Expression::parse(&nested(50)).is_ok());
    assert!(Expression::parse(&nested(51)).is_err());
    let path = |names: usize| format!("a{}", ".b".repeat(names));
    assert!(Expression::parse(&path(49)).is_ok());
    assert!(Expression::parse(&path(50)).is_err());
    let grouped = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert_eq!(shape_of(&grouped), "1.0");
    let chain = vec!["a"; 5000].join("||");
    assert_eq!(Expression::parse(&chain).expect("a chain is flat").root.depth, 2);
    let left = vec!["a"; 51].join("==");
    assert!(Expression::parse(&left).is_err(), "comparisons nest");
}

#[test]
fn hostile_nesting_fails_without_exhausting_the_stack() {
    for text in ["(", "!", "a[", "f(", "a(b[", "!(", "a.b["] {
        let long = text.repeat(MAX_LENGTH / text.len());
        assert!(Expression::parse(&long).is_err(), "{text}");
    }
}

#[test]
fn length_is_bounded_in_utf16_units() {
    let fits = format!("'{}'", "é".repeat(MAX_LENGTH - 2));
    assert!(Expression::parse(&fits).is_ok());
    let too_long = format!("'{}'", "😀".repeat(MAX_LENGTH / 2));
    let error = Expression::parse(&too_long).expect_err("it has 21002 units");
    assert!(error.message.contains("21002"), "{error}");
}

proptest! {
    #[test]
    fn printing_and_parsing_keep_the_tree(text in generate::expression()) {
        let parsed = Expression::parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let printed = parsed.to_string();
        let again = Expression::parse(&printed).map_err(|error| TestCaseError::fail(format!("{printed}: {error}")))?;
        prop_assert_eq!(shape(&parsed.root), shape(&again.root), "{}", printed);
        prop_assert_eq!(again.to_string(), printed);
    }

    #[test]
    fn every_node_lies_inside_the_text(text in generate::expression()) {
        let parsed = Expression::parse(&text).expect("generated from the grammar");
        let mut sound = true;
        parsed.root.walk(&mut |node| {
            sound &= text.get(node.offset..node.end()).is_some_and(|slice| match &node.kind {
                Kind::Context(name) => slice == name,
                Kind::Call { name, .. } => slice.starts_with(name.as_str()) && slice.ends_with(')'),
                _ => !slice.is_empty(),
            });
        });
        prop_assert!(sound, "{}", text);
    }
}
