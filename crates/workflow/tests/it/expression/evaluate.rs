use proptest::prelude::*;
use serde_json::json;
use startline_workflow::expression::{EvalError, Expression, MAX_RESULT_BYTES, Object, Value};

use super::{World, assert_table};

#[test]
fn logical_operators_return_operands() {
    assert_table(&[
        ("'a' && 'b'", json!("b")),
        ("'' && 'b'", json!("")),
        ("0 && 'b'", json!(0)),
        ("null || 'b'", json!("b")),
        ("'a' || 'b'", json!("a")),
        ("false || ''", json!("")),
        ("false || null || 0", json!(0)),
        ("1 && 2 && 3", json!(3)),
        ("matrix.os == 'linux' && 'yes' || 'no'", json!("yes")),
        ("matrix.os == 'mac' && 'yes' || 'no'", json!("no")),
        ("!''", json!(true)),
        ("!'false'", json!(false)),
        ("!matrix", json!(false)),
        ("!NaN", json!(true)),
    ]);
}

#[test]
fn comparisons_coerce_as_documented() {
    assert_table(&[
        ("'ABC' == 'abc'", json!(true)),
        ("'ABC' != 'abc'", json!(false)),
        ("1 == '1'", json!(true)),
        ("1 == ' 0x1 '", json!(true)),
        ("true == 1", json!(true)),
        ("true == 'true'", json!(false)),
        ("null == ''", json!(true)),
        ("null == 0", json!(true)),
        ("null == false", json!(true)),
        ("NaN == NaN", json!(false)),
        ("NaN != NaN", json!(true)),
        ("'x' == 0", json!(false)),
        ("'a' < 'B'", json!(true)),
        ("'_' > 'a'", json!(true)),
        ("2 < 10", json!(true)),
        ("'2' < '10'", json!(false)),
        ("'2' < 10", json!(true)),
        ("true > false", json!(true)),
        ("null >= null", json!(true)),
        ("null > null", json!(false)),
        ("null >= 0", json!(true)),
        ("NaN >= NaN", json!(false)),
        ("Infinity > 1e308", json!(true)),
        ("-Infinity < -1", json!(true)),
        ("github == github", json!(true)),
        ("github >= github", json!(true)),
        ("github > github", json!(false)),
        ("github == matrix", json!(false)),
        ("github != 'Object'", json!(true)),
        ("github.event.labels == github.event.labels", json!(true)),
        ("fromJSON('[1]') == fromJSON('[1]')", json!(false)),
        ("github.event < 1", json!(false)),
    ]);
}

#[test]
fn literals_have_their_values() {
    assert_table(&[
        ("null", json!(null)),
        ("true", json!(true)),
        ("-0", json!(0)),
        ("+7", json!(7)),
        (".5", json!(0.5)),
        ("5.", json!(5)),
        ("1e3", json!(1000)),
        ("1E-2", json!(0.01)),
        ("0xfF", json!(255)),
        ("0o17", json!(15)),
        ("'it''s'", json!("it's")),
        ("''", json!("")),
        ("''''", json!("'")),
        ("'${{ }}'", json!("${{ }}")),
        ("format('{0}', 1e15)", json!("1E+15")),
        ("format('{0} {1} {2}', NaN, Infinity, -Infinity)", json!("NaN Infinity -Infinity")),
        ("format('{0}', 0.1)", json!("0.1")),
        ("format('{0}', -0)", json!("0")),
        ("format('{0}', 3.0)", json!("3")),
    ]);
}

#[test]
fn properties_and_indices_find_what_is_there() {
    assert_table(&[
        ("github.ref", json!("refs/heads/main")),
        ("GitHub.REF", json!("refs/heads/main")),
        ("github['REF']", json!("refs/heads/main")),
        ("github['a b']", json!("spaced")),
        ("github[1]", json!("one")),
        ("github[null]", json!("empty key")),
        ("github[github]", json!(null)),
        ("github.missing", json!(null)),
        ("github.missing.deeper[0].x", json!(null)),
        ("github.ref.length", json!(null)),
        ("empty.x", json!(null)),
        ("env.Path", json!("mixed")),
        ("env.PATH", json!(null)),
        ("matrix['o' == 'O' && 'os']", json!("linux")),
        ("github.event.labels[0].name", json!("bug")),
        ("github.event.labels['1'].name", json!("Help")),
        ("github.event.labels[1.9].name", json!("Help")),
        ("github.event.labels[true].name", json!("Help")),
        ("github.event.labels[null].name", json!("bug")),
        ("github.event.labels['x']", json!(null)),
        ("github.event.labels[-1]", json!(null)),
        ("github.event.labels[99]", json!(null)),
        ("github.event.labels[1e300]", json!(null)),
        ("github.event.labels[NaN]", json!(null)),
        ("github.event.labels.name", json!(null)),
        ("(github).ref", json!("refs/heads/main")),
        ("fromJSON('{\"a\":{\"b\":1}}').A.b", json!(1)),
        ("('text').x", json!(null)),
    ]);
}

