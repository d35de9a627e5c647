use serde_json::json;

use super::*;

fn scope() -> Object {
    let Value::Object(object) = Value::from_json(&json!({
        "github": {"actor": "mona", "run_number": 7},
        "vars": {"EXTRA": "{\"B\": 2, \"C\": [1, null]}", "LIST": "[1, 2]"}
    })) else {
        panic!("not an object")
    };
    (*object).clone()
}

fn text(template: &Template) -> String {
    evaluate(template, &scope()).unwrap().to_json().to_string()
}

fn entry(key: &str, value: Template) -> (Template, Template) {
    (Template::string(key), value)
}

#[test]
fn literals_and_expressions_have_their_values() {
    let template = Template::mapping(vec![
        entry("WHO", Template::expression("github.actor")),
        entry("LITERAL", Template::string("${{ github.actor }}")),
        entry(
            "LIST",
            Template::new(Kind::Sequence(vec![
                Template::new(Kind::Number(1.5)),
                Template::new(Kind::Bool(true)),
                Template::new(Kind::Null),
                Template::expression("github.run_number"),
            ])),
        ),
        (Template::expression("format('K{0}', github.run_number)"), Template::string("v")),
    ]);
    assert_eq!(text(&template), r#"{"WHO":"mona","LITERAL":"${{ github.actor }}","LIST":[1.5,true,null,7],"K7":"v"}"#);
}

#[test]
fn insert_merges_a_mapping_in_place() {
    let insert = |value: Template| (Template::new(Kind::Insert), value);
    let template = Template::mapping(vec![
        entry("A", Template::string("1")),
        insert(Template::expression("fromJSON(vars.EXTRA)")),
        insert(Template::mapping(vec![entry("D", Template::string("4"))])),
        entry("E", Template::string("5")),
    ]);
    assert_eq!(text(&template), r#"{"A":"1","B":2,"C":[1,null],"D":"4","E":"5"}"#);
    let wrong = Template::mapping(vec![insert(Template::expression("fromJSON(vars.LIST)"))]);
    let error = evaluate(&wrong, &scope()).unwrap_err();
    assert_eq!(error.message, "`${{ insert }}` needs a mapping, not an array");
    let twice = Template::mapping(vec![
        entry("b", Template::string("1")),
        insert(Template::expression("fromJSON(vars.EXTRA)")),
    ]);
    assert_eq!(evaluate(&twice, &scope()).unwrap_err().message, "the key `B` is defined twice");
}

#[test]
fn an_error_names_the_expression_and_its_place() {
    let mut template = Template::expression("fromJSON('{')");
    (template.line, template.column) = (3, 9);
    let error = evaluate(&Template::mapping(vec![entry("k", template)]), &scope()).unwrap_err();
    assert_eq!((error.line, error.column), (3, 9));
    assert!(error.message.starts_with("`fromJSON('{')`: "), "{error}");
}

#[test]
fn depth_size_and_number_of_parts_are_limited() {
    let mut deep = Template::new(Kind::Null);
    for _ in 0..60 {
        deep = Template::new(Kind::Sequence(vec![deep]));
    }
    assert!(evaluate(&deep, &scope()).unwrap_err().message.contains("50 levels"));
    let long = Template::string("x".repeat(1024 * 1024));
    let large = Template::new(Kind::Sequence(vec![long; 11]));
    assert!(evaluate(&large, &scope()).unwrap_err().message.contains("10485760 bytes"));
    let many = Template::new(Kind::Sequence(vec![Template::new(Kind::Null); 500_000]));
    assert!(evaluate(&many, &scope()).is_err());
}

#[test]
fn expressions_are_found_anywhere_in_a_template() {
    assert!(!Template::mapping(vec![entry("a", Template::string("${{ x }}"))]).has_expression());
    assert!(Template::mapping(vec![(Template::new(Kind::Insert), Template::new(Kind::Null))]).has_expression());
    let nested = Template::new(Kind::Sequence(vec![Template::mapping(vec![entry("a", Template::expression("x"))])]));
    assert!(nested.has_expression());
    assert_eq!(
        Template::mapping(vec![entry("Key", Template::string("v"))]).get("kEY").and_then(Template::as_str),
        Some("v")
    );
}
