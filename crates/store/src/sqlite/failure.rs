//! How a step fails inside.

use crate::Error;

/// A step was refused by the rules, or the engine failed.
#[derive(Debug)]
pub(super) enum Failure {
    Refused(Error),
    Engine(rusqlite::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(error)
    }
}

impl Failure {
    /// What the caller is told.
    pub(super) fn during(self, operation: &'static str) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Engine(error) => engine(operation, &error),
        }
    }
}

pub(super) fn engine(operation: &'static str, error: &impl ToString) -> Error {
    Error::Engine { operation, message: error.to_string() }
}
