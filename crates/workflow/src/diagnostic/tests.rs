use super::*;
use crate::span::LineIndex;

fn span(source: &str, needle: &str) -> Span {
    let start = source.find(needle).unwrap();
    LineIndex::new(source).span(start, start + needle.len())
}

#[test]
fn shows_place_line_underline_note_and_remedy() {
    let source = "name: a\njobs: {}\nname: b\n";
    let second = LineIndex::new(source).span(17, 21);
    let text = Diagnostic::error("duplicate-key", second, "key `name` is defined twice")
        .note_at(span(source, "name"), "first defined here")
        .remedy("remove one of the two")
        .render(source, "ci.yml", false);
    insta::assert_snapshot!(text, @r"
    error[duplicate-key]: key `name` is defined twice
     --> ci.yml:3:1
      |
    3 | name: b
      | ^^^^
      = note: first defined here
     --> ci.yml:1:1
      |
    1 | name: a
      | ^^^^
      = help: remove one of the two
    ");
}

#[test]
fn control_characters_of_the_source_do_not_reach_the_terminal() {
    let source = "a: \u{1b}[31mred\u{202e}\n";
    let text = Diagnostic::error("x", span(source, "red"), "bad \u{7}").render(source, "a\u{1b}.yml", false);
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}') && !text.contains('\u{202e}'), "{text}");
    assert!(text.contains("\\u{1b}[31mred\\u{202e}"), "{text}");
    let line = text.lines().find(|line| line.contains("red")).unwrap();
    let marks = text.lines().find(|line| line.contains("^^^")).unwrap();
    assert_eq!(line.find("red"), marks.find("^^^"));
}

#[test]
fn a_long_line_is_cut_around_the_place() {
    let source = format!("{}needle{}", "x".repeat(5000), "y".repeat(5000));
    let text = Diagnostic::error("x", span(&source, "needle"), "m").render(&source, "f", false);
    assert!(text.len() < 600, "{}", text.len());
    assert!(text.contains("needle") && text.contains("^^^^^^"));
}

#[test]
fn colour_is_only_used_when_asked_for() {
    let source = "a: b\n";
    let diagnostic = Diagnostic::warning("w", span(source, "b"), "m");
    assert!(diagnostic.render(source, "f", true).contains("\u{1b}[1;33mwarning[w]"));
    assert!(!diagnostic.render(source, "f", false).contains('\u{1b}'));
}

#[test]
fn findings_are_sorted_deduplicated_and_capped() {
    let source = "x\n".repeat(500);
    let index = LineIndex::new(&source);
    let mut all: Vec<Diagnostic> =
        (0..300).rev().map(|n| Diagnostic::error("e", index.span(n * 2, n * 2 + 1), "m")).collect();
    all.push(all[299].clone());
    let finished = finish(all);
    assert_eq!(finished.len(), MAX_DIAGNOSTICS);
    assert!(finished.windows(2).all(|pair| pair[0].span.start < pair[1].span.start));
    assert_eq!(finished[99].notes[0].message, "200 further findings are not shown");
}
