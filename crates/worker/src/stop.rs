//! Why and how hard a job is to stop.

use tokio::sync::watch;

/// How far stopping goes; each is stronger than the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Not at all.
    #[default]
    Not,
    /// As GitHub cancels a job: steps that ask for it still run.
    Cancel {
        /// Shown in the log.
        reason: String,
        /// The job ran into its time limit.
        timed_out: bool,
    },
    /// The time for steps that still wanted to run is over: nothing runs any more, but the end is reported.
    Now,
    /// Nobody wants to hear of the job: everything is killed and nothing reported.
    Abandon,
}

impl Stop {
    const fn strength(&self) -> u8 {
        match self {
            Self::Not => 0,
            Self::Cancel { .. } => 1,
            Self::Now => 2,
            Self::Abandon => 3,
        }
    }

    /// Whether steps run as in a cancelled job, or not at all.
    pub(crate) const fn is_cancelled(&self) -> bool {
        self.strength() > 0
    }

    /// Whether nothing may run any more.
    pub(crate) const fn is_final(&self) -> bool {
        self.strength() > 1
    }
}

/// Makes the stop at least `stop`; a weaker or equal one changes nothing.
pub(crate) fn raise(sender: &watch::Sender<Stop>, stop: Stop) {
    sender.send_if_modified(|current| {
        let stronger = stop.strength() > current.strength();
        if stronger {
            *current = stop;
        }
        stronger
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_only_grows() {
        let (sender, receiver) = watch::channel(Stop::Not);
        let cancel = |reason: &str| Stop::Cancel { reason: reason.to_owned(), timed_out: false };
        raise(&sender, cancel("first"));
        raise(&sender, cancel("second"));
        assert_eq!(*receiver.borrow(), cancel("first"));
        raise(&sender, Stop::Abandon);
        raise(&sender, Stop::Now);
        assert_eq!(*receiver.borrow(), Stop::Abandon);
    }
}
