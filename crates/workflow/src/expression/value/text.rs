//! Comparison without case, as .NET's `OrdinalIgnoreCase`: each character by its simple upper case, no language rules.

use std::cmp::Ordering;

/// The text with every character in its simple upper case; equal for texts that differ only in case.
pub(in crate::expression) fn fold(text: &str) -> String {
    text.chars().map(fold_char).collect()
}

/// Whether two texts differ only in case.
pub(super) fn equal_ignoring_case(left: &str, right: &str) -> bool {
    // Nearly all text is ASCII, and this is many times faster.
    left.eq_ignore_ascii_case(right) || !(left.is_ascii() && right.is_ascii()) && units(left).eq(units(right))
}

/// Orders two texts without case, by UTF-16 code units.
pub(super) fn compare_ignoring_case(left: &str, right: &str) -> Ordering {
    units(left).cmp(units(right))
}

fn units(text: &str) -> impl Iterator<Item = u16> + '_ {
    text.chars().map(fold_char).flat_map(|character| {
        let mut buffer = [0; 2];
        let length = character.encode_utf16(&mut buffer).len();
        buffer.into_iter().take(length)
    })
}

/// The simple upper case of a character; one that has none, or more than one character, stays as it is.
pub(in crate::expression) fn fold_char(character: char) -> char {
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
