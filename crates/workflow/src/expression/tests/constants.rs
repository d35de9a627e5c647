//! Constant expressions, in two spellings that must be worth the same: the oracle knows no index into what `fromJSON`
//! gives, so its spelling has what the index finds in place.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value as Json};

/// A constant expression.
#[derive(Clone, Debug)]
pub(super) struct Constant {
    /// For us.
    pub(super) ours: String,
    /// For the oracle.
    pub(super) theirs: String,
}

impl Constant {
    fn same(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { ours: text.clone(), theirs: text }
    }

    /// Both spellings through the same frame.
    fn all(parts: &[Self], frame: impl Fn(&[&str]) -> String) -> Self {
        let side = |side: fn(&Self) -> &str| frame(&parts.iter().map(side).collect::<Vec<_>>());
        Self { ours: side(|part| &part.ours), theirs: side(|part| &part.theirs) }
    }
}

/// Any constant expression.
pub(super) fn constant() -> BoxedStrategy<Constant> {
    let leaf = prop_oneof![
        3 => number().prop_map(Constant::same),
        3 => text().prop_map(|text| Constant::same(quote(&text))),
        1 => select(vec!["null", "true", "false"]).prop_map(Constant::same),
        2 => document(1).prop_map(|json| Constant::same(from_json(&json))),
        4 => indexed(),
    ];
    leaf.prop_recursive(5, 32, 5, |inner| {
        let operator = select(vec!["==", "!=", "<", "<=", ">", ">=", "&&", "||", " && ", " || ", " == ", " <\t"]);
        prop_oneof![
            4 => (inner.clone(), operator.clone(), inner.clone())
                .prop_map(|(left, operator, right)| Constant::all(&[left, right], |part| format!("{}{operator}{}", part[0], part[1]))),
            // Three in a row show which operator binds first; parentheses decide it.
            2 => (vec(inner.clone(), 3), operator.clone(), operator, any::<[bool; 2]>()).prop_map(|(parts, one, two, [left, right])| {
                Constant::all(&parts, |part| match (left, right) {
                    (true, _) => format!("({}{one}{}){two}{}", part[0], part[1], part[2]),
                    (false, true) => format!("{}{one}({}{two}{})", part[0], part[1], part[2]),
                    (false, false) => format!("{}{one}{}{two}{}", part[0], part[1], part[2]),
                })
            }),
            1 => inner.clone().prop_map(|operand| Constant::all(&[operand], |part| format!("!{}", part[0]))),
            1 => inner.clone().prop_map(|operand| Constant::all(&[operand], |part| format!("( {})", part[0]))),
            5 => call(inner),
        ]
    })
    .boxed()
}

fn call(inner: BoxedStrategy<Constant>) -> BoxedStrategy<Constant> {
    let functions = vec![
        ("contains", 2),
        ("CONTAINS", 2),
        ("startsWith", 2),
        ("endsWith", 2),
        ("toJSON", 1),
        ("fromJSON", 1),
        ("join", 1),
        ("join", 2),
        ("case", 3),
        ("case", 5),
    ];
    let plain = (select(functions), vec(inner.clone(), 5)).prop_map(|((name, count), arguments)| {
        Constant::all(&arguments[..count], |part| format!("{name}({})", part.join(" , ")))
    });
    // Conditions that are boolean, without which `case` has no value.
    let case = (any::<[bool; 2]>(), vec(inner.clone(), 3)).prop_map(|([first, second], values)| {
        Constant::all(&values, |part| format!("case({first}, {}, {second}, {}, {})", part[0], part[1], part[2]))
    });
    let format = (format_text(), vec(inner.clone(), 0..4)).prop_map(|(format, arguments)| {
        Constant::all(&arguments, |part| {
            let arguments: String = part.iter().map(|argument| format!(", {argument}")).collect();
            format!("format({}{arguments})", quote(&format))
        })
    });
    // A text and a part of it, in another case.
    let parts = (select(vec!["contains", "startsWith", "endsWith"]), text(), 0_usize..4, 0_usize..4, any::<bool>())
        .prop_map(|(name, text, skip, leave, upper)| {
            let characters: Vec<char> = text.chars().collect();
            let part: String = characters.iter().take(characters.len().saturating_sub(leave)).skip(skip).collect();
            let part = if upper { part.to_ascii_uppercase() } else { part.to_ascii_lowercase() };
            Constant::same(format!("{name}({}, {})", quote(&text), quote(&part)))
        });
    let round = inner.prop_map(|value| Constant::all(&[value], |part| format!("fromJSON(toJSON({}))", part[0])));
    let nested = document(1).prop_map(|json| {
        let inner = quote(&quoted_json(&json.to_string()));
        Constant::same(format!("fromJSON(fromJSON({inner}))"))
    });
    prop_oneof![6 => plain, 2 => case, 3 => format, 3 => parts, 1 => round, 1 => nested].boxed()
}

