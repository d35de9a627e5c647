//! Lines of a step's output as workflow commands: the first line is the token that ends `stop-commands`, the others are
//! output. A command that is written as it was understood is understood the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/worker/src/command.rs"]
mod command;

use command::{Command, is_known, parse};

fuzz_target!(|text: &str| {
    let (token, lines) = text.split_once('\n').unwrap_or((text, text));
    for line in lines.split('\n') {
        let Some(found) = parse(line, Some(token)) else { continue };
        assert!(is_known(&found.name) || found.name.eq_ignore_ascii_case(token), "{found:?}");
        assert_eq!(found.name, found.name.to_ascii_lowercase());
        for (key, _) in &found.properties {
            assert_eq!(found.property(&key.to_ascii_uppercase()), found.property(key));
        }
        let written = if line.trim_start().starts_with("::") && !found.name.contains("::") && !has(&found, &[",", "::"])
        {
            second(&found)
        } else if !has(&found, &[";", "]"]) {
            first(&found)
        } else {
            continue;
        };
        assert_eq!(parse(&written, Some(token)).as_ref(), Some(&found), "{line:?} {written:?}");
    }
});

fn has(command: &Command, texts: &[&str]) -> bool {
    command.properties.iter().any(|(key, _)| texts.iter().any(|text| key.contains(text)))
}

/// In the form `::name key=value::data`. The comma at the end keeps white space at the end of the last value.
fn second(command: &Command) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let properties: String =
        command.properties.iter().map(|(key, value)| format!("{key}={},", property(value))).collect();
    format!("::{} {properties}::{}", command.name, data(&command.data))
}

/// In the form `##[name key=value]data`.
fn first(command: &Command) -> String {
    let escaped = |text: &str| {
        let text = text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        text.replace(']', "%5D").replace(';', "%3B")
    };
    let properties: String =
        command.properties.iter().map(|(key, value)| format!("{key}={};", escaped(value))).collect();
    format!("##[{} {properties}]{}", command.name, escaped(&command.data))
}
