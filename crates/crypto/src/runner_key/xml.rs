//! Reads `<RSAKeyValue>`: the one document that .NET writes for a public key, not XML at large.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::RunnerKeyError;

/// Longest text looked at. A key of 4096 bits has 740 bytes as .NET writes it.
const MAX_LENGTH: usize = 4096;

/// Modulus and exponent, as they stand there.
pub(super) fn read(text: &str) -> Result<(Vec<u8>, Vec<u8>), RunnerKeyError> {
    if text.len() > MAX_LENGTH {
        return Err(RunnerKeyError::TooLong { length: text.len(), limit: MAX_LENGTH });
    }
    let expected = |expected| RunnerKeyError::Xml { expected };
    let mut rest = text.trim_start_matches('\u{feff}').trim_start();
    if let Some(declaration) = rest.strip_prefix("<?xml") {
        rest = declaration.split_once("?>").ok_or_else(|| expected("`?>`"))?.1.trim_start();
    }
    rest = tag(rest, "RSAKeyValue").ok_or_else(|| expected("`<RSAKeyValue>`"))?;
    let (mut modulus, mut exponent) = (None, None);
    loop {
        rest = rest.trim_start();
        if let Some(end) = tag(rest, "/RSAKeyValue") {
            if !end.trim().is_empty() {
                return Err(expected("nothing after `</RSAKeyValue>`"));
            }
            break;
        } else if let Some(contents) = tag(rest, "Modulus") {
            rest = number(contents, "Modulus", "`</Modulus>`", &mut modulus)?;
        } else if let Some(contents) = tag(rest, "Exponent") {
            rest = number(contents, "Exponent", "`</Exponent>`", &mut exponent)?;
        } else {
            return Err(expected("`<Modulus>`, `<Exponent>` or `</RSAKeyValue>`"));
        }
    }
    Ok((modulus.ok_or_else(|| expected("`<Modulus>`"))?, exponent.ok_or_else(|| expected("`<Exponent>`"))?))
}

/// What follows the tag `<name>`, if that comes first.
fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.strip_prefix('<')?.strip_prefix(name)?.trim_start().strip_prefix('>')
}

/// Puts the number in front of the end tag into `place`, which must be free; answers what follows.
fn number<'a>(
    contents: &'a str,
    element: &'static str,
    end: &'static str,
    place: &mut Option<Vec<u8>>,
) -> Result<&'a str, RunnerKeyError> {
    if place.is_some() {
        return Err(RunnerKeyError::Xml { expected: "each number once" });
    }
    let (digits, rest) = contents.split_at(contents.find('<').ok_or(RunnerKeyError::Xml { expected: end })?);
    let rest = rest.strip_prefix("</").and_then(|rest| tag_end(rest, element));
    let rest = rest.ok_or(RunnerKeyError::Xml { expected: end })?;
    let digits: String = digits.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
    *place = Some(STANDARD.decode(digits).map_err(|_| RunnerKeyError::Base64 { element })?);
    Ok(rest)
}

fn tag_end<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.strip_prefix(name)?.trim_start().strip_prefix('>')
}
