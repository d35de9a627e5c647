//! Workflow commands: the lines by which a step speaks to its worker.
//!
//! `::name key=value,key=value::data` at the start of a line, or `##[name key=value;key=value]data` anywhere in it
//! (actions/runner `Runner.Common/ActionCommand.cs`). Only known names are commands; all else is output.

/// A parsed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// In lower case.
    pub(crate) name: String,
    /// In the order written, with escapes undone.
    pub(crate) properties: Vec<(String, String)>,
    /// With escapes undone.
    pub(crate) data: String,
}

impl Command {
    /// A property that is not empty; names are compared without case.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        let found = self.properties.iter().rev().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// Every name that is a command.
const NAMES: [&str; 15] = [
    "add-mask",
    "add-matcher",
    "add-path",
    "debug",
    "echo",
    "endgroup",
    "error",
    "group",
    "notice",
    "remove-matcher",
    "save-state",
    "set-env",
    "set-output",
    "stop-commands",
    "warning",
];

/// Whether `name` is a command, whatever its case.
pub(crate) fn is_known(name: &str) -> bool {
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The command in `line`, if there is one. `extra` is a further known name: the token that ends `stop-commands`.
pub fn parse(line: &str, extra: Option<&str>) -> Option<Command> {
    let known = |name: &str| is_known(name) || extra.is_some_and(|extra| extra.eq_ignore_ascii_case(name));
    parse_v2(line, &known).or_else(|| parse_v1(line, &known))
}

fn parse_v2(line: &str, known: &dyn Fn(&str) -> bool) -> Option<Command> {
    let (info, data) = line.trim_start().strip_prefix("::")?.split_once("::")?;
    let (name, properties) = info.split_once(' ').unwrap_or((info, ""));
    known(name).then(|| Command {
        name: name.to_ascii_lowercase(),
        properties: pairs(properties, ',', &[("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")]),
        data: unescape(data, &[("%0D", "\r"), ("%0A", "\n"), ("%25", "%")]),
    })
}

fn parse_v1(line: &str, known: &dyn Fn(&str) -> bool) -> Option<Command> {
    const ESCAPES: [(&str, &str); 5] = [("%3B", ";"), ("%0D", "\r"), ("%0A", "\n"), ("%5D", "]"), ("%25", "%")];
    // Few lines have one, and a look for one byte is cheaper.
    let (_, rest) = line.contains('#').then(|| line.split_once("##[")).flatten()?;
    let (info, data) = rest.split_once(']')?;
    let (name, properties) = info.split_once(' ').unwrap_or((info, ""));
    known(name).then(|| Command {
        name: name.to_ascii_lowercase(),
        properties: pairs(properties, ';', &ESCAPES),
        data: unescape(data, &ESCAPES),
    })
}

fn pairs(text: &str, separator: char, escapes: &[(&str, &str)]) -> Vec<(String, String)> {
    text.trim()
        .split(separator)
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), unescape(value, escapes)))
        .collect()
}

/// Undoes escapes in one pass, so that `%250A` stays the text `%0A`.
fn unescape(text: &str, escapes: &[(&str, &str)]) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let escape = escapes.iter().find(|(code, _)| rest.get(..3).is_some_and(|head| head.eq_ignore_ascii_case(code)));
        let (text, used) = escape.map_or(("%", 1), |(code, text)| (*text, code.len()));
        plain.push_str(text);
        rest = &rest[used..];
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(line: &str) -> Option<String> {
        parse(line, Some("Resume"))
            .map(|command| format!("{} {:?} {}", command.name, command.properties, command.data.escape_debug()))
    }

    #[test]
    fn lines_are_commands_or_output() {
        for (line, expected) in [
            ("::debug::hello", Some("debug [] hello")),
            (
                "  ::WARNING file=a.rs,line=3::it's%0Abad",
                Some(r#"warning [("file", "a.rs"), ("line", "3")] it\'s\nbad"#),
            ),
            ("::error title=a%3A b%2C c,x::%25 %250A", Some(r#"error [("title", "a: b, c")] % %0A"#)),
            ("::set-output name=a=b::c::d", Some(r#"set-output [("name", "a=b")] c::d"#)),
            ("::resume::", Some("resume [] ")),
            ("::group::", Some("group [] ")),
            ("text ::debug::x", None),
            ("::nonsense::x", None),
            ("::debug:x", None),
            ("::debug", None),
            ("", None),
            ("::::", None),
            ("::é%::%", None),
            ("some ##[set-output name=a;]b%5Dc%3B", Some(r#"set-output [("name", "a")] b]c;"#)),
            ("##[Error line=1;file=x%5D]boom", Some(r#"error [("line", "1"), ("file", "x]")] boom"#)),
            ("##[section]x", None),
            ("##[error", None),
            ("::debug::100%é", Some("debug [] 100%é")),
        ] {
            assert_eq!(show(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn an_empty_property_is_no_property() {
        let command = parse("::error file=,LINE=2::x", None).unwrap();
        assert_eq!((command.property("file"), command.property("line")), (None, Some("2")));
    }
}
