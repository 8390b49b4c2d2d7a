use super::*;
use serde_json::json;

fn object(labels: Value) -> Value {
    json!({"metadata": {"name": "a", "labels": labels}})
}

fn matches(selector: &str, labels: Value) -> bool {
    LabelSelector::parse(selector).unwrap().matches(&object(labels))
}

#[test]
fn a_label_selector_selects_what_it_says() {
    for (selector, labels, expected) in [
        ("", json!({}), true),
        ("a=b", json!({"a": "b"}), true),
        ("a==b", json!({"a": "c"}), false),
        ("a=b", json!({}), false),
        ("a!=b", json!({"a": "b"}), false),
        ("a!=b", json!({}), true),
        ("a in (b, c)", json!({"a": "c"}), true),
        ("a in (b,c)", json!({"a": "d"}), false),
        ("a notin (b,c)", json!({}), true),
        ("a notin (b,c)", json!({"a": "b"}), false),
        ("a", json!({"a": ""}), true),
        ("a", json!({"b": ""}), false),
        ("!a", json!({"b": ""}), true),
        ("!a", json!({"a": ""}), false),
        ("a=", json!({"a": ""}), true),
        ("a in ()", json!({"a": ""}), true),
        ("a=b,!c,d in (e)", json!({"a": "b", "d": "e"}), true),
        ("a=b,!c,d in (e)", json!({"a": "b", "c": "", "d": "e"}), false),
        ("example.com/a=b", json!({"example.com/a": "b"}), true),
    ] {
        assert_eq!(matches(selector, labels.clone()), expected, "{selector:?} on {labels}");
    }
}

#[test]
fn an_unreadable_label_selector_is_refused_in_the_servers_words() {
    for (selector, message) in [
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("=b", "found '=', expected: !, identifier, or 'end of string'"),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a,", "found '', expected: identifier after ','"),
        (
            "in (a)",
            "unable to parse requirement: found '(', expected: in, notin, =, ==, !=, gt, lt",
        ),
        (",", "found ',', expected: !, identifier, or 'end of string'"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("!a=b", "found '=', expected: ',' or 'end of string'"),
    ] {
        let error = LabelSelector::parse(selector).unwrap_err();
        assert_eq!(error.to_string(), message, "{selector:?}");
    }
    for selector in ["A/B/C=d", "/a=b", "a=-", "a=b!", "é=a"] {
        assert!(LabelSelector::parse(selector).is_err(), "{selector:?}");
    }
}

#[test]
fn a_field_selector_knows_the_name_and_what_the_kind_allows() {
    let selector = FieldSelector::parse("metadata.name=a", &[]).unwrap();
    assert_eq!(selector.name(), Some("a"));
    assert!(selector.matches(&object(json!({}))));
    assert!(!FieldSelector::parse("metadata.name!=a", &[]).unwrap().matches(&object(json!({}))));
    assert!(!FieldSelector::parse("metadata.name==b", &[]).unwrap().matches(&object(json!({}))));
    assert!(FieldSelector::parse(",", &[]).unwrap().is_empty());

    let error = FieldSelector::parse("spec.size=1", &[]).unwrap_err();
    assert_eq!(error.to_string(), "field label not supported: spec.size");
    let error = FieldSelector::parse("metadata.name>a", &[]).unwrap_err();
    let text = "invalid selector: 'metadata.name>a'; can't understand 'metadata.name>a'";
    assert_eq!(error.to_string(), text);
}

#[test]
fn an_escaped_comma_belongs_to_the_value() {
    let selector = FieldSelector::parse("metadata.name=a\\,b", &[]).unwrap();

    assert_eq!(selector.name(), Some("a,b"));
}

#[test]
fn events_answer_to_both_vocabularies() {
    let event = json!({"metadata": {"name": "e"}, "type": "Warning",
        "regarding": {"kind": "MeshNode", "name": "a", "uid": "u"}});
    let matches = |text: &str| FieldSelector::parse(text, EVENT_FIELDS).unwrap().matches(&event);

    assert!(matches("involvedObject.name=a,involvedObject.kind=MeshNode,involvedObject.uid=u"));
    assert!(matches("regarding.name=a,involvedObject.namespace=,type=Warning"));
    assert!(!matches("involvedObject.name=b"));
    assert!(!matches("type=Normal"));
}
