//! Two texts compared line by line, as people read it.

/// Lines around a difference that are shown.
const CONTEXT: usize = 2;

/// The lines that differ (`-` expected, `+` found), with a few around them.
pub(super) fn lines(expected: &str, found: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    // Longest common subsequence from the end; snapshots are short.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] =
                if old[i] == new[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let mut marked = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            marked.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || common[i + 1][j] >= common[i][j + 1]) {
            marked.push(('-', old[i]));
            i += 1;
        } else {
            marked.push(('+', new[j]));
            j += 1;
        }
    }
    let near = |at: usize| {
        let around = marked.iter().take(at + CONTEXT + 1).skip(at.saturating_sub(CONTEXT));
        around.into_iter().any(|(mark, _)| *mark != ' ')
    };
    let shown = marked.iter().enumerate().filter(|(at, _)| near(*at));
    shown.map(|(_, (mark, line))| format!("{mark} {line}\n")).collect()
}

#[test]
fn a_changed_line_is_shown_between_its_neighbours() {
    assert_eq!(lines("a\nb\nc\nd\ne\n", "a\nb\nx\nd\ne\n"), "  a\n  b\n- c\n+ x\n  d\n  e\n");
    assert_eq!(lines("a\nb\nc\nd\n", "a\nb\nc\nd\ne\n"), "  c\n  d\n+ e\n");
}
