//! Conditions and values: parsed once where they are written, evaluated in each job.

use serde_json::json;
use startline_workflow::expression::{EvalError, Expression, Object, Scope, Value};

use crate::meter::Meter;
use crate::sample;

const CONDITION: &str = "success() && github.ref == 'refs/heads/main' && github.event_name != 'pull_request'";
const LABELS: &str =
    "contains(fromJSON('[\"linux\", \"x64\", \"gpu\"]'), matrix.os) && startsWith(github.ref, 'refs/tags/')";
const TEXT: &str = "format('{0}-{1}-{2}', runner.os, matrix.os, hashFiles('**/Cargo.lock')) ";

pub(super) fn play(meter: &mut Meter, _: u32) {
    let scope = Contexts(sample::contexts());
    for (parse, evaluate, text, expected) in [
        ("parse a condition", "evaluate a condition", CONDITION, json!(true)),
        ("parse contains and fromJSON", "evaluate contains and fromJSON", LABELS, json!(false)),
        ("parse format", "evaluate format", TEXT, json!("Linux-linux-5ca1ab1e")),
    ] {
        let expression = Expression::parse(text).expect("an expression");
        assert_eq!(expression.evaluate(&scope).expect("a value").to_json(), expected);
        meter.repeat(parse, 64, || Expression::parse(text));
        meter.repeat(evaluate, 64, || expression.evaluate(&scope));
    }
    let large = Expression::parse("toJSON(github)").expect("an expression");
    let text = large.evaluate(&scope).expect("a value");
    assert!(text.as_str().is_some_and(|text| text.len() > 4_000));
    meter.repeat("evaluate toJSON of the github context", 8, || large.evaluate(&scope));
    let json = text.as_str().unwrap_or_default();
    let inputs = Contexts(Object::from_iter([("inputs".to_owned(), Value::string(json))]));
    let back = Expression::parse("fromJSON(inputs)").expect("an expression");
    assert!(back.evaluate(&inputs).expect("a value").as_object().is_some());
    meter.repeat("evaluate fromJSON of the same", 8, || back.evaluate(&inputs));
}

struct Contexts(Object);

impl Scope for Contexts {
    fn context(&self, name: &str) -> Option<Value> {
        self.0.context(name)
    }

    fn call(&self, name: &str, _: &[Value]) -> Option<Result<Value, EvalError>> {
        match name {
            "success" => Some(Ok(Value::Bool(true))),
            "hashfiles" => Some(Ok(Value::string("5ca1ab1e"))),
            _ => None,
        }
    }
}
