//! Numbers to text and back, as .NET does it: actions/runner src/Sdk/Expressions/Sdk/ExpressionUtility.cs
//! (`ParseNumber`) and ExpressionConstants.cs (`NumberFormat` is `G15`).

/// The significant digits of the `G15` format; also the first exponent that is written in scientific notation.
const DIGITS: i32 = 15;

/// Reads a number the way coercion and the lexer do; `NaN` for what is none. Blank text is zero.
pub(in crate::expression) fn parse_number(text: &str) -> f64 {
    let text = text.trim();
    if text.is_empty() {
        return 0.0;
    }
    if let Some(value) = parse_decimal(text) {
        return value;
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return parse_radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return parse_radix(digits, 8);
    }
    parse_named(text)
}

fn parse_decimal(text: &str) -> Option<f64> {
    // Rust also reads "inf" and "nan"; the character set keeps those for `parse_named`.
    let decimal = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    if decimal { text.parse().ok() } else { None }
}

fn parse_radix(digits: &str, radix: u32) -> f64 {
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return f64::NAN;
    }
    // .NET reads 32 bits in two's complement, so 0xFFFFFFFF is -1, and more bits are out of range.
    u32::from_str_radix(digits, radix).map_or(f64::NAN, |bits| f64::from(bits.cast_signed()))
}

fn parse_named(text: &str) -> f64 {
    let (sign, name) = match text.as_bytes().first() {
        Some(b'-') => (-1.0, &text[1..]),
        Some(b'+') => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if name.eq_ignore_ascii_case("Infinity") { sign * f64::INFINITY } else { f64::NAN }
}

/// Writes a number with at most 15 significant digits: plain from 1E-04 up to below 1E+15, scientific outside.
pub(in crate::expression) fn number_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned(); // Negative zero too.
    }
    let scientific = format!("{:.14e}", value.abs());
    let (mantissa, exponent) = scientific.split_once('e').expect("the e format always has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a small integer");
    let digits = mantissa.replace('.', "");
    let digits = digits.trim_end_matches('0');
    let sign = if value < 0.0 { "-" } else { "" };
    if exponent <= -5 || exponent >= DIGITS {
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{first}{point}{rest}E{exponent_sign}{:02}", exponent.unsigned_abs());
    }
    let shift = usize::try_from(exponent.unsigned_abs()).expect("an exponent below 400 fits");
    if exponent < 0 {
        return format!("{sign}0.{}{digits}", "0".repeat(shift - 1));
    }
    let whole = shift + 1;
    if digits.len() <= whole {
        return format!("{sign}{digits}{}", "0".repeat(whole - digits.len()));
    }
    let (whole, fraction) = digits.split_at(whole);
    format!("{sign}{whole}.{fraction}")
}

/// The JSON number nearest to the value: an integer when it is whole and exact, else null for what JSON lacks.
#[expect(clippy::cast_possible_truncation, reason = "the branch is taken only for whole numbers below 2^53")]
pub(super) fn to_json(value: f64) -> serde_json::Value {
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        serde_json::Value::from(value as i64)
    } else {
        serde_json::Value::from(value)
    }
}
