use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;

#[test]
fn a_secret_comes_back_for_the_same_owner_only() {
    let key = SealingKey::generate();
    let envelope = key.seal(b"hunter2", b"repo/1/TOKEN");
    assert_eq!(key.open(&envelope, b"repo/1/TOKEN").unwrap(), b"hunter2");
    assert_eq!(key.open(&envelope, b"repo/2/TOKEN"), Err(SealError::Refused));
    assert!(!envelope.windows(7).any(|window| window == b"hunter2"));
}

#[test]
fn the_same_secret_is_never_sealed_to_the_same_bytes() {
    let key = SealingKey::generate();
    assert_ne!(key.seal(b"x", b""), key.seal(b"x", b""));
}

#[test]
fn every_changed_byte_is_noticed() {
    let key = SealingKey::generate();
    let envelope = key.seal(b"hunter2", b"");
    for at in 0..envelope.len() {
        let mut changed = envelope.clone();
        changed[at] ^= 1;
        let error = key.open(&changed, b"").unwrap_err();
        match at {
            0 => assert_eq!(error, SealError::Version { version: 0 }),
            1..HEADER => assert!(matches!(error, SealError::UnknownKey { .. }), "{at}: {error}"),
            _ => assert_eq!(error, SealError::Refused, "{at}"),
        }
    }
}

#[test]
fn a_header_cannot_be_moved_between_keys() {
    // The header is authenticated, not only used to find the key.
    let key = SealingKey::from_bytes(&[1; 32]);
    let nonce = [0; NONCE_LEN];
    let mut contents = b"x".to_vec();
    key.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(b"aad"), &mut contents).unwrap();
    let forged = [&[VERSION][..], &key.id.0, &nonce, &contents].concat();
    assert_eq!(key.open(&forged, b"aad"), Err(SealError::Refused));
}

#[test]
fn a_missing_key_is_named() {
    let (old, new) = (SealingKey::from_bytes(&[1; 32]), SealingKey::from_bytes(&[2; 32]));
    let envelope = old.seal(b"x", b"");
    let text = new.open(&envelope, b"").unwrap_err().to_string();
    assert_eq!(
        text,
        format!("secret is sealed with key {}, which is not among the loaded keys ({})", old.id(), new.id())
    );
}

#[test]
fn a_ring_seals_with_its_first_key_and_opens_with_all() {
    let old = SealingKey::from_bytes(&[1; 32]);
    let envelope = old.seal(b"x", b"a");
    let ring = KeyRing::new(SealingKey::from_bytes(&[2; 32]), [SealingKey::from_bytes(&[1; 32])]);
    assert_eq!(ring.open(&envelope, b"a").unwrap(), b"x");
    assert!(ring.is_outdated(&envelope));
    let sealed_anew = ring.seal(b"x", b"a");
    assert!(!ring.is_outdated(&sealed_anew));
    assert!(matches!(old.open(&sealed_anew, b"a"), Err(SealError::UnknownKey { .. })));
}

#[test]
fn a_key_file_of_several_lines_is_a_ring() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sealing.key");
    let first = KeyRing::load_or_create(&path).unwrap();
    let envelope = first.seal(b"x", b"a");

    let rotated = format!("{}{}", key_file::line(PURPOSE, &[9; 32]), fs::read_to_string(&path).unwrap());
    fs::write(&path, rotated).unwrap();
    let ring = KeyRing::load_or_create(&path).unwrap();
    assert_eq!(ring.current().id(), SealingKey::from_bytes(&[9; 32]).id());
    assert_eq!(ring.open(&envelope, b"a").unwrap(), b"x");
    assert_eq!(SealingKey::load_or_create(&path).unwrap().id(), ring.current().id());

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(KeyRing::load_or_create(&path), Err(KeyFileError::TooOpen { mode: 0o644, .. })));
}

#[test]
fn debug_does_not_print_the_key() {
    let key = SealingKey::from_bytes(&[0x41; 32]);
    assert_eq!(format!("{key:?}"), format!("SealingKey({})", key.id()));
}

proptest! {
    #[test]
    fn anything_can_be_sealed(plaintext: Vec<u8>, aad: Vec<u8>, key: [u8; 32]) {
        let key = SealingKey::from_bytes(&key);
        prop_assert_eq!(key.open(&key.seal(&plaintext, &aad), &aad).unwrap(), plaintext);
    }

    #[test]
    fn garbage_does_not_open(mut bytes: Vec<u8>, known_key: bool) {
        let key = SealingKey::from_bytes(&[3; 32]);
        if known_key {
            bytes.splice(..0, [&[VERSION][..], &key.id.0].concat());
        }
        prop_assert!(key.open(&bytes, b"").is_err());
    }
}