#[test]
fn filters_spread_flatten_and_drop_what_is_missing() {
    assert_table(&[
        ("github.event.labels.*.name", json!(["bug", "Help"])),
        ("github.event.labels[*].ID", json!([1, 2, 3])),
        ("github.event.labels.*['name']", json!(["bug", "Help"])),
        ("needs.*.result", json!(["success", "failure"])),
        ("github.event.nested.*", json!([[1, 2], [3], []])),
        ("github.event.nested.*.*", json!([1, 2, 3])),
        ("github.event.nested.*[0]", json!([1, 3])),
        ("github.event.nested.*[1]", json!([2])),
        ("github.event.nested.*.*.*", json!([])),
        ("github.event.commits.*.files", json!([["a", "b"], ["c"]])),
        ("github.event.commits.*.files.*", json!(["a", "b", "c"])),
        ("github.event.commits.*.files[0]", json!(["a", "c"])),
        ("matrix.*", json!(["linux", null, 3])),
        ("fromJSON('[{\"a\":null},{}]').*.a", json!([null])),
        ("github.ref.*", json!([])),
        ("github.missing.*.x", json!([])),
        ("empty[*]", json!([])),
        ("(github.event.nested.*)[0]", json!([1, 3])),
        ("(empty || github.event.nested.*)[0]", json!([1, 3])),
        ("case(true, github.event.nested.*, 1)[0]", json!([1, 3])),
        ("fromJSON(toJSON(github.event.nested.*))[0]", json!([1, 2])),
        ("join(needs.*.result)", json!("success,failure")),
        ("contains(needs.*.result, 'FAILURE')", json!(true)),
    ]);
}

#[test]
fn contains_looks_into_text_and_arrays() {
    assert_table(&[
        ("contains('Hello', 'ELL')", json!(true)),
        ("contains('Hello', '')", json!(true)),
        ("contains('Hello', 'x')", json!(false)),
        ("contains(1234, 23)", json!(true)),
        ("contains(true, 'RU')", json!(true)),
        ("contains(null, '')", json!(true)),
        ("contains('Object', github)", json!(false)),
        ("contains(github, 'ref')", json!(false)),
        ("contains(fromJSON('[1,\"B\",null]'), '1')", json!(true)),
        ("contains(fromJSON('[1,\"B\",null]'), 'b')", json!(true)),
        ("contains(fromJSON('[1,\"B\",null]'), 0)", json!(true)),
        ("contains(fromJSON('[\"ab\"]'), 'a')", json!(false)),
        ("contains(fromJSON('[]'), null)", json!(false)),
        ("CONTAINS('É', 'é')", json!(true)),
    ]);
}

#[test]
fn starts_and_ends_ignore_case() {
    assert_table(&[
        ("startsWith('Hello', 'hE')", json!(true)),
        ("startsWith('Hello', 'ello')", json!(false)),
        ("startsWith('Hello', '')", json!(true)),
        ("startsWith(123, 12)", json!(true)),
        ("startsWith(github, '')", json!(false)),
        ("startsWith('', github)", json!(false)),
        ("startsWith('Ob', 'Object')", json!(false)),
        ("endsWith('Hello', 'LLO')", json!(true)),
        ("endsWith('Hello', 'hell')", json!(false)),
        ("endsWith(null, null)", json!(true)),
    ]);
}

