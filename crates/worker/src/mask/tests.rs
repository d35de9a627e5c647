use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

fn masker(secrets: &[&str]) -> Masker {
    let mut masker = Masker::default();
    for secret in secrets {
        masker.add(secret);
    }
    masker
}

#[test]
fn each_derived_form_of_a_secret_is_masked() {
    let secret = r#"p@ss "w'rd" <&>é"#;
    let masker = masker(&[secret]);
    for (form, text) in [
        ("plain", secret.to_owned()),
        ("command line", secret.replace('"', "\\\"")),
        ("expression", secret.replace('\'', "''")),
        ("shell", secret.replace('\'', "'\\''")),
        ("json", r#"p@ss \"w'rd\" <&>é"#.to_owned()),
        ("ascii json", r#"p@ss \"w'rd\" <&>\u00e9"#.to_owned()),
        ("uri", "p%40ss%20%22w%27rd%22%20%3C%26%3E%C3%A9".to_owned()),
        ("form", "p%40ss+%22w%27rd%22+%3C%26%3E%C3%A9".to_owned()),
        ("xml", "p@ss &quot;w&apos;rd&quot; &lt;&amp;&gt;é".to_owned()),
        ("base64", STANDARD.encode(secret)),
        ("hex", secret.bytes().map(|b| format!("{b:02x}")).collect()),
    ] {
        assert_eq!(masker.mask(&format!("[{text}]")), "[***]", "{form}");
    }
}

#[test]
fn base64_of_a_text_that_contains_a_secret_does_not_give_it_away() {
    let secret = "correct-horse-battery";
    let masker = masker(&[secret]);
    for prefix in ["", "u", "us", "user:"] {
        for suffix in ["", "\n", "@host", "xy"] {
            let encoded = STANDARD.encode(format!("{prefix}{secret}{suffix}"));
            let masked = masker.mask(&encoded);
            assert!(masked.contains(REPLACEMENT), "{prefix:?} {suffix:?}: {masked}");
            assert!(masked.len() <= 24, "only the edges are left: {masked}");
        }
    }
}

#[test]
fn lines_of_a_secret_are_masked_alone_and_blank_ones_ignored() {
    let masker = masker(&["  first line\r\n\n second \n"]);
    assert_eq!(masker.mask("a first line b second c"), "a *** b *** c");
    assert_eq!(masker.mask(" \n"), " \n");
}

#[test]
fn overlapping_and_adjacent_secrets_become_one_replacement() {
    let masker = masker(&["abcd", "cdef", "ghij"]);
    assert_eq!(masker.mask("abcdef"), "***");
    assert_eq!(masker.mask("abcdghij"), "***");
    assert_eq!(masker.mask("abcd ghij"), "*** ***");
    let repeated = {
        let mut masker = Masker::default();
        masker.add("aa");
        masker
    };
    assert_eq!(repeated.mask("aaa"), "***");
}

#[test]
fn sections_around_ampersands_and_trimmed_quotes_are_masked() {
    let masker = masker(&["secret1&secret2&secret3", "\"quoted value\""]);
    assert_eq!(masker.mask("secret1&secret2&"), "***");
    assert_eq!(masker.mask("secret3"), "***");
    assert_eq!(masker.mask("quoted value"), "***");
    let coloured = self::masker(&["part-one&+part-two"]);
    assert_eq!(coloured.mask("art-two"), "***");
}

#[test]
fn patterns_are_masked_with_their_own_text() {
    let mut masker = Masker::default();
    masker.add_pattern("tok_[a-z0-9]+").unwrap();
    assert_eq!(masker.mask("x tok_abc9 y tok_[a-z0-9]+"), "x *** y ***");
    assert!(masker.add_pattern("(").is_err());
}

#[test]
fn a_secret_of_one_character_is_masked() {
    assert_eq!(masker(&["é"]).mask("caf\u{e9}"), "caf***");
    assert_eq!(masker(&["x"]).mask("axb"), "a***b");
}

proptest! {
    #[test]
    fn no_secret_survives(secrets in prop::collection::vec("\\PC{1,20}", 1..4), noise in "\\PC{0,40}", at in 0usize..40) {
        let references: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let masker = masker(&references);
        let at = noise.char_indices().map(|(i, _)| i).nth(at).unwrap_or(noise.len());
        for secret in &secrets {
            let secret = secret.trim();
            // A secret made of asterisks is indistinguishable from a mask.
            if secret.is_empty() || secret.chars().all(|c| c == '*') {
                continue;
            }
            for form in encodings::all(secret).into_iter().filter(|form| !form.is_empty()) {
                let text = format!("{}{form}{}", &noise[..at], &noise[at..]);
                let shown: Vec<String> = masker.mask(&text).split(REPLACEMENT).map(str::to_owned).collect();
                prop_assert!(shown.iter().all(|part| !part.contains(secret)), "{text:?} shows {secret:?}");
            }
        }
    }
}
