//! No registered secret survives any split of a step's output into reads: from bytes to the log on disk.
//!
//! Forms are made here from what GitHub's encoders do (actions/runner `Sdk/DTLogging/Logging/ValueEncoders.cs`,
//! `Runner.Common/HostContext.cs`) and not with this crate's own.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::console::Console;
use crate::lines::{LONGEST_LINE, Lines};
use crate::spool::Spool;

/// What GitHub masks for a value.
fn forms(value: &str) -> Vec<String> {
    let value = value.trim();
    let bytes = value.as_bytes();
    let mut forms = vec![
        value.to_owned(),
        value.replace('"', "\\\""),
        value.replace('\'', "''"),
        json_string(value),
        uri_data(value),
        xml_data(value),
        STANDARD.encode(bytes),
        STANDARD.encode(format!("x-access-token:{value}")),
    ];
    forms.extend((1..3.min(bytes.len())).map(|shift| STANDARD.encode(&bytes[shift..])));
    if value.len() > 8 && value.starts_with('"') && value.ends_with('"') {
        forms.push(value[1..value.len() - 1].to_owned());
    }
    // The sections of a command that PowerShell prints, where they are long enough.
    if let Some(at) = value.rfind('&').filter(|_| !value.contains("&+")) {
        forms.extend(
            [&value[..=at], &value[at + 1..]].map(str::to_owned).into_iter().filter(|part| part.chars().count() >= 6),
        );
    }
    forms.retain(|form| !form.trim().is_empty());
    forms
}

fn json_string(value: &str) -> String {
    let mut text = String::new();
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{85}' | '\u{2028}' | '\u{2029}' => write!(text, "\\u{:04x}", u32::from(character)).unwrap(),
            other => text.push(other),
        }
    }
    text
}

fn uri_data(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
            _ => write!(text, "%{byte:02X}").unwrap(),
        }
    }
    text
}

fn xml_data(value: &str) -> String {
    let text = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&apos;")
}

/// The texts that must not be seen of a secret: each form of the whole and of each line, as far as a line of the log can
/// hold it.
fn unseen(secret: &str) -> Vec<String> {
    let mut texts = forms(secret);
    for line in secret.split(['\n', '\r']) {
        texts.extend(forms(line));
    }
    texts.retain(|text| !text.contains(['\n', '\r']));
    texts
}

/// A part of a step's output.
#[derive(Clone, Debug)]
struct Part {
    error: bool,
    before: String,
    /// Which secret, and which of its forms, counted round.
    secret: usize,
    form: usize,
    after: String,
    end: &'static str,
}

fn part() -> impl Strategy<Value = Part> {
    let noise = "[ -)+-~é€😀\u{301}]{0,12}";
    let end = select(vec!["\n", "\r\n", "\r", "", "\n\n"]);
    (any::<bool>(), noise, any::<prop::sample::Index>(), any::<prop::sample::Index>(), noise, end).prop_map(
        |(error, before, secret, form, after, end)| Part {
            error,
            before,
            secret: secret.index(1000),
            form: form.index(1000),
            after,
            end,
        },
    )
}

/// A secret of one line or several; asterisks cannot be told from a mask.
fn secret() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[!-)+-~]{6,20}",
        2 => "[!-)+-~é€😀\u{2028}]{6,14}",
        1 => "\"[a-z]{8,12}\"",
        1 => "[a-z]{6,8}&[a-z]{6,8}",
        1 => "[ \t]{0,2}[a-z'\"<>&%+ ]{6,16}[ \n]{0,2}",
        2 => vec("[!-)+-~]{5,12}", 2..5).prop_map(|lines| lines.join("\n")),
        1 => vec("[!-)+-~]{5,12}", 2..4).prop_map(|lines| lines.join("\r\n")),
        1 => Just("-----BEGIN KEY-----\nAAAAbbbbCCCC\n\nddddEEEE&\"ffff\"\n-----END KEY-----\n".to_owned()),
    ]
}

/// Some secrets; one begins with the end of another, so that they overlap where both are printed.
fn secrets() -> impl Strategy<Value = Vec<String>> {
    vec(secret(), 1..4).prop_map(|mut secrets| {
        let tail: String = secrets[0].trim().chars().skip(3).collect();
        secrets.push(format!("{tail}-and-more"));
        secrets
    })
}

