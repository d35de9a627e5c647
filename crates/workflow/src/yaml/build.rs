//! Parser events to the tree.

use std::collections::{HashMap, HashSet};

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::scalar::resolve;
use super::{ALIAS_BUDGET, Entry, Kind, Literal, MAX_DEPTH, MAX_SIZE, Node, Scalar, Style};
use crate::diagnostic::Diagnostic;
use crate::span::{LineIndex, Position, Span, narrow};

/// What a node costs in the alias budget besides its text.
const NODE_COST: usize = 64;

/// A finding after which reading cannot go on.
struct Fatal(Box<Diagnostic>);

impl From<Diagnostic> for Fatal {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(Box::new(diagnostic))
    }
}

pub(super) fn parse(source: &str) -> (Option<Node>, Vec<Diagnostic>) {
    if source.len() > MAX_SIZE {
        let message = format!("the file has {} bytes; the limit is {MAX_SIZE} bytes (1 MiB)", source.len());
        let remedy = "move long scripts into files of the repository and call them from `run`";
        return (None, vec![Diagnostic::error("too-large", beginning(), message).remedy(remedy)]);
    }
    let mut builder = Builder::default();
    let options = granit_parser::options! { emit_unresolved_aliases: true, emit_anchor_events: true };
    for event in Parser::new_from_str_with_options(source, options) {
        let outcome = match event {
            Ok((event, place)) => builder.event(event, span(place)),
            Err(error) => Err(syntax(&error, source).into()),
        };
        if let Err(Fatal(diagnostic)) = outcome {
            builder.diagnostics.push(*diagnostic);
            return (None, builder.diagnostics);
        }
    }
    let Builder { root, mut diagnostics, .. } = builder;
    if root.is_none() && diagnostics.is_empty() {
        let remedy = "a workflow needs at least `on` and `jobs`";
        diagnostics.push(Diagnostic::error("empty", beginning(), "the file holds no content").remedy(remedy));
    }
    // With a key twice the tree still holds all that was written once; other errors leave holes, about which the reader
    // of the tree would complain again.
    let usable = diagnostics.iter().all(|diagnostic| diagnostic.code == "duplicate-key");
    (root.filter(|_| usable), diagnostics)
}

fn beginning() -> Span {
    let start = Position { offset: 0, line: 1, column: 1 };
    Span { start, end: start }
}

fn position(marker: Marker) -> Position {
    Position {
        offset: marker.byte_offset().unwrap_or_default(),
        line: narrow(marker.line()).max(1),
        column: narrow(marker.col()).saturating_add(1),
    }
}

fn span(span: granit_parser::Span) -> Span {
    Span { start: position(span.start), end: position(span.end) }
}

fn too_deep(place: Span) -> Diagnostic {
    let message = format!("this is nested more than {MAX_DEPTH} levels deep");
    Diagnostic::error("too-deep", place, message).remedy("flatten the structure")
}

/// The next tab in an indentation; the parser may stop before the line break that the tab follows.
fn tab_after(source: &str, start: Position) -> Option<Span> {
    let mut offset = source.get(..start.offset)?.rfind('\n').map_or(0, |newline| newline + 1);
    for line in source.get(offset..)?.split_inclusive('\n').take(3) {
        let blank = &line[..line.len() - line.trim_start().len()];
        if let Some(tab) = blank.find('\t') {
            return Some(LineIndex::new(source).span(offset + tab, offset + tab + 1));
        }
        offset += line.len();
    }
    None
}

fn syntax(error: &ScanError, source: &str) -> Diagnostic {
    let start = position(*error.marker());
    let at = Span { start, end: start };
    let info = error.info();
    if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
        return too_deep(at);
    }
    if info.contains("tab") {
        return Diagnostic::error("yaml-tab", tab_after(source, start).unwrap_or(at), "a tab is used for indentation")
            .remedy("indent with spaces; YAML does not allow tabs there");
    }
    let diagnostic = Diagnostic::error("yaml-syntax", at, format!("this is not valid YAML: {info}"));
    if info.contains("mapping values are not allowed") {
        return diagnostic.remedy("put text that contains `: ` in quotes, or check the indentation of this line");
    }
    if info.starts_with("unexpected character") {
        return diagnostic.remedy("put text that begins with this character in quotes");
    }
    diagnostic.remedy("check the indentation, the quotes and the brackets before this place")
}

/// A collection that is being read.
struct Frame {
    start: Span,
    anchor: Option<usize>,
    content: Content,
    /// Cost of what it holds so far, for the alias budget.
    cost: usize,
    /// Nesting of what it holds so far.
    depth: usize,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, seen: HashMap<String, Span>, key: Option<Key> },
}

