//! What the body of an event says, whoever submits it.

use serde_json::{Map, Value, json};

/// What is known of an event besides its body.
pub(super) struct About<'a> {
    /// `owner/name`.
    pub repository: &'a str,
    pub actor: &'a str,
    pub git_ref: &'a str,
}

/// Adds what each of GitHub's events says of its repository and sender, where the body does not: actions read the
/// default branch and the owner from it. What the body says stays.
pub(super) fn complete(body: &mut Map<String, Value>, about: &About<'_>) {
    body.entry("ref").or_insert_with(|| about.git_ref.into());
    let (owner, name) = about.repository.split_once('/').unwrap_or(("", about.repository));
    let repository = json!({
        "name": name,
        "full_name": about.repository,
        "owner": { "login": owner, "name": owner },
        "private": true,
        "default_branch": "main",
    });
    add(body.entry("repository").or_insert_with(|| json!({})), repository);
    add(body.entry("sender").or_insert_with(|| json!({})), json!({ "login": about.actor, "type": "User" }));
}

/// Adds the fields that an object lacks; anything else is left as it is.
fn add(to: &mut Value, fields: Value) {
    if let (Value::Object(to), Value::Object(fields)) = (to, fields) {
        for (name, value) in fields {
            to.entry(name).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(body: Value) -> Value {
        let Value::Object(mut body) = body else { panic!("no object") };
        complete(&mut body, &About { repository: "acme/app", actor: "ada", git_ref: "refs/heads/dev" });
        body.into()
    }

    #[test]
    fn an_empty_body_gets_what_every_event_says() {
        let body = completed(json!({}));
        assert_eq!(body["repository"]["full_name"], "acme/app");
        assert_eq!(body["repository"]["name"], "app");
        assert_eq!(body["repository"]["owner"]["login"], "acme");
        assert_eq!(body["repository"]["default_branch"], "main");
        assert_eq!(body["sender"]["login"], "ada");
        assert_eq!(body["ref"], "refs/heads/dev");
    }

    #[test]
    fn what_a_body_says_stays() {
        let body =
            completed(json!({ "repository": { "default_branch": "trunk", "id": 7 }, "sender": null, "ref": "x" }));
        assert_eq!(body["repository"]["default_branch"], "trunk");
        assert_eq!(body["repository"]["id"], 7);
        assert_eq!(body["repository"]["full_name"], "acme/app", "beside what is missing");
        assert_eq!((&body["sender"], &body["ref"]), (&Value::Null, &json!("x")));
    }
}
