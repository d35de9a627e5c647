//! The dotenv format: `NAME=value`, a line each.
//!
//! Read strictly, because what is misread here becomes a wrong secret: a line that cannot be understood is an error with
//! its place, and no error repeats a value. Nothing is put into this process's environment, and nothing is taken from it.

use std::collections::HashMap;

/// Why a text is not understood, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {what}")]
pub(crate) struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and the remedy.
    pub what: String,
}

/// The names and values of a text, in their order; a name that comes again is there again.
///
/// * A byte order mark, empty lines, lines that begin with `#` and the word `export` before a name mean nothing.
/// * Without quotes a value ends with its line or before ` #`, without the blanks around it.
/// * In single quotes everything stands for itself, line breaks too. In double quotes `\n`, `\r`, `\t`, `\"`, `\\` and
///   `\$` are what they are elsewhere.
/// * `${NAME}`, but in single quotes, is the value that an earlier line gave to that name. Any other `$` stands for itself.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, String)>, Mistake> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut reader = Reader { rest: &text, line: 1, known: HashMap::new() };
    let mut found = Vec::new();
    while let Some((name, value)) = reader.entry()? {
        reader.known.insert(name.clone(), value.clone());
        found.push((name, value));
    }
    Ok(found)
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    known: HashMap<String, String>,
}

impl<'a> Reader<'a> {
    fn mistake<T>(&self, line: usize, what: impl Into<String>) -> Result<T, Mistake> {
        Err(Mistake { line, what: what.into() })
    }

    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn to_end_of_line(&self) -> usize {
        self.rest.find('\n').unwrap_or(self.rest.len())
    }

