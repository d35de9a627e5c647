//! Constant expressions are worth the same to an independent evaluator.
//!
//! Where the oracle is known to differ from GitHub's sources, a [`Rule`] says so, and lets only that difference pass.

use std::cell::Cell;

use github_actions_expressions::{Evaluation, Expr, SpannedExpr, literal::Literal};
use proptest::test_runner::{Config, TestRunner};

use super::super::{EvalError, Expression, Object, Value};
use super::constants::{Constant, constant};

/// A difference between the oracle and GitHub's sources (actions/runner `src/Sdk/Expressions`), where we are with GitHub.
struct Rule {
    /// What the oracle does.
    name: &'static str,
    /// Whether the difference can be due to it: some part of the oracle's tree is such a case.
    explains: fn(&SpannedExpr<'_>) -> bool,
}

const RULES: [Rule; 8] = [
    Rule {
        // EvaluationResult.ConvertToString: G15 (ExpressionConstants.NumberFormat).
        name: "numbers are text with 15 places after the point and none in scientific notation",
        explains: |part| number(part).is_some_and(|number| !plain(number)),
    },
    Rule {
        // ToJson.cs goes by the library's rules.
        name: "toJSON does not escape the line breaks that only Unicode has",
        explains: |part| {
            called(part, "ToJSON")
                && argument(part, 0).is_some_and(|value| holds(&value, |text| text.contains(UNICODE_BREAKS)))
        },
    },
    Rule {
        // Contains.cs: a collection that is looked for is never found.
        name: "contains looks for the word `Array` or `Object` where the part is a collection",
        explains: |part| called(part, "Contains") && argument(part, 1).is_none_or(|value| is_collection(&value)),
    },
    Rule {
        // Join.cs: a separator that is a collection is a comma.
        name: "join puts the word `Array` or `Object` between where the separator is a collection",
        explains: |part| called(part, "Join") && argument(part, 1).is_some_and(|value| is_collection(&value)),
    },
    Rule {
        // Format.cs, ReadFormatSpecifiers: `{0:x}` and `{0x}` are errors.
        name: "format takes anything between an argument's number and the brace, and counts bytes as characters",
        explains: |part| called(part, "Format") && argument(part, 0).is_none_or(|value| odd_format(&text(&value))),
    },
    Rule {
        // StringComparison.OrdinalIgnoreCase: simple upper case, of UTF-16 units; dotless i is no other letter's i.
        name: "upper case may have more characters, dotless i is I to contains, and order is that of characters",
        explains: |part| string(part).is_some_and(|text| text.chars().any(cased_differently)),
    },
    Rule {
        // ExpressionUtility.ParseNumber: `NumberStyles.AllowHexSpecifier` has no sign; too large a number is infinite.
        name: "text with a sign behind 0x or 0o is a number, and one too large is none",
        explains: |part| {
            let odd = |text: &str| {
                let text = text.trim();
                text.starts_with("0x+") || text.starts_with("0o+") || text.parse::<f64>().is_ok_and(f64::is_infinite)
            };
            string(part).is_some_and(|text| odd(&text))
        },
    },
    Rule {
        // FromJson.cs reads with a limit of its own, and is lenient (comments, single quotes, `undefined`).
        name: "fromJSON is strict, but nests deeper",
        explains: |part| {
            called(part, "FromJSON")
                && argument(part, 0).is_some_and(|value| text(&value).matches(['[', '{']).count() > 100)
        },
    },
];

fn called(part: &SpannedExpr<'_>, name: &str) -> bool {
    matches!(&**part, Expr::Call(call) if format!("{:?}", call.func) == name)
}

fn argument(part: &SpannedExpr<'_>, index: usize) -> Option<Evaluation> {
    let Expr::Call(call) = &**part else { return None };
    call.args.get(index)?.consteval()
}

fn text(value: &Evaluation) -> String {
    value.sema().to_string()
}

const UNICODE_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// Whether there is such a text in a value.
fn holds(value: &Evaluation, such: fn(&str) -> bool) -> bool {
    match value {
        Evaluation::String(text) => such(text),
        Evaluation::Array(items) => items.iter().any(|item| holds(item, such)),
        Evaluation::Object(entries) => entries.iter().any(|(key, value)| such(key) || holds(value, such)),
        _ => false,
    }
}

fn is_collection(value: &Evaluation) -> bool {
    matches!(value, Evaluation::Array(_) | Evaluation::Object(_))
}

/// The number that a part is worth, or one within the JSON that it is.
fn number(part: &SpannedExpr<'_>) -> Option<f64> {
    fn odd(value: &Evaluation) -> Option<f64> {
        match value {
            Evaluation::Number(number) => Some(*number).filter(|number| !plain(*number)),
            Evaluation::Array(items) => items.iter().find_map(odd),
            Evaluation::Object(entries) => entries.values().find_map(odd),
            _ => None,
        }
    }
    odd(&part.consteval()?)
}

/// Whether a number reads the same with 15 significant digits and with 15 places.
fn plain(number: f64) -> bool {
    if !number.is_finite() || number == 0.0 {
        return true;
    }
    let size = number.abs();
    let fifteen: f64 = format!("{number:.14e}").parse().expect("it was a number");
    (1e-4..1e15).contains(&size) && fifteen == number
}

fn string(part: &SpannedExpr<'_>) -> Option<String> {
    match &**part {
        Expr::Literal(Literal::String(text)) => Some(text.to_string()),
        _ => None,
    }
}

fn odd_format(format: &str) -> bool {
    let braces: Vec<usize> = format.match_indices('{').map(|(at, _)| at).collect();
    !format.is_ascii()
        || braces.into_iter().any(|at| {
            let rest = format[at + 1..].trim_start_matches(|character: char| character.is_ascii_digit());
            !rest.starts_with('}')
        })
}

fn cased_differently(character: char) -> bool {
    character == 'ı' || character.to_uppercase().count() > 1 || character > '\u{d7ff}'
}

/// Whether some part of the tree is such a case.
fn some(part: &SpannedExpr<'_>, explains: fn(&SpannedExpr<'_>) -> bool) -> bool {
    explains(part)
        || match &**part {
            Expr::Call(call) => call.args.iter().any(|argument| some(argument, explains)),
            Expr::UnExpr { expr, .. } => some(expr, explains),
            Expr::BinExpr(binary) => some(&binary.lhs, explains) || some(&binary.rhs, explains),
            _ => false,
        }
}

