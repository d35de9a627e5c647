//! An expression, alone and within text: parsed, printed, checked and evaluated. What is printed parses to the same
//! tree and has the same value.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use startline_workflow::expression::{Allowed, EvalError, Expression, Object, Scalar, Scope, Value, condition};

/// What expressions can see: some contexts, and status functions that answer.
struct Seen(Object);

impl Scope for Seen {
    fn context(&self, name: &str) -> Option<Value> {
        self.0.context(name)
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, EvalError>> {
        match name {
            "success" | "always" => Some(Ok(Value::Bool(true))),
            "failure" | "cancelled" => Some(Ok(Value::Bool(false))),
            "hashfiles" => Some(Ok(Value::from(format!("{}", arguments.len())))),
            _ => None,
        }
    }
}

static SEEN: LazyLock<Seen> = LazyLock::new(|| {
    let json = r#"{
        "github": {"ref": "refs/heads/main", "event": {"a": [1, 2.5, "x", null, true, {"b": [[]]}], "É": "é"}, "run_id": 7},
        "env": {"A": "1", "b": "two", "": "empty"}, "matrix": {"os": "linux", "n": [0, -0, 1e300]},
        "needs": {"one": {"result": "success", "outputs": {"x": "{\"y\": [1]}"}}},
        "steps": {"a": {"outputs": {"n": "0x10"}, "outcome": "failure"}}, "inputs": {"on": true, "off": false, "none": null}
    }"#;
    let Value::Object(object) = Value::from_json(&serde_json::from_str(json).expect("it is JSON")) else {
        unreachable!("it is an object")
    };
    Seen((*object).clone())
});

const ALLOWED: Allowed<'_> = Allowed {
    contexts: &["github", "env", "matrix", "needs", "steps", "inputs"],
    functions: &["success(0,MAX)", "failure", "cancelled", "always", "hashFiles"],
};

/// Values as text: equal for `NaN`, and for collections of the same contents.
fn shown(result: &Result<Value, EvalError>) -> String {
    format!("{result:?}")
}

fuzz_target!(|text: &str| {
    let _ = condition(text);
    if let Ok(Scalar::Expression(whole)) = Scalar::read(text) {
        Expression::parse(&whole).expect("what a text was made into is an expression");
    }
    let expression = match Expression::parse(text) {
        Ok(expression) => expression,
        Err(error) => {
            assert!(text.get(error.offset..error.offset + error.length).is_some(), "{error:?}");
            return;
        }
    };
    for finding in expression.check(&ALLOWED) {
        assert!(text.get(finding.offset..finding.offset + finding.length).is_some(), "{finding:?}");
    }
    for reference in expression.references() {
        assert!(text.get(reference.offset..reference.offset + reference.length).is_some(), "{reference:?}");
    }
    let printed = expression.to_string();
    let value = expression.evaluate(&*SEEN);
    // Canonical spelling can be longer than what was written, and so too long.
    let again = match Expression::parse(&printed) {
        Ok(again) => again,
        Err(error) => {
            assert!(error.message.contains("characters"), "{printed}: {error}");
            return;
        }
    };
    assert_eq!(again.to_string(), printed);
    // What names an argument count or a condition says where it stands, which is the same in both.
    assert_eq!(shown(&value), shown(&again.evaluate(&*SEEN)), "{printed}");
    if let Ok(value) = value {
        let _ = (value.truthy(), value.to_text(), value.to_number(), value.to_json());
    }
});
