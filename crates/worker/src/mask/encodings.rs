//! The forms in which a secret may turn up.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

/// Unpadded pieces shorter than this would hit ordinary words.
const SHORTEST_PIECE: usize = 8;

/// `value` itself and every derived form; may hold duplicates and empty texts.
pub(super) fn all(value: &str) -> Vec<String> {
    let mut forms = vec![
        value.to_owned(),
        value.replace('"', "\\\""),
        value.replace('\'', "''"),
        value.replace('\'', "'\\''"),
        json(value),
        json_ascii(value),
        json_line_breaks(value),
        percent(value, true),
        percent(value, false),
        percent(value, true).replace("%20", "+"),
        markup(value, "&apos;"),
        markup(value, "&#39;"),
    ];
    base64_forms(value.as_bytes(), &mut forms);
    if value.len() >= 4 {
        forms.push(hex(value.as_bytes(), b"0123456789abcdef"));
        forms.push(hex(value.as_bytes(), b"0123456789ABCDEF"));
    }
    if value.len() > 8 && value.starts_with('"') && value.ends_with('"') {
        forms.push(value[1..value.len() - 1].to_owned());
    }
    ampersand_sections(value, &mut forms);
    forms
}

/// The secret may start at any of three places of a base64 group, and more text may follow it. For each place: the
/// padded form that stands at the end of an encoding, and the characters that the secret alone determines.
fn base64_forms(bytes: &[u8], forms: &mut Vec<String>) {
    for shift in 0..3.min(bytes.len()) {
        let rest = &bytes[shift..];
        forms.push(STANDARD.encode(rest));
        forms.push(URL_SAFE.encode(rest));
        let determined = rest.len() * 8 / 6;
        for mut piece in [STANDARD_NO_PAD.encode(rest), URL_SAFE_NO_PAD.encode(rest)] {
            piece.truncate(determined);
            if piece.len() >= SHORTEST_PIECE {
                forms.push(piece);
            }
        }
    }
}

fn json(value: &str) -> String {
    let quoted = serde_json::to_string(value).unwrap_or_default();
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default().to_owned()
}

/// JSON as writers print it that keep to ASCII.
fn json_ascii(value: &str) -> String {
    let mut units = [0; 2];
    json(value)
        .chars()
        .map(|c| {
            if c.is_ascii() {
                c.to_string()
            } else {
                c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
            }
        })
        .collect()
}

/// JSON as GitHub's library prints it, which escapes the line breaks that only Unicode has.
fn json_line_breaks(value: &str) -> String {
    json(value).replace('\u{85}', "\\u0085").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

fn percent(value: &str, upper: bool) -> String {
    let digits = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.push_str(&hex(&[byte], digits));
        }
    }
    text
}

fn hex(bytes: &[u8], digits: &[u8; 16]) -> String {
    let digit = |half: u8| char::from(digits[usize::from(half & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn markup(value: &str, apostrophe: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\'' => text.push_str(apostrophe),
            other => text.push(other),
        }
    }
    text
}

/// PowerShell prints a failing command in sections around `&`, and colours the character behind `&+` apart.
fn ampersand_sections(value: &str, forms: &mut Vec<String>) {
    let (before, after) = if let Some(at) = value.find("&+") {
        let rest = &value[at + 2..];
        (&value[..at + 2], rest.char_indices().nth(1).map_or("", |(next, _)| &rest[next..]))
    } else if let Some(at) = value.rfind('&') {
        (&value[..=at], &value[at + 1..])
    } else {
        return;
    };
    forms.extend([before, after].into_iter().filter(|part| part.chars().count() >= 6).map(str::to_owned));
}
