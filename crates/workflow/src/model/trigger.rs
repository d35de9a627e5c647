//! `on`.

use super::event::{EVENTS, Event};
use super::{DeclaredSecret, Input, Reader, cron, filter, spelling};
use crate::diagnostic::Diagnostic;
use crate::template::Template;
use crate::yaml::{Entry, Kind, Node};

/// `on`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Triggers {
    /// Each event once, in the order of the file.
    pub events: Vec<Trigger>,
}

impl Triggers {
    /// The trigger of an event.
    #[must_use]
    pub fn get(&self, event: &str) -> Option<&Trigger> {
        self.events.iter().find(|trigger| trigger.event == event)
    }
}

/// An event that starts the workflow, and under which conditions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trigger {
    /// Name, such as `push`.
    pub event: String,
    /// `types`; empty means the event's default types.
    pub types: Vec<String>,
    /// `branches` or `branches-ignore`.
    pub branches: Option<Patterns>,
    /// `tags` or `tags-ignore`.
    pub tags: Option<Patterns>,
    /// `paths` or `paths-ignore`.
    pub paths: Option<Patterns>,
    /// `workflows` of `workflow_run`.
    pub workflows: Vec<String>,
    /// `cron` of each entry of `schedule`.
    pub cron: Vec<String>,
    /// `inputs` of `workflow_dispatch` or `workflow_call`.
    pub inputs: Vec<Input>,
    /// `secrets` of `workflow_call`.
    pub secrets: Vec<DeclaredSecret>,
    /// `outputs` of `workflow_call`, unevaluated.
    pub outputs: Vec<(String, Template)>,
}

/// Patterns of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns {
    /// True for the `-ignore` form.
    pub ignore: bool,
    /// In order; `!` negates.
    pub patterns: Vec<String>,
}

