//! Identifiers: positive integers in the API, one newtype a kind, so that none can be taken for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
        #[cfg_attr(feature = "openapi", schemars(extend("minimum" = 0)))]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// A workflow run.
    RunId
);
id!(
    /// A job of a run; it keeps its id over all its attempts.
    JobId
);
id!(
    /// A runner registration.
    RunnerId
);
id!(
    /// The fencing number of one assignment of a job. Every offer of a job has a higher epoch than the one before;
    /// a write that quotes an older epoch is refused.
    Epoch
);

impl Epoch {
    /// The epoch of a job that was never offered.
    pub const ZERO: Self = Self(0);

    /// The epoch of the next offer.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
