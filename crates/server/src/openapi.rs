//! The document of the API: OpenAPI 3.1, made from the table of routes and the schemas of the wire.
//!
//! `docs/openapi.json` is this document, checked in; a test says when it is stale and `startline openapi` writes it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use startline_protocol::problem::{self, Problem, kind};
use startline_protocol::token::TokenKind;

use crate::endpoint::{Class, Endpoint, Payload};
use crate::intake::IDEMPOTENCY_KEY;
use crate::routes;

/// Where schemas are in the document.
const SCHEMAS: &str = "#/components/schemas/";

/// `GET /api/v1/openapi.json`.
pub(crate) async fn answer() -> Response {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| document().to_string().into()).clone();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// Each kind of problem: its status, and what it means.
const PROBLEMS: &[(&str, u16, &str)] = &[
    (kind::FORBIDDEN, 403, "the bearer may not do this"),
    (kind::IN_USE, 409, "something else still needs the thing"),
    (kind::INTERNAL, 500, "the fault is the service's own"),
    (kind::INVALID, 422, "the request's shape or values are wrong"),
    (kind::LABEL_NOT_ALLOWED, 422, "a label outside the token's allow-list"),
    (kind::LOG_GAP, 416, "bytes are missing before this append; `offset` is where the service wants the next one"),
    (kind::NAME_TAKEN, 409, "another runner has this name"),
    (kind::NOT_FOUND, 404, "no such thing, or none that the bearer may know of"),
    (kind::RUN_ACTIVE, 409, "the run has not ended yet"),
    (kind::NOT_TRIGGERED, 422, "the event does not start the workflow"),
    (kind::RUNNER_BUSY, 409, "the runner holds a job, or as many as it takes"),
    (kind::RUNNER_OFFLINE, 410, "the registration is gone; register anew"),
    (kind::STALE_EPOCH, 409, "the job was given to another runner or has ended"),
    (kind::TOKEN_EXHAUSTED, 403, "the registration token was used as often as it may be"),
    (kind::TOO_LARGE, 413, "the body is larger than the route takes"),
    (kind::TOO_MANY_REQUESTS, 429, "more than the address or the bearer may send; see `Retry-After`"),
    (kind::UNAUTHENTICATED, 401, "no bearer, or one that is unknown, expired, revoked or of the wrong kind"),
    (kind::UNAVAILABLE, 503, "the service cannot answer now; see `Retry-After`"),
    (kind::WORKFLOW_INVALID, 422, "the workflow file has mistakes; `diagnostics` has all of them"),
];

const SCHEMES: &[(TokenKind, &str, &str)] = &[
    (TokenKind::Api, "apiToken", "`slp_…`: administers within its scope, as far as its permissions go."),
    (TokenKind::Registration, "registrationToken", "`slr_…`: registers runners and does nothing else."),
    (TokenKind::Runner, "runnerToken", "`slt_…`: speaks for one runner; from its registration."),
    (TokenKind::Job, "jobToken", "A JWT: speaks for one attempt of one job; from its lease."),
];

/// The document.
pub(crate) fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for endpoint in routes::table() {
        let operation = operation(&endpoint, &mut schemas);
        let path = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        path[endpoint.method.as_str().to_ascii_lowercase()] = operation;
    }
    let problem =
        schemas.answered(&Payload { media_type: problem::CONTENT_TYPE, schema: |g| g.subschema_for::<Problem>() });
    debug_assert_eq!(problem["$ref"], format!("{SCHEMAS}Problem"));
    let schemas = schemas.finish(&mut paths);
    let schemes: Map<String, Value> = SCHEMES
        .iter()
        .map(|(_, name, text)| ((*name).to_owned(), json!({ "type": "http", "scheme": "bearer", "description": text })))
        .collect();
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Startline",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Hands CI jobs to runners.\n\nErrors are `application/problem+json` (RFC 9457) with a stable \
                `type`; every answer has an `x-request-id`. Times are RFC 3339, or unix seconds where the schema says so; \
                members whose names end in `_seconds`, `_minutes`, `_gb` or `_bytes` are in that unit (GiB for `_gb`).",
        },
        "servers": [{ "url": "/", "description": "The service that serves this document." }],
        "paths": paths,
        "components": { "schemas": schemas, "securitySchemes": schemes },
    });
    bound_integers(&mut document);
    document
}

