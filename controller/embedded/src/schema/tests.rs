use super::*;
use serde_json::json;

mod properties;
mod rules;

/// One kind that uses all of a schema's words; the conformance suite gives it to real servers.
const CRD: &str = include_str!("../../tests/conformance/crd.yaml");

pub(super) fn things() -> Structural {
    let crd: Value = serde_saphyr::from_str(CRD).unwrap();
    Structural::compile(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]).unwrap()
}

pub(super) fn thing(spec: Value) -> Value {
    json!({"apiVersion": "test.hawser.dev/v1", "kind": "Thing", "metadata": {"name": "a"},
           "spec": spec})
}

/// `spec` with the one member that must be there.
fn sized(spec: Value) -> Value {
    let mut object = thing(spec);
    object["spec"]["size"] = json!(1);
    object
}

fn admitted(mut object: Value) -> Value {
    things().admit(&mut object, None, FieldValidation::Ignore).unwrap();
    object["spec"].take()
}

/// (reason, field, message) of what is wrong, without the notice that rules were not run.
fn wrong(mut object: Value) -> Vec<(&'static str, String, String)> {
    match things().admit(&mut object, None, FieldValidation::Ignore) {
        Err(Rejection::Invalid(causes)) => causes
            .into_iter()
            .filter(|cause| *cause != Cause::rules_not_checked())
            .map(|cause| (cause.reason, cause.field, cause.message))
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_schema_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}

    shared(&things());
}

#[test]
fn defaults_fill_what_is_absent_or_null() {
    let filled = json!({"size": 1, "on": true, "color": "red", "maybedef": "d", "nonnull": "nn",
                        "nest": {"a": 7}});

    assert_eq!(admitted(thing(json!({"size": 1}))), filled);
    let nulls = json!({"size": 1, "on": null, "nonnull": null, "nest": null, "low": null});
    assert_eq!(admitted(thing(nulls)), filled, "a null is dropped where none may be");
    let kept = admitted(thing(json!({"size": 1, "maybe": null, "maybedef": null})));
    assert_eq!((&kept["maybe"], &kept["maybedef"]), (&json!(null), &json!(null)));
    assert!(kept.as_object().unwrap().contains_key("maybe"));
    let pools = admitted(thing(json!({"size": 1, "pools": [{"name": "a"}]})));
    assert_eq!(pools["pools"], json!([{"name": "a", "width": 24}]));
}

#[test]
fn unknown_fields_are_dropped_and_named() {
    let odd = || {
        let mut object = sized(json!({
            "bogus": 1, "pools": [{"name": "a", "zz": 1, "inner": {"y": 1}}],
            "open": {"anything": {"goes": 1}}, "anymap": {"a": {"b": 1}},
        }));
        object["foo"] = json!(1);
        object["metadata"]["zork"] = json!(1);
        object
    };
    let names = [
        "metadata.zork",
        "foo",
        "spec.anymap.a.b",
        "spec.bogus",
        "spec.pools[0].inner.y",
        "spec.pools[0].zz",
    ];
    let expected: Vec<String> =
        names.iter().map(|name| format!("unknown field \"{name}\"")).collect();

    let mut object = odd();
    let warnings = things().admit(&mut object, None, FieldValidation::Warn);
    assert_eq!(warnings, Ok(expected.clone()));
    assert_eq!(object["spec"]["open"], json!({"anything": {"goes": 1}, "a": 3}));
    assert_eq!(object["spec"]["pools"], json!([{"name": "a", "width": 24, "inner": {}}]));
    assert_eq!((&object["foo"], &object["metadata"]["zork"]), (&Value::Null, &Value::Null));

    let strict = things().admit(&mut odd(), None, FieldValidation::Strict);
    assert_eq!(strict, Err(Rejection::Strict(expected)));
    assert_eq!(things().admit(&mut odd(), None, FieldValidation::Ignore), Ok(Vec::new()));
}

