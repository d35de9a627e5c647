//! What the collector wants to be told with each export, such as its key.

use std::fmt;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// `name=value` with commas between, as in `OTEL_EXPORTER_OTLP_HEADERS`. Values are shown nowhere.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CollectorHeaders(HeaderMap);

/// The text is no list of headers. It does not say which, since values are secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("part {number} is not a header; write name=value, with commas between several")]
pub struct NotAHeader {
    number: usize,
}

impl CollectorHeaders {
    pub(super) const fn map(&self) -> &HeaderMap {
        &self.0
    }
}

impl FromStr for CollectorHeaders {
    type Err = NotAHeader;

    fn from_str(text: &str) -> Result<Self, NotAHeader> {
        let mut map = HeaderMap::new();
        for (index, part) in text.split(',').map(str::trim).enumerate().filter(|(_, part)| !part.is_empty()) {
            let wrong = || NotAHeader { number: index + 1 };
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            let name = HeaderName::from_str(name.trim()).map_err(|_| wrong())?;
            let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            map.insert(name, value);
        }
        Ok(Self(map))
    }
}

impl TryFrom<String> for CollectorHeaders {
    type Error = NotAHeader;

    fn try_from(text: String) -> Result<Self, NotAHeader> {
        text.parse()
    }
}

impl fmt::Display for CollectorHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.keys().enumerate() {
            write!(f, "{}{name}=…", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Debug for CollectorHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CollectorHeaders({self})")
    }
}

impl Serialize for CollectorHeaders {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
