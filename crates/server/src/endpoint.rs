//! What is known of one operation of the API: enough to route it, to document it, and to test who may call it.

use std::sync::Arc;

use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use startline_protocol::permission::Permission;
use startline_protocol::problem::kind;
use startline_protocol::token::TokenKind;

use crate::App;

/// How requests of an operation are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A small body, answered soon.
    Ordinary,
    /// A body as large as a submission.
    Submission,
    /// A body as large as an append to a log.
    Log,
    /// An answer that is held, or goes on; it ends by itself, and at once when the service drains.
    Held,
}

impl Class {
    pub(crate) const ALL: [Self; 4] = [Self::Ordinary, Self::Submission, Self::Log, Self::Held];
}

/// Makes the schema of a type, with what it refers to in the generator's definitions.
pub(crate) type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A body that is sent or answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload {
    pub media_type: &'static str,
    pub schema: MakeSchema,
}

impl Payload {
    fn json<T: JsonSchema>() -> Self {
        Self { media_type: "application/json", schema: schema::<T> }
    }
}

/// A header that a request may or must have, or that an answer has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub name: &'static str,
    pub description: &'static str,
    pub required: bool,
}

/// An answer that is no error.
#[derive(Clone, Debug)]
pub(crate) struct Success {
    pub status: u16,
    pub description: &'static str,
    /// The same thing in one media type or several; none for an empty answer.
    pub payloads: Vec<Payload>,
}

/// One operation. Everything about it is said where the table of routes is.
pub(crate) struct Endpoint {
    pub method: Method,
    pub path: &'static str,
    /// Its name in the document and in generated clients.
    pub id: &'static str,
    pub summary: &'static str,
    pub description: &'static str,
    pub class: Class,
    /// Who may call it; nobody has to show anything where it is empty.
    pub bearers: &'static [TokenKind],
    /// What an API token must be allowed to do.
    pub permission: Option<Permission>,
    /// Parameters of the query, as members of one object.
    pub query: Option<MakeSchema>,
    pub headers: Vec<Header>,
    pub body: Option<Payload>,
    pub success: Vec<Success>,
    /// Kinds of problems that are its own; those that every such operation may answer are added by [`Self::problems`].
    pub own_problems: &'static [&'static str],
    pub route: MethodRouter<Arc<App>>,
}

impl Endpoint {
    pub(crate) fn new<H, T>(method: Method, path: &'static str, id: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("the API uses ordinary methods");
        Self {
            method,
            path,
            id,
            summary: "",
            description: "",
            class: Class::Ordinary,
            bearers: &[],
            permission: None,
            query: None,
            headers: Vec::new(),
            body: None,
            success: Vec::new(),
            own_problems: &[],
            route: on(filter, handler),
        }
    }

    pub(crate) const fn says(mut self, summary: &'static str, description: &'static str) -> Self {
        self.summary = summary;
        self.description = description;
        self
    }

    pub(crate) const fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// For API tokens with this permission.
    pub(crate) const fn api(mut self, permission: Permission) -> Self {
        self.bearers = &[TokenKind::Api];
        self.permission = Some(permission);
        self
    }

    /// For API tokens with this permission, and for runners as far as it concerns themselves.
    pub(crate) const fn api_or_runner(mut self, permission: Permission) -> Self {
        self.bearers = &[TokenKind::Api, TokenKind::Runner];
        self.permission = Some(permission);
        self
    }

    /// For one kind of bearer that is no API token.
    pub(crate) const fn bearer(mut self, kind: &'static [TokenKind]) -> Self {
        self.bearers = kind;
        self
    }

    pub(crate) fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(schema::<T>);
        self
    }

    pub(crate) fn header(mut self, name: &'static str, required: bool, description: &'static str) -> Self {
        self.headers.push(Header { name, description, required });
        self
    }

    pub(crate) fn json<T: JsonSchema>(mut self) -> Self {
        self.body = Some(Payload::json::<T>());
        self
    }

    pub(crate) const fn text_body(mut self, media_type: &'static str) -> Self {
        self.body = Some(Payload { media_type, schema: schema::<String> });
        self
    }

    pub(crate) fn answers<T: JsonSchema>(mut self, status: u16, description: &'static str) -> Self {
        self.success.push(Success { status, description, payloads: vec![Payload::json::<T>()] });
        self
    }

    pub(crate) fn answers_nothing(mut self, status: u16, description: &'static str) -> Self {
        self.success.push(Success { status, description, payloads: Vec::new() });
        self
    }

    pub(crate) fn answers_as(mut self, status: u16, description: &'static str, payloads: Vec<Payload>) -> Self {
        self.success.push(Success { status, description, payloads });
        self
    }

    pub(crate) const fn problems(mut self, kinds: &'static [&'static str]) -> Self {
        self.own_problems = kinds;
        self
    }

    /// The names between braces in its path.
    pub(crate) fn path_parameters(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    /// All kinds of problems that it may answer.
    pub(crate) fn all_problems(&self) -> Vec<&'static str> {
        let mut kinds = self.own_problems.to_vec();
        if !self.bearers.is_empty() {
            kinds.push(kind::UNAUTHENTICATED);
        }
        if self.permission.is_some() {
            kinds.push(kind::FORBIDDEN);
        }
        if self.bearers.contains(&TokenKind::Runner) {
            kinds.push(kind::RUNNER_OFFLINE);
        }
        if self.path_parameters().next().is_some() {
            kinds.push(kind::NOT_FOUND);
        }
        if self.body.is_some() {
            kinds.push(kind::TOO_LARGE);
        }
        if self.body.is_some() || self.query.is_some() || self.headers.iter().any(|header| header.required) {
            kinds.push(kind::INVALID);
        }
        kinds.extend([kind::TOO_MANY_REQUESTS, kind::UNAVAILABLE, kind::INTERNAL]);
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }
}

/// A payload of another media type.
pub(crate) fn payload<T: JsonSchema>(media_type: &'static str) -> Payload {
    Payload { media_type, schema: schema::<T> }
}
