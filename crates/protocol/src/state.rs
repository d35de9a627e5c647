//! The states of runs, jobs and runners, spelled as the API spells them.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! spelled {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The value that `text` spells, if any.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.pad(self.as_str()) }
        }
    };
}

pub(crate) use spelled;

spelled!(
    /// Where a job stands.
    JobStatus {
        /// Created, but held back (for example by `max-parallel`).
        Waiting => "waiting",
        /// In the dispatcher's queue.
        Queued => "queued",
        /// Offered to a runner that has not acquired it yet.
        Offered => "offered",
        /// Acquired; somebody holds its lease.
        Running => "running",
        /// Has a conclusion.
        Completed => "completed",
    }
);
spelled!(
    /// How a run, a job or a step ended.
    Conclusion {
        /// It did what it should.
        Success => "success",
        /// It did not.
        Failure => "failure",
        /// Somebody or something stopped it.
        Cancelled => "cancelled",
        /// Its condition was false.
        Skipped => "skipped",
    }
);
spelled!(
    /// Where a run stands.
    RunStatus {
        /// No job has started.
        Queued => "queued",
        /// At least one job has started.
        Running => "running",
        /// Has a conclusion.
        Completed => "completed",
    }
);
spelled!(
    /// How a claim on a concurrency group stands.
    ClaimState {
        /// In the line.
        Waiting => "waiting",
        /// Has the group.
        Granted => "granted",
        /// Waited, and another one waits in its place.
        Displaced => "displaced",
        /// Has the group and must end, because another one wants it.
        Overtaken => "overtaken",
    }
);
spelled!(
    /// Where a step stands.
    StepStatus {
        /// Not begun.
        Pending => "pending",
        /// Being executed.
        Running => "running",
        /// Has a conclusion.
        Completed => "completed",
    }
);
spelled!(
    /// What a runner is doing, as it says itself or as the service concludes.
    RunnerStatus {
        /// Seen lately, with a free slot.
        Online => "online",
        /// All its slots hold jobs.
        Busy => "busy",
        /// Finishes what it has and takes nothing new.
        Draining => "draining",
        /// Not seen for longer than the time-out.
        Offline => "offline",
    }
);
