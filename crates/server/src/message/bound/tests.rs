use startline_protocol::job_message::JobMessage;
use startline_protocol::runs_api::JobDefinition;

use super::*;

const GUID: Uuid = Uuid::from_u128(7);

fn plain(value: &str) -> Variable {
    Variable { value: value.to_owned(), is_secret: false }
}

/// A message as it is stored, with these variables of its own.
fn stored(variables: &[(&str, &str)], contexts: &[(&str, &str)]) -> JobMessage {
    let definition = serde_json::json!({
        "steps": [{
            "type": "action", "id": Uuid::from_u128(1), "reference": { "type": "script" }, "condition": "success()",
            "inputs": { "type": 2, "map": [{ "Key": "script", "Value": "echo \"grüße\" \\ \u{2028}" }] },
        }],
        "environmentVariables": [{ "type": 2, "map": [] }],
    });
    let mut definition: JobDefinition = serde_json::from_value(definition).unwrap();
    definition.variables = variables.iter().map(|(name, value)| ((*name).to_owned(), plain(value))).collect();
    let text = |value: &str| ContextData::String(value.to_owned());
    definition.context_data = contexts.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
    super::super::single(Uuid::from_u128(2), "job", "a \"name\"", definition)
}

fn bound(message: &JobMessage, trusted: bool) -> Bound {
    Bound::new(serde_json::to_string(message).unwrap(), GUID, &Urls::new("https://s"), "token", trusted)
}

fn written(bound: &Bound) -> JobMessage {
    let mut out = Vec::new();
    bound.write(&mut out).unwrap();
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn what_is_not_of_the_assignment_leaves_as_it_was_stored() {
    let message = stored(&[("own \"one\"", "a\nb")], &[("inputs", "x")]);
    let sent = written(&bound(&message, true));
    let v2 = sent.variables["actions_uses_cache_service_v2"].clone();
    assert_eq!((sent.job_id, v2), (GUID, plain("true")));
    let [endpoint] = &sent.resources.endpoints[..] else { panic!("{:?}", sent.resources) };
    assert_eq!(endpoint.authorization.parameters["AccessToken"], "token");
    assert_eq!(endpoint.url, "https://s/");
    let mut expected = message;
    expected.job_id = GUID;
    expected.resources = sent.resources.clone();
    expected.variables.insert("actions_uses_cache_service_v2".to_owned(), plain("true"));
    assert_eq!(sent, expected);
}

#[test]
fn an_added_variable_wins_and_an_added_context_fills_a_gap_or_replaces() {
    let message = stored(&[("v", "stored"), ("kept", "stored")], &[("github", "stored"), ("vars", "stored")]);
    let mut bound = bound(&message, true);
    bound.variables.insert("v".to_owned(), plain("added"));
    let added = || ContextData::String("added".to_owned());
    bound.add_context("github", added());
    bound.add_context("vars", ContextData::Null);
    bound.replace_context("vars", added());
    bound.add_context("needs", added());
    let sent = written(&bound);
    assert_eq!((&sent.variables["v"], &sent.variables["kept"]), (&plain("added"), &plain("stored")));
    let text = |name: &str| sent.context_data[name].as_str();
    assert_eq!([text("github"), text("vars"), text("needs")], [Some("stored"), Some("added"), Some("added")]);
    let mut out = Vec::new();
    bound.write(&mut out).unwrap();
    for once in [&b"\"vars\""[..], b"\"v\"", b"\"contextData\"", b"\"jobId\""] {
        assert_eq!(out.windows(once.len()).filter(|found| *found == once).count(), 1, "{}", once.escape_ascii());
    }
}

#[test]
fn masks_are_added_behind_those_that_are_stored() {
    let hint = |value: &str| MaskHint { kind: "regex".to_owned(), value: value.to_owned() };
    let mut message = stored(&[], &[]);
    assert!(written(&bound(&message, true)).mask.is_empty());
    message.mask = vec![hint("a")];
    let mut bound = bound(&message, true);
    bound.mask.push(hint("b"));
    assert_eq!(written(&bound).mask, [hint("a"), hint("b")]);
}

#[test]
fn id_tokens_are_offered_where_the_workflow_asks_for_them_and_its_code_is_trusted() {
    let offers = |name: &str, value: &str, trusted| {
        let sent = written(&bound(&stored(&[(name, value)], &[]), trusted));
        sent.resources.endpoints[0].data.contains_key("GenerateIdTokenUrl")
    };
    assert!(offers(PERMISSIONS, r#"{"IdToken":"write"}"#, true));
    assert!(offers(&PERMISSIONS.to_uppercase(), r#"{"IdToken":"write"}"#, true));
    assert!(!offers(PERMISSIONS, r#"{"IdToken":"write"}"#, false));
    assert!(!offers(PERMISSIONS, r#"{"IdToken":"read"}"#, true));
    assert!(!offers("other", "", true));
}

#[test]
fn what_is_no_message_is_refused() {
    let write =
        |text: &str| Bound::new(text.to_owned(), GUID, &Urls::new("https://s"), "token", true).write(&mut Vec::new());
    let least = r#"{"jobId":"","resources":{},"variables":{},"contextData":{}}"#;
    assert!(write(least).is_ok());
    for text in ["", "[]", "{", "{}", &least.replacen("{}", "[]", 2), &least.replace("jobId", "id")] {
        assert!(write(text).is_err(), "{text}");
    }
    assert!(write(&least.replacen('{', r#"{"mask":7,"#, 1)).is_err());
}
