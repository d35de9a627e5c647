use std::path::Path;

use super::*;

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().iter().map(|(method, it)| (path.clone(), method.clone(), it.clone()))
        })
        .collect()
}

#[test]
fn the_document_in_docs_is_the_one_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == crate::openapi(), "docs/openapi.json is stale; run `cargo run -- openapi > docs/openapi.json`");
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    let mut document = document();
    let schemas: BTreeSet<String> = document["components"]["schemas"].as_object().unwrap().keys().cloned().collect();
    let mut used = BTreeSet::new();
    visit(&mut document, &mut |reference| {
        let name = reference.strip_prefix(SCHEMAS).unwrap_or_else(|| panic!("{reference} leads outside"));
        used.insert(name.to_owned());
    });
    assert_eq!(used, schemas);
}

#[test]
fn every_operation_is_complete() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let at = format!("{method} {path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{at}: its id is used twice");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{at}: no summary");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            let declared = parameters.iter().any(|p| p["in"] == "path" && p["name"] == name && p["required"] == true);
            assert!(declared, "{at}: {name} is not declared");
        }
        for parameter in parameters.iter().filter(|parameter| parameter["in"] == "query") {
            assert!(parameter["description"].is_string(), "{at}: {} says nothing", parameter["name"]);
        }
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{at}: no success");
        for (status, response) in responses {
            assert!(!response["description"].as_str().unwrap().is_empty(), "{at}: {status} says nothing");
        }
        let open = operation["security"].as_array().unwrap().is_empty();
        assert_eq!(open, path == "/api/v1/openapi.json", "{at}: who may call it?");
        assert_eq!(open, !responses.contains_key("401"), "{at}: who is refused?");
    }
    assert_eq!(ids.len(), routes::table().len());
}

#[test]
fn every_kind_of_problem_that_an_operation_names_has_a_status() {
    let known: BTreeSet<&str> = PROBLEMS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(known.len(), PROBLEMS.len());
    for endpoint in routes::table() {
        for kind in endpoint.all_problems() {
            assert!(known.contains(kind), "{}: {kind}", endpoint.id);
        }
    }
}

#[test]
fn a_type_that_is_taken_and_answered_has_a_schema_for_each_where_they_differ() {
    let document = document();
    let required = |name: &str| {
        let schema = &document["components"]["schemas"][name];
        schema["required"].as_array().unwrap_or_else(|| panic!("{name}: {schema}")).len()
    };
    assert!(required("CapabilitiesInput") < required("Capabilities"));
    let body = &document["paths"]["/api/v1/runners/capabilities"]["patch"]["requestBody"];
    assert_eq!(body["content"]["application/json"]["schema"]["$ref"], "#/components/schemas/CapabilitiesInput");
}
