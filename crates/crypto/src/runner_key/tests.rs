use std::sync::LazyLock;

use aws_lc_rs::rsa::{KeyPair, KeyPairComponents, PublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// A public key as .NET writes it; made with OpenSSL.
pub(crate) const XML: &str = "\
    <RSAKeyValue><Modulus>tNB1c9EEckn+cuEkkKIqvkOWCMk17GISctU9z9maBzgD7dOvsB/MzuTDE/AadYnpZ1Q1vX5k9jmQgcBMmg\
    QoSdVdjMUOOvNPY3B0iTOmCCxdE2mg2drghCqpcYbf8rghJwQtqbLAlWKknS8IKTANRUQY21kGIhpxlrUjdlmpbbuXE261WUd0vvomT5\
    VSV1s4gm9Gpfv7JLEcHEj3VlXcRUSj6c4tsPV1QrZ7E9ACkbMxoGbk+whM7tygUHPGmjy0ckeQvypQyjHg9hnFnFCCRezJAw0ivJABLI\
    GbG9p0RBlMHQTKCf2ZxdEUDcwOpWf8pWqH9zOmige8w+dzO8KJfQ==</Modulus><Exponent>AQAB</Exponent></RSAKeyValue>";

/// One pair for all tests of this process: making one costs much.
pub(crate) static PAIR: LazyLock<RunnerKeyPair> = LazyLock::new(RunnerKeyPair::generate);

/// The private key that a runner reads out of its `.credentials_rsaparams`. Inconsistent numbers are refused.
pub(crate) fn read_rsaparams(text: &str) -> KeyPair {
    let json: Value = serde_json::from_str(text).unwrap();
    let number = |name: &str| STANDARD.decode(json[name].as_str().unwrap()).unwrap();
    KeyPair::from_components(&KeyPairComponents {
        public_key: PublicKeyComponents { n: number("modulus"), e: number("exponent") },
        d: number("d"),
        p: number("p"),
        q: number("q"),
        dP: number("dp"),
        dQ: number("dq"),
        qInv: number("inverseQ"),
    })
    .unwrap()
}

fn xml(modulus: &[u8], exponent: &[u8]) -> String {
    let (modulus, exponent) = (STANDARD.encode(modulus), STANDARD.encode(exponent));
    format!("<RSAKeyValue><Modulus>{modulus}</Modulus><Exponent>{exponent}</Exponent></RSAKeyValue>")
}

/// A number of so many bits, odd.
fn odd(bits: usize) -> Vec<u8> {
    let mut bytes = vec![0; bits.div_ceil(8)];
    bytes[0] = 1 << ((bits - 1) % 8);
    *bytes.last_mut().unwrap() |= 1;
    bytes
}

#[test]
fn a_key_in_the_xml_of_dotnet_is_read() {
    let key = RunnerPublicKey::from_xml(XML).unwrap();
    assert_eq!(key.modulus().len(), 256);
    assert_eq!(key.exponent(), [1, 0, 1]);
    assert_eq!(xml(key.modulus(), key.exponent()), XML);
    // What `openssl rsa -RSAPublicKey_out -outform DER | sha256sum` begins with.
    assert_eq!(key.fingerprint(), "4f1ff8a493b4a484");
    assert_eq!(format!("{key:?}"), "RunnerPublicKey(2048 bits, 4f1ff8a493b4a484)");
}

#[test]
fn order_and_white_space_make_no_difference() {
    let key = RunnerPublicKey::from_xml(XML).unwrap();
    let (modulus, exponent) = (STANDARD.encode(key.modulus()), STANDARD.encode(key.exponent()));
    let folded = format!("{}\r\n   {}\n", &modulus[..76], &modulus[76..]);
    let text = format!(
        "\u{feff}<?xml version=\"1.0\"?>\n <RSAKeyValue>\r\n\t<Exponent >\n{exponent} </Exponent >\n<Modulus>{folded}</Modulus>\n\
         </RSAKeyValue>\n\n"
    );
    assert_eq!(RunnerPublicKey::from_xml(&text).unwrap(), key);
    assert_eq!(RunnerPublicKey::new(&[&[0, 0], key.modulus()].concat(), &[0, 1, 0, 1]).unwrap(), key, "leading zeros");
}

#[test]
fn what_is_not_a_public_key_is_refused_with_the_reason() {
    let part = |from: &str, to: &str| XML.replacen(from, to, 1);
    for (text, reason) in [
        (String::new(), "expected `<RSAKeyValue>`"),
        ("<RSAKeyValue/>".to_owned(), "expected `<RSAKeyValue>`"),
        ("<RSAKeyValue></RSAKeyValue>".to_owned(), "expected `<Modulus>`"),
        (part("<Exponent>AQAB</Exponent>", ""), "expected `<Exponent>`"),
        (part("<Exponent>", "<Exponent>AQAB</Exponent><Exponent>"), "expected each number once"),
        (part("</RSAKeyValue>", "<D>AQAB</D></RSAKeyValue>"), "expected `<Modulus>`, `<Exponent>` or"),
        (part("</RSAKeyValue>", ""), "expected `<Modulus>`, `<Exponent>` or"),
        (part("</RSAKeyValue>", "</RSAKeyValue><a>"), "expected nothing after"),
        (part("</Exponent>", "</Modulus>"), "expected `</Exponent>`"),
        (part("</Exponent></RSAKeyValue>", ""), "expected `</Exponent>`"),
        (part("<RSAKeyValue>", "<!DOCTYPE a [<!ENTITY b \"c\">]><RSAKeyValue>"), "expected `<RSAKeyValue>`"),
        (part("AQAB", "&b;="), "`<Exponent>` of the RSA key is not base64"),
        (part("AQAB", "AQAB="), "`<Exponent>` of the RSA key is not base64"),
        (part("AQAB", "AQ"), "`<Exponent>` of the RSA key is not base64"),
        (part("AQAB", &"A".repeat(4000)), "(at most 4096)"),
        (xml(&odd(2047), &[1, 0, 1]), "has 2047 bits (expected 2048 to 4096)"),
        (xml(&odd(1024), &[1, 0, 1]), "has 1024 bits"),
        (xml(&odd(4097), &[1, 0, 1]), "has 4097 bits"),
        (xml(&[], &[1, 0, 1]), "has 0 bits"),
        (xml(&[0x80].repeat(256), &[1, 0, 1]), "not odd"),
        (xml(&odd(2048), &[]), "exponent"),
        (xml(&odd(2048), &[0]), "exponent"),
        (xml(&odd(2048), &[1]), "exponent"),
        (xml(&odd(2048), &[4]), "exponent"),
        (xml(&odd(2048), &[1, 0, 0, 0, 1]), "exponent"),
    ] {
        let error = RunnerPublicKey::from_xml(&text).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    for (bits, exponent) in [(2048, &[3][..]), (2049, &[1, 0, 1]), (4096, &[0xff, 0xff, 0xff, 0xff])] {
        assert!(RunnerPublicKey::from_xml(&xml(&odd(bits), exponent)).is_ok(), "{bits} bits, {exponent:?}");
    }
}

#[test]
fn stored_bytes_are_read_back_and_nothing_else_is() {
    let key = RunnerPublicKey::from_xml(XML).unwrap();
    let bytes = key.to_bytes();
    assert_eq!(RunnerPublicKey::from_bytes(&bytes).unwrap(), key);
    for end in 0..bytes.len() {
        assert!(RunnerPublicKey::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
    }
    assert!(RunnerPublicKey::from_bytes(&[&bytes[..], &[0]].concat()).is_err(), "more behind it");
}

#[test]
fn the_eight_numbers_of_a_pair_are_a_key_and_have_the_lengths_that_dotnet_asks_for() {
    let text = PAIR.credentials_rsaparams();
    let json: Value = serde_json::from_str(&text).unwrap();
    let lengths: Vec<(&str, usize)> = json
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, digits)| (name.as_str(), STANDARD.decode(digits.as_str().unwrap()).unwrap().len()))
        .collect();
    let expected = [
        ("d", 256),
        ("dp", 128),
        ("dq", 128),
        ("exponent", 3),
        ("inverseQ", 128),
        ("modulus", 256),
        ("p", 128),
        ("q", 128),
    ];
    assert_eq!(lengths, expected);
    assert_eq!(json["exponent"], "AQAB");
    let key = read_rsaparams(&text);
    let public = aws_lc_rs::signature::KeyPair::public_key(&key).as_ref();
    assert_eq!(RunnerPublicKey::from_bytes(public).unwrap(), PAIR.public());
}

#[test]
fn every_pair_is_another() {
    assert_ne!(RunnerKeyPair::generate().public(), PAIR.public());
}

#[test]
fn a_pair_does_not_print_itself() {
    let text = format!("{:?}", *PAIR);
    assert_eq!(text, format!("RunnerKeyPair({}, …)", PAIR.public().fingerprint()));
}

proptest! {
    #[test]
    fn keys_of_any_size_survive_the_journey(
        bits in 2048usize..=4096, noise in proptest::collection::vec(any::<u8>(), 500), exponent in 1u32..,
    ) {
        let mut modulus = odd(bits);
        let end = modulus.len() - 1;
        for (byte, noise) in modulus[1..end].iter_mut().zip(noise) {
            *byte = noise;
        }
        let key = RunnerPublicKey::new(&modulus, &(exponent | 3).to_be_bytes()).unwrap();
        prop_assert_eq!(&RunnerPublicKey::from_bytes(&key.to_bytes()).unwrap(), &key);
        prop_assert_eq!(&RunnerPublicKey::from_xml(&xml(key.modulus(), key.exponent())).unwrap(), &key);
    }

    #[test]
    fn any_text_is_refused_without_a_panic(
        text in "\\PC{0,60}|(<|>|/|RSAKeyValue|Modulus|Exponent|<RSAKeyValue>|</?Modulus>|AQAB|=| |<\\?xml|\\?>|é){0,12}",
    ) {
        prop_assert!(RunnerPublicKey::from_xml(&text).is_err());
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
        prop_assert!(RunnerPublicKey::from_bytes(&bytes).is_err());
    }
}
