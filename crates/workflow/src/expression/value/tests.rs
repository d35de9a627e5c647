use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;

#[test]
fn numbers_print_as_dotnet_g15_prints_them() {
    let table: &[(f64, &str)] = &[
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (0.1, "0.1"),
        (0.1 + 0.2, "0.3"),
        (1.0 / 3.0, "0.333333333333333"),
        (2.0 / 3.0, "0.666666666666667"),
        (100.0, "100"),
        (123_456.789, "123456.789"),
        (0.0001, "0.0001"),
        (0.000_123_4, "0.0001234"),
        (0.000_01, "1E-05"),
        (0.000_012_5, "1.25E-05"),
        (123_456_789_012_345.0, "123456789012345"),
        (999_999_999_999_999.0, "999999999999999"),
        (1e15, "1E+15"),
        (9_999_999_999_999_999.0, "1E+16"),
        (1_234_567_890_123_456.0, "1.23456789012346E+15"),
        (1_234_567_890_123.125, "1234567890123.12"),
        (1e21, "1E+21"),
        (-1e100, "-1E+100"),
        (5e-324, "4.94065645841247E-324"),
        (f64::MAX, "1.79769313486232E+308"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
    ];
    for (value, text) in table {
        assert_eq!(Value::Number(*value).to_text(), *text);
    }
}

#[test]
fn text_reads_as_a_number_where_it_is_one() {
    let table: &[(&str, f64)] = &[
        ("", 0.0),
        ("  ", 0.0),
        ("1", 1.0),
        (" \t1.5\n", 1.5),
        ("+1", 1.0),
        ("-1", -1.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("1E-2", 0.01),
        ("1e400", f64::INFINITY),
        ("0x1F", 31.0),
        ("0xFFFFFFFF", -1.0),
        ("0x00000000001", 1.0),
        ("0o17", 15.0),
        ("0o37777777777", -1.0),
        ("010", 10.0),
        ("Infinity", f64::INFINITY),
        ("-Infinity", f64::NEG_INFINITY),
        ("+infinity", f64::INFINITY),
    ];
    for (text, number) in table {
        assert_eq!(Value::from(*text).to_number(), *number, "{text:?}");
    }
    for text in [
        "a",
        ".",
        "-",
        "1e",
        "1 2",
        "0x",
        "0xg",
        "0X1",
        "-0x1",
        "0o8",
        "0x100000000",
        "inf",
        "nan",
        "NaN",
        "1_0",
        "1,0",
    ] {
        assert!(Value::from(text).to_number().is_nan(), "{text:?}");
    }
}

#[test]
fn primitives_convert_to_numbers_and_text() {
    assert_eq!(Value::Null.to_number(), 0.0);
    assert_eq!(Value::Bool(true).to_number(), 1.0);
    assert_eq!(Value::Bool(false).to_number(), 0.0);
    assert!(Value::array(vec![]).to_number().is_nan());
    assert!(Value::from(Object::new()).to_number().is_nan());
    assert_eq!(Value::Null.to_text(), "");
    assert_eq!(Value::Bool(true).to_text(), "true");
    assert_eq!(Value::Bool(false).to_text(), "false");
    assert_eq!(Value::array(vec![Value::Null]).to_text(), "Array");
    assert_eq!(Value::from(Object::new()).to_text(), "Object");
}

#[test]
fn only_six_values_are_falsy() {
    for value in [Value::Null, false.into(), 0.0.into(), (-0.0).into(), f64::NAN.into(), "".into()] {
        assert!(!value.truthy(), "{value:?}");
    }
    for value in [true.into(), 1.0.into(), "0".into(), "false".into(), Value::array(vec![]), Object::new().into()] {
        assert!(value.truthy(), "{value:?}");
    }
}

#[test]
fn kinds_that_differ_are_compared_as_numbers() {
    let equal: &[(Value, Value)] = &[
        (Value::Null, 0.0.into()),
        (Value::Null, "".into()),
        (Value::Null, false.into()),
        (true.into(), 1.0.into()),
        (true.into(), "1".into()),
        ("0x10".into(), 16.0.into()),
        ("ABC".into(), "abc".into()),
        ("ÄÖ".into(), "äö".into()),
        ("\u{212a}".into(), "\u{212a}".into()),
    ];
    for (left, right) in equal {
        assert!(left.loose_eq(right) && right.loose_eq(left), "{left:?} {right:?}");
    }
    let different: &[(Value, Value)] = &[
        (true.into(), "true".into()),
        (f64::NAN.into(), f64::NAN.into()),
        ("a".into(), 0.0.into()),
        ("straße".into(), "STRASSE".into()),
        ("é".into(), "e".into()),
        ("\u{131}".into(), "I".into()),
        ("ab".into(), "a".into()),
        (Value::array(vec![]), Value::array(vec![])),
        (Value::array(vec![]), "Array".into()),
        (Object::new().into(), Value::Null),
    ];
    for (left, right) in different {
        assert!(!left.loose_eq(right) && !right.loose_eq(left), "{left:?} {right:?}");
    }
    let same = Value::array(vec![]);
    assert!(same.loose_eq(&same.clone()), "a collection equals itself");
}

#[test]
fn order_exists_between_comparable_values_only() {
    assert_eq!(Value::from("a").loose_cmp(&"B".into()), Some(Ordering::Less));
    assert_eq!(Value::from("_").loose_cmp(&"a".into()), Some(Ordering::Greater), "letters compare in upper case");
    assert_eq!(Value::from("10").loose_cmp(&9.0.into()), Some(Ordering::Greater));
    assert_eq!(Value::from(false).loose_cmp(&true.into()), Some(Ordering::Less));
    assert_eq!(Value::Null.loose_cmp(&1.0.into()), Some(Ordering::Less));
    assert_eq!(Value::Null.loose_cmp(&Value::Null), None);
    assert_eq!(Value::from("x").loose_cmp(&1.0.into()), None);
    assert_eq!(Value::array(vec![]).loose_cmp(&Value::array(vec![])), None);
}

#[test]
fn objects_keep_order_and_ignore_case() {
    let mut object = Object::new();
    assert_eq!(object.insert("Zeta", 1.0.into()), None);
    assert_eq!(object.insert("alpha", 2.0.into()), None);
    assert_eq!(object.insert("mid", 3.0.into()), None);
    assert_eq!(object.insert("ZETA", 4.0.into()), Some(1.0.into()), "insert replaces");
    assert_eq!(object.keys().collect::<Vec<_>>(), ["Zeta", "alpha", "mid"]);
    assert_eq!(object.get("zeta"), Some(&4.0.into()));
    assert_eq!(object.remove("ALPHA"), Some(2.0.into()));
    assert_eq!(object.remove("alpha"), None);
    assert_eq!(object.get("Mid"), Some(&3.0.into()), "removal keeps the index right");
    assert_eq!(object.len(), 2);
    assert!(!object.is_empty());
}

#[test]
fn case_sensitive_objects_keep_both_spellings() {
    let mut object = Object::case_sensitive();
    object.insert("Path", 1.0.into());
    object.insert("PATH", 2.0.into());
    assert_eq!(object.len(), 2);
    assert_eq!(object.get("path"), None);
    assert_eq!(object.get("PATH"), Some(&2.0.into()));
}

#[test]
fn json_round_trips_with_key_order() {
    let json = serde_json::json!({"b": [1, 2.5, -3, null, true], "a": {"x": "y"}});
    let value = Value::from_json(&json);
    assert_eq!(value.to_json(), json);
    assert_eq!(value.to_json().to_string(), r#"{"b":[1,2.5,-3,null,true],"a":{"x":"y"}}"#);
    assert_eq!(value.get("B").and_then(Value::as_array).map(<[Value]>::len), Some(5));
    assert_eq!(Value::Number(f64::NAN).to_json(), serde_json::Value::Null);
    assert_eq!(Value::Number(1e300).to_json(), serde_json::json!(1e300));
}

proptest! {
    #[test]
    fn number_text_reads_back_within_fifteen_digits(value in proptest::num::f64::NORMAL) {
        let back = parse_number(&number_text(value));
        prop_assert!(back == value || ((back - value) / value).abs() < 1e-14, "{value:?} {back:?}");
    }

    #[test]
    fn object_agrees_with_a_naive_list(operations in proptest::collection::vec((any::<bool>(), "[a-cA-C]", any::<bool>()), 0..40)) {
        let mut object = Object::new();
        let mut naive: Vec<(String, bool)> = Vec::new();
        for (remove, key, value) in operations {
            let position = naive.iter().position(|(known, _)| known.eq_ignore_ascii_case(&key));
            if remove {
                prop_assert_eq!(object.remove(&key).is_some(), position.is_some());
                position.map(|position| naive.remove(position));
            } else {
                object.insert(key.clone(), value.into());
                match position {
                    Some(position) => naive[position].1 = value,
                    None => naive.push((key, value)),
                }
            }
            let listed: Vec<(String, bool)> = object.iter().map(|(key, value)| (key.to_owned(), value.truthy())).collect();
            prop_assert_eq!(&listed, &naive);
            for (key, value) in &naive {
                prop_assert_eq!(object.get(key), Some(&Value::Bool(*value)));
            }
        }
    }
}
