//! How long something lives, on the command line.

use std::str::FromStr;

use startline_daemon::config::Period;

/// `30d`, `12h`, `90m`; a bare number is seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life(pub u64);

impl FromStr for Life {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(seconds) = text.parse() {
            return Ok(Self(seconds));
        }
        let period: Period =
            text.parse().map_err(|_| format!("`{text}` is not a time; write 30d, 12h, 90m, or seconds"))?;
        Ok(Self(period.get().as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_seconds_are_both_understood() {
        assert_eq!(["30d", "1h30m", "3600"].map(|text| text.parse::<Life>().unwrap().0), [2_592_000, 5400, 3600]);
        assert!("a month".parse::<Life>().unwrap_err().contains("`a month`"));
    }
}