/// Writes the parts in pieces of these lengths, both streams in turn, and gives what the log holds, without stamps.
fn logged(secrets: &[String], parts: &[Part], lengths: &[usize]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut console = Console::new(Spool::create(&path).unwrap().0);
    secrets.iter().for_each(|secret| {
        console.masker.add(secret);
        // As "Set up job" does for tokens.
        console.masker.add(&STANDARD.encode(format!("x-access-token:{secret}")));
        console.masker.add(&STANDARD.encode(format!("x-access-token:{}", secret.trim())));
        secret.split(['\n', '\r']).for_each(|line| {
            console.masker.add(&STANDARD.encode(format!("x-access-token:{}", line.trim())));
        });
    });
    let mut streams = [Vec::new(), Vec::new()];
    for part in parts {
        let secret = &secrets[part.secret % secrets.len()];
        let forms = forms(secret);
        let form = forms.get(part.form % forms.len().max(1)).map_or("", String::as_str);
        let stream = &mut streams[usize::from(part.error)];
        stream.extend_from_slice([&part.before, form, &part.after, part.end].concat().as_bytes());
    }
    let mut splitters = [Lines::default(), Lines::default()];
    let mut rest = [&streams[0][..], &streams[1][..]];
    for (turn, length) in lengths.iter().cycle().enumerate() {
        if rest.iter().all(|rest| rest.is_empty()) {
            break;
        }
        let (piece, later) = rest[turn % 2].split_at((*length).min(rest[turn % 2].len()));
        rest[turn % 2] = later;
        splitters[turn % 2].push(piece);
        while let Some(line) = splitters[turn % 2].next(&console.masker) {
            console.write(line.text);
        }
    }
    for splitter in &mut splitters {
        if let Some(line) = splitter.rest() {
            console.write(line.text);
        }
    }
    console.flush();
    let text = std::fs::read_to_string(&path).unwrap();
    text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

/// What of the secrets can be seen in lines of a log, which a reader may join.
fn leaks(secrets: &[String], shown: &[String], joined: bool) -> Option<String> {
    let whole = if joined { shown.concat() } else { shown.join("\n") };
    let mut texts = secrets.iter().flat_map(|secret| unseen(secret).into_iter().chain([secret.trim().to_owned()]));
    texts.find(|text| !text.is_empty() && whole.contains(text.as_str()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_form_of_a_secret_survives_any_split_of_the_output(
        secrets in secrets(),
        parts in vec(part(), 1..12),
        lengths in vec(prop_oneof![1_usize..4, 1_usize..64, 1_usize..4096], 1..8),
    ) {
        let shown = logged(&secrets, &parts, &lengths);
        prop_assert_eq!(leaks(&secrets, &shown, false), None, "{:?}", shown);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5))]

    /// Secrets around the lengths at which lines are cut and output is read, within lines that are longer still.
    #[test]
    fn no_long_secret_is_cut_into_what_can_be_put_together(
        unit in "[!-)+-~é€]{5,9}",
        length in select(vec![15, 1000, 32 * 1024, LONGEST_LINE - 1, LONGEST_LINE, LONGEST_LINE + 1, 2 * LONGEST_LINE]),
        around in 0_usize..40,
        form in 0_usize..16,
        piece in select(vec![7_919_usize, 32 * 1024, 100_003]),
    ) {
        // No part of it is like another, so that whatever is left of it can be found.
        let mut secret = String::new();
        for number in 0.. {
            if secret.len() >= length {
                break;
            }
            write!(secret, "{unit}{number}").unwrap();
        }
        let secrets = vec![secret];
        let filler = "·".repeat((LONGEST_LINE - around) / 2);
        let parts: Vec<Part> = (0..3).map(|index| Part {
            error: index == 1, before: filler.clone(), secret: 0, form, after: filler.clone(), end: if index == 0 { "" } else { "\n" },
        }).collect();
        let shown = logged(&secrets, &parts, &[piece]);
        prop_assert!(shown.iter().all(|line| line.len() <= LONGEST_LINE));
        prop_assert_eq!(leaks(&secrets, &shown, true).map(|text| text.len()), None);
        // Only the filler and the masks are left.
        let left: String = shown.concat().replace(['·', '*'], "");
        prop_assert!(left.len() <= 12, "{left}");
    }
}
