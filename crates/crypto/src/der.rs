//! The little of DER that RSA keys are written in: sequences, non-negative integers and octet strings.
//!
//! The reader is strict (shortest lengths, shortest integers, nothing left over) and reads only what this process or a
//! key file of its own wrote; what arrives from the network is never DER.

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// Reads elements from the front of what is left.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The contents of the sequence that comes next.
    pub(crate) fn sequence(&mut self) -> Option<Self> {
        self.element(SEQUENCE).map(Self)
    }

    /// The octet string that comes next.
    pub(crate) fn octets(&mut self) -> Option<Self> {
        self.element(OCTET_STRING).map(Self)
    }

    /// The non-negative integer that comes next: big-endian without leading zeros, so that zero is empty.
    pub(crate) fn integer(&mut self) -> Option<&'a [u8]> {
        match self.element(INTEGER)? {
            [0] => Some(&[]),
            [0, rest @ ..] if rest[0] & 0x80 != 0 => Some(rest),
            bytes @ [first, ..] if *first != 0 && first & 0x80 == 0 => Some(bytes),
            _ => None,
        }
    }

    /// That nothing is left.
    pub(crate) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    fn element(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_first_chunk::<2>()?;
        if head[0] != tag {
            return None;
        }
        let (length, rest) = match head[1] {
            0x82 => {
                let (bytes, rest) = rest.split_first_chunk::<2>()?;
                (Some(usize::from(u16::from_be_bytes(*bytes))).filter(|length| *length >= 0x100)?, rest)
            }
            0x81 => {
                let (byte, rest) = rest.split_first()?;
                (Some(usize::from(*byte)).filter(|length| *length >= 0x80)?, rest)
            }
            short if short < 0x80 => (usize::from(short), rest),
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(contents)
    }
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017, appendix A.1.1), big-endian without leading zeros.
pub(crate) fn rsa_public_key(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut outer = Reader::new(bytes);
    let mut inner = outer.sequence()?;
    let numbers = (inner.integer()?, inner.integer()?);
    inner.end()?;
    outer.end()?;
    Some(numbers)
}

/// The sequence of these elements.
pub(crate) fn sequence(elements: &[Vec<u8>]) -> Vec<u8> {
    element(SEQUENCE, &elements.concat())
}

/// The integer with these big-endian bytes, which do not begin with a zero.
pub(crate) fn integer(bytes: &[u8]) -> Vec<u8> {
    if bytes.first().is_none_or(|first| first & 0x80 != 0) {
        element(INTEGER, &[&[0], bytes].concat())
    } else {
        element(INTEGER, bytes)
    }
}

fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len()).expect("an RSA key has a few thousand bytes");
    let [high, low] = length.to_be_bytes();
    let mut bytes = match (high, low) {
        (0, 0..0x80) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    bytes.extend_from_slice(contents);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_shortest_spelling_is_read() {
        for (bytes, what) in [
            (&[0x02, 0x81, 0x01, 0x05][..], "a long length for a short one"),
            (&[0x02, 0x82, 0x00, 0x80], "two bytes where one suffices"),
            (&[0x02, 0x02, 0x00, 0x05], "a leading zero"),
            (&[0x02, 0x01, 0x85], "a negative number"),
            (&[0x02, 0x00], "no digits"),
            (&[0x02, 0x80, 0x05, 0x00, 0x00], "an indefinite length"),
            (&[0x02, 0x02, 0x05], "fewer bytes than announced"),
            (&[0x04, 0x01, 0x05], "another type"),
            (&[0x02], "a tag alone"),
        ] {
            assert_eq!(Reader::new(bytes).integer(), None, "{what}");
        }
        assert_eq!(Reader::new(&[0x02, 0x01, 0x05]).integer(), Some(&[5][..]));
        assert_eq!(Reader::new(&[0x02, 0x02, 0x00, 0x85]).integer(), Some(&[0x85][..]));
        assert!(Reader::new(&[0]).end().is_none());
    }

    proptest! {
        #[test]
        fn integers_survive_the_journey(mut numbers: Vec<Vec<u8>>) {
            for number in &mut numbers {
                *number = number.iter().copied().skip_while(|byte| *byte == 0).collect();
            }
            let text = sequence(&numbers.iter().map(|number| integer(number)).collect::<Vec<_>>());
            let mut outer = Reader::new(&text);
            let mut inner = outer.sequence().unwrap();
            for number in &numbers {
                prop_assert_eq!(inner.integer(), Some(&number[..]));
            }
            prop_assert!(inner.end().is_some() && outer.end().is_some());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            let _ = reader.sequence().and_then(|mut inner| inner.octets().and_then(|mut octets| octets.integer().map(drop)));
        }
    }
}