fn operation(endpoint: &Endpoint, schemas: &mut Schemas) -> Value {
    let mut operation = json!({
        "operationId": endpoint.id,
        "summary": endpoint.summary,
        "tags": [tag(endpoint.path)],
    });
    if !endpoint.description.is_empty() {
        operation["description"] = endpoint.description.into();
    }
    let parameters = parameters(endpoint, schemas);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = &endpoint.body {
        // No body is an empty object.
        let required = endpoint.class == Class::Log || schemas.inlined(body.schema)["required"].is_array();
        let schema = schemas.taken(body);
        operation["requestBody"] =
            json!({ "required": required, "content": { body.media_type: { "schema": schema } } });
    }
    operation["responses"] = responses(endpoint, schemas).into();
    // No bearer is said too, as the default would be that of the whole document.
    operation["security"] = endpoint.bearers.iter().map(|bearer| security(endpoint, *bearer)).collect();
    operation
}

fn tag(path: &str) -> &str {
    let rest = path.trim_start_matches("/api/v1/");
    if rest.starts_with("runners/jobs/") {
        return "jobs of a runner";
    }
    rest.split(['/', '.']).next().unwrap_or_default()
}

fn security(endpoint: &Endpoint, bearer: TokenKind) -> Value {
    let name = SCHEMES.iter().find(|(kind, ..)| *kind == bearer).map_or("", |(_, name, _)| name);
    let permission = endpoint.permission.filter(|_| bearer == TokenKind::Api);
    json!({ name: permission.iter().map(|permission| permission.as_str()).collect::<Vec<_>>() })
}

fn parameters(endpoint: &Endpoint, schemas: &mut Schemas) -> Vec<Value> {
    let mut parameters: Vec<Value> = endpoint
        .path_parameters()
        .map(|name| {
            let schema = match name {
                "id" => json!({ "type": "integer", "format": "int64", "minimum": 1 }),
                "name" if !endpoint.path.contains("runner-groups") => {
                    json!({ "type": "string", "pattern": "^(?![Gg][Ii][Tt][Hh][Uu][Bb]_)[A-Za-z_][A-Za-z0-9_]*$" })
                }
                _ => json!({ "type": "string", "minLength": 1 }),
            };
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect();
    if let Some(query) = endpoint.query {
        let object = schemas.inlined(query);
        let required: BTreeSet<&str> =
            object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, schema) in object["properties"].as_object().into_iter().flatten() {
            let mut schema = schema.clone();
            let description = schema.as_object_mut().and_then(|schema| schema.shift_remove("description"));
            drop_null(&mut schema);
            let mut parameter =
                json!({ "name": name, "in": "query", "required": required.contains(name.as_str()), "schema": schema });
            if let Some(text) = description {
                parameter["description"] = text;
            }
            parameters.push(parameter);
        }
    }
    for header in &endpoint.headers {
        parameters.push(json!({
            "name": header.name, "in": "header", "required": header.required, "description": header.description,
            "schema": { "type": "string", "pattern": header_pattern(header.name) },
        }));
    }
    parameters
}

fn header_pattern(name: &str) -> &'static str {
    match name {
        IDEMPOTENCY_KEY => "^[!-~]([ -~]{0,253}[!-~])?$",
        "content-range" => "^bytes [0-9]{1,18}-[0-9]{1,18}/([0-9]{1,18}|\\*)$",
        _ => "^[!-~]([ -~]*[!-~])?$",
    }
}

/// Says the range of each integer whose format implies it, as nobody has to know the formats.
fn bound_integers(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let bounds = match object.get("format").and_then(Value::as_str) {
                Some("int32") => Some((json!(i32::MIN), json!(i32::MAX))),
                Some("int64") => Some((json!(i64::MIN), json!(i64::MAX))),
                Some("uint32") => Some((json!(0), json!(u32::MAX))),
                Some("uint64") => Some((json!(0), json!(u64::MAX))),
                _ => None,
            };
            if let Some((least, most)) = bounds {
                object.entry("minimum").or_insert(least);
                object.entry("maximum").or_insert(most);
            }
            object.values_mut().for_each(bound_integers);
        }
        Value::Array(items) => items.iter_mut().for_each(bound_integers),
        _ => {}
    }
}

/// A parameter is absent or has a value; it is never null.
fn drop_null(schema: &mut Value) {
    if let Some(kinds) = schema["type"].as_array() {
        let kinds: Vec<Value> = kinds.iter().filter(|kind| *kind != "null").cloned().collect();
        schema["type"] = if let [only] = &kinds[..] { only.clone() } else { kinds.into() };
    }
}

