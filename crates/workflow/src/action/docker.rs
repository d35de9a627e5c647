//! Actions that run in containers.

use crate::diagnostic::Diagnostic;
use crate::model::place;
use crate::model::reader::{Reader, at};
use crate::template::{Kind, Template};
use crate::yaml;

/// An action that runs in a container.
#[derive(Clone, Debug, PartialEq)]
pub struct DockerAction {
    /// Where its image comes from.
    pub image: DockerImage,
    /// `entrypoint`; otherwise the input of that name, otherwise the image's.
    pub entrypoint: Option<String>,
    /// `args`, a list; otherwise the input of that name.
    pub args: Option<Template>,
    /// `env`, a mapping.
    pub env: Option<Template>,
    /// `pre-entrypoint`: runs before all steps of the job.
    pub pre: Option<String>,
    /// `pre-if` as expression text; `always()` where there is none.
    pub pre_if: String,
    /// `post-entrypoint`: runs after all steps of the job.
    pub post: Option<String>,
    /// `post-if` as expression text; `always()` where there is none.
    pub post_if: String,
}

impl DockerAction {
    /// The action that a step `uses: docker://image` uses.
    #[must_use]
    pub fn of_image(image: impl Into<String>) -> Self {
        Self {
            image: DockerImage::Registry(image.into()),
            entrypoint: None,
            args: None,
            env: None,
            pre: None,
            pre_if: "always()".to_owned(),
            post: None,
            post_if: "always()".to_owned(),
        }
    }
}

/// Where the image of an action comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DockerImage {
    /// It is pulled.
    Registry(String),
    /// It is built from this file, relative to the action's directory.
    File(String),
}

impl DockerImage {
    /// As manifests write it: `docker://image`, or a path whose last part is a `Dockerfile`
    /// (actions/runner `Runner.Worker/Container/DockerUtil.cs`).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        const PREFIX: &str = "docker://";
        if let Some((prefix, image)) = text.split_at_checked(PREFIX.len())
            && prefix.eq_ignore_ascii_case(PREFIX)
        {
            return Some(Self::Registry(image.to_owned())).filter(|_| !image.trim().is_empty());
        }
        let name = text.rsplit('/').next().unwrap_or(text).to_ascii_lowercase();
        (name.starts_with("dockerfile.") || name.ends_with("dockerfile")).then(|| Self::File(text.to_owned()))
    }
}

const KEYS: &[&str] =
    &["using", "image", "entrypoint", "args", "env", "pre-entrypoint", "pre-if", "post-entrypoint", "post-if"];

pub(super) fn read(reader: &mut Reader<'_>, runs: &yaml::Entry) -> Option<DockerAction> {
    let fields = reader.fields(&runs.value, "`runs`", KEYS)?;
    let mut literal = |key: &str| fields.given(key).and_then(|node| reader.literal(node, &format!("`{key}`")));
    let (entrypoint, pre, post) = (literal("entrypoint"), literal("pre-entrypoint"), literal("post-entrypoint"));
    let image = literal("image");
    match (fields.given("image"), &image) {
        (None, _) if fields.is_misspelled("image") => {}
        (None, _) => {
            reader.missing(runs.key.span, "image", "`runs`", "add `image: Dockerfile` or `image: docker://…`");
        }
        (Some(node), Some(text)) if DockerImage::parse(text).is_none() => {
            let message = format!("'{text}' should be either '[path]/Dockerfile' or 'docker://image[:tag]'");
            reader.report(Diagnostic::error("value", node.span, message));
        }
        _ => {}
    }
    let args = fields.given("args").and_then(|node| match node.sequence() {
        Some(items) => {
            let items =
                items.iter().filter_map(|node| reader.text(node, "an entry of `args`", place::ACTION_CONTAINER));
            let items = items.collect();
            Some(at(node, Kind::Sequence(items)))
        }
        None => {
            reader.wrong_type(node, "`args`", "a list");
            None
        }
    });
    let env = fields.given("env").and_then(|node| reader.flat_mapping(node, "`env`", place::ACTION_CONTAINER));
    let pre_if = reader.bare_condition(fields.get("pre-if"), "`pre-if`");
    let post_if = reader.bare_condition(fields.get("post-if"), "`post-if`");
    Some(DockerAction { image: DockerImage::parse(&image?)?, entrypoint, args, env, pre, pre_if, post, post_if })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_pulled_or_built() {
        let registry = |image: &str| Some(DockerImage::Registry(image.to_owned()));
        let file = |path: &str| Some(DockerImage::File(path.to_owned()));
        for (text, expected) in [
            ("docker://debian:12", registry("debian:12")),
            ("Docker://debian", registry("debian")),
            ("Dockerfile", file("Dockerfile")),
            ("sub/my.dockerfile", file("sub/my.dockerfile")),
            ("Dockerfile.ci", file("Dockerfile.ci")),
            ("docker://", None),
            ("debian:12", None),
            ("Dockerfile/x", None),
        ] {
            assert_eq!(DockerImage::parse(text), expected, "{text}");
        }
    }
}
