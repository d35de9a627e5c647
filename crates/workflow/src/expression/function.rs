//! The functions of the language: actions/runner src/Sdk/Expressions/Sdk/Functions.

use super::evaluator::{EvalError, Evaluator};
use super::json;
use super::node::Node;
use super::value::{Value, fold, fold_char};

/// Calls a built-in function by its name in lower case; `None` when it is not built in. The number of arguments has
/// been checked. Arguments that do not matter stay unevaluated.
pub(super) fn call(evaluator: &mut Evaluator<'_>, name: &str, arguments: &[Node]) -> Result<Option<Value>, EvalError> {
    Ok(Some(match name {
        "contains" => contains(evaluator, &arguments[0], &arguments[1])?,
        "startswith" => begins(evaluator, arguments, |text| Box::new(text.chars()))?,
        "endswith" => begins(evaluator, arguments, |text| Box::new(text.chars().rev()))?,
        "format" => format(evaluator, &arguments[0], &arguments[1..])?,
        "join" => join(evaluator, &arguments[0], arguments.get(1))?,
        "tojson" => {
            let value = evaluator.value(&arguments[0])?;
            Value::from(json::write(&value, &mut evaluator.budget)?)
        }
        "fromjson" => {
            let text = evaluator.value(&arguments[0])?;
            json::read(&text.to_text(), &mut evaluator.budget)?
        }
        _ => return Ok(None),
    }))
}

/// Whether an array has an item, or text a part.
fn contains(evaluator: &mut Evaluator<'_>, all: &Node, part: &Node) -> Result<Value, EvalError> {
    let all = evaluator.value(all)?;
    Ok(Value::Bool(match &all {
        Value::Array(items) if !items.is_empty() => {
            let part = evaluator.value(part)?;
            items.iter().any(|item| part.loose_eq(item))
        }
        Value::Array(_) | Value::Object(_) => false,
        primitive => {
            let part = evaluator.value(part)?;
            part.is_primitive() && fold(&primitive.to_text()).contains(&fold(&part.to_text()))
        }
    }))
}

/// Whether the first text begins with the second, without case, when both are read in the order `read` gives; false
/// when either is a collection.
fn begins(
    evaluator: &mut Evaluator<'_>,
    arguments: &[Node],
    read: for<'a> fn(&'a str) -> Box<dyn Iterator<Item = char> + 'a>,
) -> Result<Value, EvalError> {
    let text = evaluator.value(&arguments[0])?;
    if !text.is_primitive() {
        return Ok(Value::Bool(false));
    }
    let part = evaluator.value(&arguments[1])?;
    let (text, is_primitive, part) = (text.to_text(), part.is_primitive(), part.to_text());
    let mut characters = read(&text).map(fold_char);
    let holds = is_primitive && read(&part).map(fold_char).all(|wanted| characters.next() == Some(wanted));
    Ok(Value::Bool(holds))
}

/// Joins the items of an array; a primitive is its own text, an object is empty text.
fn join(evaluator: &mut Evaluator<'_>, items: &Node, separator: Option<&Node>) -> Result<Value, EvalError> {
    let value = evaluator.value(items)?;
    let items = match &value {
        Value::Array(items) => items,
        Value::Object(_) => return Ok(Value::from("")),
        primitive => return Ok(Value::from(primitive.to_text().into_owned())),
    };
    let separator = match separator {
        Some(separator) if items.len() > 1 => evaluator.value(separator)?,
        _ => Value::from(","),
    };
    let separator = if separator.is_primitive() { separator } else { Value::from(",") };
    let separator = separator.to_text();
    let mut text = String::new();
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            evaluator.budget.push(&mut text, &separator)?;
        }
        evaluator.budget.push(&mut text, &item.to_text())?;
    }
    Ok(Value::from(text))
}

enum Segment<'a> {
    Text(&'a str),
    Argument(usize),
}

/// Fills `{0}`, `{1}`, … of a format string; `{{` and `}}` stand for braces.
fn format(evaluator: &mut Evaluator<'_>, format: &Node, arguments: &[Node]) -> Result<Value, EvalError> {
    let format = evaluator.value(format)?;
    let format = format.to_text();
    let segments =
        segments(&format, arguments.len()).map_err(|reason| EvalError::Format { format: shorten(&format), reason })?;
    let mut values: Vec<Option<Value>> = vec![None; arguments.len()];
    let mut text = String::new();
    for segment in segments {
        match segment {
            Segment::Text(part) => evaluator.budget.push(&mut text, part)?,
            Segment::Argument(index) => {
                if values[index].is_none() {
                    values[index] = Some(evaluator.value(&arguments[index])?);
                }
                if let Some(value) = &values[index] {
                    evaluator.budget.push(&mut text, &value.to_text())?;
                }
            }
        }
    }
    Ok(Value::from(text))
}

fn segments(format: &str, arguments: usize) -> Result<Vec<Segment<'_>>, String> {
    let mut segments = Vec::new();
    let mut rest = format;
    while let Some(brace) = rest.find(['{', '}']) {
        let (before, after) = (&rest[..brace], &rest[brace + 1..]);
        let symbol = &rest[brace..=brace];
        if let Some(doubled) = after.strip_prefix(symbol) {
            segments.push(Segment::Text(&rest[..=brace]));
            rest = doubled;
            continue;
        }
        if symbol == "}" {
            return Err("a '}' has no '{'; write '}}' for a brace".to_owned());
        }
        segments.push(Segment::Text(before));
        let (index, following) = argument_index(after)?;
        if index >= arguments {
            let remedy =
                if arguments == 0 { "there are none".to_owned() } else { format!("the last is {{{}}}", arguments - 1) };
            return Err(format!("{{{index}}} names an argument that is not given; {remedy}"));
        }
        segments.push(Segment::Argument(index));
        rest = following;
    }
    segments.push(Segment::Text(rest));
    Ok(segments)
}

/// Reads `0}` after an opening brace; gives the index and what follows.
fn argument_index(text: &str) -> Result<(usize, &str), String> {
    let digits = text.len() - text.trim_start_matches(|character: char| character.is_ascii_digit()).len();
    let malformed = || "a '{' needs an argument's number and '}' after it; write '{{' for a brace".to_owned();
    let index = text[..digits].parse::<u8>().map_err(|_| malformed())?;
    let after = &text[digits..];
    // "{0:}" is legal, "{0:N}" is not: no kind of value takes a format specifier.
    match after.strip_prefix('}').or_else(|| after.strip_prefix(":}").filter(|after| !after.starts_with('}'))) {
        Some(following) => Ok((usize::from(index), following)),
        None if after.starts_with(':') => Err(format!("{{{index}:…}} has a format specifier and none exists")),
        None => Err(malformed()),
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(100) {
        Some((position, _)) => format!("{}…", &text[..position]),
        None => text.to_owned(),
    }
}