/// Deeply the same: numbers by value, objects whatever the order of their keys.
fn same(ours: &Value, theirs: &Evaluation) -> bool {
    match (ours, theirs) {
        (Value::Null, Evaluation::Null) => true,
        (Value::Bool(ours), Evaluation::Boolean(theirs)) => ours == theirs,
        (Value::Number(ours), Evaluation::Number(theirs)) => ours == theirs || ours.is_nan() && theirs.is_nan(),
        (Value::String(ours), Evaluation::String(theirs)) => **ours == **theirs,
        (Value::Array(ours), Evaluation::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| same(ours, theirs))
        }
        (Value::Object(ours), Evaluation::Object(theirs)) => {
            ours.len() == theirs.len()
                && theirs.iter().all(|(key, theirs)| ours.get(key).is_some_and(|ours| same(ours, theirs)))
        }
        _ => false,
    }
}

/// How one case came out.
enum Outcome {
    Same,
    /// The oracle has no value: it evaluates operands that do not matter, and its `fromJSON` is strict.
    Unknown,
    /// Different, for a reason that is known.
    Rule(usize),
}

fn compare(constant: &Constant) -> Result<Outcome, String> {
    let Constant { ours, theirs } = constant;
    // Its parser counts depth in its own way, which is compared elsewhere.
    let Ok(tree) = Expr::parse(theirs) else { return Ok(Outcome::Unknown) };
    let value = Expression::parse(ours).map_err(|error| format!("{ours}: {error}"))?.evaluate(&Object::new());
    let Some(expected) = tree.consteval() else { return Ok(Outcome::Unknown) };
    if value.as_ref().is_ok_and(|value| same(value, &expected)) {
        return Ok(Outcome::Same);
    }
    if let Some(rule) = RULES.iter().position(|rule| some(&tree, rule.explains)) {
        return Ok(Outcome::Rule(rule));
    }
    Err(format!("{ours}\nfor the oracle: {theirs}\nours: {value:?}\nthe oracle's: {expected:?}"))
}

#[test]
fn constants_are_worth_what_the_oracle_says() {
    const CASES: u32 = 2500;
    let (same, known) = (Cell::new(0_u32), Cell::new(0_u32));
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let result = runner.run(&constant(), |constant| {
        match compare(&constant) {
            Ok(Outcome::Same) => same.set(same.get() + 1),
            Ok(Outcome::Rule(_)) => known.set(known.get() + 1),
            Ok(Outcome::Unknown) => {}
            Err(difference) => return Err(proptest::test_runner::TestCaseError::fail(difference)),
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    // Otherwise a generator that makes nothing the oracle can judge would go unnoticed, or rules that excuse everything.
    assert!(same.get() > CASES / 2, "only {} of {CASES} cases could be compared", same.get());
    assert!(known.get() < CASES / 20, "{} of {CASES} cases were excused", known.get());
}

/// One expression for each rule, with what it is worth on GitHub; the oracle says something else. A rule that is not
/// needed any more is to go.
#[test]
fn every_difference_from_the_oracle_is_needed_and_known() {
    let text = Value::from;
    let examples: [(&str, Result<Value, &str>); RULES.len()] = [
        ("format('{0}', 1e21)", Ok(text("1E+21"))),
        ("toJSON('\u{2028}')", Ok(text("\"\\u2028\""))),
        ("contains('array', fromJSON('[]'))", Ok(Value::Bool(false))),
        ("join(fromJSON('[1,2]'), fromJSON('[]'))", Ok(text("1,2"))),
        ("format('{0:x}', 1)", Err("format specifier")),
        ("contains('ı', 'I')", Ok(Value::Bool(false))),
        ("'0x+1' == 1", Ok(Value::Bool(false))),
        // A hundred levels are the limit of GitHub's reader, a hundred and twenty-seven that of the oracle's.
        ("fromJSON('DEEP')", Err("deeper than")),
    ];
    for (index, (expression, expected)) in examples.into_iter().enumerate() {
        let deep = format!("{}{}", "[".repeat(110), "]".repeat(110));
        let expression = expression.replace("DEEP", &deep);
        let value = Expression::parse(&expression).expect("examples are expressions").evaluate(&Object::new());
        match (&value, expected) {
            (Ok(value), Ok(expected)) => assert_eq!(*value, expected, "{expression}"),
            (Err(error), Err(part)) => assert!(EvalError::to_string(error).contains(part), "{expression}: {error}"),
            (value, _) => panic!("{expression}: {value:?}"),
        }
        let constant = Constant { ours: expression.clone(), theirs: expression.clone() };
        match compare(&constant) {
            Ok(Outcome::Rule(rule)) => assert_eq!(rule, index, "{expression} is excused by: {}", RULES[rule].name),
            Ok(Outcome::Same) => panic!("{expression}: the oracle agrees, so this rule can go: {}", RULES[index].name),
            Ok(Outcome::Unknown) => panic!("{expression}: the oracle has no value"),
            Err(difference) => panic!("{difference}"),
        }
    }
}
