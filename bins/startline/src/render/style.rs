//! Colours, as ANSI text that `anstream` strips where they are not wanted, and text from outside made harmless.

use std::time::Duration;

use startline_protocol::state::Conclusion;

pub(crate) const RESET: &str = "\x1b[0m";
pub(crate) const BOLD: &str = "\x1b[1m";
pub(crate) const DIM: &str = "\x1b[2m";
pub(crate) const RED: &str = "\x1b[31m";
pub(crate) const GREEN: &str = "\x1b[32m";
pub(crate) const YELLOW: &str = "\x1b[33m";
pub(crate) const BLUE: &str = "\x1b[34m";
pub(crate) const CYAN: &str = "\x1b[36m";

/// Sign, colour and word of a conclusion; the word alone says it all.
pub(crate) const fn conclusion(conclusion: Conclusion) -> (&'static str, &'static str) {
    match conclusion {
        Conclusion::Success => ("✓", GREEN),
        Conclusion::Failure => ("✗", RED),
        Conclusion::Cancelled => ("⊘", YELLOW),
        Conclusion::Skipped => ("–", DIM),
    }
}

/// `350ms`, `12.0s`, `3m 05s`, `1h 02m`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Text written by a job, safe for a terminal: colours (`ESC [ … m`) and tabs stay, every other control character and
/// escape sequence goes, so that a log cannot move the cursor, retitle the window or rewrite what stands above.
pub(crate) fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => sequence(&mut chars, &mut out),
            '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Reads what follows an escape character and keeps it when it only sets colours.
fn sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            let mut body = String::new();
            // Parameters and intermediates lie below '@'; the final character at or above it.
            while let Some(&c) = chars.peek() {
                if !('\x20'..='\x7e').contains(&c) {
                    return;
                }
                chars.next();
                if c >= '@' {
                    if c == 'm' && body.chars().all(|c| c.is_ascii_digit() || matches!(c, ';' | ':')) {
                        out.push_str("\x1b[");
                        out.push_str(&body);
                        out.push('m');
                    }
                    return;
                }
                body.push(c);
            }
        }
        // Operating system commands and the like run to BEL or ESC \.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = chars.next() {
                if c == '\x07' {
                    return;
                }
                if c == '\x1b' {
                    chars.next_if_eq(&'\\');
                    return;
                }
            }
        }
        Some(_) => drop(chars.next()),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_and_everything_else_that_drives_a_terminal_goes() {
        for (given, wanted) in [
            ("a\x1b[1;31mb\x1b[0mc", "a\x1b[1;31mb\x1b[0mc"),
            ("a\x1b[2Jb", "ab"),
            ("a\x1b]0;title\x07b", "ab"),
            ("a\x1b]8;;http://x\x1b\\b", "ab"),
            ("a\rb\x08c\td", "abc\td"),
            ("a\x1bcb", "ab"),
            ("a\x1b[?25lb", "ab"),
            ("\x1b", ""),
            ("\x1b[12", ""),
        ] {
            assert_eq!(harmless(given), wanted, "{given:?}");
        }
    }

    #[test]
    fn durations_read_well() {
        let text = |ms| duration(Duration::from_millis(ms));
        assert_eq!([text(350), text(12_000), text(185_000), text(3_720_000)], ["350ms", "12.0s", "3m 05s", "1h 02m"]);
    }
}
