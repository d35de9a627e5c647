//! Problem matchers: patterns that find errors in the output of tools.
//!
//! Format: actions/runner `Runner.Worker/IssueMatcher.cs`. A matcher of several patterns matches that many lines in a
//! row; a last pattern with `loop` matches any number of lines.

use regex_lite::Regex;
use serde::Deserialize;
use startline_protocol::step::AnnotationLevel;

/// The file that `add-matcher` names.
#[derive(Deserialize)]
struct Config {
    #[serde(rename = "problemMatcher", default)]
    matchers: Vec<MatcherConfig>,
}

#[derive(Deserialize)]
struct MatcherConfig {
    owner: String,
    #[serde(default)]
    severity: Option<String>,
    pattern: Vec<PatternConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PatternConfig {
    regexp: String,
    file: Option<usize>,
    from_path: Option<usize>,
    line: Option<usize>,
    column: Option<usize>,
    severity: Option<usize>,
    code: Option<usize>,
    message: Option<usize>,
    #[serde(default, rename = "loop")]
    repeats: bool,
}

/// A problem that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) file: Option<String>,
    pub(crate) from_path: Option<String>,
    pub(crate) line: Option<u32>,
    pub(crate) column: Option<u32>,
    pub(crate) severity: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) message: String,
}

impl Problem {
    /// An error unless it says otherwise; `None` for a severity that GitHub does not know.
    pub(crate) fn level(&self) -> Option<AnnotationLevel> {
        match self.severity.as_deref().unwrap_or("").to_ascii_lowercase().as_str() {
            "" | "error" => Some(AnnotationLevel::Failure),
            "warning" => Some(AnnotationLevel::Warning),
            "notice" => Some(AnnotationLevel::Notice),
            _ => None,
        }
    }
}

/// Why a file holds no matchers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MatcherError {
    #[error("not a problem matcher file: {0}")]
    Json(#[from] serde_json::Error),
    #[error("matcher `{owner}` has no pattern")]
    Empty { owner: String },
    #[error("matcher `{owner}`: regular expression `{regexp}` cannot be used: {error}")]
    Regex { owner: String, regexp: String, error: regex_lite::Error },
    #[error("matcher `{owner}`: only the last of several patterns may have `loop`")]
    Loop { owner: String },
}

struct Matcher {
    owner: String,
    severity: Option<String>,
    patterns: Vec<(Regex, PatternConfig)>,
    /// For each pattern but the last, what the row of lines that it ended has found.
    rows: Vec<Option<Problem>>,
}

/// The matchers in force; a later one of the same owner replaces the earlier.
#[derive(Default)]
pub(crate) struct Matchers {
    list: Vec<Matcher>,
}

impl Matchers {
    /// Adds the matchers of a file; all or none.
    pub(crate) fn add(&mut self, file: &[u8]) -> Result<Vec<String>, MatcherError> {
        let matchers: Vec<Matcher> = config(file)?.into_iter().map(compile).collect::<Result<_, _>>()?;
        let owners: Vec<String> = matchers.iter().map(|matcher| matcher.owner.clone()).collect();
        owners.iter().for_each(|owner| self.remove(owner));
        self.list.extend(matchers);
        Ok(owners)
    }

    /// The owners that a file names.
    pub(crate) fn owners(file: &[u8]) -> Result<Vec<String>, MatcherError> {
        Ok(config(file)?.into_iter().map(|matcher| matcher.owner).collect())
    }

    pub(crate) fn remove(&mut self, owner: &str) {
        self.list.retain(|matcher| !matcher.owner.eq_ignore_ascii_case(owner));
    }

    /// The problem that `line` completes. A match of one matcher makes the others start again.
    pub(crate) fn find(&mut self, line: &str) -> Option<Problem> {
        if self.list.is_empty() {
            return None;
        }
        let plain = without_colours(line);
        let (index, problem) =
            self.list.iter_mut().enumerate().find_map(|(index, matcher)| Some((index, matcher.take(&plain)?)))?;
        for (other, matcher) in self.list.iter_mut().enumerate() {
            if other != index {
                matcher.reset();
            }
        }
        Some(problem)
    }
}

fn config(file: &[u8]) -> Result<Vec<MatcherConfig>, MatcherError> {
    Ok(serde_json::from_slice::<Config>(file)?.matchers)
}

fn compile(config: MatcherConfig) -> Result<Matcher, MatcherError> {
    let owner = config.owner;
    let last = config.pattern.len().checked_sub(1).ok_or_else(|| MatcherError::Empty { owner: owner.clone() })?;
    if config.pattern.iter().enumerate().any(|(index, pattern)| pattern.repeats && (index != last || last == 0)) {
        return Err(MatcherError::Loop { owner });
    }
    let patterns = config
        .pattern
        .into_iter()
        .map(|pattern| match Regex::new(&pattern.regexp) {
            Ok(regex) => Ok((regex, pattern)),
            Err(error) => Err(MatcherError::Regex { owner: owner.clone(), regexp: pattern.regexp, error }),
        })
        .collect::<Result<_, _>>()?;
    Ok(Matcher { owner, severity: config.severity, patterns, rows: vec![None; last] })
}

