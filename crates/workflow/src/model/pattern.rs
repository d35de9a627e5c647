//! The pattern language of `branches`, `tags` and `paths`.
//!
//! `*` is any text without `/`, `**` any text, `**/` any number of directories, `[…]` one of some characters, `\` makes the
//! next character literal, and `?` and `+` say that the character before them may be missing or repeated. A pattern is
//! matched against the whole text, case counts.

/// A pattern, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The pattern began with `!`.
    pub(super) negative: bool,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    what: What,
    /// May be passed over.
    optional: bool,
    /// May come again.
    repeated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Literal(char),
    /// Ranges, both ends included, and whether it is one of the others.
    Class {
        ranges: Vec<(char, char)>,
        inverted: bool,
    },
    /// Any character but `/`.
    Name,
    Anything,
    /// Nothing: goes on with the next part, or behind the two that make up `**/`.
    Fork,
}

impl What {
    fn takes(&self, character: char) -> bool {
        match self {
            Self::Literal(literal) => *literal == character,
            Self::Class { ranges, inverted } => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&character)) != *inverted
            }
            Self::Name => character != '/',
            Self::Anything => true,
            Self::Fork => false,
        }
    }
}

impl Pattern {
    /// Reads a pattern that has no [problem](super::filter::problem); what is broken in another one is literal.
    pub(super) fn read(text: &str) -> Self {
        let body = text.strip_prefix('!').unwrap_or(text);
        let mut parts: Vec<Part> = Vec::new();
        let mut characters = body.chars().peekable();
        while let Some(character) = characters.next() {
            let what = match character {
                '\\' => What::Literal(characters.next().unwrap_or('\\')),
                '[' => class(&mut characters),
                '*' => {
                    let deep = characters.next_if_eq(&'*').is_some();
                    let directories = deep && characters.next_if_eq(&'/').is_some();
                    let what = if deep { What::Anything } else { What::Name };
                    if directories {
                        parts.push(Part { what: What::Fork, optional: true, repeated: false });
                    }
                    parts.push(Part { what, optional: true, repeated: true });
                    if directories {
                        parts.push(Part { what: What::Literal('/'), optional: false, repeated: false });
                    }
                    continue;
                }
                '?' | '+' if !parts.is_empty() => {
                    if let Some(part) = parts.last_mut() {
                        part.optional |= character == '?';
                        part.repeated |= character == '+';
                    }
                    continue;
                }
                other => What::Literal(other),
            };
            parts.push(Part { what, optional: false, repeated: false });
        }
        Self { negative: text.starts_with('!'), parts }
    }

    /// Whether the whole text matches. Takes time in proportion to the product of both lengths, whatever they say.
    pub(super) fn matches(&self, text: &str) -> bool {
        // States are numbers of parts that are behind; all that are possible are followed at once.
        let mut states = vec![false; self.parts.len() + 1];
        states[0] = true;
        self.pass_over(&mut states);
        let mut next = vec![false; states.len()];
        for character in text.chars() {
            next.fill(false);
            for (number, part) in self.parts.iter().enumerate().filter(|(number, _)| states[*number]) {
                if part.what.takes(character) {
                    next[number + 1] = true;
                    next[number] |= part.repeated;
                }
            }
            std::mem::swap(&mut states, &mut next);
            self.pass_over(&mut states);
        }
        states[self.parts.len()]
    }

    fn pass_over(&self, states: &mut [bool]) {
        for (number, part) in self.parts.iter().enumerate() {
            if states[number] && part.optional {
                states[number + 1] = true;
                if part.what == What::Fork {
                    states[number + 3] = true;
                }
            }
        }
    }
}

/// The characters between `[` and `]`, the latter included.
fn class(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> What {
    let inverted = characters.next_if(|character| matches!(character, '!' | '^')).is_some();
    let mut ranges = Vec::new();
    while let Some(from) = characters.next().filter(|character| *character != ']') {
        let mut rest = characters.clone();
        let to = (rest.next() == Some('-')).then(|| rest.next()).flatten().filter(|to| *to != ']');
        if to.is_some() {
            *characters = rest;
        }
        ranges.push((from, to.unwrap_or(from)));
    }
    What::Class { ranges, inverted }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Pattern;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let read = Pattern::read(pattern);
        for text in matching {
            assert!(read.matches(text), "`{pattern}` matches `{text}`");
        }
        for text in others {
            assert!(!read.matches(text), "`{pattern}` does not match `{text}`");
        }
    }

    #[test]
    fn the_examples_of_the_documentation() {
        check("feature/*", &["feature/my-branch", "feature/"], &["feature/beta-a/my-branch", "feature"]);
        check("feature/**", &["feature/beta-a/my-branch", "feature/mona/the/octocat"], &["features/x"]);
        check("releases/mona-the-octocat", &["releases/mona-the-octocat"], &["releases/mona-the-octocats"]);
        check("*", &["main", "releases"], &["all/the/branches"]);
        check("**", &["all/the/branches", "every/tag", ""], &[]);
        check("*feature", &["mona-feature", "feature", "ver-10-feature"], &["a/feature", "features"]);
        check("v2*", &["v2", "v2.0", "v2.9"], &["v1", "v2/x"]);
        check("v[12].[0-9]+.[0-9]+", &["v1.10.1", "v2.0.0"], &["v3.0.0", "v1..0", "v1.0"]);
        check("*.jsx?", &["page.js", "page.jsx"], &["page.jsxx", "a/page.js"]);
        check("**.js", &["index.js", "js/index.js", "src/js/app.js"], &["index.jsx"]);
        check("docs/*", &["docs/README.md"], &["docs/a/b.md"]);
        check(
            "docs/**/*.md",
            &["docs/README.md", "docs/mona/hello-world.md", "docs/a/markdown/file.md"],
            &["docs/a.txt"],
        );
        check("**/docs/**", &["docs/hello.md", "dir/docs/my-file.txt", "space/docs/plan/space.doc"], &["mydocs/x"]);
        check("**/README.md", &["README.md", "js/README.md"], &["NOTREADME.md"]);
        check("**/*src/**", &["a/src/app.js", "my-src/code/js/app.js"], &["srcs/x"]);
        check("**/*-post.md", &["my-post.md", "path/their-post.md"], &["post.md"]);
        check(
            "**/migrate-*.sql",
            &["migrate-10909.sql", "db/migrate-v1.0.sql", "db/sept/migrate-v1.sql"],
            &["x-migrate-1.sql"],
        );
        check("\\*", &["*"], &["x"]);
        check("[!a]x", &["bx"], &["ax"]);
        check("a+b", &["ab", "aaab"], &["b"]);
        check("[CB]at", &["Cat", "Bat"], &["cat", "CBat"]);
        check("[a-z-]", &["-", "q"], &["A"]);
    }

    proptest! {
        #[test]
        fn a_text_without_special_characters_matches_itself_alone(text in "[a-zA-Z0-9/_.-]{1,30}", other in "[a-z/]{1,30}") {
            let pattern = Pattern::read(&text);
            prop_assert!(pattern.matches(&text));
            prop_assert_eq!(pattern.matches(&other), text == other);
        }

        #[test]
        fn hostile_patterns_are_matched_in_good_time(pattern in r"[*?+\[\]a\\/!]{0,200}", text in "[a/]{0,2000}") {
            Pattern::read(&pattern).matches(&text);
        }
    }
}
