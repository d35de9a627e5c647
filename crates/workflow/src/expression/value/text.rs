//! Comparison without case, as .NET's `OrdinalIgnoreCase`: each character by its simple upper case, no language rules.

use std::cmp::Ordering;

/// The text with every character in its simple upper case; equal for texts that differ only in case.
pub(in crate::expression) fn fold(text: &str) -> String {
    text.chars().map(fold_char).collect()
}

/// Orders two texts without case, by UTF-16 code units.
pub(in crate::expression) fn compare_ignoring_case(left: &str, right: &str) -> Ordering {
    units(left).cmp(units(right))
}

fn units(text: &str) -> impl Iterator<Item = u16> + '_ {
    text.chars().map(fold_char).flat_map(|character| {
        let mut buffer = [0; 2];
        let length = character.encode_utf16(&mut buffer).len();
        buffer.into_iter().take(length)
    })
}

fn fold_char(character: char) -> char {
    if character.is_ascii() {
        return character.to_ascii_uppercase();
    }
    // Dotless i stays itself; its upper case is the letter of another alphabet's i.
    if character == '\u{131}' {
        return character;
    }
    let mut upper = character.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(single), None) => single,
        _ => character,
    }
}
