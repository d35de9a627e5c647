//! Live lines of running jobs, from whoever brings them to whoever looks on.
//!
//! Lossy by design: a job's last lines are kept in memory up to a bound, for a reader that comes late or is slow; what it
//! missed is in the log. Nothing here is durable, and nothing waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use startline_protocol::ids::JobId;
use tokio::sync::watch;
use uuid::Uuid;

/// What is kept of a job's lines, in bytes.
const KEPT: usize = 256 << 10;

/// Some lines of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lines {
    pub attempt: u32,
    pub step_id: Option<Uuid>,
    /// The first one's place in the step's log, from 1.
    pub first_line: Option<u64>,
    pub lines: Vec<String>,
}

impl Lines {
    fn size(&self) -> usize {
        // With what a line takes besides its text, so that empty ones count.
        self.lines.iter().map(|line| line.len() + 32).sum::<usize>() + 64
    }
}

/// The live consoles of all jobs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Consoles(Arc<Mutex<HashMap<JobId, Console>>>);

#[derive(Debug, Default)]
struct Console {
    kept: VecDeque<Arc<Lines>>,
    bytes: usize,
    /// Number of the next message; those of `kept` come before it.
    next: watch::Sender<u64>,
    /// Speakers and listeners. The console goes with the last of them.
    members: usize,
}

impl Consoles {
    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Console>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, job: JobId) -> (Member, watch::Receiver<u64>) {
        let mut jobs = self.lock();
        let console = jobs.entry(job).or_default();
        console.members += 1;
        (Member { consoles: self.clone(), job }, console.next.subscribe())
    }

    /// Somebody who brings a job's lines. They are kept as long as it is there.
    pub(crate) fn speaker(&self, job: JobId) -> Speaker {
        Speaker { member: self.join(job).0 }
    }

    /// Somebody who looks on, beginning with what is kept.
    pub(crate) fn listener(&self, job: JobId) -> Listener {
        let (member, grown) = self.join(job);
        Listener { member, grown, next: 0 }
    }
}

/// Keeps a console open.
#[derive(Debug)]
struct Member {
    consoles: Consoles,
    job: JobId,
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut jobs = self.consoles.lock();
        if let Some(console) = jobs.get_mut(&self.job) {
            console.members -= 1;
            if console.members == 0 {
                jobs.remove(&self.job);
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Speaker {
    member: Member,
}

impl Speaker {
    pub(crate) fn say(&self, lines: Lines) {
        if lines.lines.is_empty() || lines.size() > KEPT {
            return;
        }
        let mut jobs = self.member.consoles.lock();
        let Some(console) = jobs.get_mut(&self.member.job) else { return };
        console.bytes += lines.size();
        console.kept.push_back(Arc::new(lines));
        while console.bytes > KEPT {
            let Some(old) = console.kept.pop_front() else { break };
            console.bytes -= old.size();
        }
        console.next.send_modify(|next| *next += 1);
    }
}

#[derive(Debug)]
pub(crate) struct Listener {
    member: Member,
    grown: watch::Receiver<u64>,
    /// The first message that it has not passed.
    next: u64,
}

impl Listener {
    /// The next lines; those that it was too slow for are left out. Cancel safe.
    pub(crate) async fn next(&mut self) -> Arc<Lines> {
        loop {
            if let Some(lines) = self.look() {
                return lines;
            }
            if self.grown.changed().await.is_err() {
                // Never: the console stays as long as this is a member of it.
                std::future::pending::<()>().await;
            }
        }
    }

    fn look(&mut self) -> Option<Arc<Lines>> {
        let jobs = self.member.consoles.lock();
        let console = jobs.get(&self.member.job)?;
        let end = *self.grown.borrow_and_update();
        let first = end - console.kept.len() as u64;
        let at = self.next.max(first);
        let lines = console.kept.get(usize::try_from(at - first).ok()?)?;
        self.next = at + 1;
        Some(Arc::clone(lines))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn lines(text: &str) -> Lines {
        Lines { attempt: 1, step_id: None, first_line: None, lines: vec![text.to_owned()] }
    }

    fn next(listener: &mut Listener) -> Option<String> {
        listener.next().now_or_never().map(|lines| lines.lines[0].chars().take(8).collect())
    }

    #[test]
    fn who_comes_late_sees_what_is_kept_and_who_is_slow_misses_the_oldest() {
        let consoles = Consoles::default();
        let speaker = consoles.speaker(JobId(1));
        speaker.say(lines("one"));
        let mut late = consoles.listener(JobId(1));
        assert_eq!((next(&mut late).as_deref(), next(&mut late)), (Some("one"), None));
        for number in 0..4 {
            speaker.say(lines(&format!("{number}{}", "x".repeat(100 << 10))));
        }
        assert_eq!(next(&mut late).as_deref(), Some("2xxxxxxx"), "two fit");
        assert_eq!(next(&mut late).as_deref(), Some("3xxxxxxx"));
        speaker.say(lines(&"x".repeat(KEPT)));
        assert_eq!(next(&mut late), None, "too large to be kept at all");
        assert!(consoles.lock()[&JobId(1)].bytes <= KEPT);
    }

    #[test]
    fn nothing_is_left_of_a_console_that_nobody_uses() {
        let consoles = Consoles::default();
        let (speaker, listener) = (consoles.speaker(JobId(1)), consoles.listener(JobId(1)));
        let mut other = consoles.listener(JobId(2));
        speaker.say(lines("one"));
        assert_eq!(next(&mut other), None, "of another job");
        drop(speaker);
        assert_eq!(consoles.lock().len(), 2);
        drop((listener, other));
        assert!(consoles.lock().is_empty());
    }
}
