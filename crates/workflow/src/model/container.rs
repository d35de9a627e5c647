//! `container` and `services` of a job.
//!
//! Keys: actions/runner `Sdk/WorkflowParser/workflow-v1.0.json`; what an empty image means: `WorkflowTemplateConverter.cs`
//! there, `ConvertToJobContainer`. The worker evaluates all of it, so that a template is checked and kept.

use super::place::{self, Place};
use super::reader::at;
use super::{Fields, Reader};
use crate::diagnostic::Diagnostic;
use crate::template::{Kind, Template};
use crate::yaml::{Entry, Literal, Node};

/// What may stand before an image, and says nothing.
const PREFIX: &str = "docker://";

const CONTAINER_KEYS: &[&str] = &["image", "options", "env", "ports", "volumes", "credentials"];
const SERVICE_KEYS: &[&str] = &["image", "options", "env", "ports", "volumes", "credentials", "entrypoint", "command"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Job,
    Service,
}

impl Reader<'_> {
    /// `container`: an image, or a mapping that has one.
    pub(crate) fn container(&mut self, node: &Node) -> Option<Template> {
        self.one_container(node, "`container`", Role::Job)
    }

    /// `services`: containers by their names.
    pub(crate) fn services(&mut self, node: &Node) -> Option<Template> {
        let Some(entries) = node.mapping() else { return self.computed(node, "`services`", "a mapping of services") };
        let services = entries.iter().filter_map(|entry| {
            let name = self.key(&entry.key, place::JOB);
            if name.as_str().is_some_and(|name| name.trim().is_empty()) {
                self.report(Diagnostic::error("type", entry.key.span, "the name of a service must not be empty"));
            }
            let what = format!("the service `{}`", entry.key.text().unwrap_or_default());
            let value = if name.kind == Kind::Insert {
                self.template(&entry.value, place::JOB)
            } else {
                self.one_container(&entry.value, &what, Role::Service)?
            };
            Some((name, value))
        });
        let services = services.collect();
        Some(at(node, Kind::Mapping(services)))
    }

    fn one_container(&mut self, node: &Node, what: &str, role: Role) -> Option<Template> {
        if node.mapping().is_none() {
            let image = self.words(node, what, place::JOB)?;
            self.check_image(node, what, &image, role);
            return Some(image);
        }
        let keys = if role == Role::Job { CONTAINER_KEYS } else { SERVICE_KEYS };
        let fields = self.fields(node, what, keys)?;
        if fields.entry("image").is_none() && !fields.is_misspelled("image") {
            let start = node.mapping().and_then(|entries| entries.first()).map_or(node.span, |entry| entry.key.span);
            self.missing(start, "image", what, "name the image, for example `image: debian:12`");
        }
        let entries: Vec<&Entry> = fields.entries().collect();
        let entries = entries.into_iter().filter_map(|entry| {
            let value = self.part(entry, what, role)?;
            Some((at(&entry.key, Kind::String(entry.key.text()?.to_owned())), value))
        });
        let entries = entries.collect();
        Some(at(node, Kind::Mapping(entries)))
    }

    fn part(&mut self, entry: &Entry, what: &str, role: Role) -> Option<Template> {
        let node = &entry.value;
        let key = entry.key.text()?;
        let named = format!("`{key}` of {what}");
        if node.is_null() {
            return None;
        }
        match key {
            "image" => {
                let image = self.words(node, &named, place::JOB)?;
                self.check_image(node, what, &image, role);
                Some(image)
            }
            "env" => self.flat_mapping(node, &named, place::CONTAINER_ENV),
            "ports" | "volumes" => {
                let Some(items) = node.sequence() else { return self.computed(node, &named, "a list of texts") };
                let item = format!("an entry of {named}");
                let items = items.iter().filter_map(|node| self.words(node, &item, place::JOB)).collect();
                Some(at(node, Kind::Sequence(items)))
            }
            "credentials" => self.credentials(node, &named),
            _ => self.words(node, &named, place::JOB),
        }
    }

    fn credentials(&mut self, node: &Node, what: &str) -> Option<Template> {
        if node.mapping().is_none() {
            return self.computed(node, what, "a mapping with `username` and `password`");
        }
        let fields: Fields<'_> = self.fields(node, what, &["username", "password"])?;
        let mut entries = Vec::new();
        for key in ["username", "password"] {
            match fields.entry(key) {
                Some(entry) => {
                    let value = self.words(&entry.value, &format!("`{key}` of {what}"), place::CREDENTIALS)?;
                    entries.push((at(&entry.key, Kind::String(key.to_owned())), value));
                }
                None if fields.is_misspelled(key) => {}
                None => self.missing(node.span, key, what, "give both `username` and `password`"),
            }
        }
        Some(at(node, Kind::Mapping(entries)))
    }

    /// An expression for something that is no text.
    fn computed(&mut self, node: &Node, what: &str, expected: &str) -> Option<Template> {
        let template = node.scalar().map(|_| self.scalar(node, place::JOB));
        let template = template.filter(|template| matches!(template.kind, Kind::Expression(_)));
        if template.is_none() {
            self.wrong_type(node, what, expected);
        }
        template
    }

    /// Text with expressions; what looks like a number is text too, as it is written.
    fn words(&mut self, node: &Node, what: &str, place: Place) -> Option<Template> {
        match node.scalar().map(|scalar| (scalar.literal, &scalar.text)) {
            Some((Literal::Null, _)) => {
                self.wrong_type(node, what, "text");
                None
            }
            Some((Literal::Bool(_) | Literal::Number(_), text)) => Some(at(node, Kind::String(text.clone()))),
            _ => self.text(node, what, place),
        }
    }

    /// A job without an image has no container; a service without one is a mistake, and so is a prefix with nothing behind.
    fn check_image(&mut self, node: &Node, what: &str, image: &Template, role: Role) {
        let Some(text) = image.as_str() else { return };
        let bare = text.strip_prefix(PREFIX);
        if bare.unwrap_or(text).trim().is_empty() && (bare.is_some() || role == Role::Service) {
            let message = format!("the image of {what} is empty");
            self.report(
                Diagnostic::error("value", node.span, message).remedy("name the image, for example `debian:12`"),
            );
        }
    }
}
