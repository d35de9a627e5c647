//! That something goes on while nothing is printed: a line that is written over on a terminal, now and then a line elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anstream::{eprint, eprintln};
use tokio::time::Instant;

use crate::render::style::{DIM, RESET, duration};

/// So long nothing is said of a silence on a terminal, and so often it is said anew.
const SHORT: Duration = Duration::from_secs(1);
/// The same where lines stay.
const LONG: Duration = Duration::from_secs(30);
/// What fits on a line of a small terminal.
const WIDTH: usize = 76;

/// How long nothing was printed.
pub(super) struct Silence {
    /// None where nothing is to be said.
    every: Option<Duration>,
    on_terminal: bool,
    since: Instant,
    next: Instant,
    /// A line stands on the terminal that is to be written over.
    drawn: bool,
}

impl Silence {
    pub(super) fn new(for_people: bool) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let every = for_people.then_some(if on_terminal { SHORT } else { LONG });
        let now = Instant::now();
        Self { every, on_terminal, since: now, next: now + every.unwrap_or(LONG), drawn: false }
    }

    /// When something is to be said; none if never.
    pub(super) fn until(&self) -> Option<Instant> {
        self.every.map(|_| self.next)
    }

    /// Something is about to be printed.
    pub(super) fn broken(&mut self) {
        if std::mem::take(&mut self.drawn) {
            eprint!("\x1b[K");
            let _ = std::io::stderr().flush();
        }
        self.since = Instant::now();
        self.next = self.since + self.every.unwrap_or(LONG);
    }

    /// Says what goes on.
    pub(super) fn tell(&mut self, what: &str) {
        let now = Instant::now();
        let Some(every) = self.every else { return };
        self.next = now + every;
        if what.is_empty() {
            return;
        }
        let mut line =
            format!("{what}, {} without output", duration(Duration::from_secs((now - self.since).as_secs())));
        if !self.on_terminal {
            eprintln!("{DIM}running{RESET}: {line}");
            return;
        }
        if line.chars().count() > WIDTH {
            line = line.chars().take(WIDTH - 1).chain(['…']).collect();
        }
        self.drawn = true;
        // The cursor stays at the line's beginning, so that whatever comes next is written over it.
        eprint!("{DIM}{line}{RESET}\x1b[K\r");
        let _ = std::io::stderr().flush();
    }
}