fn responses(endpoint: &Endpoint, schemas: &mut Schemas) -> Map<String, Value> {
    let mut responses = BTreeMap::new();
    for success in &endpoint.success {
        let mut response = json!({ "description": success.description });
        for payload in &success.payloads {
            response["content"][payload.media_type]["schema"] = schemas.answered(payload);
        }
        responses.insert(success.status, response);
    }
    let kinds = endpoint.all_problems();
    for (name, status, meaning) in PROBLEMS.iter().filter(|(name, ..)| kinds.contains(name)) {
        let line = format!("`{name}`: {meaning}.");
        let response = responses.entry(*status).or_insert_with(|| {
            json!({
                "description": "",
                "content": { problem::CONTENT_TYPE: { "schema": { "$ref": format!("{SCHEMAS}Problem") } } },
            })
        });
        let before = response["description"].as_str().unwrap_or_default();
        let text = if before.is_empty() { line } else { format!("{before} {line}") };
        response["description"] = text.into();
    }
    responses.into_iter().map(|(status, response)| (status.to_string(), response)).collect()
}

/// The schemas of what is taken and of what is answered. The same type may look different on both sides: a member that
/// may be left out of a request may be always there in an answer.
struct Schemas {
    taken: SchemaGenerator,
    answered: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings =
            || SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
        Self {
            taken: settings().for_deserialize().into_generator(),
            answered: settings().for_serialize().into_generator(),
        }
    }

    /// Marked, so that [`Self::finish`] knows which side it is of.
    fn taken(&mut self, payload: &Payload) -> Value {
        let mut schema = (payload.schema)(&mut self.taken).to_value();
        mark(&mut schema);
        schema
    }

    fn answered(&mut self, payload: &Payload) -> Value {
        (payload.schema)(&mut self.answered).to_value()
    }

    /// The schema of an object that is no component.
    fn inlined(&mut self, make: crate::endpoint::MakeSchema) -> Value {
        let mut settings = SchemaSettings::draft2020_12().for_deserialize();
        settings.inline_subschemas = true;
        let mut generator = settings.into_generator();
        make(&mut generator).to_value()
    }

    /// All schemas by name. Those that differ between the sides get a name of their own on the side of requests.
    fn finish(mut self, paths: &mut Map<String, Value>) -> Map<String, Value> {
        let mut schemas = self.answered.take_definitions(true);
        let taken = self.taken.take_definitions(true);
        let mut own: BTreeSet<String> = taken
            .iter()
            .filter(|(name, schema)| schemas.get(*name).is_some_and(|other| other != *schema))
            .map(|(name, _)| name.clone())
            .collect();
        // Whoever refers to one of them differs too.
        loop {
            let more: Vec<String> = taken
                .iter()
                .filter(|(name, schema)| schemas.contains_key(*name) && !own.contains(*name) && refers(schema, &own))
                .map(|(name, _)| name.clone())
                .collect();
            if more.is_empty() {
                break;
            }
            own.extend(more);
        }
        let name_of = |name: &str| if own.contains(name) { format!("{name}Input") } else { name.to_owned() };
        for (name, mut schema) in taken {
            rename(&mut schema, SCHEMAS, &name_of);
            schemas.entry(name_of(&name)).or_insert(schema);
        }
        for path in paths.values_mut() {
            rename(path, MARKED, &name_of);
        }
        schemas.sort_keys();
        schemas
    }
}

/// What stands before the name of a schema of requests until it is known whether it is shared.
const MARKED: &str = "#taken/";

fn mark(schema: &mut Value) {
    visit(schema, &mut |reference| {
        if let Some(name) = reference.strip_prefix(SCHEMAS) {
            *reference = format!("{MARKED}{name}");
        }
    });
}

fn rename(schema: &mut Value, prefix: &str, name_of: &dyn Fn(&str) -> String) {
    visit(schema, &mut |reference| {
        if let Some(name) = reference.strip_prefix(prefix) {
            *reference = format!("{SCHEMAS}{}", name_of(name));
        }
    });
}

fn refers(schema: &Value, names: &BTreeSet<String>) -> bool {
    let mut found = false;
    visit(&mut schema.clone(), &mut |reference| {
        found |= reference.strip_prefix(SCHEMAS).is_some_and(|name| names.contains(name));
    });
    found
}

/// Calls `each` for every reference.
fn visit(value: &mut Value, each: &mut dyn FnMut(&mut String)) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(reference) if key == "$ref" => each(reference),
                    value => visit(value, each),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| visit(item, each)),
        _ => {}
    }
}
