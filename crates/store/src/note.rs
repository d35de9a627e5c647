//! A line of the audit log that is written in the step that it tells of.

use std::fmt;

use crate::NewAudit;

/// Makes the line of what a step did, or none: from what the step answers, on the writer's thread, so it must be quick.
pub struct Note<T>(Option<Line<T>>);

type Line<T> = Box<dyn FnOnce(&T) -> Option<NewAudit> + Send>;

impl<T> Note<T> {
    /// Makes the line.
    #[must_use]
    pub fn new(line: impl FnOnce(&T) -> Option<NewAudit> + Send + 'static) -> Self {
        Self(Some(Box::new(line)))
    }

    /// No line is wanted.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn line(self, done: &T) -> Option<NewAudit> {
        self.0.and_then(|line| line(done))
    }
}

impl<T> fmt::Debug for Note<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Note({})", if self.0.is_some() { "a line" } else { "none" })
    }
}
