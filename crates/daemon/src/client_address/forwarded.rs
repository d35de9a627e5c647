//! The two headers of proxies. A hop that is not an address (`unknown`, a pseudonym, nonsense) is none.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The hops of one line of `X-Forwarded-For`, the client's first.
pub(super) fn x_forwarded_for(line: &[u8]) -> Vec<Option<IpAddr>> {
    line.split(|byte| *byte == b',').map(|hop| address(std::str::from_utf8(hop).ok()?.trim_ascii())).collect()
}

/// The hops of one line of `Forwarded` (RFC 7239, 4), the client's first.
///
/// A line that does not follow the grammar to its end is one hop that is none: behind an open quote, nobody can tell
/// what the client wrote from what the proxy did.
pub(super) fn forwarded(line: &[u8]) -> Vec<Option<IpAddr>> {
    std::str::from_utf8(line).ok().and_then(elements).unwrap_or_else(|| vec![None])
}

fn elements(line: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut hops = Vec::new();
    let mut rest = line.trim_ascii_start();
    loop {
        let mut hop = None;
        loop {
            // No whitespace around `=` and `;`, by the grammar; around `;` it is seen nevertheless.
            let (name, after) = token(rest)?;
            let (value, after) = value(after.strip_prefix('=')?)?;
            if name.eq_ignore_ascii_case("for") && hop.replace(value).is_some() {
                return None;
            }
            rest = after.trim_ascii_start();
            match rest.strip_prefix(';') {
                Some(after) => rest = after.trim_ascii_start(),
                None => break,
            }
        }
        hops.push(hop.and_then(|hop| node(&hop)));
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_ascii_start(),
            None => return rest.is_empty().then_some(hops),
        }
    }
}

/// A token (RFC 9110, 5.6.2), which is not empty, and what follows it.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A token or a quoted string, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return token(text).map(|(value, rest)| (value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

/// The address of a node (RFC 7239, 6), in which an IPv6 address has brackets.
fn node(text: &str) -> Option<IpAddr> {
    // The parser of addresses takes IPv6 without brackets, but with a port that would be another address.
    if text.parse::<Ipv6Addr>().is_ok() { None } else { address(text) }
}

/// An address, perhaps with a port and, if it is IPv6, perhaps in brackets.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Some(bracketed) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return bracketed.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    text.parse::<SocketAddr>().ok().map(|address| address.ip())
}
