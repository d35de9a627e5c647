use super::*;
use crate::span::LineIndex;

fn good(source: &str) -> Node {
    let (node, diagnostics) = parse(source);
    assert_eq!(diagnostics, vec![], "{source}");
    node.unwrap()
}

/// `line:column code` of each finding.
fn findings(source: &str) -> Vec<String> {
    let (node, diagnostics) = parse(source);
    assert_eq!(node.is_some(), diagnostics.iter().all(|finding| finding.code == "duplicate-key"));
    let place = |d: &Diagnostic| format!("{}:{} {}", d.span.start.line, d.span.start.column, d.code);
    diagnostics.iter().map(place).collect()
}

#[test]
fn plain_scalars_follow_the_core_schema() {
    let cases: &[(&str, Literal)] = &[
        ("on", Literal::String),
        ("yes", Literal::String),
        ("No", Literal::String),
        ("true", Literal::Bool(true)),
        ("TRUE", Literal::Bool(true)),
        ("tRue", Literal::String),
        ("~", Literal::Null),
        ("NULL", Literal::Null),
        ("''", Literal::String),
        ("'1'", Literal::String),
        ("\"true\"", Literal::String),
        ("12", Literal::Number(12.0)),
        ("-1.5e3", Literal::Number(-1500.0)),
        (".5", Literal::Number(0.5)),
        ("1.", Literal::Number(1.0)),
        ("0x1F", Literal::Number(31.0)),
        ("0o17", Literal::Number(15.0)),
        ("-.inf", Literal::Number(f64::NEG_INFINITY)),
        ("1_000", Literal::String),
        ("0x", Literal::String),
        ("1e", Literal::String),
        (".", Literal::String),
        ("inf", Literal::String),
        ("nan", Literal::String),
        ("1.2.3", Literal::String),
        ("!!str 1", Literal::String),
        ("!!int '1'", Literal::Number(1.0)),
        ("2001-01-01", Literal::String),
    ];
    for (text, expected) in cases {
        let node = good(&format!("a: {text}\n"));
        assert_eq!(node.get("a").unwrap().scalar().unwrap().literal, *expected, "{text}");
    }
    assert!(good("a:\n").get("a").unwrap().is_null());
    assert_eq!(good("a:\n").get("a").unwrap().text(), Some(""));
}

#[test]
fn nodes_know_line_column_and_offset() {
    let source = "é: ü\nlist:\n  - {b: [c]}\n  - d\nlast: x\n";
    let node = good(source);
    let list = node.get("list").unwrap();
    let inner = list.sequence().unwrap()[0].get("b").unwrap();
    assert_eq!((inner.span.start.line, inner.span.start.column), (3, 9));
    assert_eq!(&source[inner.span.start.offset..inner.span.end.offset], "[c]");
    assert_eq!(&source[list.span.start.offset..list.span.end.offset], "- {b: [c]}\n  - d");
    let umlaut = node.get("é").unwrap();
    assert_eq!((umlaut.span.start.column, umlaut.span.end.column), (4, 5));
}

#[test]
fn every_duplicate_key_is_reported_with_both_places() {
    let source = "a: 1\nA: 2\nb: {c: 1, c: 2}\na: 3\n";
    assert_eq!(findings(source), ["2:1 duplicate-key", "3:11 duplicate-key", "4:1 duplicate-key"]);
    let (_, diagnostics) = parse(source);
    assert_eq!(diagnostics[2].notes[0].span.unwrap().start.line, 1);
}

#[test]
fn an_anchor_that_refers_to_itself_is_an_error_with_both_places() {
    assert_eq!(findings("a: &x [*x]\nb: &y {k: {z: *y}}\n"), ["1:8 anchor-cycle", "2:15 anchor-cycle"]);
    let (_, diagnostics) = parse("a: &x [*x]\n");
    assert_eq!(diagnostics[0].notes[0].span.unwrap().start.column, 4);
    assert!(diagnostics[0].message.contains("`&x`"));
}

#[test]
fn aliases_are_expanded() {
    let node = good("a: &x {k: [1]}\nb: *x\nc: &s text\nd: [*s, *s]\n");
    assert_eq!(node.get("a").unwrap().kind, node.get("b").unwrap().kind);
    assert_eq!(node.get("d").unwrap().sequence().unwrap()[1].text(), Some("text"));
}