    fn entry(&mut self) -> Result<Option<(String, String)>, Mistake> {
        loop {
            let blanks = self.rest.len() - self.rest.trim_start().len();
            self.take(blanks);
            if !self.rest.starts_with('#') {
                break;
            }
            self.take(self.to_end_of_line());
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let line = self.line;
        let end = self.to_end_of_line();
        let Some(sign) = self.rest[..end].find('=') else {
            return self.mistake(line, "there is no `=` on this line; write NAME=value, or `#` before a remark");
        };
        let name = self.take(sign).trim();
        let name = match name.strip_prefix("export") {
            Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
            _ => name,
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(legal) {
            let what = "what stands before `=` is no name; names have letters, digits, `_`, `-` and `.`, and begin with no digit";
            return self.mistake(line, what);
        }
        self.take(1);
        let blanks = self.rest.len() - self.rest.trim_start_matches([' ', '\t']).len();
        self.take(blanks);
        let value = match self.rest.chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(name, quote)?,
            _ => self.plain(name)?,
        };
        if value.contains('\0') {
            return self.mistake(line, format!("the value of {name} has a NUL character, which no variable can have"));
        }
        Ok(Some((name.to_owned(), value)))
    }

    fn plain(&mut self, name: &str) -> Result<String, Mistake> {
        let line = self.line;
        let text = self.take(self.to_end_of_line());
        let remark = text.char_indices().find(|(at, c)| *c == '#' && (*at == 0 || text[..*at].ends_with([' ', '\t'])));
        let text = remark.map_or(text, |(at, _)| &text[..at]).trim();
        self.expanded(name, text, line, |_| None)
    }

    fn quoted(&mut self, name: &str, quote: char) -> Result<String, Mistake> {
        let line = self.line;
        self.take(1);
        let mut escaped = false;
        let end = self.rest.find(|c: char| {
            let ends = c == quote && !escaped;
            escaped = quote == '"' && c == '\\' && !escaped;
            ends
        });
        let Some(end) = end else {
            return self.mistake(line, format!("the value of {name} begins with {quote} and never ends; close it"));
        };
        let text = self.take(end);
        self.take(1);
        let behind = self.take(self.to_end_of_line()).trim();
        if !behind.is_empty() && !behind.starts_with('#') {
            let what = format!(
                "something follows the closing {quote} of {name}; quote the whole value, or write a quote in it as `\\\"` \
                 between double quotes"
            );
            return self.mistake(self.line, what);
        }
        if quote == '\'' {
            return Ok(text.to_owned());
        }
        self.expanded(name, text, line, |c| match c {
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            '"' | '\\' | '$' => Some(c),
            _ => None,
        })
    }

    /// The text with `${NAME}` and, as far as `escape` knows them, characters behind a backslash replaced.
    fn expanded(
        &self,
        name: &str,
        text: &str,
        line: usize,
        escape: impl Fn(char) -> Option<char>,
    ) -> Result<String, Mistake> {
        let mut value = String::with_capacity(text.len());
        let mut chars = text.char_indices();
        while let Some((at, c)) = chars.next() {
            let rest = &text[at + c.len_utf8()..];
            match c {
                '\\' => match rest.chars().next().and_then(&escape) {
                    Some(meant) => {
                        value.push(meant);
                        chars.next();
                    }
                    None => value.push(c),
                },
                '$' if rest.starts_with('{') => {
                    let line = line + text[..at].matches('\n').count();
                    let Some(end) = rest.find('}') else {
                        return self.mistake(line, format!("`${{` in the value of {name} has no `}}`; {LITERAL}"));
                    };
                    let Some(known) = self.known.get(&rest[1..end]) else {
                        let what = format!(
                            "`${{…}}` in the value of {name} names nothing that an earlier line has; {LITERAL}"
                        );
                        return self.mistake(line, what);
                    };
                    value.push_str(known);
                    for _ in rest[..=end].chars() {
                        chars.next();
                    }
                }
                c => value.push(c),
            }
        }
        Ok(value)
    }
}

const LITERAL: &str = "between single quotes it stands for itself";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap()
    }

    fn value(line: &str) -> String {
        pairs(line).pop().unwrap().1
    }

    #[test]
    fn values_are_read_as_dotenv_files_are_written() {
        for (line, wanted) in [
            ("A=b", "b"),
            ("A = b c ", "b c"),
            ("export A=b", "b"),
            ("A=", ""),
            ("A=''", ""),
            ("A=b # remark", "b"),
            ("A=#b", ""),
            ("A=b#c", "b#c"),
            ("A='b # c' # remark", "b # c"),
            ("A=\"b\\nc\\t\\\"d\\\" \\\\ \\q\"", "b\nc\t\"d\" \\ \\q"),
            ("A='b\\nc'", "b\\nc"),
            ("A=b\\nc", "b\\nc"),
            ("A=p$a$$word", "p$a$$word"),
            ("A='${X}'", "${X}"),
            ("A=\"\\${X}\"", "${X}"),
            ("A=it's", "it's"),
            ("A=b=c", "b=c"),
            ("A=ü\u{1f680}", "ü\u{1f680}"),
        ] {
            assert_eq!(value(line), wanted, "{line}");
        }
    }

    #[test]
    fn remarks_byte_order_marks_and_windows_line_ends_mean_nothing() {
        let text = "\u{feff}# first\r\n\r\nA=1\r\n  B=2  \r\n#C=3\r\nD='x\r\ny'\r\n";
        let wanted = [("A", "1"), ("B", "2"), ("D", "x\ny")];
        assert_eq!(pairs(text), wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_quoted_value_has_as_many_lines_as_it_likes() {
        let key = "-----BEGIN KEY-----\nabc=\n# no remark\n-----END KEY-----\n";
        assert_eq!(value(&format!("KEY=\"{key}\"\nAFTER=x")), "x");
        assert_eq!(pairs(&format!("KEY=\"{key}\"\nAFTER=x"))[0].1, key);
        assert_eq!(pairs(&format!("KEY='{key}'"))[0].1, key);
    }

    #[test]
    fn earlier_lines_are_named_in_braces() {
        assert_eq!(value("A=x\nB=${A}/y\nC=\"<${B}>\""), "<x/y>");
        assert_eq!(value("A=ü\nB=\"${A}${A}z\""), "üüz");
    }

    #[test]
    fn mistakes_have_a_place_and_a_remedy_and_never_the_value() {
        for (text, line, wanted) in [
            ("A=1\nhunter2\n", 2, "NAME=value"),
            ("A=1\n\n2B=hunter2", 3, "begin with no digit"),
            ("A B=hunter2", 1, "no name"),
            ("=hunter2", 1, "no name"),
            ("A='1'\nB='hunter2\n\n", 2, "never ends"),
            ("A=\"x\nhunter2\" tail", 2, "follows the closing"),
            ("A=\"x\nhunter2 ${NO}\"", 2, "single quotes"),
            ("A=${hunter2", 1, "single quotes"),
            ("A=hun\0ter2", 1, "NUL"),
        ] {
            let mistake = parse(text).unwrap_err();
            assert_eq!(mistake.line, line, "{text:?}: {mistake}");
            assert!(mistake.what.contains(wanted), "{text:?}: {mistake}");
            assert!(!mistake.to_string().contains("hunter2"), "{mistake}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[A-C=\"'\\\\#$\\{\\} \n\r\tüx\\x00]{0,60}") {
            drop(parse(&text));
        }

        #[test]
        fn any_value_survives_double_quotes(given in "\\PC{0,30}") {
            let quoted = given.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
            prop_assert_eq!(value(&format!("A=\"{quoted}\"")), given);
        }
    }
}
