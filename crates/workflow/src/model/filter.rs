//! Patterns of `branches`, `tags` and `paths`.

/// Why text is no pattern, if it is none.
///
/// The language is GitHub's: `*`, `**`, `?` and `+` repeat the character before them, `[…]`, a leading `!`, and `\`
/// before a literal character.
pub(super) fn problem(pattern: &str) -> Option<&'static str> {
    let body = pattern.strip_prefix('!').unwrap_or(pattern);
    if body.is_empty() {
        return Some("it is empty");
    }
    let mut characters = body.chars();
    let mut repeatable = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                if characters.next().is_none() {
                    return Some("the backslash at its end has nothing to escape");
                }
                repeatable = true;
            }
            '[' => {
                let mut content = 0_usize;
                loop {
                    match characters.next() {
                        None => return Some("a `[` is not closed"),
                        Some(']') => break,
                        Some(_) => content += 1,
                    }
                }
                if content == 0 {
                    return Some("`[]` is empty");
                }
                repeatable = true;
            }
            '?' | '+' => {
                if !repeatable {
                    return Some("`?` and `+` need a character before them");
                }
                repeatable = false;
            }
            '*' => repeatable = false,
            _ => repeatable = true,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::problem;

    #[test]
    fn patterns_of_the_documentation_are_accepted() {
        let good = [
            "*",
            "**",
            "**/docs/**",
            "feature/*",
            "v2*",
            "*.js",
            "**.js",
            "releases/**-alpha",
            "v[12].[0-9]+.[0-9]+",
            "*.jsx?",
            "!release/**",
            "\\*",
            "**/migrate-*.sql",
        ];
        for pattern in good {
            assert_eq!(problem(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn broken_patterns_are_refused() {
        for pattern in ["", "!", "[a", "[]", "?a", "+", "a\\", "*?", "a++"] {
            assert!(problem(pattern).is_some(), "{pattern}");
        }
    }
}