/// Field, value as JSON, reason, message.
const MESSAGES: &[[&str; 4]] = &[
    [
        "low",
        r#""x""#,
        "TypeInvalid",
        r#"Invalid value: "string": spec.low in body must be of type integer: "string""#,
    ],
    [
        "on",
        r#""yes""#,
        "TypeInvalid",
        r#"Invalid value: "string": spec.on in body must be of type boolean: "string""#,
    ],
    [
        "tags",
        r#""a""#,
        "TypeInvalid",
        r#"Invalid value: "string": spec.tags in body must be of type array: "string""#,
    ],
    [
        "double",
        "true",
        "TypeInvalid",
        r#"Invalid value: "": spec.double in body must be of type double: """#,
    ],
    [
        "when",
        "3",
        "TypeInvalid",
        r#"Invalid value: "int64": spec.when in body must be of type date-time: "int64""#,
    ],
    [
        "port",
        "true",
        "TypeInvalid",
        r#"Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean""#,
    ],
    [
        "port",
        "1.5",
        "TypeInvalid",
        r#"Invalid value: "number": spec.port in body must be of type integer,string: "number""#,
    ],
    [
        "ip",
        r#""1.2.3""#,
        "TypeInvalid",
        r#"Invalid value: "1.2.3": spec.ip in body must be of type ipv4: "1.2.3""#,
    ],
    ["ratio", "0", "Invalid", "Invalid value: 0: spec.ratio in body should be greater than 0"],
    ["ratio", "1", "Invalid", "Invalid value: 1: spec.ratio in body should be less than 1"],
    ["step", "7", "Invalid", "Invalid value: 7: spec.step in body should be a multiple of 5"],
    [
        "color",
        r#""blue""#,
        "NotSupported",
        r#"Unsupported value: "blue": supported values: "red", "green""#,
    ],
    ["level", "3", "NotSupported", r#"Unsupported value: 3: supported values: "1", "2""#],
    [
        "word",
        r#""a""#,
        "Invalid",
        r#"Invalid value: "a": spec.word in body should be at least 2 chars long"#,
    ],
    ["word", r#""aaaaaa""#, "TooLong", "Too long: may not be more than 5 bytes"],
    [
        "word",
        r#""AB""#,
        "Invalid",
        r#"Invalid value: "AB": spec.word in body should match '^[a-zé]+$'"#,
    ],
    ["tags", r#"["a", "b", "c", "d"]"#, "TooMany", "Too many: 4: must have at most 3 items"],
    ["single", r#"["a", "b"]"#, "TooMany", "Too many: 2: must have at most 1 item"],
    ["few", "[1]", "Invalid", "Invalid value: 1: spec.few in body should have at least 2 items"],
    [
        "labels",
        "{}",
        "Invalid",
        "Invalid value: 0: spec.labels in body should have at least 1 properties",
    ],
    [
        "labels",
        r#"{"a": "", "b": "", "c": ""}"#,
        "TooMany",
        "Too many: 3: must have at most 2 items",
    ],
];

#[test]
fn each_check_says_what_a_cluster_says() {
    for [name, value, reason, message] in MESSAGES {
        let value: Value = serde_json::from_str(value).unwrap();
        let found = wrong(sized(json!({ *name: value })));

        assert_eq!(found.len(), 1, "{name}: {found:?}");
        let (found_reason, field, text) = &found[0];
        assert_eq!((field.as_str(), text.as_str()), (format!("spec.{name}").as_str(), *message));
        assert_eq!(found_reason.strip_prefix("FieldValue"), Some(*reason), "{name}");
    }
}

#[test]
fn a_number_outside_its_format_says_so() {
    let field = "<nil>".to_owned();
    let checked = |text: &str| {
        let text = format!("Invalid value: \"\": Checked value must be of type integer {text}");
        ("FieldValueInvalid", field.clone(), text)
    };

    assert!(
        wrong(thing(json!({"size": 3_000_000_000_u64})))
            .contains(&checked("with format int32 in spec.size"))
    );
    assert!(wrong(sized(json!({"any": 1.5}))).contains(&checked("(default format) in spec.any")));
    assert!(
        wrong(sized(json!({"long": 9_223_372_036_854_775_808_u64})))
            .contains(&checked("with format int64 in spec.long"))
    );
}

#[test]
fn what_is_required_must_be_there() {
    let required =
        |field: &str| ("FieldValueRequired", field.to_owned(), "Required value".to_owned());

    assert_eq!(wrong(thing(json!({}))), [required("spec.size")]);
    assert_eq!(wrong(thing(json!({"size": null}))), [required("spec.size")]);
    assert_eq!(wrong(thing(Value::Null)), [required("spec")]);
    assert_eq!(wrong(sized(json!({"pools": [{}]}))), [required("spec.pools[0].name")]);
}

#[test]
fn a_set_has_no_value_twice_and_a_map_no_key() {
    let duplicate = |field: &str, value: &str| {
        ("FieldValueDuplicate", field.to_owned(), format!("Duplicate value: {value}"))
    };

    assert_eq!(wrong(sized(json!({"tags": ["a", "a"]}))), [duplicate("spec.tags[1]", "\"a\"")]);
    let pools = json!([{"name": "a"}, {"name": "a", "width": 3}]);
    let found = wrong(sized(json!({ "pools": pools })));
    assert_eq!(found, [duplicate("spec.pools[1]", "{\"name\":\"a\"}")]);
    let found = wrong(sized(json!({"sets": {"a.b": ["x", "y", "x", "y"]}})));
    let expected =
        [duplicate("spec.sets[a.b][2]", "\"x\""), duplicate("spec.sets[a.b][3]", "\"y\"")];
    assert_eq!(found, expected);
}

#[test]
fn branches_are_judged_together() {
    let first = |spec: Value| wrong(sized(spec)).remove(0).2;

    assert!(first(json!({"anyof": {}})).contains("must validate at least one schema (anyOf)"));
    assert!(first(json!({"oneof": {}})).contains("(oneOf). Found none valid"));
    assert!(first(json!({"oneof": {"a": 1, "b": 2}})).contains("Found 2 valid alternatives"));
    assert!(first(json!({"not": "no"})).contains("must not validate the schema (not)"));
    admitted(sized(json!({"anyof": {"b": 1}, "oneof": {"a": 1}, "not": "yes"})));
}

#[test]
fn each_format_takes_its_own_and_nothing_else() {
    for (name, good, bad) in [
        (
            "when",
            vec!["2020-01-01T00:00:00Z", "2020-01-01t00:00:00z", "2020-01-01T00:00:00.123+05:00"],
            vec!["yesterday", "2020-01-01", "2020-01-01T00:00:00", "2020-01-01 00:00:00Z", ""],
        ),
        ("ip", vec!["1.2.3.4"], vec!["1.2.3", "fd00::1", "01.2.3.4"]),
        ("ip6", vec!["fd00::1", "::"], vec!["zz", "1.2.3.4"]),
        ("net", vec!["10.0.0.0/8", "fd00::/8"], vec!["10.0.0.0/99", "10.0.0.0"]),
        ("bytes", vec!["aGk="], vec!["***"]),
        ("dur", vec!["3s", "1h30m"], vec!["3 parsecs", ""]),
        ("uuid", vec!["123e4567-e89b-12d3-a456-426614174000"], vec!["x"]),
        ("date", vec!["2020-12-01"], vec!["2020-13-01"]),
        ("mac", vec!["aa:bb:cc:dd:ee:ff"], vec!["zz"]),
        ("host", vec!["a.example.com"], vec!["-a", ""]),
    ] {
        for text in good {
            admitted(sized(json!({ name: text })));
        }
        for text in bad {
            assert_eq!(
                wrong(sized(json!({ name: text })))[0].0,
                "FieldValueTypeInvalid",
                "{name} {text}"
            );
        }
    }
}

#[test]
fn whole_numbers_lose_their_point_and_lengths_count_letters() {
    assert_eq!(admitted(thing(json!({"size": 1.0})))["size"].to_string(), "1");
    assert_eq!(admitted(sized(json!({"word": "ééééé"})))["word"], "ééééé");
}

#[test]
fn an_update_is_not_judged_by_what_it_leaves_alone() {
    let mut old = sized(json!({"word": "FAR TOO LONG", "few": [1], "tags": ["a", "a"]}));
    things().shape(&mut old);
    assert_eq!(things().judge(&old, None).len(), 4, "three wrongs, and rules were not run");

    let mut new = old.clone();
    new["spec"]["low"] = json!(3);
    assert_eq!(things().judge(&new, Some(&old)), []);

    new["spec"]["few"] = json!([2]);
    let causes = things().judge(&new, Some(&old));
    assert_eq!(causes.len(), 1, "what changes is judged: {causes:?}");
    assert_eq!(causes[0].field, "spec.few");
}

#[test]
fn several_causes_make_one_message() {
    let causes = [
        Cause::required("spec.size", ""),
        Cause::invalid("spec.low", &json!(0), "spec.low in body should be greater than 1"),
    ];

    assert_eq!(
        invalid_message("Thing.test.hawser.dev", "a", &causes),
        "Thing.test.hawser.dev \"a\" is invalid: [spec.size: Required value, spec.low: Invalid \
         value: 0: spec.low in body should be greater than 1]"
    );
    assert_eq!(
        invalid_message("Thing.test.hawser.dev", "a", &causes[..1]),
        "Thing.test.hawser.dev \"a\" is invalid: spec.size: Required value"
    );
}

#[test]
fn a_schema_that_promises_what_is_not_checked_does_not_compile() {
    for (schema, path) in [
        (json!({"properties": {"a": {"type": "string", "format": "isbn"}}}), "a"),
        (json!({"properties": {"a": {"type": "text"}}}), "a"),
        (json!({"properties": {"a": {"type": "string", "pattern": "("}}}), "a"),
        (json!({"properties": {"a": {"$ref": "#/x"}}}), "a"),
        (json!({"x-kubernetes-embedded-resource": true}), "<nil>"),
        (json!({"properties": {"a": {"items": {"x-kubernetes-list-type": "bag"}}}}), "a.items"),
    ] {
        let error = Structural::compile(&schema).unwrap_err();

        assert_eq!(error.path, path, "{error}");
    }
}