#[test]
fn a_billion_laughs_stops_at_the_budget() {
    let mut source = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for n in 1..12 {
        let list = vec![format!("*a{}", n - 1); 9].join(", ");
        source.push_str(&format!("a{n}: &a{n} [{list}]\n"));
    }
    let (node, diagnostics) = parse(&source);
    assert!(node.is_none());
    assert_eq!(diagnostics.iter().map(|d| d.code).collect::<Vec<_>>(), ["alias-budget"]);
}

#[test]
fn long_text_behind_an_alias_counts_against_the_budget() {
    let source = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), vec!["*a"; 50].join(", "));
    assert_eq!(parse(&source).1[0].code, "alias-budget");
}

#[test]
fn structural_mistakes_have_their_own_codes() {
    let cases: &[(&str, &[&str])] = &[
        ("", &["1:1 empty"]),
        ("# nothing\n", &["1:1 empty"]),
        ("a: 1\n---\nb: 2\n", &["2:1 multiple-documents"]),
        ("a: &k\n  b: 1\nc:\n  <<: *k\n", &["4:3 merge-key"]),
        ("a: *nowhere\nb: *nowhere\n", &["1:4 unknown-anchor"]),
        ("a:\n\t- b\n", &["2:1 yaml-tab"]),
        ("a:\n  b: 1\n\tc: 2\n", &["3:1 yaml-tab"]),
        ("a: [1\n", &["1:4 yaml-syntax"]),
        ("a: b: c\n", &["1:5 yaml-syntax"]),
        ("[a]: b\n", &["1:1 bad-key"]),
        ("a: 1\na: 2\nb: [\n", &["2:1 duplicate-key", "3:4 yaml-syntax"]),
        ("'<<': ok\n", &[]),
    ];
    for (source, expected) in cases {
        assert_eq!(findings(source), *expected, "{source:?}");
    }
}

#[test]
fn nesting_is_limited_also_through_aliases() {
    assert!(parse(&format!("{}{}", "[".repeat(50), "]".repeat(50))).0.is_some());
    assert_eq!(findings(&format!("{}{}", "[".repeat(51), "]".repeat(51))), ["1:51 too-deep"]);
    assert_eq!(findings(&"[".repeat(100_000)), ["1:256 too-deep"]);
    let half = format!("{}{}", "[".repeat(30), "]".repeat(30));
    let source = format!("a: &a {half}\nb: {}*a{}\n", "[".repeat(30), "]".repeat(30));
    assert_eq!(findings(&source), ["2:34 too-deep"]);
}

#[test]
fn a_file_over_the_limit_gets_one_message_that_names_it() {
    let (node, diagnostics) = parse(&"a: b\n".repeat(1_000_000));
    assert!(node.is_none());
    assert_eq!(diagnostics.len(), 1);
    assert_eq!(diagnostics[0].code, "too-large");
    assert!(diagnostics[0].message.contains("5000000") && diagnostics[0].message.contains("1048576"));
}

#[test]
fn a_part_of_a_scalar_is_found_in_the_source() {
    let cases = [
        ("a: one two\n", "two"),
        ("a: 'it''s a two x'\n", "two"),
        ("a: \"tab\\t\\u00e4 \\\"two\\\" x\"\n", "two"),
        ("a: |\n  line one\n\n    é two\n", "two"),
        ("a: >-\n  line\n  one\n  two\n", "two"),
        ("a: plain\n  folded\n  two\n", "two"),
        ("\u{feff}a: x two\r\n", "two"),
    ];
    for (source, needle) in cases {
        let node = good(source);
        let value = node.get("a").unwrap();
        let scalar = value.scalar().unwrap();
        let offset = scalar.text.find(needle).unwrap();
        let index = LineIndex::new(source);
        let found = scalar.locate(&index, source, value.span, offset, needle.len());
        assert_eq!(&source[found.start.offset..found.end.offset], needle, "{source:?}");
        let end = scalar.locate(&index, source, value.span, scalar.text.len(), 0);
        assert!(end.start >= found.end, "{source:?}");
    }
}