enum Key {
    Good(Node),
    /// Reported already; its value is read and dropped.
    Bad,
}

/// What an anchor stands for.
#[derive(Default)]
struct Anchor {
    name: String,
    place: Span,
    /// Absent while the node is being read.
    node: Option<(Node, usize, usize)>,
}

#[derive(Default)]
struct Builder {
    stack: Vec<Frame>,
    anchors: HashMap<usize, Anchor>,
    root: Option<Node>,
    documents: usize,
    spent: usize,
    diagnostics: Vec<Diagnostic>,
    unknown: HashSet<String>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, place: Span) -> Result<(), Fatal> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(Diagnostic::error(
                        "multiple-documents",
                        place,
                        "the file holds more than one YAML document",
                    )
                    .remedy("keep one document per file; remove the `---` line or split the file")
                    .into());
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = scalar(&text, style, tag.as_deref(), place)?;
                let node = Node { span: place, kind: Kind::Scalar(scalar) };
                let cost = NODE_COST + text.len();
                if anchor != 0 {
                    self.anchors.entry(anchor).or_default().node = Some((node.clone(), cost, 0));
                }
                self.push(node, cost, 0);
            }
            Event::SequenceStart(_, anchor, _) => self.open(place, anchor, Content::Sequence(Vec::new()))?,
            Event::MappingStart(_, anchor, _) => {
                let content = Content::Mapping { entries: Vec::new(), seen: HashMap::new(), key: None };
                self.open(place, anchor, content)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(place),
            Event::Anchor(id, name) => {
                let anchor = self.anchors.entry(id).or_default();
                anchor.name = name.into_owned();
                anchor.place = place;
            }
            Event::Alias(id) => self.alias(id, place)?,
            Event::UnresolvedAlias(name) => {
                if self.unknown.insert(name.to_string()) {
                    self.diagnostics.push(
                        Diagnostic::error(
                            "unknown-anchor",
                            place,
                            format!("no anchor `&{name}` stands before this alias"),
                        )
                        .remedy(format!("define it with `&{name}`, or put text that begins with `*` in quotes")),
                    );
                }
                self.push(null(place), NODE_COST, 0);
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, start: Span, anchor: usize, content: Content) -> Result<(), Fatal> {
        self.check_depth(self.stack.len() + 1, start)?;
        let anchor = (anchor != 0).then_some(anchor);
        if let Some(id) = anchor {
            self.anchors.insert(id, Anchor::default());
        }
        self.stack.push(Frame { start, anchor, content, cost: NODE_COST, depth: 1 });
        Ok(())
    }

    fn check_depth(&self, depth: usize, place: Span) -> Result<(), Fatal> {
        if depth <= MAX_DEPTH {
            return Ok(());
        }
        Err(too_deep(place).into())
    }

    fn close(&mut self, end: Span) {
        let Some(frame) = self.stack.pop() else { return };
        let last = match &frame.content {
            Content::Sequence(items) => items.last().map(|item| item.span),
            Content::Mapping { entries, .. } => entries.last().map(|entry| entry.value.span),
        };
        // A block collection ends where its last item ends, not at the next line that is indented less; an item behind
        // an alias may stand anywhere.
        let flow_end = end.end.offset > end.start.offset;
        let end = match last {
            Some(last) if !flow_end && last.end >= frame.start.end => last.end,
            None if !flow_end => frame.start.end,
            _ if flow_end => end.end,
            _ => end.start,
        };
        let span = Span { start: frame.start.start, end };
        let kind = match frame.content {
            Content::Sequence(items) => Kind::Sequence(items),
            Content::Mapping { entries, .. } => Kind::Mapping(entries),
        };
        let node = Node { span, kind };
        if let Some(id) = frame.anchor {
            self.anchors.entry(id).or_default().node = Some((node.clone(), frame.cost, frame.depth));
        }
        self.push(node, frame.cost, frame.depth);
    }

    fn alias(&mut self, id: usize, place: Span) -> Result<(), Fatal> {
        let Some(anchor) = self.anchors.get(&id) else {
            self.push(null(place), NODE_COST, 0);
            return Ok(());
        };
        let name = anchor.name.clone();
        let Some((node, cost, depth)) = &anchor.node else {
            let message = format!("the anchor `&{name}` refers to itself");
            let diagnostic = Diagnostic::error("anchor-cycle", place, message)
                .note_at(anchor.place, "the anchor is defined here")
                .remedy("write the value out instead of the alias");
            self.diagnostics.push(diagnostic);
            self.push(null(place), NODE_COST, 0);
            return Ok(());
        };
        let (cost, depth) = (*cost, *depth);
        self.spent = self.spent.saturating_add(cost);
        if self.spent > ALIAS_BUDGET {
            let message =
                format!("expanding the alias `*{name}` exceeds the limit of {ALIAS_BUDGET} bytes for aliases");
            let remedy = "use fewer aliases, or aliases of smaller values";
            return Err(Diagnostic::error("alias-budget", place, message).remedy(remedy).into());
        }
        let node = node.clone();
        self.check_depth(self.stack.len() + depth, place)?;
        self.push(node, cost, depth);
        Ok(())
    }

    fn push(&mut self, node: Node, cost: usize, depth: usize) {
        let Some(frame) = self.stack.last_mut() else {
            self.root.get_or_insert(node);
            return;
        };
        frame.cost = frame.cost.saturating_add(cost);
        frame.depth = frame.depth.max(depth + 1);
        match &mut frame.content {
            Content::Sequence(items) => items.push(node),
            Content::Mapping { entries, seen, key } => match key.take() {
                None => {
                    *key = Some(match check_key(&node, seen) {
                        None => Key::Good(node),
                        Some(diagnostic) => {
                            self.diagnostics.push(diagnostic);
                            Key::Bad
                        }
                    });
                }
                Some(Key::Good(key)) => entries.push(Entry { key, value: node }),
                Some(Key::Bad) => {}
            },
        }
    }
}

