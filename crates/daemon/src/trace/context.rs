//! Which trace, which span: the `traceparent` of W3C Trace Context, version 00.

use std::fmt;
use std::str::FromStr;

/// A span's place among all spans of the world.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; not zero.
    pub trace: [u8; 16],
    /// The span; not zero.
    pub span: [u8; 8],
    /// Somebody records the trace.
    pub sampled: bool,
}

impl TraceContext {
    /// A new trace that is sampled.
    pub(super) fn random() -> Self {
        Self { trace: random(), span: random(), sampled: true }
    }

    /// Another span of the trace.
    pub(super) fn child(&self) -> Self {
        Self { span: random(), ..*self }
    }

    /// The same trace with a span of this id; zeros, which are no id, become another.
    #[must_use]
    pub fn with_span(&self, span: [u8; 8]) -> Self {
        Self { span: if span == [0; 8] { [1; 8] } else { span }, ..*self }
    }

    /// What a trace is sampled by: the random half of its id.
    pub(super) fn number(&self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.trace;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if getrandom::fill(&mut bytes).is_err() || bytes == [0; N] {
        bytes[N - 1] = 1;
    }
    bytes
}

/// The text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a `traceparent` of W3C Trace Context")]
pub struct NotATraceparent;

impl FromStr for TraceContext {
    type Err = NotATraceparent;

    fn from_str(text: &str) -> Result<Self, NotATraceparent> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next(), parts.next(), parts.next(), parts.next());
        let version = hex::<1>(version).ok_or(NotATraceparent)?;
        let context = Self {
            trace: hex(trace).ok_or(NotATraceparent)?,
            span: hex(span).ok_or(NotATraceparent)?,
            sampled: hex::<1>(flags).ok_or(NotATraceparent)?[0] & 1 == 1,
        };
        // Later versions may add parts; version 00 has none, and ff is none.
        let is_whole = version[0] != 0xff && (version[0] != 0 || parts.next().is_none());
        (is_whole && context.trace != [0; 16] && context.span != [0; 8]).then_some(context).ok_or(NotATraceparent)
    }
}

fn hex<const N: usize>(text: Option<&str>) -> Option<[u8; N]> {
    let text = text?.as_bytes();
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        *byte = digit(digits[0])? << 4 | digit(digits[1])?;
    }
    Some(bytes)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", u8::from(self.sampled))
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