fn quoted_json(text: &str) -> String {
    Json::from(text).to_string()
}

/// A number in each form that the language has.
fn number() -> BoxedStrategy<String> {
    let known = vec![
        "NaN",
        "Infinity",
        "-Infinity",
        "+Infinity",
        "0",
        "-0",
        "+0",
        "0.0",
        "-.5",
        ".5",
        "5.",
        "+7",
        "1e3",
        "1E-3",
        "1e+2",
        "-2.5e-2",
        "0x0",
        "0x1F",
        "0xff",
        "0xFFFFFFFF",
        "0x7fffffff",
        "0x80000000",
        "0o17",
        "0o0",
        "0o37777777777",
        "0o20000000000",
        "1e14",
        "999999999999999",
        "0.0001",
        "123456.789",
        "00012",
        "1e-4",
    ];
    prop_oneof![
        3 => select(known).prop_map(str::to_owned),
        2 => any::<i32>().prop_map(|number| number.to_string()),
        1 => any::<u32>().prop_map(|number| format!("{number:#x}")),
        1 => any::<u32>().prop_map(|number| format!("{number:#o}")),
        2 => (-9999_i32..9999, 0_u32..1000).prop_map(|(whole, fraction)| format!("{whole}.{fraction}")),
        2 => (-99_i32..99, -6_i32..12).prop_map(|(mantissa, exponent)| format!("{mantissa}e{exponent}")),
    ]
    .boxed()
}

/// What a string literal says: numbers among words, white space, quotes, characters of many scripts.
fn text() -> BoxedStrategy<String> {
    let known = vec![
        "",
        " ",
        "\t\n",
        "a",
        "A",
        "abc",
        "aBc",
        "ABC",
        "abd",
        "it's",
        "''",
        "\"",
        "true",
        "True",
        "false",
        "null",
        "NaN",
        "nan",
        "Infinity",
        "-infinity",
        "inf",
        "+Infinity",
        "12",
        " 12 ",
        "1e2",
        "0xff",
        "0XFF",
        "-0x1",
        "0o17",
        "0o8",
        "0x",
        "1.5",
        ".5",
        "5.",
        "-",
        "1,5",
        "1_0",
        "é",
        "É",
        "ñandú",
        "ÑANDÚ",
        "Straße",
        "ΑΒΓ",
        "αβγ",
        "日本語",
        "😀",
        "💩x",
        "\u{e000}",
        "Array",
        "Object",
        "array",
        "{0}",
        "[1,2]",
        "{\"a\": 1}",
        "ﬁ",
        "ı",
        "İ",
        "\u{a0}7\u{a0}",
    ];
    prop_oneof![
        4 => select(known).prop_map(str::to_owned),
        2 => number(),
        1 => "[ -~]{0,8}",
        1 => "[a-cA-C]{0,5}",
        1 => "[a-zß-öà-ÿΑ-ωА-я日-語😀-😎]{0,5}",
    ]
    .boxed()
}

fn format_text() -> BoxedStrategy<String> {
    let piece = prop_oneof![
        4 => (0_usize..4).prop_map(|index| format!("{{{index}}}")),
        2 => select(vec!["{{", "}}", "{{}}", "{{0}}", "a", " ", "é", "'", "{0:}", "{00}"]).prop_map(str::to_owned),
        1 => select(vec!["{", "}", "{}", "{x}", "{-1}", "{0:x}", "{ 0}", "{0", "{999}", "{0{{}"]).prop_map(str::to_owned),
    ];
    vec(piece, 0..5).prop_map(|pieces| pieces.concat()).boxed()
}

/// JSON whose objects have at most `keys` keys; several have no order in the oracle.
fn document(keys: usize) -> BoxedStrategy<Json> {
    let number = prop_oneof![
        any::<i32>().prop_map(Json::from),
        (-999_i32..999).prop_map(|number| Json::from(f64::from(number) / 8.0)),
        Just(Json::from(0.5e-3)),
    ];
    let leaf = prop_oneof![
        1 => select(vec![Json::Null, Json::Bool(true), Json::Bool(false)]),
        2 => number,
        2 => text().prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 12, 4, move |inner| {
        let key = select(vec!["a", "B", "c-d", "é", "", "x y", "0", "null"]);
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::from),
            vec((key, inner), 0..=keys).prop_map(|entries| {
                let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), value));
                Json::Object(entries.collect::<Map<_, _>>())
            }),
        ]
    })
    .boxed()
}

