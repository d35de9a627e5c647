//! `cron` of `schedule`: five fields in UTC.

const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    /// Names of values; the first is `least`.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, names: &[] },
    Field { name: "hour", least: 0, most: 23, names: &[] },
    Field { name: "day of month", least: 1, most: 31, names: &[] },
    Field { name: "month", least: 1, most: 12, names: MONTHS },
    Field { name: "day of week", least: 0, most: 6, names: DAYS },
];

/// Why text is no schedule, if it is none.
pub(super) fn problem(text: &str) -> Option<String> {
    if text.starts_with('@') {
        return Some("names such as `@daily` are not supported".to_owned());
    }
    let parts: Vec<&str> = text.split_ascii_whitespace().collect();
    if parts.len() != FIELDS.len() {
        return Some(format!("it has {} fields instead of 5", parts.len()));
    }
    FIELDS.iter().zip(parts).find_map(|(field, part)| field.problem(part))
}

impl Field {
    fn problem(&self, text: &str) -> Option<String> {
        let wrong = || format!("`{text}` is no {} ({} to {})", self.name, self.least, self.most);
        for item in text.split(',') {
            let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
            if step.is_some_and(|step| !step.parse::<u32>().is_ok_and(|step| step > 0)) {
                return Some(wrong());
            }
            if range == "*" {
                continue;
            }
            let (first, last) = range.split_once('-').map_or((range, range), |ends| ends);
            match (self.value(first), self.value(last)) {
                (Some(first), Some(last)) if first <= last => {}
                _ => return Some(wrong()),
            }
        }
        None
    }

    fn value(&self, text: &str) -> Option<u32> {
        if let Some(position) = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return u32::try_from(position).ok().map(|position| position + self.least);
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|value| digits && (self.least..=self.most).contains(value))
    }
}

#[cfg(test)]
mod tests {
    use super::problem;

    #[test]
    fn schedules_are_checked_field_by_field() {
        for good in ["30 5 * * 1-5", "*/15 * * * *", "0 0 1,15 JAN-MAR sun", "20/15 * * * *", "59 23 31 12 6"] {
            assert_eq!(problem(good), None, "{good}");
        }
        for (bad, word) in [
            ("* * * *", "4 fields"),
            ("60 * * * *", "minute"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day of month"),
            ("* * * 13 *", "month"),
            ("* * * * 7", "day of week"),
            ("5-1 * * * *", "minute"),
            ("*/0 * * * *", "minute"),
            ("+5 * * * *", "minute"),
            ("@daily", "@daily"),
        ] {
            assert!(problem(bad).unwrap().contains(word), "{bad}");
        }
    }
}
