//! Where things stand in a source text.

/// A place in a source text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Byte offset, from 0.
    pub offset: usize,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A range of a source text; `end` is exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First character.
    pub start: Position,
    /// One past the last character.
    pub end: Position,
}

impl Span {
    /// The range from the start of `self` to the end of `other`.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end }
    }
}

/// The byte offset of each line start, to turn byte offsets into [`Position`]s.
#[derive(Clone, Debug)]
pub(crate) struct LineIndex<'a> {
    source: &'a str,
    starts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    pub(crate) fn new(source: &'a str) -> Self {
        // A byte order mark takes no column.
        let first = if source.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let starts = std::iter::once(first)
            .chain(source.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset + 1))
            .collect();
        Self { source, starts }
    }

    /// The place of a byte offset; one inside a character or past the end is moved back.
    pub(crate) fn position(&self, offset: usize) -> Position {
        let offset = self.source.floor_char_boundary(offset.min(self.source.len()));
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts[line - 1].min(offset);
        let column = self.source[start..offset].chars().count() + 1;
        Position { offset, line: narrow(line), column: narrow(column) }
    }

    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        Span { start: self.position(start), end: self.position(end.max(start)) }
    }

    /// The text of a line without its line break; `line` counts from 1.
    pub(crate) fn line(&self, line: u32) -> &'a str {
        let index = (line as usize).saturating_sub(1);
        let Some(start) = self.starts.get(index) else { return "" };
        let end = self.starts.get(index + 1).map_or(self.source.len(), |next| next - 1);
        let text = &self.source[*start..end.max(*start)];
        text.strip_suffix('\r').unwrap_or(text)
    }
}

pub(crate) fn narrow(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_count_from_one() {
        let index = LineIndex::new("é: ü\r\nb");
        assert_eq!(index.position(4), Position { offset: 4, line: 1, column: 4 });
        assert_eq!(index.position(8), Position { offset: 8, line: 2, column: 1 });
        assert_eq!(index.line(1), "é: ü");
        assert_eq!(index.line(2), "b");
        assert_eq!(index.position(1).offset, 0, "inside a character moves back");
        assert_eq!(index.position(99).offset, 9);
    }

    #[test]
    fn a_byte_order_mark_takes_no_column() {
        let index = LineIndex::new("\u{feff}a");
        assert_eq!(index.position(3).column, 1);
        assert_eq!(index.position(0).line, 1);
        assert_eq!(index.line(1), "a");
    }
}
