//! From when until when a certificate says that it is good.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The validity of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

/// The validity of the certificate in `der` (RFC 5280, 4.1); none if it is not to be found where it should be.
pub(super) fn of(der: &[u8]) -> Option<Validity> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (SEQUENCE, certificate, _) = element(der)? else { return None };
    let (SEQUENCE, mut fields, _) = element(certificate)? else { return None };
    if let (VERSION, _, rest) = element(fields)? {
        fields = rest;
    }
    // The serial number, the signature's algorithm and the issuer.
    for _ in 0..3 {
        (_, _, fields) = element(fields)?;
    }
    let (SEQUENCE, validity, _) = element(fields)? else { return None };
    let (tag, start, rest) = element(validity)?;
    let start = time(tag, start)?;
    let (tag, end, _) = element(rest)?;
    Some(Validity { start, end: time(tag, end)? })
}

/// Tag and contents of the first element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) {
            return None;
        }
        let (digits, rest) = rest.split_at_checked(count)?;
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

fn time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = text.split_at_checked(if tag == GENERALIZED_TIME { 4 } else { 2 })?;
    let year: i16 = year.parse().ok()?;
    let year = match tag {
        GENERALIZED_TIME => year,
        UTC_TIME if year < 50 => 2000 + year,
        UTC_TIME => 1900 + year,
        _ => return None,
    };
    let mut digits = rest.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok()?.parse::<i8>().ok());
    let mut next = || digits.next().flatten();
    let time = DateTime::new(year, next()?, next()?, next()?, next()?, next()?, 0).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn made(from: i32, until: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 3, 4), date_time_ymd(until, 12, 31));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        for (from, until) in [(1975, 2049), (2020, 2050), (2026, 4096)] {
            let validity = of(&made(from, until)).unwrap();
            assert_eq!(validity.start.to_string(), format!("{from}-03-04T00:00:00Z"));
            assert_eq!(validity.end.to_string(), format!("{until}-12-31T00:00:00Z"));
        }
    }

    #[test]
    fn what_is_cut_short_is_not_read_and_does_no_harm() {
        let der = made(2020, 2050);
        for length in 0..100 {
            assert_eq!(of(&der[..length]), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0_usize..150, byte: u8) {
            let _ = of(&bytes);
            let mut der = made(2020, 2050);
            der[at] = byte;
            let _ = of(&der);
        }
    }
}
