//! Numbers as proto-JSON has them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A 64-bit integer: written as text, read from text or a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Int64(pub i64);

impl Int64 {
    /// The number, unless it is negative.
    pub(super) fn unsigned(self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }
}

impl From<u64> for Int64 {
    fn from(number: u64) -> Self {
        Self(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl Serialize for Int64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Int64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Int64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, or one in quotes")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Int64, E> {
                Ok(Int64(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Int64, E> {
                i64::try_from(number).map(Int64).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Int64, E> {
                text.parse().map(Int64).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_text_and_read_as_both() {
        assert_eq!(serde_json::to_string(&Int64(1 << 60)).unwrap(), "\"1152921504606846976\"");
        let read = |text: &str| serde_json::from_str::<Int64>(text).ok();
        assert_eq!(read("\"1152921504606846976\""), Some(Int64(1 << 60)));
        assert_eq!(read("7"), Some(Int64(7)));
        assert_eq!(read("-7").unwrap().unsigned(), None);
        for bad in ["\"\"", "\"x\"", "1.5", "18446744073709551615", "null"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
