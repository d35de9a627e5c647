//! Expressions from the grammar, and texts that are almost expressions.

use proptest::prelude::*;

/// Text of a valid expression over contexts and functions that exist, with the argument counts they take.
pub(super) fn expression() -> BoxedStrategy<String> {
    grow(prop_oneof![literal(), context()].boxed())
}

/// Tokens in any order.
pub(super) fn soup() -> BoxedStrategy<String> {
    let token = prop::sample::select(vec![
        "(",
        ")",
        "[",
        "]",
        ",",
        ".",
        "*",
        "!",
        "!=",
        "==",
        "<",
        "<=",
        ">",
        ">=",
        "&&",
        "||",
        "github",
        "env",
        "name",
        "-1",
        "1.5",
        "'x'",
        "'it''s'",
        "true",
        "null",
        "NaN",
        "contains(",
        "success()",
        "case(",
        " ",
        "0x1",
        ".5",
        "=",
        "&",
        "'",
        "\"",
        "a-b",
    ]);
    prop::collection::vec(token, 0..9).prop_map(|tokens| tokens.concat()).boxed()
}

fn literal() -> BoxedStrategy<String> {
    prop_oneof![
        prop::sample::select(vec![
            "null",
            "true",
            "false",
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "-0",
            "1",
            "+7",
            ".5",
            "5.",
            "1e3",
            "1E-3",
            "0x1F",
            "0o17",
            "''",
            "'it''s'",
            "'abc'",
            "'ABC'",
            "' 12 '",
            "'0xff'",
            "'true'",
            "'{0}'",
            "'[1,\"a\"]'",
        ])
        .prop_map(str::to_owned),
        any::<i16>().prop_map(|number| number.to_string()),
        "[ -~é]{0,6}".prop_map(|text| format!("'{}'", text.replace('\'', "''"))),
    ]
    .boxed()
}

fn context() -> BoxedStrategy<String> {
    prop::sample::select(vec!["github", "env", "Needs", "steps", "matrix", "inputs"]).prop_map(str::to_owned).boxed()
}

fn grow(leaf: BoxedStrategy<String>) -> BoxedStrategy<String> {
    leaf.prop_recursive(5, 24, 4, |inner| {
        let operator = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">=", "&&", "||", " && ", " || ", " == "]);
        let postfix = prop::sample::select(vec![".a", ".B-c", ".*", "[*]", "['x y']", "[0]", "[1.5]", " . z"]);
        let call = prop::sample::select(vec![
            ("contains", 2), ("startsWith", 2), ("ENDSWITH", 2), ("toJSON", 1), ("fromJson", 1), ("join", 1), ("join", 2), ("format", 1),
            ("format", 3), ("case", 3), ("case", 5),
        ]);
        prop_oneof![
            2 => (inner.clone(), operator, inner.clone()).prop_map(|(left, operator, right)| format!("{left}{operator}{right}")),
            1 => inner.clone().prop_map(|operand| format!("!{operand}")),
            1 => inner.clone().prop_map(|operand| format!("( {operand})")),
            1 => (inner.clone(), postfix).prop_map(|(target, postfix)| format!("({target}){postfix}")),
            1 => (inner.clone(), inner.clone()).prop_map(|(target, index)| format!("({target})[{index}]")),
            1 => (call, prop::collection::vec(inner, 5)).prop_map(|((name, count), arguments)| {
                format!("{name}({})", arguments[..count].join(", "))
            }),
        ]
    })
    .boxed()
}
