//! The expression language through its public interface.

mod check;
mod evaluate;
mod scalar;

use std::cell::RefCell;

use startline_workflow::expression::{EvalError, Expression, Object, Scope, Value};

/// A scope with a fixed set of contexts and functions that tells what was asked of it.
struct World {
    contexts: Object,
    asked: RefCell<Vec<String>>,
}

impl World {
    fn new() -> Self {
        let contexts = serde_json::json!({
            "github": {
                "ref": "refs/heads/main",
                "event": {
                    "labels": [{"name": "bug", "id": 1}, {"name": "Help", "id": 2}, {"id": 3}, "loose", null],
                    "nested": [[1, 2], [3], []],
                    "commits": {"first": {"files": ["a", "b"]}, "second": {"files": ["c"]}, "third": {}},
                },
                "": "empty key",
                "1": "one",
                "a b": "spaced",
            },
            "matrix": {"os": "linux", "skip": null, "count": 3},
            "needs": {"build": {"result": "success"}, "lint": {"result": "failure"}},
            "empty": null,
        });
        let mut contexts = match Value::from_json(&contexts) {
            Value::Object(object) => (*object).clone(),
            other => panic!("the sample is an object, not {other:?}"),
        };
        let mut env = Object::case_sensitive();
        env.insert("Path", Value::from("mixed"));
        contexts.insert("env", Value::from(env));
        Self { contexts, asked: RefCell::default() }
    }

    fn eval(&self, text: &str) -> Result<Value, EvalError> {
        Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).evaluate(self)
    }
}

impl Scope for World {
    fn context(&self, name: &str) -> Option<Value> {
        self.asked.borrow_mut().push(name.to_owned());
        self.contexts.get(name).cloned()
    }

    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, EvalError>> {
        self.asked.borrow_mut().push(format!("{name}/{}", arguments.len()));
        match name {
            "success" | "always" => Some(Ok(Value::Bool(true))),
            "failure" | "cancelled" => Some(Ok(Value::Bool(false))),
            "hashfiles" => Some(Ok(Value::from(format!("hash of {}", arguments[0].to_text())))),
            "broken" => Some(Err(EvalError::function("broken", "out of order"))),
            _ => None,
        }
    }
}

/// Evaluates each expression and compares the result, as JSON, with the right-hand side.
fn assert_table(table: &[(&str, serde_json::Value)]) {
    let world = World::new();
    for (text, expected) in table {
        let value = world.eval(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(value.to_json(), *expected, "{text}");
    }
}
