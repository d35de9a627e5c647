//! "Did you mean": the known name that is nearest to a wrong one.

use std::fmt::Write as _;

/// What to do about an unknown name: the nearest known one, else all of them.
pub(crate) fn remedy<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone, what: &str) -> String {
    if let Some(near) = nearest(name, known.clone()) {
        return format!("did you mean `{near}`?");
    }
    let mut text = format!("known {what}: ");
    let mut names = known.into_iter().peekable();
    if names.peek().is_none() {
        return format!("no {what} are known here");
    }
    for (position, name) in names.enumerate() {
        let _infallible = write!(text, "{}`{name}`", if position == 0 { "" } else { ", " });
    }
    text
}

/// The known name the fewest edits away, if it is near enough to be a slip.
///
/// A slip is up to a third of the letters; a name of one or two letters is near only to its own spelling in another
/// case.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: Vec<char> = name.to_lowercase().replace(['_', ' '], "-").chars().take(64).collect();
    let limit = (name.len() / 3).min(3);
    known
        .into_iter()
        .map(|candidate| {
            (distance(&name, &candidate.to_lowercase().replace('_', "-").chars().collect::<Vec<_>>()), candidate)
        })
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_proposed_only_when_it_is_near() {
        let known = ["runs-on", "steps", "needs", "name"];
        assert_eq!(nearest("runs_on", known), Some("runs-on"));
        assert_eq!(nearest("Step", known), Some("steps"));
        assert_eq!(nearest("nmae", known), Some("name"));
        assert_eq!(nearest("container", known), None);
        assert_eq!(nearest("f", ["a", "F"]), Some("F"));
        assert_eq!(nearest("f", ["a", "b"]), None);
        assert_eq!(remedy("zzz", known, "keys"), "known keys: `runs-on`, `steps`, `needs`, `name`");
    }
}
