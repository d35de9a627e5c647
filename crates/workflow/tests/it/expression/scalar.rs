use proptest::prelude::*;
use startline_workflow::expression::{Expression, Piece, Scalar, condition, scalar_to_expression, split};

use super::World;

fn literal(text: &str) -> Piece {
    Piece::Literal(text.to_owned())
}

fn expression(text: &str, offset: usize) -> Piece {
    Piece::Expression { text: text.to_owned(), offset }
}

#[test]
fn split_finds_expressions_and_honours_quotes() {
    for (text, expected) in [
        ("", vec![]),
        ("plain", vec![literal("plain")]),
        ("a }} $ {{ b", vec![literal("a }} $ {{ b")]),
        ("${{ a }}", vec![expression("a", 4)]),
        ("${{a}}${{  b}}", vec![expression("a", 3), expression("b", 11)]),
        ("x${{ a }}y", vec![literal("x"), expression("a", 5), literal("y")]),
        ("${{ '}}' }}.", vec![expression("'}}'", 4), literal(".")]),
        ("${{ 'it''s }}' }}", vec![expression("'it''s }}'", 4)]),
        ("${{ '}'}}", vec![expression("'}'", 4)]),
        ("é${{ é }}", vec![literal("é"), expression("é", 6)]),
        ("${{\n a\n}}\n", vec![expression("a", 5), literal("\n")]),
    ] {
        assert_eq!(split(text), Ok(expected), "{text}");
    }
}

#[test]
fn split_explains_what_is_not_closed_or_empty() {
    for (text, offset, length, message) in [
        ("ab ${{ x", 3, 3, "this '${{' is not closed: add '}}'"),
        ("${{ x }", 0, 3, "this '${{' is not closed: add '}}'"),
        (
            "${{ it's }} b",
            0,
            3,
            "this '${{' is not closed: a single quote inside it has no partner, so the '}}' after it counts as text",
        ),
        ("a${{ }}", 1, 6, "an expression is expected between '${{' and '}}'"),
        ("${{}}", 0, 5, "an expression is expected between '${{' and '}}'"),
    ] {
        let error = split(text).expect_err(text);
        assert_eq!((error.offset, error.length, &*error.message), (offset, length, message), "{text}");
    }
}

#[test]
fn scalars_become_one_expression() {
    for (text, expected) in [
        ("plain", None),
        ("", None),
        ("${{ github.ref }}", Some("github.ref")),
        ("${{\n  a &&\n  b }}", Some("a &&\n  b")),
        (
            "build ${{ github.ref_name }} {x} it's #${{ github.run_number }}",
            Some("format('build {0} {{x}} it''s #{1}', github.ref_name, github.run_number)"),
        ),
        ("${{ a }}${{ a }}", Some("format('{0}{1}', a, a)")),
        (" ${{ a }}", Some("format(' {0}', a)")),
        ("${{ 'x' }}", Some("'x'")),
        ("it's ${{ '{x}' }}", Some("'it''s {x}'")),
        ("${{ '${{' }} ${{ a }}", Some("format('${{{{ {0}', a)")),
    ] {
        assert_eq!(scalar_to_expression(text), Ok(expected.map(str::to_owned)), "{text}");
    }
    assert_eq!(Scalar::read("v${{ '1''s' }}"), Ok(Scalar::Literal("v1's".to_owned())));
    assert_eq!(Scalar::read("plain"), Ok(Scalar::Literal("plain".to_owned())));
    assert_eq!(Scalar::read("${{ a }}"), Ok(Scalar::Expression("a".to_owned())));
}

#[test]
fn each_part_of_a_scalar_must_be_sound_alone() {
    for (text, at) in
        [("x ${{ a, b }}", ","), ("x ${{ a) }}", ")"), ("x ${{ (a }} ${{ b) }}", "("), ("é ${{ a = b }}", "=")]
    {
        let error = Scalar::read(text).expect_err(text);
        assert_eq!(&text[error.offset..error.offset + error.length], at, "{text}");
    }
    let many = |count: usize| "${{ a }}-".repeat(count);
    assert!(Scalar::read(&many(254)).is_ok());
    let error = Scalar::read(&many(255)).expect_err("format takes 254 values");
    assert!(error.message.contains("255 expressions"), "{error}");
    let long = format!("{}${{{{ a }}}}", "x".repeat(21_000));
    assert!(Scalar::read(&long).expect_err("too long").message.contains("at most 21000"));
    let deep = format!("x${{{{ {}a }}}}", "!".repeat(49));
    assert!(Scalar::read(&deep).is_err(), "format adds a level");
}

#[test]
fn conditions_imply_success_unless_a_status_function_is_called() {
    for (text, expected) in [
        ("", "success()"),
        ("  ", "success()"),
        ("a == 1", "success() && (a == 1)"),
        ("a || b", "success() && (a || b)"),
        ("${{ a || b }}", "success() && (a || b)"),
        ("${{ always() }}", "always()"),
        (" failure() && a ", "failure() && a"),
        ("!Cancelled()", "!Cancelled()"),
        ("'success()'", "success() && ('success()')"),
        ("true", "success() && (true)"),
        ("a ${{ b }}", "success() && (format('a {0}', b))"),
    ] {
        assert_eq!(condition(text), Ok(expected.to_owned()), "{text}");
    }
    let error = condition("  a = 1").expect_err("not an expression");
    assert_eq!(error.offset, 4);
}

proptest! {
    #[test]
    fn splitting_loses_nothing(text in "(\\$\\{\\{|\\}\\}|'|a|\\{|\\}| |é){0,14}") {
        if let Ok(pieces) = split(&text) {
            let mut rest = &text[..];
            for piece in pieces {
                match piece {
                    Piece::Literal(literal) => {
                        prop_assert!(rest.starts_with(&literal));
                        rest = &rest[literal.len()..];
                    }
                    Piece::Expression { text: inner, offset } => {
                        prop_assert_eq!(&text[offset..offset + inner.len()], &*inner);
                        let after = &text[offset + inner.len()..];
                        rest = after.trim_start().strip_prefix("}}").expect("an expression is closed");
                    }
                }
            }
            prop_assert_eq!(rest, "");
        }
    }

    #[test]
    fn mixed_text_evaluates_to_itself_with_values_put_in(before in "[a-z{}' é$]{0,8}", after in "[a-z{}' é]{0,8}") {
        // That would begin an expression of its own.
        prop_assume!(!before.contains("${{"));
        let text = format!("{before} ${{{{ matrix.os }}}}{after}");
        let joined = Expression::parse(&scalar_to_expression(&text).expect("sound").expect("an expression")).expect("sound");
        let value = joined.evaluate(&World::new()).expect("a value");
        prop_assert_eq!(value.to_text(), format!("{before} linux{after}"));
    }
}
