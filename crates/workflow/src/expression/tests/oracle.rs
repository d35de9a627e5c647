//! The same texts through an independent parser: it must accept what we accept and see the same tree.
//!
//! Known differences are excluded where they arise: the oracle takes a comma before `)`, counts depth by recursion
//! (parentheses too, properties not), and does not count the arguments of `format`. What expressions are worth is
//! compared in `worth.rs`.

use github_actions_expressions::{Error as OracleError, Expr, SpannedExpr, literal::Literal, op};
use proptest::prelude::*;

use super::super::{Allowed, CheckError, Expression};
use super::{generate, shape};

const ALLOWED: Allowed<'_> =
    Allowed { contexts: &[], functions: &["success", "failure", "cancelled", "always", "hashFiles"] };

fn oracle_shape(node: &SpannedExpr<'_>) -> String {
    match &**node {
        Expr::Literal(Literal::Number(number)) => format!("{number:?}"),
        Expr::Literal(Literal::String(text)) => format!("{text:?}"),
        Expr::Literal(Literal::Null) => "''".to_owned(),
        Expr::Literal(literal) => format!("'{}'", literal.as_str()),
        Expr::Star => "*".to_owned(),
        Expr::Identifier(name) => format!("@{}", name.as_str()),
        Expr::Index(index) => oracle_shape(index),
        Expr::Call(call) => {
            let arguments: Vec<String> = call.args.iter().map(oracle_shape).collect();
            format!("({} {})", format!("{:?}", call.func).to_ascii_lowercase(), arguments.join(" "))
        }
        Expr::Context(context) => {
            let (head, rest) = context.parts.split_first().expect("a context has a head");
            rest.iter().fold(oracle_shape(head), |target, part| match &**part {
                Expr::Star => format!("(* {target})"),
                Expr::Index(index) if matches!(***index, Expr::Star) => format!("(* {target})"),
                Expr::Identifier(name) => format!("(. {target} {:?})", name.as_str()),
                _ => format!("(. {target} {})", oracle_shape(part)),
            })
        }
        Expr::UnExpr { expr, .. } => format!("(! {})", oracle_shape(expr)),
        Expr::BinExpr(binary) => {
            let symbol = match binary.op {
                op::BinOp::And => return format!("(&& {})", flat(node, true)),
                op::BinOp::Or => return format!("(|| {})", flat(node, false)),
                op::BinOp::Eq => "==",
                op::BinOp::Neq => "!=",
                op::BinOp::Gt => ">",
                op::BinOp::Ge => ">=",
                op::BinOp::Lt => "<",
                op::BinOp::Le => "<=",
            };
            format!("({symbol} {} {})", oracle_shape(&binary.lhs), oracle_shape(&binary.rhs))
        }
    }
}

/// The operands of a chain; the oracle nests what we keep flat.
fn flat(node: &SpannedExpr<'_>, all: bool) -> String {
    match &**node {
        Expr::BinExpr(binary) if binary.op == if all { op::BinOp::And } else { op::BinOp::Or } => {
            format!("{} {}", flat(&binary.lhs, all), flat(&binary.rhs, all))
        }
        _ => oracle_shape(node),
    }
}

/// What we find wrong with calls; the oracle takes any context, and `format` with any number of arguments.
fn call_findings(expression: &Expression) -> Vec<CheckError> {
    let mut findings = expression.check(&ALLOWED);
    findings.retain(|finding| !finding.message.contains("context") && !finding.message.contains("format"));
    findings
}

fn agree(text: &str) -> Result<(), TestCaseError> {
    let ours = Expression::parse(text);
    match Expr::parse(text) {
        Ok(theirs) => {
            let Ok(ours) = ours else {
                let comma_before_close = text.split(')').any(|before| before.trim_end().ends_with(','));
                prop_assert!(comma_before_close, "only the oracle accepts {}: {:?}", text, ours);
                return Ok(());
            };
            prop_assert_eq!(shape(&ours.root), oracle_shape(&theirs), "{}", text);
            prop_assert_eq!(call_findings(&ours), Vec::new(), "{}", text);
        }
        Err(OracleError::Depth) => {}
        Err(OracleError::Call(_)) => {
            // The oracle stops at the first bad call; the text after it may be no expression at all.
            let found = ours.is_err() || ours.is_ok_and(|ours| !call_findings(&ours).is_empty());
            prop_assert!(found, "only we accept {}", text);
        }
        Err(OracleError::Syntax(error)) => prop_assert!(ours.is_err(), "only we accept {}: {}", text, error),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn both_parsers_see_the_same_tree(text in generate::expression()) {
        agree(&text)?;
    }

    #[test]
    fn both_parsers_accept_the_same_token_soup(text in generate::soup()) {
        agree(&text)?;
    }

    #[test]
    fn both_parsers_accept_the_same_printable_text(text in "[ -~]{0,12}") {
        agree(&text)?;
    }
}
