use startline_workflow::expression::{Allowed, CheckError, Expression};

const STEP: Allowed<'_> = Allowed {
    contexts: &["github", "inputs", "vars", "needs", "env", "steps", "runner"],
    functions: &["success", "failure", "cancelled", "always", "hashFiles"],
};

fn check(text: &str, allowed: &Allowed<'_>) -> Vec<CheckError> {
    Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).check(allowed)
}

fn complaint(text: &str, allowed: &Allowed<'_>) -> String {
    match &*check(text, allowed) {
        [only] => format!("{} | {}", &text[only.offset..only.offset + only.length], only),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn sound_expressions_have_no_findings() {
    for text in [
        "GitHub.ref == 'x' && Success()",
        "case(true, 1, false, 2, 3)",
        "format('a')",
        "join(steps.*.outcome, ',')",
        "hashFiles('a', 'b', 'c')",
        "TOJSON(fromjson('1'))",
    ] {
        assert_eq!(check(text, &STEP), [], "{text}");
    }
}

#[test]
fn findings_name_the_token_and_the_remedy() {
    let none = Allowed::default();
    let job_if = Allowed { contexts: &["github", "needs"], functions: &["success(0,MAX)", "always(0,0)"] };
    for (text, allowed, expected) in [
        ("githb.ref", &STEP, "githb | unknown context 'githb'; did you mean 'github'?"),
        ("!Step.a.b", &STEP, "Step | unknown context 'Step'; did you mean 'steps'?"),
        (
            "github.ref == main",
            &STEP,
            "main | unknown context 'main'; put text in single quotes: 'main'; available contexts: github, inputs, vars, needs, env, steps, runner",
        ),
        ("a == True", &Allowed { contexts: &["a"], ..none }, "True | unknown context 'True'; write true in lower case"),
        ("success", &STEP, "success | unknown context 'success'; to call the function write success()"),
        (
            "secrets.TOKEN != ''",
            &job_if,
            "secrets | the context 'secrets' is not available here; available contexts: github, needs",
        ),
        ("secrets.x", &none, "secrets | the context 'secrets' is not available here; no contexts are available here"),
        ("contain('a', 'b')", &STEP, "contain | unknown function 'contain'; did you mean 'contains'?"),
        (
            "github('ref')",
            &STEP,
            "github | unknown function 'github'; 'github' is a context: write github.property or github['property']",
        ),
        (
            "upper('a')",
            &none,
            "upper | unknown function 'upper'; available functions: case, contains, endsWith, format, fromJSON, join, startsWith, toJSON",
        ),
        (
            "HASHFILES('a')",
            &none,
            "HASHFILES | the function 'HASHFILES' is not available here; available functions: case, contains, endsWith, format, fromJSON, join, startsWith, toJSON",
        ),
        ("contains('a')", &none, "contains | contains got 1 argument; it takes 2 arguments"),
        ("tojson()", &none, "tojson | toJSON got no arguments; it takes 1 argument"),
        ("join(1, 2, 3)", &none, "join | join got 3 arguments; it takes 1 to 2 arguments"),
        ("format()", &none, "format | format got no arguments; it takes 1 or more arguments"),
        (
            "case(true, 1, true, 2)",
            &none,
            "case | case got 4 arguments; it takes an odd number of arguments from 3: condition and value in turn, then a default",
        ),
        ("success('a')", &STEP, "success | success got 1 argument; it takes no arguments"),
        ("always(1)", &job_if, "always | always got 1 argument; it takes no arguments"),
        ("hashFiles()", &STEP, "hashFiles | hashFiles got no arguments; it takes 1 or more arguments"),
    ] {
        assert_eq!(complaint(text, allowed), expected);
    }
    assert_eq!(check("success('a', 'b')", &job_if), [], "a job's if may name jobs");
}

#[test]
fn every_finding_is_reported_in_order() {
    let found = check("nope(other) && contains(third)", &STEP);
    let offsets: Vec<usize> = found.iter().map(|finding| finding.offset).collect();
    assert_eq!(offsets, [0, 5, 15, 24]);
}

#[test]
fn syntax_errors_name_the_token_and_the_remedy() {
    for (text, token, message) in [
        ("", "", "an expression is expected here"),
        ("  ", "  ", "an expression is expected here"),
        ("a ==", "==", "the expression ends after '==': a value is expected there"),
        ("a = 1", "=", "unexpected '=': write '==' to compare"),
        ("a & b", "&", "unexpected '&': write '&&' for \"and\""),
        ("a | b", "|", "unexpected '|': write '||' for \"or\""),
        ("== 1", "==", "unexpected '==': a value is expected before it"),
        (
            "a b",
            "b",
            "unexpected 'b': an operator such as '==' or '&&' is expected before it, and text takes single quotes",
        ),
        ("\"x y\"", "\"x", "strings take single quotes: write 'x y'"),
        ("'abc", "'abc", "this string is not closed: add a single quote at its end, and write a quote inside it twice"),
        ("(a", "(", "'(' is not closed: add ')'"),
        ("f(a, b", "(", "'(' is not closed: add ')'"),
        ("a[0", "[", "'[' is not closed: add ']'"),
        ("a)", ")", "unexpected ')': no '(' is open; remove it"),
        ("a]", "]", "unexpected ']': no '[' is open; remove it"),
        ("(a]", "]", "unexpected ']': ')' is expected first"),
        ("a[b)", ")", "unexpected ')': ']' is expected first"),
        ("a, b", ",", "unexpected ',': commas separate the arguments of a function only"),
        ("f((a, b))", ",", "unexpected ',': commas separate the arguments of a function only"),
        ("f(a,)", ")", "unexpected ')': a value is expected before it"),
        ("f(,)", ",", "unexpected ',': a value is expected before it"),
        ("a.", ".", "expected a property name or '*' after '.'"),
        ("a..b", ".", "expected a property name or '*' after '.'"),
        (
            "a.0",
            "0",
            "unexpected '0': a name holds only letters, digits, '_' and '-', and begins with a letter or '_'; write ['0'] in place of .0",
        ),
        ("'a'.b", ".", "unexpected '.': a literal has no properties"),
        ("true[0]", "[", "unexpected '[': a literal has no properties"),
        ("a[*", "*", "expected ']' after '[*'"),
        ("*", "*", "unexpected '*': it stands only after '.' or inside '[ ]'"),
        ("a * b", "*", "unexpected '*': expressions have no arithmetic, and a filter is written '.*'"),
        ("a + b", "+", "unexpected '+': expressions have no arithmetic; compute the value in a step"),
        ("1.2.3", "1.2.3", "'1.2.3' is not a number; if it is text, write '1.2.3'"),
        ("0x", "0x", "'0x' is not a number; if it is text, write '0x'"),
        ("[1]", "[", "unexpected '[': expressions have no array literals; write fromJSON('[…]')"),
        ("a !b", "!", "unexpected '!': write '!=' to compare, or '&&' or '||' before it"),
        ("a.b (c)", "(", "unexpected '(': an operator is expected before it"),
        ("${{ a }}", "${{", "unexpected '${{': this is an expression already; remove the inner '${{' and '}}'"),
        (
            "github.ref == refs/heads/main",
            "refs/heads/main",
            "unexpected 'refs/heads/main': a name holds only letters, digits, '_' and '-', and begins with a letter or '_'; if it is text, write 'refs/heads/main'",
        ),
    ] {
        let error = Expression::parse(text).expect_err(text);
        assert_eq!(error.message, message, "{text}");
        assert_eq!(&text[error.offset..error.offset + error.length], token, "{text}");
    }
}

#[test]
fn contexts_are_listed_once_in_order() {
    let expression = Expression::parse("Needs.a && github.x || needs[inputs.y]").expect("an expression");
    let contexts = expression.contexts();
    let listed: Vec<(&str, usize)> = contexts.iter().map(|context| (&*context.name, context.offset)).collect();
    assert_eq!(listed, [("needs", 0), ("github", 11), ("inputs", 29)]);
}

#[test]
fn references_go_as_far_as_names_are_written_out() {
    for (text, expected) in [
        ("secrets.TOKEN", "secrets TOKEN"),
        ("Needs.build.outputs['the tag'].x", "needs build outputs the tag x"),
        ("steps.a.outputs.*", "steps a outputs"),
        ("steps.*.outcome", "steps"),
        ("toJSON(secrets)", "secrets"),
        ("secrets[inputs.name].x", "secrets|inputs name"),
        ("secrets[format('{0}', matrix.os)]", "secrets|matrix os"),
        ("(needs.a).result == 'x' && !env.B", "needs a result|env B"),
        ("github.event.labels[0].name", "github event labels 0 name"),
        ("fromJSON(vars.X).y", "vars X"),
        ("'secrets.X'", ""),
    ] {
        let references = Expression::parse(text).expect(text).references();
        let listed: Vec<String> = references
            .iter()
            .map(|reference| [std::slice::from_ref(&reference.context), &reference.path].concat().join(" "))
            .collect();
        assert_eq!(listed.join("|"), expected, "{text}");
    }
    let whole = Expression::parse("join(secrets.*)").expect("an expression").references();
    assert_eq!(whole[0].name(), None, "the whole context is read");
    let one = Expression::parse("x(secrets.A.b)").expect("an expression").references();
    assert_eq!((one[0].name(), one[0].offset, one[0].length), (Some("A"), 2, 11));
}

#[test]
fn calls_are_found_at_any_depth() {
    let expression = Expression::parse("a[case(true, !ALWAYS(), 1)].b || 'failure()'").expect("an expression");
    assert!(expression.calls("always") && expression.calls("CASE"));
    assert!(!expression.calls("failure") && !expression.calls("a"));
    assert!(expression.calls_status_function());
    for text in ["success()", "failure()", "cancelled()", "always()"] {
        assert!(Expression::parse(text).expect(text).calls_status_function(), "{text}");
    }
    assert!(!Expression::parse("success.x == hashFiles('a')").expect("an expression").calls_status_function());
}
