//! Which contexts and properties an expression reads.

use super::node::{Kind, Node};

/// A context an expression names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextUse {
    /// The name in lower case.
    pub name: String,
    /// Where it is first named, in bytes.
    pub offset: usize,
    /// How many bytes the name has.
    pub length: usize,
}

/// One read of a context: `needs.build.outputs['tag']` has the context `needs` and the path `build`, `outputs`, `tag`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The context in lower case.
    pub context: String,
    /// The property names written out, up to the first that is computed or a filter.
    pub path: Vec<String>,
    /// Where the reference begins, in bytes.
    pub offset: usize,
    /// How many bytes context and path span.
    pub length: usize,
}

impl Reference {
    /// The first name after the context; `None` when the whole context is read (`toJSON(secrets)`,
    /// `secrets[inputs.name]`, `needs.*`).
    pub fn name(&self) -> Option<&str> {
        self.path.first().map(String::as_str)
    }
}

pub(super) fn contexts(root: &Node) -> Vec<ContextUse> {
    let mut uses: Vec<ContextUse> = Vec::new();
    root.walk(&mut |node| {
        let Kind::Context(name) = &node.kind else { return };
        let name = name.to_ascii_lowercase();
        if uses.iter().all(|known| known.name != name) {
            uses.push(ContextUse { name, offset: node.offset, length: node.length });
        }
    });
    uses
}

pub(super) fn references(root: &Node) -> Vec<Reference> {
    let mut found = Vec::new();
    collect(root, &mut found);
    found
}

fn collect(node: &Node, found: &mut Vec<Reference>) {
    if let Some(reference) = path(node) {
        found.push(reference);
        return;
    }
    match &node.kind {
        Kind::Literal(_) | Kind::Context(_) => {}
        Kind::Call { arguments: nodes, .. } | Kind::Chain { operands: nodes, .. } => {
            nodes.iter().for_each(|node| collect(node, found));
        }
        Kind::Index { target: left, index: right } | Kind::Compare { left, right, .. } => {
            collect(left, found);
            collect(right, found);
        }
        Kind::Filter(node) | Kind::Not(node) => collect(node, found),
    }
}

/// The reference a node is when it is a context followed by nothing but literal indices.
fn path(node: &Node) -> Option<Reference> {
    match &node.kind {
        Kind::Context(name) => Some(Reference {
            context: name.to_ascii_lowercase(),
            path: Vec::new(),
            offset: node.offset,
            length: node.length,
        }),
        Kind::Index { target, index } => {
            let Kind::Literal(key) = &index.kind else { return None };
            let mut reference = path(target)?;
            reference.path.push(key.to_text().into_owned());
            reference.length = node.length;
            Some(reference)
        }
        _ => None,
    }
}