/// A step into a value, as it is spelled after it.
#[derive(Clone, Debug)]
enum Step {
    Property(&'static str),
    Key(&'static str),
    Number(&'static str),
    Filter(&'static str),
}

/// An index into what `fromJSON` gives, and what it finds by the rules of the language, computed plainly.
fn indexed() -> BoxedStrategy<Constant> {
    let step = prop_oneof![
        3 => select(vec!["a", "A", "b", "c-d", "null", "nothing"]).prop_map(Step::Property),
        2 => select(vec!["a", "X Y", "É", "", "0"]).prop_map(Step::Key),
        3 => select(vec!["0", "0.75", "1", "2", "1.5", "-1", "'1'", "' 0x1 '", "'x'", "true", "null", "NaN", "1e9", "Infinity"]).prop_map(Step::Number),
        2 => select(vec![".*", "[*]", " . *", "[ * ]"]).prop_map(Step::Filter),
    ];
    let indexed =
        (document(3), vec(step, 1..4)).prop_filter_map("objects of several keys have no order", |(json, steps)| {
            let found = steps.iter().fold(Found::One(json.clone()), Found::step).into_value();
            let spelled: String = steps.iter().map(Step::spelled).collect();
            let theirs = from_json(&found);
            ordered(&found).then(|| Constant { ours: format!("{}{spelled}", from_json(&json)), theirs })
        });
    indexed.boxed()
}

impl Step {
    fn spelled(&self) -> String {
        match self {
            Self::Property(name) => format!(".{name}"),
            Self::Key(name) => format!("[{}]", quote(name)),
            Self::Number(index) => format!("[{index}]"),
            Self::Filter(spelling) => (*spelling).to_owned(),
        }
    }

    /// As the key of an object, in lower case.
    fn key(&self) -> String {
        match self {
            Self::Property(name) | Self::Key(name) => name.to_lowercase(),
            Self::Number("1e9") => "1000000000".to_owned(),
            Self::Number("null") => String::new(),
            Self::Number(index) => index.trim_matches('\'').to_lowercase(),
            Self::Filter(_) => unreachable!("a filter has no key"),
        }
    }

    /// As a place in an array.
    fn place(&self) -> Option<usize> {
        match self {
            Self::Number("0" | "0.75" | "null") | Self::Key("" | "0") => Some(0),
            Self::Number("1" | "1.5" | "'1'" | "' 0x1 '" | "true") => Some(1),
            Self::Number("2") => Some(2),
            _ => None,
        }
    }

    fn within(&self, value: &Json) -> Option<Json> {
        match value {
            Json::Array(items) => items.get(self.place()?).cloned(),
            Json::Object(entries) => {
                entries.iter().find(|(key, _)| key.to_lowercase() == self.key()).map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }
}

/// What a path has found so far: one value, or the many that a filter leaves.
enum Found {
    One(Json),
    Many(Vec<Json>),
}

impl Found {
    fn step(self, step: &Step) -> Self {
        let children = |value: Json| match value {
            Json::Array(items) => items,
            Json::Object(entries) => entries.into_iter().map(|(_, value)| value).collect(),
            _ => Vec::new(),
        };
        match (self, step) {
            // Nothing is read from what is no collection, not even by a filter, which leaves an empty list.
            (Self::One(value), Step::Filter(_)) => Self::Many(children(value)),
            (Self::Many(values), Step::Filter(_)) => Self::Many(values.into_iter().flat_map(children).collect()),
            (Self::One(value), step) => Self::One(step.within(&value).unwrap_or(Json::Null)),
            (Self::Many(values), step) => Self::Many(values.iter().filter_map(|value| step.within(value)).collect()),
        }
    }

    fn into_value(self) -> Json {
        match self {
            Self::One(value) => value,
            Self::Many(values) => Json::Array(values),
        }
    }
}

/// Whether no object in it has several keys.
fn ordered(json: &Json) -> bool {
    match json {
        Json::Array(items) => items.iter().all(ordered),
        Json::Object(entries) => entries.len() < 2 && entries.values().all(ordered),
        _ => true,
    }
}

fn from_json(json: &Json) -> String {
    format!("fromJSON({})", quote(&json.to_string()))
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
