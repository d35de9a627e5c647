use std::collections::HashSet;

use proptest::prelude::*;
use startline_protocol::token::TokenKind;

use super::*;

#[test]
fn a_new_token_has_the_prefix_of_its_kind_and_a_right_checksum() {
    let (api, registration, runner) = (new_api_token(), new_registration_token(), new_runner_token());
    for (text, kind) in [
        (api.expose(), TokenKind::Api),
        (registration.expose(), TokenKind::Registration),
        (runner.expose(), TokenKind::Runner),
    ] {
        assert_eq!(TokenKind::of(text), Some(kind));
        assert_eq!(text.len(), 4 + 43 + 6);
        assert!(text[4..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(is_well_formed(text));
    }
}

#[test]
fn tokens_do_not_repeat() {
    let tokens: HashSet<String> = (0..1000).map(|_| new_runner_token().expose().to_owned()).collect();
    assert_eq!(tokens.len(), 1000);
}

#[test]
fn a_mistyped_token_is_not_well_formed() {
    let token = new_api_token();
    let text = token.expose();
    assert!(!is_well_formed(&text[..text.len() - 1]));
    assert!(!is_well_formed(&format!("{text}0")));
    assert!(!is_well_formed(&text.replacen("slp_", "slr_", 1)), "the checksum covers the prefix");
    assert!(!is_well_formed(&text.replacen("slp_", "xyz_", 1)));
    for at in 4..text.len() {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        assert!(!is_well_formed(std::str::from_utf8(&bytes).unwrap()), "change at {at} went unnoticed");
    }
}

#[test]
fn the_hash_is_the_sha256_of_the_whole_text() {
    let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(hash("abc").to_string(), text);
    assert_eq!(text.parse(), Ok(TokenHash::of("abc")));
    assert_eq!(text.to_uppercase().parse(), Ok(TokenHash::of("abc")));
    assert_ne!(hash("abc"), hash("abd"));
}

#[test]
fn debug_shows_a_part_of_the_hash_only() {
    assert_eq!(format!("{:?}", hash("abc")), "TokenHash(ba7816bf…)");
}

#[test]
fn text_that_is_no_hash_is_refused() {
    for text in ["", "ba78", &"g".repeat(64), &"ä".repeat(32)] {
        assert_eq!(text.parse::<TokenHash>(), Err(NotAHash), "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_can_be_asked_about(text in "(slp_|slr_|slt_)?\\PC{0,60}") {
        prop_assert!(!is_well_formed(&text), "a checksum of 32 bits does not fit by chance");
        let _ = text.parse::<TokenHash>();
    }
}
