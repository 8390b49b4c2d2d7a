//! Whatever is thrown at the walker: it does not panic, and what it has admitted it admits again.

use super::*;
use proptest::prelude::*;
use std::sync::LazyLock;

/// Fast in release, where CI runs it.
const CASES: u32 = if cfg!(debug_assertions) { 2_000 } else { 100_000 };

static THINGS: LazyLock<Structural> = LazyLock::new(things);

/// Names of the schema among strangers.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![
            "size", "low", "high", "ratio", "step", "on", "color", "word", "fixed", "cidr", "tags",
            "few", "pools", "labels", "free", "port", "maybe", "maybedef", "nonnull", "when", "ip",
            "net", "bytes", "dur", "long", "nest", "anyof", "oneof", "not", "list", "map", "must",
            "third", "level", "open", "anymap", "sets", "single", "any", "double", "up", "a", "b",
            "name", "width", "inner", "x", "spec", "metadata", "status", "apiVersion", "kind",
        ]).prop_map(str::to_owned),
        1 => ".{0,6}",
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..120).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0_i64..9).prop_map(|n| Value::from(n as f64)),
        "[a-zé.:/0-9-]{0,8}".prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
        prop::sample::select(vec![
            "red",
            "10.0.0.0/8",
            "fd00::/8",
            "2020-01-01T00:00:00Z",
            "3s",
            "1.2.3.4",
            "aGk=",
        ])
        .prop_map(Value::from),
    ]
}

fn json_value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(name(), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => json_value(),
        3 => (1..100_i64, prop::collection::btree_map(name(), json_value(), 0..4)).prop_map(
            |(size, members)| {
                let mut spec: serde_json::Map<_, _> = members.into_iter().collect();
                spec.insert("size".to_owned(), size.into());
                thing(spec.into())
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn shaping_twice_is_shaping_once(mut object in object()) {
        THINGS.shape(&mut object);
        let once = object.clone();

        let unknown = THINGS.shape(&mut object);

        prop_assert_eq!(unknown, Vec::<String>::new());
        prop_assert_eq!(object, once);
    }

    #[test]
    fn what_was_admitted_is_admitted_again_unchanged(mut object in object(), old in object()) {
        let _ = THINGS.judge(&object, Some(&old));
        if THINGS.admit(&mut object, None, FieldValidation::Ignore).is_err() {
            return Ok(());
        }
        let mut again = object.clone();

        let strict = THINGS.admit(&mut again, Some(&object), FieldValidation::Strict);

        prop_assert_eq!(strict, Ok(Vec::new()));
        prop_assert_eq!(&again, &object);
        prop_assert_eq!(THINGS.judge(&again, None), Vec::new());
    }

    #[test]
    fn patches_and_selectors_take_anything_without_a_panic(
        mut target in json_value(), patch in json_value(), text in "\\PC{0,24}", value in json_value(),
    ) {
        let _ = crate::patch::json(&mut target, &patch);
        let _ = crate::patch::merge(&mut target, &patch);
        if let Ok(selector) = crate::selector::LabelSelector::parse(&text) {
            selector.matches(&value);
        }
        if let Ok(selector) = crate::selector::FieldSelector::parse(&text, &["a"]) {
            selector.matches(&value);
        }
        if let Ok(path) = crate::jsonpath::JsonPath::parse(&text) {
            path.find(&value);
        }
        let _ = Structural::compile(&value);
    }
}