#[test]
fn format_fills_and_escapes() {
    assert_table(&[
        ("format('{0}-{1}-{0}', 'a', 'b')", json!("a-b-a")),
        ("format('{{0}} {{{0}}}', 'x')", json!("{0} {x}")),
        ("format('}}{{')", json!("}{")),
        ("format('plain')", json!("plain")),
        ("format('')", json!("")),
        ("format('{0}{1}{2}{3}', null, true, 1.50, github)", json!("true1.5Object")),
        ("format('{0:}', 1)", json!("1")),
        ("format('{00}', 1)", json!("1")),
        ("format(1)", json!("1")),
        ("format('{0}', '{1}')", json!("{1}")),
    ]);
    for text in ["{", "}", "{0", "{}", "{a}", "{-1}", "{ 0}", "{0 }", "{0}}", "{{0}", "{1}", "{256}", "{0:N}", "{0:"] {
        let error = World::new().eval(&format!("format('{text}', 'x')")).expect_err(text);
        assert!(matches!(error, EvalError::Format { .. }), "{text}: {error:?}");
    }
    let error = World::new().eval("format('{2}', 'x', 'y')").expect_err("there is no third argument");
    assert_eq!(
        error.to_string(),
        "invalid format string '{2}': {2} names an argument that is not given; the last is {1}"
    );
}

#[test]
fn join_takes_arrays_and_primitives() {
    assert_table(&[
        ("join(fromJSON('[1,null,\"a\",true,[2]]'))", json!("1,,a,true,Array")),
        ("join(fromJSON('[1,2]'), ' - ')", json!("1 - 2")),
        ("join(fromJSON('[1,2]'), '')", json!("12")),
        ("join(fromJSON('[1,2]'), null)", json!("12")),
        ("join(fromJSON('[1,2]'), github)", json!("1,2")),
        ("join(fromJSON('[]'), '-')", json!("")),
        ("join('abc', '-')", json!("abc")),
        ("join(1.5)", json!("1.5")),
        ("join(github)", json!("")),
    ]);
}

