//! Workflow commands in force: what each does to the job.
//!
//! Behaviour: actions/runner `Runner.Worker/ActionCommandManager.cs`.

use std::path::Path;

use startline_protocol::step::AnnotationLevel;

use super::Job;
use super::output::Listener;
use crate::annotations::Place;
use crate::command::{Command, is_known};
use crate::matcher::Matchers;

/// The largest file of problem matchers that is read.
const LARGEST: u64 = 1024 * 1024;

const UNSECURE_TOKEN: &str = "You cannot use a endToken that is an empty string, the string 'pause-logging', or another \
    workflow command. For more information see: https://docs.github.com/actions/learn-github-actions/workflow-commands-for-github-actions#example-stopping-and-starting-workflow-commands \
    or opt into insecure command execution by setting the `ACTIONS_ALLOW_UNSECURE_STOPCOMMAND_TOKENS` environment variable to `true`.";

impl Job {
    /// Executes a command; false when it is output after all.
    pub(super) fn command(&mut self, listener: &mut Listener, line: &str, command: &Command) -> bool {
        if let Some(token) = &listener.stop_token {
            if !token.eq_ignore_ascii_case(&command.name) {
                return false;
            }
            listener.stop_token = None;
            self.console.write(line);
            return true;
        }
        // What carries a secret or is printed in another form is never echoed.
        let silent = ["add-mask", "debug", "error", "warning", "notice"].contains(&command.name.as_str());
        if !silent && (listener.echo || self.console.debug) && command.name != "stop-commands" {
            self.console.write(line);
        }
        if let Err(error) = self.execute(listener, line, command) {
            let shown = if silent { &command.name } else { line };
            self.error(listener.record, &format!("Unable to process command '{shown}' successfully."));
            self.error(listener.record, &error);
            listener.failed = true;
        }
        true
    }

    fn execute(&mut self, listener: &mut Listener, line: &str, command: &Command) -> Result<(), String> {
        let record = listener.record;
        let data = command.data.as_str();
        match command.name.as_str() {
            "add-mask" => self.add_mask(listener, data),
            "debug" => self.console.debug(data),
            "error" => self.issue_command(listener, AnnotationLevel::Failure, command),
            "warning" => self.issue_command(listener, AnnotationLevel::Warning, command),
            "notice" => self.issue_command(listener, AnnotationLevel::Notice, command),
            "group" => self.console.write(&format!("##[group]{data}")),
            "endgroup" => self.console.write("##[endgroup]"),
            "echo" => listener.echo = echo(data)?,
            "stop-commands" => self.stop_commands(listener, line, data)?,
            "set-output" => {
                self.deprecated(listener, &command.name);
                listener.outputs.push((required_name(command)?.to_owned(), data.to_owned()));
            }
            "save-state" => {
                self.deprecated(listener, &command.name);
                let name = required_name(command)?;
                listener.state.push((name.to_owned(), data.to_owned()));
                self.console.debug(&format!("Save intra-action state {name} = {data}"));
            }
            "set-env" => {
                self.check_allowed(listener, &command.name)?;
                self.set_variable(record, required_name(command)?.to_owned(), data.to_owned());
            }
            "add-path" => {
                self.check_allowed(listener, &command.name)?;
                if data.is_empty() {
                    return Err("Required path is missing in ##[add-path] command.".to_owned());
                }
                self.add_search_path(data.to_owned());
            }
            "add-matcher" => self.add_matcher(record, &listener.host_path(data))?,
            "remove-matcher" => self.remove_matcher(listener, command)?,
            other => return Err(format!("Can't find command extension for ##[{other}.command].")),
        }
        Ok(())
    }

    fn add_mask(&mut self, listener: &Listener, secret: &str) {
        if secret.trim().is_empty() {
            self.warning(listener.record, "Can't add secret mask for empty string in ##[add-mask] command.");
            return;
        }
        self.console.masker.add(secret);
        if listener.echo || self.console.debug {
            self.console.write("::add-mask::***");
        }
    }

    fn stop_commands(&mut self, listener: &mut Listener, line: &str, token: &str) -> Result<(), String> {
        let bad = token.is_empty() || is_known(token) || token.eq_ignore_ascii_case("pause-logging");
        if bad && !listener.insecure_tokens {
            return Err(UNSECURE_TOKEN.to_owned());
        }
        if token.chars().count() > 6 {
            self.console.masker.add(token);
        }
        listener.stop_token = Some(token.to_owned());
        self.console.write(line);
        Ok(())
    }

    fn deprecated(&mut self, listener: &mut Listener, name: &str) {
        if !listener.warned.iter().any(|known| known == name) {
            listener.warned.push(name.to_owned());
            let message = format!(
                "The `{name}` command is deprecated and will be disabled soon. Please upgrade to using Environment Files."
            );
            self.warning(listener.record, &message);
        }
    }

