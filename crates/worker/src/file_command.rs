//! The files by which a step speaks to its worker: `GITHUB_ENV`, `GITHUB_OUTPUT`, `GITHUB_STATE`, `GITHUB_PATH`.
//!
//! Format: actions/runner `Runner.Worker/FileCommandManager.cs`. Lines end with LF; a CR stays part of its value.

/// Why a file of pairs cannot be read further. The texts are those that GitHub prints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("Invalid format '{0}'")]
    Line(String),
    #[error("Invalid format '{0}'. Name must not be empty")]
    Name(String),
    #[error("Invalid format '{0}'. Name must not be empty and delimiter must not be empty")]
    Heredoc(String),
    #[error("Invalid value. Matching delimiter not found '{0}'")]
    Delimiter(String),
    #[error("Invalid value. EOF marker missing new line.")]
    NewLine,
}

/// The pairs of `text` up to the first error.
pub(crate) fn pairs(text: &str) -> (Vec<(String, String)>, Option<FormatError>) {
    let mut pairs = Vec::new();
    let mut lines = Lines { rest: text };
    while let Some((line, _)) = lines.next() {
        if line.is_empty() {
            continue;
        }
        match pair(line, &mut lines) {
            Ok(pair) => pairs.push(pair),
            Err(error) => return (pairs, Some(error)),
        }
    }
    (pairs, None)
}

fn pair(line: &str, lines: &mut Lines<'_>) -> Result<(String, String), FormatError> {
    let equals = line.find('=');
    match (equals, line.find("<<")) {
        (Some(equals), heredoc) if heredoc.is_none_or(|heredoc| equals < heredoc) => {
            if equals == 0 {
                return Err(FormatError::Name(line.to_owned()));
            }
            Ok((line[..equals].to_owned(), line[equals + 1..].to_owned()))
        }
        (_, Some(heredoc)) => {
            let (name, delimiter) = (&line[..heredoc], &line[heredoc + 2..]);
            if name.is_empty() || delimiter.is_empty() {
                return Err(FormatError::Heredoc(line.to_owned()));
            }
            let mut value: Vec<&str> = Vec::new();
            loop {
                match lines.next() {
                    None => return Err(FormatError::Delimiter(delimiter.to_owned())),
                    Some((line, _)) if line == delimiter => break,
                    Some((_, false)) => return Err(FormatError::NewLine),
                    Some((line, true)) => value.push(line),
                }
            }
            Ok((name.to_owned(), value.join("\n")))
        }
        _ => Err(FormatError::Line(line.to_owned())),
    }
}

/// The entries of a path file, in the order written.
pub(crate) fn paths(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

struct Lines<'a> {
    rest: &'a str,
}

impl<'a> Lines<'a> {
    /// The next line and whether a line feed ended it.
    fn next(&mut self) -> Option<(&'a str, bool)> {
        if self.rest.is_empty() {
            return None;
        }
        match self.rest.split_once('\n') {
            Some((line, rest)) => {
                self.rest = rest;
                Some((line, true))
            }
            None => Some((std::mem::take(&mut self.rest), false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_github_reads_them() {
        for (text, expected) in [
            ("", vec![]),
            ("A=1", vec![("A", "1")]),
            ("A=1\n\n\nB=\n", vec![("A", "1"), ("B", "")]),
            ("A=b=c<<d\n", vec![("A", "b=c<<d")]),
            ("A=1\r\n", vec![("A", "1\r")]),
            ("A<<EOF\nEOF\n", vec![("A", "")]),
            ("A<<EOF\none\n\ntwo=2\nEOF\nB=2\n", vec![("A", "one\n\ntwo=2"), ("B", "2")]),
            ("A<<EOF\none\nEOF", vec![("A", "one")]),
            ("A<<x=y\n1\nx=y\n", vec![("A", "1")]),
            (" A =1", vec![(" A ", "1")]),
        ] {
            let (pairs, error) = pairs(text);
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!((pairs, error), (expected, None), "{text:?}");
        }
    }

    #[test]
    fn what_stood_before_an_error_counts() {
        for (text, read, message) in [
            ("nonsense", 0, "Invalid format 'nonsense'"),
            ("A=1\n=2", 1, "Invalid format '=2'. Name must not be empty"),
            ("A=1\n<<EOF\nx\nEOF", 1, "Invalid format '<<EOF'. Name must not be empty and delimiter must not be empty"),
            ("A<<\n", 0, "Invalid format 'A<<'. Name must not be empty and delimiter must not be empty"),
            ("A=1\nB<<EOF\nx\n", 1, "Invalid value. Matching delimiter not found 'EOF'"),
            ("B<<EOF\nx", 0, "Invalid value. EOF marker missing new line."),
        ] {
            let (pairs, error) = pairs(text);
            assert_eq!((pairs.len(), error.map(|e| e.to_string())), (read, Some(message.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn paths_are_lines_that_are_not_empty() {
        assert_eq!(paths("/a\n\n/b c\r\n/d"), ["/a", "/b c", "/d"]);
    }
}
