//! Filters on branches and paths: lines of patterns, then the name that they are held against. Each pattern that a
//! workflow may have agrees with the regular expression that says the same, in time in proportion to both lengths.
#![no_main]

use libfuzzer_sys::fuzz_target;
use regex::Regex;
use startline_workflow::model::{Occasion, Patterns, Trigger, Triggers};
use startline_workflow::parse;

/// How often a name is repeated, so that a pattern that needs more than linear time needs much more.
const REPEATED: usize = 64;

fuzz_target!(|text: &str| {
    let (patterns, name) = text.rsplit_once('\n').unwrap_or((text, ""));
    let patterns: Vec<String> = patterns.split('\n').map(str::to_owned).collect();
    for pattern in patterns.iter().take(4) {
        if !accepted(pattern) {
            continue;
        }
        let Some(expected) = regular(pattern.strip_prefix('!').unwrap_or(pattern)) else { continue };
        let only = [pattern.strip_prefix('!').unwrap_or(pattern).to_owned()];
        // A pattern that begins with two of them negates once.
        if !only[0].starts_with('!') {
            assert_eq!(passes(&only, false, name), expected.is_match(name), "{pattern:?} {name:?} {expected}");
        }
    }
    let passed = passes(&patterns, false, name);
    assert_eq!(passes(&patterns, true, name), !passed, "`-ignore` is the opposite");
    let long = name.repeat(REPEATED);
    passes(&patterns, false, &long);
});

fn passes(patterns: &[String], ignore: bool, name: &str) -> bool {
    let branches = Some(Patterns { ignore, patterns: patterns.to_vec() });
    let trigger = Trigger { event: "push".to_owned(), branches, ..Trigger::default() };
    let git_ref = Some(format!("refs/heads/{name}"));
    let occasion = Occasion { event: "push".to_owned(), git_ref, ..Occasion::default() };
    Triggers { events: vec![trigger] }.starts(&occasion).is_ok()
}

/// Whether a workflow may have this pattern.
fn accepted(pattern: &str) -> bool {
    if pattern.contains("${{") || pattern.trim().is_empty() {
        return false;
    }
    let quoted = serde_json::to_string(pattern).expect("text is JSON");
    let source =
        format!("on: {{push: {{branches: ['**', {quoted}]}}}}\njobs: {{a: {{runs-on: x, steps: [{{run: a}}]}}}}\n");
    parse(&source).0.is_some()
}

/// The same pattern as a regular expression; none for a range whose end is before its beginning.
fn regular(pattern: &str) -> Option<Regex> {
    let mut regular = String::from(r"(?s)\A(?:");
    let mut rest = pattern.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '*' if rest.next_if_eq(&'*').is_none() => regular.push_str("[^/]*"),
            '*' => {
                if rest.next_if_eq(&'/').is_some() {
                    let slash =
                        rest.next_if(|next| matches!(next, '?' | '+')).map_or("/".to_owned(), |how| format!("/{how}"));
                    regular.push_str(&format!("(?:.*{slash})?"));
                } else {
                    regular.push_str(".*");
                }
            }
            '\\' => regular.push_str(&literal(rest.next()?)),
            '?' | '+' => regular.push(character),
            '[' => {
                let inside: Vec<char> = rest.by_ref().take_while(|next| *next != ']').collect();
                let (inverted, inside) = match inside.split_first() {
                    Some(('!' | '^', inside)) => (true, inside),
                    _ => (false, &inside[..]),
                };
                regular.push_str(&class(inverted, inside)?);
            }
            other => regular.push_str(&literal(other)),
        }
    }
    regular.push_str(r")\z");
    // Too large a class or program is not what is tested here.
    Regex::new(&regular).ok()
}

fn literal(character: char) -> String {
    format!(r"\x{{{:x}}}", u32::from(character))
}

fn class(inverted: bool, mut inside: &[char]) -> Option<String> {
    if inside.is_empty() {
        // None of no characters is any; one of no characters is none.
        return Some(if inverted { r"(?s:.)" } else { r"[^\x{0}-\x{10ffff}]" }.to_owned());
    }
    let mut class = String::from(if inverted { "[^" } else { "[" });
    while let Some((from, rest)) = inside.split_first() {
        inside = rest;
        let mut to = from;
        if let ['-', end, rest @ ..] = inside {
            (to, inside) = (end, rest);
        }
        if to < from {
            return None;
        }
        class.push_str(&format!("{}-{}", literal(*from), literal(*to)));
    }
    Some(class + "]")
}