impl Matcher {
    fn take(&mut self, line: &str) -> Option<Problem> {
        let last = self.patterns.len() - 1;
        // From the last pattern to the first, so that one line moves each row on by one place only.
        for index in (0..=last).rev() {
            let before = match index.checked_sub(1) {
                None => Problem::default(),
                Some(before) => match &self.rows[before] {
                    Some(problem) => problem.clone(),
                    None => continue,
                },
            };
            let (regex, pattern) = &self.patterns[index];
            let problem = regex.captures(line).map(|found| merge(before.clone(), pattern, &found));
            if index < last {
                self.rows[index] = problem;
                continue;
            }
            let Some(problem) = problem else {
                self.rows.last_mut().into_iter().for_each(|row| *row = None);
                continue;
            };
            let repeats = pattern.repeats;
            self.reset();
            if repeats {
                self.rows[index - 1] = Some(before);
            }
            let severity = problem.severity.clone().or_else(|| self.severity.clone());
            return (!problem.message.is_empty()).then_some(Problem { severity, ..problem });
        }
        None
    }

    fn reset(&mut self) {
        self.rows.iter_mut().for_each(|row| *row = None);
    }
}

fn merge(before: Problem, pattern: &PatternConfig, found: &regex_lite::Captures<'_>) -> Problem {
    let group = |index: Option<usize>| {
        index
            .and_then(|index| found.get(index))
            .map(|text| text.as_str().trim().to_owned())
            .filter(|text| !text.is_empty())
    };
    let number = |index| group(index).and_then(|text| text.parse().ok());
    Problem {
        file: group(pattern.file).or(before.file),
        from_path: group(pattern.from_path).or(before.from_path),
        line: number(pattern.line).or(before.line),
        column: number(pattern.column).or(before.column),
        severity: group(pattern.severity).or(before.severity),
        code: group(pattern.code).or(before.code),
        message: group(pattern.message).unwrap_or(before.message),
    }
}

/// Without the escape sequences that colour text.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..at]);
        rest = rest[at + 2..].trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        rest = rest.strip_prefix('m').unwrap_or(rest);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const GCC: &str = r#"{"problemMatcher":[{"owner":"gcc","severity":"warning","pattern":[{
        "regexp":"^(.+):(\\d+):(\\d+): (?:(warning|error): )?(.*)$","file":1,"line":2,"column":3,"severity":4,"message":5}]}]}"#;
    const ESLINT: &str = r#"{"problemMatcher":[{"owner":"eslint","pattern":[
        {"regexp":"^([^\\s].*)$","file":1},
        {"regexp":"^\\s+(\\d+):(\\d+)\\s+(error|warning)\\s+(.*)\\s\\s+(.*)$","line":1,"column":2,"severity":3,"message":4,"code":5,"loop":true}]}]}"#;

    fn found(matchers: &mut Matchers, lines: &[&str]) -> Vec<String> {
        let problems = lines.iter().filter_map(|line| matchers.find(line));
        problems
            .map(|p| {
                let level = p.level().map(|level| format!("{level:?}")).unwrap_or_default();
                format!(
                    "{level} {}:{}:{} {}",
                    p.file.unwrap_or_default(),
                    p.line.unwrap_or(0),
                    p.column.unwrap_or(0),
                    p.message
                )
            })
            .collect()
    }

    #[test]
    fn one_line_is_enough_for_one_pattern() {
        let mut matchers = Matchers::default();
        assert_eq!(matchers.add(GCC.as_bytes()).unwrap(), ["gcc"]);
        let lines = ["all is well", "\u{1b}[1ma.c:3:5: \u{1b}[31merror: no ';'\u{1b}[0m", "b.c:1:2: odd"];
        assert_eq!(found(&mut matchers, &lines), ["Failure a.c:3:5 no ';'", "Warning b.c:1:2 odd"]);
        matchers.remove("GCC");
        assert!(found(&mut matchers, &lines).is_empty());
    }

    #[test]
    fn a_loop_takes_what_the_first_lines_found() {
        let mut matchers = Matchers::default();
        matchers.add(ESLINT.as_bytes()).unwrap();
        let lines = [
            "a.js",
            "  1:0  error  Missing  doc",
            "  9:10  warning  Long  max",
            "",
            "  2:2  error  Nobody  asked",
            "b.js",
            "  3:1  error  Late  doc",
        ];
        assert_eq!(
            found(&mut matchers, &lines),
            ["Failure a.js:1:0 Missing", "Warning a.js:9:10 Long", "Failure b.js:3:1 Late"]
        );
    }

    #[test]
    fn bad_files_are_refused_with_their_reason() {
        for (file, expected) in [
            ("[", "not a problem matcher file"),
            (r#"{"problemMatcher":[{"owner":"x","pattern":[]}]}"#, "matcher `x` has no pattern"),
            (r#"{"problemMatcher":[{"owner":"x","pattern":[{"regexp":"("}]}]}"#, "regular expression `(`"),
            (r#"{"problemMatcher":[{"owner":"x","pattern":[{"regexp":"a","loop":true},{"regexp":"b"}]}]}"#, "`loop`"),
        ] {
            let error = Matchers::default().add(file.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
