//! What a job leaves for people besides its log, within bounds.

use std::collections::HashMap;

use startline_protocol::step::{Annotation, AnnotationLevel};

/// Per step and level, as on GitHub (actions/runner `Runner.Worker/ExecutionContext.cs`).
const MOST: u32 = 10;

/// Longest message in characters (same file).
const LONGEST: usize = 4096;

/// All messages together, so that the completion stays within the size that the service takes.
const MOST_BYTES: usize = 256 * 1024;

/// The annotations of a job.
#[derive(Default)]
pub(crate) struct Annotations {
    list: Vec<Annotation>,
    counts: HashMap<(Option<u32>, u8), u32>,
    bytes: usize,
}

/// Where an annotation points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) title: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) start_line: Option<u32>,
    pub(crate) end_line: Option<u32>,
    pub(crate) start_column: Option<u32>,
    pub(crate) end_column: Option<u32>,
}

impl Annotations {
    /// Keeps an annotation, unless its step has enough of them. All texts are masked already.
    pub(crate) fn add(&mut self, level: AnnotationLevel, message: &str, place: Place, step: Option<u32>) {
        let count = self.counts.entry((step, level as u8)).or_default();
        if *count >= MOST || self.bytes >= MOST_BYTES {
            return;
        }
        *count += 1;
        let message: String = message.trim_end().chars().take(LONGEST).collect();
        self.bytes += message.len();
        self.list.push(Annotation {
            level,
            message,
            title: place.title,
            path: place.path,
            start_line: place.start_line,
            end_line: place.end_line,
            start_column: place.start_column,
            end_column: place.end_column,
            step_number: step,
        });
    }

    pub(crate) fn into_list(self) -> Vec<Annotation> {
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_of_each_level_are_kept_for_each_step_and_long_ones_cut() {
        let mut annotations = Annotations::default();
        for step in [Some(1), Some(2)] {
            for number in 0..12 {
                for level in [AnnotationLevel::Warning, AnnotationLevel::Failure] {
                    annotations.add(level, &format!("{number}"), Place::default(), step);
                }
            }
        }
        annotations.add(AnnotationLevel::Notice, &"é".repeat(5000), Place::default(), None);
        let list = annotations.into_list();
        assert_eq!(list.len(), 41);
        assert!(list.iter().all(|annotation| annotation.message != "10"));
        assert_eq!(list.last().unwrap().message.chars().count(), 4096);
    }

    #[test]
    fn all_together_are_bounded() {
        let mut annotations = Annotations::default();
        for step in 0..1000 {
            annotations.add(AnnotationLevel::Notice, &"x".repeat(4096), Place::default(), Some(step));
        }
        assert!(annotations.into_list().len() * 4096 <= MOST_BYTES + 4096);
    }
}
