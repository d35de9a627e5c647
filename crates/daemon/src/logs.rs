//! Logs: text or JSON lines on stderr.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people; coloured on a terminal unless `NO_COLOR` is set.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// The filter is not one.
#[derive(Debug, thiserror::Error)]
#[error("log filter `{filter}`: {source}; write a level (error, warn, info, debug, trace) or `target=level,…`")]
pub struct FilterError {
    filter: String,
    source: ParseError,
}

/// Sends the process's log lines that pass `filter` to stderr.
///
/// Only the first call in a process takes effect, so that tests may all call it.
///
/// # Errors
/// When `filter` cannot be read; nothing is changed then.
pub fn init(format: LogFormat, filter: &str) -> Result<(), FilterError> {
    let parsed = EnvFilter::try_new(filter).map_err(|source| FilterError { filter: filter.to_owned(), source })?;
    let registry = tracing_subscriber::registry().with(parsed);
    // The error says that a subscriber is there already.
    let _ = match format {
        LogFormat::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_current_span(true).with_span_list(false);
            registry.with(layer.with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Text => {
            // By itself the layer asks only NO_COLOR, which stays in force.
            let mut layer = fmt::layer().with_writer(std::io::stderr);
            if !std::io::stderr().is_terminal() {
                layer = layer.with_ansi(false);
            }
            registry.with(layer).try_init()
        }
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initialising_again_is_harmless() {
        init(LogFormat::Text, "warn").unwrap();
        init(LogFormat::Json, "startline=debug,info").unwrap();
    }

    #[test]
    fn a_bad_filter_is_named_with_the_remedy() {
        let text = init(LogFormat::Text, "startline=loud").unwrap_err().to_string();
        assert!(text.starts_with("log filter `startline=loud`: "), "{text}");
        assert!(text.contains("error, warn, info, debug, trace"), "{text}");
    }
}
