//! What a job says of a container, after evaluation.

use startline_workflow::expression::{Object, Value};

use crate::shell::words;

/// A container that a job asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerSpec {
    pub(crate) image: String,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) ports: Vec<String>,
    pub(crate) volumes: Vec<String>,
    /// Arguments for the engine.
    pub(crate) options: Vec<String>,
    pub(crate) entrypoint: Option<String>,
    pub(crate) command: Vec<String>,
}

/// Who pulls an image.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) username: String,
    pub(crate) password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

impl ContainerSpec {
    /// Reads `container`, or one of `services`; none when the image is empty. `what` names it in errors.
    pub(crate) fn read(what: &str, value: &Value) -> Result<Option<Self>, String> {
        let mut spec = Self::default();
        match value {
            Value::Null => return Ok(None),
            Value::Object(members) => {
                for (key, value) in members.iter() {
                    spec.member(what, key, value)?;
                }
            }
            other => spec.image = text(what, other)?,
        }
        if let Some(bare) = spec.image.strip_prefix("docker://") {
            spec.image = bare.to_owned();
        }
        if spec.image.starts_with('-') {
            return Err(format!("{what}: `{}` is no image", spec.image));
        }
        Ok(Some(spec).filter(|spec| !spec.image.is_empty()))
    }

    fn member(&mut self, what: &str, key: &str, value: &Value) -> Result<(), String> {
        let what = format!("`{key}` of {what}");
        match key {
            "image" => self.image = text(&what, value)?.trim().to_owned(),
            "env" => {
                let entries = object(&what, value)?;
                let entries = entries.iter().map(|(name, value)| Ok((name.to_owned(), text(&what, value)?)));
                self.env = entries.collect::<Result<_, String>>()?;
            }
            "ports" => self.ports = texts(&what, value)?,
            "volumes" => self.volumes = texts(&what, value)?,
            "options" => self.options = split(&what, &text(&what, value)?)?,
            "entrypoint" => self.entrypoint = Some(text(&what, value)?).filter(|text| !text.is_empty()),
            "command" => self.command = split(&what, &text(&what, value)?)?,
            "credentials" => {
                let members = object(&what, value)?;
                let member = |key: &str| members.get(key).map(|value| text(&what, value)).transpose();
                let (username, password) =
                    (member("username")?.unwrap_or_default(), member("password")?.unwrap_or_default());
                // Without both there is nothing to log in with (actions/runner `ContainerOperationProvider.cs`).
                self.credentials = Some(Credentials { username, password })
                    .filter(|given| !given.username.is_empty() && !given.password.is_empty());
            }
            _ => return Err(format!("{what}: there is no such key")),
        }
        Ok(())
    }
}

/// The registry that an image comes from; empty for the engine's own default (actions/runner `DockerUtil.cs`).
pub(crate) fn registry(image: &str) -> &str {
    match image.split('/').collect::<Vec<_>>().as_slice() {
        [host, _] if host.contains([':', '.']) => host,
        [host, _, _, ..] => host,
        _ => "",
    }
}

/// A command line as arguments.
pub(crate) fn split(what: &str, text: &str) -> Result<Vec<String>, String> {
    words(text).ok_or_else(|| format!("{what} has quotes that do not close: `{text}`"))
}

fn text(what: &str, value: &Value) -> Result<String, String> {
    if !value.is_primitive() {
        return Err(format!("{what} must be text, but it is an {}", value.kind()));
    }
    Ok(value.to_text().into_owned())
}

fn texts(what: &str, value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => items.iter().map(|item| text(what, item)).collect(),
        other => Err(format!("{what} must be a list, but it is a {}", other.kind())),
    }
}

fn object(what: &str, value: &Value) -> Result<Object, String> {
    match value {
        Value::Null => Ok(Object::new()),
        Value::Object(members) => Ok((**members).clone()),
        other => Err(format!("{what} must be a mapping, but it is a {}", other.kind())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &serde_json::Value) -> Result<Option<ContainerSpec>, String> {
        ContainerSpec::read("`container`", &Value::from_json(value))
    }

    #[test]
    fn an_image_alone_or_a_mapping_is_read() {
        let short = read(&json!("docker://debian:12")).unwrap().unwrap();
        assert_eq!(short.image, "debian:12");
        let long = read(&json!({
            "image": "ghcr.io/acme/db:1",
            "env": { "A": 1, "B": "x y" },
            "ports": [80, "8080:81"],
            "volumes": ["data:/data"],
            "options": "--cpus 1 --health-cmd \"pg_isready -U \\\"x\\\"\"",
            "command": "serve --fast",
            "entrypoint": "/run",
            "credentials": { "username": "bot", "password": "hush" },
        }));
        let long = long.unwrap().unwrap();
        assert_eq!(long.env, [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "x y".to_owned())]);
        assert_eq!(long.ports, ["80", "8080:81"]);
        assert_eq!(long.options, ["--cpus", "1", "--health-cmd", "pg_isready -U \"x\""]);
        assert_eq!((long.command.join("|").as_str(), long.entrypoint.as_deref()), ("serve|--fast", Some("/run")));
        assert!(!format!("{long:?}").contains("hush"));
    }

    #[test]
    fn an_empty_image_is_no_container_and_nonsense_is_named() {
        for none in [json!(""), json!(null), json!("docker://"), json!({ "image": "", "env": {} }), json!({})] {
            assert_eq!(read(&none), Ok(None), "{none}");
        }
        let half = read(&json!({ "image": "a", "credentials": { "username": "bot", "password": "" } }));
        assert_eq!(half.unwrap().unwrap().credentials, None);
        for (wrong, expected) in [
            (json!([1]), "must be text"),
            (json!({ "image": "a", "ports": "80" }), "`ports` of `container` must be a list"),
            (json!({ "image": "a", "env": "x" }), "must be a mapping"),
            (json!({ "image": "a", "options": "\"x" }), "quotes that do not close"),
            (json!({ "image": "--privileged" }), "is no image"),
        ] {
            let said = read(&wrong).unwrap_err();
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn registries_are_told_from_names() {
        for (image, expected) in [
            ("debian", ""),
            ("library/debian", ""),
            ("ghcr.io/debian", "ghcr.io"),
            ("host:5000/debian", "host:5000"),
            ("ghcr.io/acme/tool:1", "ghcr.io"),
        ] {
            assert_eq!(registry(image), expected, "{image}");
        }
    }
}
