use proptest::prelude::*;

use super::*;

fn key() -> UrlKey {
    UrlKey::from_bytes(&[7; 32])
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pairs(query: &str) -> Vec<(&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap()).collect()
}

fn read(path: &str, query: &str) -> Result<Timestamp, UrlError> {
    key().verify(UrlAccess::Read, path, pairs(query), at(1_500))
}

#[test]
fn the_query_is_the_published_function_of_path_access_and_end() {
    // printf 'startline-url v1\nr\n2000\n/blobs/1' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…07
    let query = key().sign(UrlAccess::Read, "/blobs/1", at(2_000));
    assert_eq!(query, "se=2000&sp=r&sig=JdattQi5gtc6zbQA3D9a3dublT9CS__jvEMfDCl3qpk");
    assert_eq!(read("/blobs/1", &query), Ok(at(2_000)));
}

#[test]
fn parameters_of_the_client_change_nothing() {
    let query = key().sign(UrlAccess::Write, "/blobs/1", at(2_000));
    for query in [format!("{query}&comp=appendblock&seal=true"), format!("comp=block&blockid=QUJD&{query}&comp=")] {
        assert_eq!(key().verify(UrlAccess::Write, "/blobs/1", pairs(&query), at(1_500)), Ok(at(2_000)), "{query}");
    }
}

#[test]
fn an_address_is_good_for_its_path_access_end_and_key_alone() {
    let query = key().sign(UrlAccess::Read, "/blobs/1", at(2_000));
    for path in
        ["/blobs/2", "/blobs/1/", "/blobs/1/2", "/blobs/", "/Blobs/1", "/blobs/%31", "", "/blobs/1\n", "\n/blobs/1"]
    {
        assert_eq!(read(path, &query), Err(UrlError::Signature), "{path:?}");
    }
    let refused = |access, query: &str| key().verify(access, "/blobs/1", pairs(query), at(1_500)).unwrap_err();
    assert_eq!(refused(UrlAccess::Write, &query), UrlError::Signature);
    assert_eq!(refused(UrlAccess::Write, &query.replace("sp=r", "sp=w")), UrlError::Signature);
    assert_eq!(refused(UrlAccess::Read, &query.replace("sp=r", "sp=w")), UrlError::Signature);
    assert_eq!(refused(UrlAccess::Read, &query.replace("sp=r", "sp=rw")), UrlError::Signature);
    for end in ["2001", "+2000", "02000"] {
        assert_eq!(refused(UrlAccess::Read, &query.replace("2000", end)), UrlError::Signature, "{end}");
    }
    let foreign = UrlKey::generate().sign(UrlAccess::Read, "/blobs/1", at(2_000));
    assert_eq!(refused(UrlAccess::Read, &foreign), UrlError::Signature);
}

#[test]
fn a_path_cannot_take_the_place_of_an_end() {
    let query = key().sign(UrlAccess::Read, "3000\n/blobs/1", at(2_000));
    let moved = query.replace("se=2000", "se=2000\n3000");
    assert_eq!(read("/blobs/1", &moved), Err(UrlError::Parameter { parameter: "se" }));
}

#[test]
fn each_parameter_is_there_once_and_as_it_was_written() {
    let query = key().sign(UrlAccess::Read, "/blobs/1", at(2_000));
    for parameter in ["se", "sp", "sig"] {
        let error = Err(UrlError::Parameter { parameter });
        let without: Vec<_> = pairs(&query).into_iter().filter(|(name, _)| *name != parameter).collect();
        assert_eq!(key().verify(UrlAccess::Read, "/blobs/1", without, at(1_500)), error, "without {parameter}");
        assert_eq!(read("/blobs/1", &format!("{query}&{parameter}=1")), error, "{parameter} twice");
    }
    let none: [(&str, &str); 0] = [];
    assert!(key().verify(UrlAccess::Read, "/blobs/1", none, at(1_500)).is_err());
    for (parameter, text) in [
        ("se", "se=&sp=r&sig=AAAA"),
        ("se", "se=soon&sp=r&sig=AAAA"),
        ("se", "se=99999999999999999999&sp=r&sig=AAAA"),
        ("se", "se=9223372036854775807&sp=r&sig=AAAA"),
        ("sig", "se=2000&sp=r&sig=A"),
        ("sig", "se=2000&sp=r&sig=a/b+"),
    ] {
        assert_eq!(read("/blobs/1", text), Err(UrlError::Parameter { parameter }), "{text}");
    }
    for signature in ["", "AAAA"] {
        assert_eq!(read("/blobs/1", &format!("se=2000&sp=r&sig={signature}")), Err(UrlError::Signature));
    }
}

#[test]
fn expiry_is_measured_by_the_callers_clock() {
    let query = key().sign(UrlAccess::Read, "/blobs/1", at(2_000));
    let verify_at = |second| key().verify(UrlAccess::Read, "/blobs/1", pairs(&query), at(second));
    assert_eq!(verify_at(1_999), Ok(at(2_000)));
    assert_eq!(verify_at(2_000), Err(UrlError::Expired { at: at(2_000) }));
}

#[test]
fn addresses_of_a_replaced_key_live_to_their_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("url.key");
    let query = UrlKey::load_or_create(&path).unwrap().sign(UrlAccess::Write, "/a", at(2_000));
    let line = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, key_file::line(PURPOSE, &[7; 32]) + &line).unwrap();
    let both = UrlKey::load_or_create(&path).unwrap();
    assert!(both.verify(UrlAccess::Write, "/a", pairs(&query), at(1_500)).is_ok());
    assert_eq!(
        both.sign(UrlAccess::Read, "/a", at(9)),
        key().sign(UrlAccess::Read, "/a", at(9)),
        "the first key signs"
    );
    assert!(crate::PurposeKey::load_or_create(&path).is_err(), "a key serves one purpose");
}

#[test]
fn debug_does_not_print_the_key() {
    assert_eq!(format!("{:?}", key()), "UrlKey(…)");
}

proptest! {
    #[test]
    fn any_path_and_end_survive_the_journey(path: String, end in 1i64..1 << 36) {
        let query = key().sign(UrlAccess::Write, &path, at(end));
        prop_assert!(query.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"&=-_".contains(&byte)));
        prop_assert_eq!(key().verify(UrlAccess::Write, &path, pairs(&query), at(0)), Ok(at(end)));
    }

    #[test]
    fn any_pairs_are_refused_without_a_panic(
        query in proptest::collection::vec(("(se|sp|sig|comp|\\PC{0,3})", "\\PC{0,8}"), 0..6),
        end in "\\PC{0,8}|[-+0-9]{0,20}",
        letter in "[rw]|\\PC{0,2}",
        signature in "[A-Za-z0-9_-]{0,44}|\\PC{0,8}",
    ) {
        prop_assert!(key().verify(UrlAccess::Read, "/blobs/1", query, at(0)).is_err());
        let query = [("se", end), ("sp", letter), ("sig", signature)];
        prop_assert!(key().verify(UrlAccess::Read, "/blobs/1", query, at(0)).is_err());
    }

    #[test]
    fn one_flipped_bit_of_the_query_is_refused(position in 0usize..58, bit in 0u8..7) {
        let query = key().sign(UrlAccess::Read, "/blobs/1", at(2_000));
        let mut bytes = query.into_bytes();
        prop_assume!(position < bytes.len());
        bytes[position] ^= 1 << bit;
        let changed = String::from_utf8(bytes).unwrap();
        let pairs = changed.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        prop_assert!(key().verify(UrlAccess::Read, "/blobs/1", pairs, at(0)).is_err());
    }
}