#[test]
fn to_json_prints_with_two_spaces() {
    let world = World::new();
    for (text, expected) in [
        ("toJSON('a\"b')", r#""a\"b""#),
        ("toJSON(null)", "null"),
        ("toJSON(1.0)", "1"),
        ("toJSON(1e15)", "1E+15"),
        ("toJSON(fromJSON('[]'))", "[]"),
        ("toJSON(fromJSON('{}'))", "{}"),
        ("toJSON(matrix)", "{\n  \"os\": \"linux\",\n  \"skip\": null,\n  \"count\": 3\n}"),
        ("toJSON(github.event.nested)", "[\n  [\n    1,\n    2\n  ],\n  [\n    3\n  ],\n  []\n]"),
        ("toJSON(needs.*)", "[\n  {\n    \"result\": \"success\"\n  },\n  {\n    \"result\": \"failure\"\n  }\n]"),
        (
            r#"toJSON(fromJSON('"\u0001\t\n\r\b\f\\\/\u0085\u2028\u2029é\ud83d\ude00"'))"#,
            "\"\\u0001\\t\\n\\r\\b\\f\\\\/\\u0085\\u2028\\u2029é😀\"",
        ),
    ] {
        assert_eq!(world.eval(text), Ok(Value::from(expected)), "{text}");
    }
}

#[test]
fn from_json_reads_what_github_reads() {
    assert_table(&[
        ("fromJSON('null')", json!(null)),
        ("fromJSON(' true ')", json!(true)),
        ("fromJSON('-1.5e2')", json!(-150)),
        ("fromJSON('\"\\u0041\\n\"')", json!("A\n")),
        ("fromJSON('\"\\ud800\"')", json!("\u{fffd}")),
        ("fromJSON('{\"b\":1,\"a\":[{}]}')", json!({"b": 1, "a": [{}]})),
        ("fromJSON('{\"a\":1,\"A\":2}').a", json!(2)),
        ("fromJSON(1)", json!(1)),
        ("fromJSON(true)", json!(true)),
        ("fromJSON(toJSON(github.event)).nested[0]", json!([1, 2])),
        // What JSON proper forbids and GitHub's worker reads.
        ("fromJSON('[''a'',''b'']')", json!(["a", "b"])),
        ("fromJSON('{a: ''x'', b-c: 1,}')", json!({"a": "x", "b-c": 1})),
        ("fromJSON('[1,2,]')", json!([1, 2])),
        ("fromJSON('/* c */ [1, // one\n 2]')", json!([1, 2])),
        ("fromJSON('\"two\nlines\"')", json!("two\nlines")),
        ("fromJSON('[NaN]')[0] == 1", json!(false)),
        ("fromJSON('-Infinity') < 0", json!(true)),
    ]);
}

#[test]
fn from_json_names_the_place_of_an_error() {
    let world = World::new();
    for (json, expected) in [
        ("", "fromJSON: the text is empty and JSON is expected at line 1, column 1"),
        ("[1 2]", "fromJSON: ',' or ']' is expected at line 1, column 4"),
        ("{\n \"a\" 1}", "fromJSON: ':' is expected after a property name at line 2, column 6"),
        ("[1", "fromJSON: ',' or ']' is expected at line 1, column 3"),
        ("main", "fromJSON: 'main' is no JSON value; put text in double quotes at line 1, column 1"),
        ("{} {}", "fromJSON: the JSON ends here and more text follows at line 1, column 4"),
        ("\"a", "fromJSON: a string is not closed at line 1, column 1"),
        ("\"\\x\"", "fromJSON: an escape is malformed at line 1, column 2"),
        ("[,]", "fromJSON: unexpected ',' at line 1, column 2"),
        ("/* a", "fromJSON: a comment is not closed at line 1, column 1"),
        ("010", "fromJSON: '010' is no JSON value; put text in double quotes at line 1, column 1"),
    ] {
        let error = world.eval(&format!("fromJSON('{json}')")).expect_err(json);
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn from_json_bounds_nesting() {
    let nested = |depth: usize| format!("fromJSON('{}{}')", "[".repeat(depth), "]".repeat(depth));
    assert!(World::new().eval(&nested(100)).is_ok());
    let error = World::new().eval(&nested(101)).expect_err("too deep");
    assert!(error.to_string().contains("deeper than 100"), "{error}");
    assert!(World::new().eval(&format!("fromJSON('{}')", "[".repeat(20_000))).is_err());
}

#[test]
fn case_takes_the_first_true_condition() {
    assert_table(&[
        ("case(true, 1, 2)", json!(1)),
        ("case(false, 1, 2)", json!(2)),
        ("case(false, 1, 1 == 1, 2, 3)", json!(2)),
        ("case(true, 1, 'not evaluated', 2, 3)", json!(1)),
        ("case(matrix.os == 'linux', fromJSON('[1]'), null)", json!([1])),
    ]);
    let error = World::new().eval("case(false, 1, 'x', 2, 3)").expect_err("a string is no condition");
    assert_eq!(error, EvalError::CaseCondition { position: 2, kind: "string" });
}

#[test]
fn what_does_not_matter_is_not_evaluated() {
    let broken = "broken()";
    for text in [
        format!("false && {broken}"),
        format!("true || {broken}"),
        format!("case(true, 1, {broken})"),
        format!("format('{{0}}', 1, {broken})"),
        format!("contains(fromJSON('[]'), {broken})"),
        format!("contains(github, {broken})"),
        format!("startsWith(github, {broken})"),
        format!("join(fromJSON('[1]'), {broken})"),
        format!("empty[{broken}]"),
    ] {
        let world = World::new();
        assert!(world.eval(&text).is_ok(), "{text}");
        assert!(!world.asked.borrow().contains(&"broken/0".to_owned()), "{text}");
    }
    let world = World::new();
    assert!(world.eval("format('{0}{0}', hashFiles('a', 'b'))").is_ok());
    assert_eq!(*world.asked.borrow(), ["hashfiles/2"], "an argument is evaluated once");
}

#[test]
fn the_scope_supplies_contexts_and_functions() {
    let world = World::new();
    assert_eq!(world.eval("Success() && !FAILURE()"), Ok(Value::Bool(true)));
    assert_eq!(world.eval("hashFiles('**/*.lock', 1)"), Ok(Value::from("hash of **/*.lock")));
    assert_eq!(*world.asked.borrow(), ["success/0", "failure/0", "hashfiles/2"]);
    assert_eq!(world.eval("GitHub.ref == github.ref"), Ok(Value::Bool(true)));
    assert_eq!(world.asked.borrow().iter().filter(|asked| *asked == "github").count(), 1);
    assert_eq!(world.eval("broken()"), Err(EvalError::function("broken", "out of order")));
    assert_eq!(world.eval("Nope.x"), Err(EvalError::UnknownContext { name: "Nope".to_owned() }));
    assert_eq!(world.eval("nope(1)"), Err(EvalError::UnknownFunction { name: "nope".to_owned() }));
    let error = world.eval("contains(1)").expect_err("it takes two");
    assert_eq!(error.to_string(), "contains takes 2 arguments and got 1");
}

#[test]
fn results_are_bounded() {
    let big = "x".repeat(1 << 20);
    let scope: Object =
        [("s".to_owned(), Value::from(big)), ("a".to_owned(), Value::array(vec![Value::Null; 1 << 20]))]
            .into_iter()
            .collect();
    let eval = |text: &str| Expression::parse(text).expect("an expression").evaluate(&scope);
    assert!(eval("format('{0}{0}{0}', s)").is_ok());
    assert_eq!(eval("format('{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}', s)"), Err(EvalError::TooLarge));
    assert_eq!(eval("join(a, s)"), Err(EvalError::TooLarge));
    assert_eq!(eval("a.*.*"), Err(EvalError::TooLarge), "a filter holds its items");
    let doubled = (0..30).fold("'0123456789'".to_owned(), |inner, _| format!("format('{{0}}{{0}}', {inner})"));
    assert_eq!(eval(&doubled), Err(EvalError::TooLarge), "nested format is a bomb");
    let quoted = (0..30).fold("'\"'".to_owned(), |inner, _| format!("toJSON({inner})"));
    assert_eq!(eval(&quoted), Err(EvalError::TooLarge), "nested toJSON is a bomb");
    let held = format!("case(false, 1, format('{{0}}', {0}) == {0}, 2, 3)", "format('{0}{0}{0}{0}', s)");
    assert_eq!(eval(&held), Ok(Value::Number(2.0)), "memory given back counts no more");
    assert_eq!(MAX_RESULT_BYTES, 10 << 20);
}

#[test]
fn many_values_made_one_after_another_are_fine() {
    let scope: Object = [("s".to_owned(), Value::from("x".repeat(1 << 20)))].into_iter().collect();
    let text = ["startsWith(format('{0}{0}', s), 'y')"; 8].join(" || ");
    assert_eq!(Expression::parse(&text).expect("an expression").evaluate(&scope), Ok(Value::Bool(false)));
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        (-1_000_000_000_000_i64..1_000_000_000_000).prop_map(|value| json!(value)),
        ".{0,6}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..4)
                .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn parsing_arbitrary_text_never_panics(text in ".{0,60}") {
        if let Err(error) = Expression::parse(&text) {
            prop_assert!(text.get(error.offset..error.offset + error.length).is_some(), "{:?} {:?}", text, error);
            prop_assert!(!error.message.is_empty());
        }
    }

    #[test]
    fn evaluating_whatever_parses_never_panics(tokens in prop::collection::vec(prop::sample::select(vec![
        "github", ".event", ".labels", ".*", "[0]", "[*]", "[", "]", "(", ")", "!", "==", "<", "&&", "||", ",", "'a'", "1", "null",
        "toJSON(", "fromJSON(", "join(", "format(", "'{0}'", "contains(", "case(", "success()", "matrix", ".x", "NaN",
    ]), 0..12)) {
        let text = tokens.concat();
        if let Ok(expression) = Expression::parse(&text) {
            let world = World::new();
            if let Ok(value) = expression.evaluate(&world) {
                let _ = (value.to_text(), value.to_number(), value.truthy(), value.to_json());
            }
        }
    }

    #[test]
    fn from_json_never_panics(text in "[\\[\\]{}:,\"'\\\\a-c0-9eu./* \n-]{0,30}") {
        let scope: Object = [("text".to_owned(), Value::from(text))].into_iter().collect();
        let _ = Expression::parse("fromJSON(text)").expect("an expression").evaluate(&scope);
    }

    #[test]
    fn json_survives_a_round_trip(value in json_value()) {
        let scope: Object = [("value".to_owned(), Value::from_json(&value))].into_iter().collect();
        let eval = |text: &str| Expression::parse(text).expect("an expression").evaluate(&scope);
        let printed = eval("toJSON(value)").expect("small");
        let reread: serde_json::Value = serde_json::from_str(&printed.to_text()).expect("toJSON prints JSON");
        prop_assert_eq!(&reread, &value);
        prop_assert_eq!(eval("fromJSON(toJSON(value))").expect("what was printed").to_json(), value);
    }
}