/// What is wrong with a key, if anything is.
fn check_key(node: &Node, seen: &mut HashMap<String, Span>) -> Option<Diagnostic> {
    let Kind::Scalar(scalar) = &node.kind else {
        let message = format!("a key must be text, not {}", node.describe());
        return Some(
            Diagnostic::error("bad-key", node.span, message)
                .remedy("put the key in quotes if it begins with `[` or `{`"),
        );
    };
    if scalar.style == Style::Plain && scalar.text == "<<" {
        return Some(
            Diagnostic::error("merge-key", node.span, "merge keys (`<<`) are not supported")
                .remedy("write the keys out, or alias the whole mapping (`key: *anchor`)"),
        );
    }
    // `${{ insert }}` may stand several times in a mapping.
    if scalar.text.starts_with("${{") {
        return None;
    }
    match seen.insert(scalar.text.to_lowercase(), node.span) {
        None => None,
        Some(first) => {
            // The first place stays the one that is named.
            seen.insert(scalar.text.to_lowercase(), first);
            let message = format!("the key `{}` is defined twice", scalar.text);
            Some(
                Diagnostic::error("duplicate-key", node.span, message)
                    .note_at(first, "it is first defined here; upper and lower case make no difference")
                    .remedy("remove or rename one of the two"),
            )
        }
    }
}

fn null(span: Span) -> Node {
    Node { span, kind: Kind::Scalar(Scalar { text: String::new(), literal: Literal::Null, style: Style::Plain }) }
}

/// A scalar with its type. A tag must be one of the core schema and fit the value, as in
/// actions/runner `Sdk/WorkflowParser/Conversion/YamlObjectReader.cs`.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, place: Span) -> Result<Scalar, Fatal> {
    let style = match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted => Style::SingleQuoted,
        ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
    };
    // The parser writes `~` for a value that is absent.
    let text = if style == Style::Plain && place.start.offset == place.end.offset { "" } else { text };
    let literal = match tag.map(Tag::core_suffix) {
        None if style == Style::Plain => resolve(text),
        None | Some(Some("str")) => Literal::String,
        Some(Some(name @ ("bool" | "int" | "float" | "null"))) => match (name, resolve(text)) {
            ("bool", Literal::Bool(value)) => Literal::Bool(value),
            ("int", Literal::Number(value)) if value.fract() == 0.0 => Literal::Number(value),
            ("float", Literal::Number(value)) => Literal::Number(value),
            ("null", Literal::Null) => Literal::Null,
            _ => {
                return Err(Diagnostic::error("tag", place, format!("`{text}` does not fit its tag `!!{name}`"))
                    .remedy("leave the tag out, or correct the value")
                    .into());
            }
        },
        Some(_) => {
            return Err(Diagnostic::error("tag", place, "the tag of this value is not known")
                .remedy("leave it out; known tags are `!!str`, `!!bool`, `!!int`, `!!float` and `!!null`")
                .into());
        }
    };
    Ok(Scalar { text: text.to_owned(), literal, style })
}