impl Reader<'_> {
    /// `on`.
    pub(crate) fn triggers(&mut self, entry: &Entry) -> Triggers {
        let node = &entry.value;
        let mut events = Vec::new();
        match &node.kind {
            _ if node.is_null()
                || node.sequence().is_some_and(<[_]>::is_empty)
                || node.mapping().is_some_and(<[_]>::is_empty) =>
            {
                self.missing(entry.key.span, "event", "`on`", "name what starts the workflow, for example `on: push`");
            }
            Kind::Scalar(_) => events.extend(self.bare_event(node)),
            Kind::Sequence(items) => {
                for item in items {
                    let Some(trigger) = self.bare_event(item) else { continue };
                    if events.iter().all(|known: &Trigger| known.event != trigger.event) {
                        events.push(trigger);
                    }
                }
            }
            Kind::Mapping(entries) => events.extend(entries.iter().filter_map(|entry| self.event(entry))),
        }
        Triggers { events }
    }

    fn known_event(&mut self, node: &Node) -> Option<Event> {
        let name = self.literal(node, "an event")?;
        let known = EVENTS.iter().find(|event| event.name == name);
        if known.is_none() {
            let remedy = spelling::nearest(&name, EVENTS.iter().map(|event| event.name)).map_or_else(
                || "events are, for example, `push`, `pull_request`, `schedule` and `workflow_dispatch`".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            self.report(
                Diagnostic::error("unknown-event", node.span, format!("unknown event `{name}`")).remedy(remedy),
            );
        }
        known.copied()
    }

    fn bare_event(&mut self, node: &Node) -> Option<Trigger> {
        let event = self.known_event(node)?;
        if event.name == "schedule" {
            let remedy = "write `schedule:` with a list of `- cron: '…'`";
            self.missing(node.span, "cron", "`schedule`", remedy);
        }
        Some(Trigger { event: event.name.to_owned(), ..Trigger::default() })
    }

    fn event(&mut self, entry: &Entry) -> Option<Trigger> {
        let event = self.known_event(&entry.key)?;
        let mut trigger = Trigger { event: event.name.to_owned(), ..Trigger::default() };
        let node = &entry.value;
        match event.name {
            "schedule" => {
                trigger.cron = self.schedule(entry);
                return Some(trigger);
            }
            "workflow_call" => {
                self.workflow_call(node, &mut trigger);
                return Some(trigger);
            }
            _ if node.is_null() => return Some(trigger),
            _ => {}
        }
        let mut keys = event.keys.to_vec();
        if !event.types.is_empty() || event.name == "repository_dispatch" {
            keys.push("types");
        }
        let fields = self.fields(node, &format!("`{}`", event.name), &keys)?;
        trigger.types = fields.given("types").map(|node| self.types(node, event)).unwrap_or_default();
        trigger.branches = self.patterns(&fields, "branches", "branches-ignore");
        trigger.tags = self.patterns(&fields, "tags", "tags-ignore");
        trigger.paths = self.patterns(&fields, "paths", "paths-ignore");
        trigger.workflows = fields.given("workflows").map(|node| self.texts(node, "`workflows`")).unwrap_or_default();
        if event.name == "workflow_run" && trigger.workflows.is_empty() {
            self.missing(entry.key.span, "workflows", "`workflow_run`", "name the workflows to wait for");
        }
        trigger.inputs = fields.given("inputs").map(|node| self.dispatch_inputs(node)).unwrap_or_default();
        Some(trigger)
    }

    fn types(&mut self, node: &Node, event: Event) -> Vec<String> {
        let items = node.sequence().unwrap_or_else(|| std::slice::from_ref(node));
        let mut types = Vec::new();
        for item in items {
            let Some(name) = self.literal(item, "an activity type") else { continue };
            if event.types.is_empty() || event.types.contains(&name.as_str()) {
                types.push(name);
                continue;
            }
            let message = format!("`{}` has no activity type `{name}`", event.name);
            let remedy = spelling::remedy(&name, event.types.iter().copied(), "types");
            self.report(Diagnostic::error("value", item.span, message).remedy(remedy));
        }
        types
    }

    /// A text or a list of texts.
    fn texts(&mut self, node: &Node, what: &str) -> Vec<String> {
        let items = node.sequence().unwrap_or_else(|| std::slice::from_ref(node));
        items.iter().filter_map(|item| self.literal(item, &format!("an entry of {what}"))).collect()
    }

    fn patterns(&mut self, fields: &super::Fields<'_>, only: &str, ignore: &str) -> Option<Patterns> {
        let (wanted, ignored) = (fields.entry(only), fields.entry(ignore));
        if let (Some(wanted), Some(ignored)) = (wanted, ignored) {
            self.report(
                Diagnostic::error("filter", ignored.key.span, format!("`{only}` and `{ignore}` exclude each other"))
                    .note_at(wanted.key.span, format!("`{only}` is given here"))
                    .remedy(format!("use `{only}` alone, and put `!` before what is to be left out")),
            );
        }
        let (entry, negated) = wanted.map(|entry| (entry, false)).or_else(|| ignored.map(|entry| (entry, true)))?;
        if entry.value.is_null() {
            return None;
        }
        let items = entry.value.sequence().unwrap_or_else(|| std::slice::from_ref(&entry.value));
        let mut patterns = Vec::new();
        for item in items {
            let Some(text) = self.literal(item, "a pattern") else { continue };
            if let Some(problem) = filter::problem(&text) {
                let message = format!("`{text}` is not a pattern: {problem}");
                let remedy = "put a backslash before a character that is meant literally";
                self.report(Diagnostic::error("filter", item.span, message).remedy(remedy));
            }
            patterns.push(text);
        }
        let negative = |pattern: &String| pattern.starts_with('!');
        if !negated && !patterns.is_empty() && patterns.iter().all(negative) {
            self.report(
                Diagnostic::error(
                    "filter",
                    entry.key.span,
                    format!("`{only}` has only patterns with `!`, so nothing matches"),
                )
                .remedy(format!("use `{ignore}`, or put a pattern such as `'**'` first")),
            );
        }
        Some(Patterns { ignore: negated, patterns })
    }

    /// A name of the IANA database. Which of them there are is for whoever starts runs by the clock to know.
    fn timezone(&mut self, node: &Node) {
        let Some(name) = self.literal(node, "`timezone`") else { return };
        let is_part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+'))
        };
        if !name.split('/').all(is_part) {
            let message = format!("`{name}` is not the name of a time zone");
            let remedy = "name one of the IANA database, for example `Europe/Berlin`";
            self.report(Diagnostic::error("value", node.span, message).remedy(remedy));
        }
    }

    fn schedule(&mut self, entry: &Entry) -> Vec<String> {
        let Some(items) = entry.value.sequence() else {
            self.wrong_type(&entry.value, "`schedule`", "a list of `- cron: '…'`");
            return Vec::new();
        };
        let mut lines = Vec::new();
        for item in items {
            let Some(fields) = self.fields(item, "an entry of `schedule`", &["cron", "timezone"]) else { continue };
            if let Some(node) = fields.given("timezone") {
                self.timezone(node);
            }
            let Some(node) = fields.get("cron") else {
                self.missing(item.span, "cron", "an entry of `schedule`", "write `- cron: '30 5 * * 1-5'`");
                continue;
            };
            let Some(text) = self.literal(node, "`cron`") else { continue };
            if let Some(problem) = cron::problem(&text) {
                let message = format!("`{text}` is not a schedule: {problem}");
                let remedy = "write minute, hour, day of month, month and day of week, for example '30 5 * * 1-5'";
                self.report(Diagnostic::error("cron", node.span, message).remedy(remedy));
            }
            lines.push(text);
        }
        lines
    }
}
