//! Lines that are shown before they are in the log.
//!
//! A step's lines are shown once and in order: from its live lines as long as they come without a gap, and whatever is
//! missing from the log when it comes.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

/// Lines that wait for those before them.
const MOST_WAITING: usize = 2000;
/// Runners cut longer lines of the live console, and end them so.
const CUT_AT: usize = 1024;
const CUT: &str = "...";

/// What was shown of each step, live and from the log.
#[derive(Debug, Default)]
pub(super) struct Live {
    steps: HashMap<Uuid, Shown>,
    /// Live lines that were not shown yet, in the order of arrival.
    waiting: VecDeque<(Uuid, u64, String)>,
}

/// How many lines, from the step's first one on.
#[derive(Clone, Copy, Debug, Default)]
struct Shown {
    live: u64,
    log: u64,
}

impl Live {
    /// Takes live lines; `first` is the place of the first one in its step, from 1.
    pub(super) fn hear(&mut self, step: Uuid, first: u64, lines: Vec<String>) {
        self.waiting.extend((first..).zip(lines).map(|(place, line)| (step, place, line)));
        while self.waiting.len() > MOST_WAITING {
            self.waiting.pop_front();
        }
    }

    /// Whose live lines wait, in the order of arrival.
    pub(super) fn speakers(&self) -> Vec<Uuid> {
        let mut speakers = Vec::new();
        for (step, ..) in &self.waiting {
            if !speakers.contains(step) {
                speakers.push(*step);
            }
        }
        speakers
    }

    /// What a step has to say, as far as it follows what was shown of it; the rest is dropped.
    pub(super) fn take(&mut self, step: Uuid) -> Vec<String> {
        let (own, others) = self.waiting.drain(..).partition::<VecDeque<_>, _>(|(of, ..)| *of == step);
        self.waiting = others;
        let shown = self.steps.entry(step).or_default();
        let mut lines = Vec::new();
        for (_, place, line) in own {
            let is_cut = line.ends_with(CUT) && line.chars().count() >= CUT_AT;
            if place == shown.live.max(shown.log) + 1 && !is_cut {
                shown.live = place;
                lines.push(line);
            }
        }
        lines
    }

    /// Counts the next line that the log has of a step; false if it was shown.
    pub(super) fn is_new(&mut self, step: Uuid) -> bool {
        let shown = self.steps.entry(step).or_default();
        shown.log += 1;
        shown.log > shown.live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Uuid = Uuid::from_u128(1);

    fn said(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn live_lines_end_at_a_gap_and_the_log_brings_the_rest() {
        let mut live = Live::default();
        live.hear(STEP, 1, said("a b"));
        live.hear(STEP, 4, said("d"));
        assert_eq!(live.take(STEP), ["a", "b"]);
        let new: Vec<bool> = (0..4).map(|_| live.is_new(STEP)).collect();
        assert_eq!(new, [false, false, true, true]);
        // Told again after a reconnection, and then what follows the log.
        live.hear(STEP, 4, said("d e"));
        assert_eq!(live.take(STEP), ["e"]);
    }

    #[test]
    fn a_line_that_was_cut_waits_for_the_log() {
        let mut live = Live::default();
        live.hear(STEP, 1, vec![format!("{}...", "x".repeat(1024)), "b".to_owned()]);
        assert!(live.take(STEP).is_empty());
        assert!(live.is_new(STEP));
    }

    #[test]
    fn steps_speak_in_the_order_of_arrival_and_the_oldest_lines_go() {
        let mut live = Live::default();
        let other = Uuid::from_u128(2);
        live.hear(other, 1, said("a"));
        live.hear(STEP, 1, said("b"));
        assert_eq!(live.speakers(), [other, STEP]);
        live.hear(STEP, 2, vec!["c".to_owned(); MOST_WAITING]);
        assert_eq!(live.speakers(), [STEP]);
        assert!(live.take(STEP).is_empty(), "the first one is gone");
    }
}