    fn check_allowed(&self, listener: &Listener, name: &str) -> Result<(), String> {
        let inherited = self.host.variable("ACTIONS_ALLOW_UNSECURE_COMMANDS");
        if listener.insecure_commands || inherited.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(());
        }
        Err(format!(
            "The `{name}` command is disabled. Please upgrade to using Environment Files or opt into unsecure command \
             execution by setting the `ACTIONS_ALLOW_UNSECURE_COMMANDS` environment variable to `true`."
        ))
    }

    fn issue_command(&mut self, listener: &Listener, level: AnnotationLevel, command: &Command) {
        let mut place = Place {
            title: command.property("title").map(str::to_owned),
            path: command.property("file").map(|file| self.relative(&listener.host_path(file))),
            ..Place::default()
        };
        if let Err(reason) = lines_and_columns(command, &mut place) {
            self.console.debug(&reason);
        }
        self.issue(listener.record, level, &command.data, place);
    }

    /// A path relative to the workspace when it lies there.
    fn relative(&self, file: &str) -> String {
        let path = Path::new(file);
        let relative = path.strip_prefix(&self.directories.workspace).unwrap_or(path);
        relative.strip_prefix(".").unwrap_or(relative).to_string_lossy().into_owned()
    }

    fn add_matcher(&mut self, record: usize, file: &str) -> Result<(), String> {
        if file.is_empty() {
            self.warning(record, "File path must be specified.");
            return Ok(());
        }
        let text = self.matcher_file(file)?;
        let owners = self.matchers.add(&text).map_err(|error| format!("`{file}`: {error}"))?;
        self.console.debug(&format!("Added matchers: '{}'. Problem matchers scan action output for known warning or error strings and report these inline.", owners.join("', '")));
        Ok(())
    }

    fn remove_matcher(&mut self, listener: &Listener, command: &Command) -> Result<(), String> {
        let record = listener.record;
        let owners = match (command.property("owner"), command.data.as_str()) {
            (Some(_), file) if !file.is_empty() => {
                self.warning(record, "Either specify an owner name or a file path in ##[remove-matcher] command. Both values cannot be set.");
                return Ok(());
            }
            (Some(owner), _) => vec![owner.to_owned()],
            (None, "") => {
                self.warning(
                    record,
                    "Either an owner name or a file path must be specified in ##[remove-matcher] command.",
                );
                return Ok(());
            }
            (None, file) => Matchers::owners(&self.matcher_file(&listener.host_path(file))?)
                .map_err(|error| format!("`{file}`: {error}"))?,
        };
        owners.iter().for_each(|owner| self.matchers.remove(owner));
        Ok(())
    }

    fn matcher_file(&self, file: &str) -> Result<Vec<u8>, String> {
        let path = self.directories.workspace.join(file);
        let failed = |error: std::io::Error| format!("cannot read the matcher file `{}`: {error}", path.display());
        let data = std::fs::metadata(&path).map_err(failed)?;
        if !data.is_file() || data.len() > LARGEST {
            return Err(format!("`{}` is no file of at most {} KiB", path.display(), LARGEST / 1024));
        }
        std::fs::read(&path).map_err(failed)
    }
}

fn echo(data: &str) -> Result<bool, String> {
    match data.trim().to_ascii_uppercase().as_str() {
        "ON" => Ok(true),
        "OFF" => Ok(false),
        _ => {
            Err(format!("Invalid echo command value. Possible values can be: 'on', 'off'. Current value is: '{data}'."))
        }
    }
}

fn required_name(command: &Command) -> Result<&str, String> {
    command.property("name").ok_or_else(|| format!("Required field 'name' is missing in ##[{}] command.", command.name))
}

/// Fills in lines and columns as far as they make sense together (actions/runner: `ValidateLinesAndColumns`).
fn lines_and_columns(command: &Command, place: &mut Place) -> Result<(), String> {
    let number = |name: &str| command.property(name).and_then(|text| text.trim().parse::<u32>().ok());
    let (mut line, mut end_line) = (number("line"), number("endLine"));
    let (mut column, mut end_column) = (number("col"), number("endColumn"));
    let mut problem = None;
    if end_line.is_some() && line.is_none() {
        line = end_line;
    }
    if end_column.is_some() && column.is_none() {
        column = end_column;
    }
    if line.is_none() && column.is_some() {
        problem = Some("col and endColumn are ignored because no line was given");
        (column, end_column) = (None, None);
    }
    if let (Some(first), Some(last)) = (line, end_line)
        && last < first
    {
        problem = Some("endLine is ignored because it is before line");
        end_line = None;
    }
    if end_line.is_some_and(|last| Some(last) != line) && column.is_some() {
        problem = Some("col and endColumn are ignored because the lines differ");
        (column, end_column) = (None, None);
    }
    if let (Some(first), Some(last)) = (column, end_column)
        && last < first
    {
        problem = Some("endColumn is ignored because it is before col");
        end_column = None;
    }
    place.start_line = line;
    place.end_line = end_line.or(line);
    place.start_column = column;
    place.end_column = end_column.or(column);
    problem.map_or(Ok(()), |reason| Err(reason.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_that_make_no_sense_are_left_out() {
        for (properties, expected, sound) in [
            ("line=3", (Some(3), Some(3), None, None), true),
            ("line=3,endLine=5", (Some(3), Some(5), None, None), true),
            ("line=3,col=2", (Some(3), Some(3), Some(2), Some(2)), true),
            ("line=3,col=2,endColumn=9", (Some(3), Some(3), Some(2), Some(9)), true),
            ("endLine=5", (Some(5), Some(5), None, None), true),
            ("col=2", (None, None, None, None), false),
            ("line=5,endLine=3", (Some(5), Some(5), None, None), false),
            ("line=1,endLine=3,col=2", (Some(1), Some(3), None, None), false),
            ("line=1,col=5,endColumn=2", (Some(1), Some(1), Some(5), Some(5)), false),
            ("line=x", (None, None, None, None), true),
        ] {
            let command = crate::command::parse(&format!("::error {properties}::x"), None).unwrap();
            let mut place = Place::default();
            let result = lines_and_columns(&command, &mut place);
            let found = (place.start_line, place.end_line, place.start_column, place.end_column);
            assert_eq!((found, result.is_ok()), (expected, sound), "{properties}");
        }
    }
}
