//! Rules: how they are run, and that each function of the dialect works and rejects.

use super::*;
use crate::schema::cel::FUNCTIONS;

fn field(name: &'static str, field: &str, message: &str) -> (&'static str, String, String) {
    (name, field.to_owned(), message.to_owned())
}

#[test]
fn a_broken_rule_names_its_place_and_its_reason() {
    let invalid = "FieldValueInvalid";
    for (spec, expected) in [
        (
            json!({"low": 3, "high": 2}),
            field(invalid, "spec", "Invalid value: low must not exceed high"),
        ),
        (
            json!({"high": 2000}),
            field("FieldValueForbidden", "spec.high", "Forbidden: high is too high"),
        ),
        (json!({"cidr": "x"}), field(invalid, "spec.cidr", "Invalid value: \"x\": must be a CIDR")),
        (json!({"list": ["a", "b", "c"]}), field(invalid, "spec.list", "Invalid value: too big")),
        (
            json!({"list": ["x"]}),
            field(invalid, "spec.list[0]", "Invalid value: \"x\": failed rule: self != 'x'"),
        ),
        (
            json!({"map": {"a.b": 9}}),
            field(invalid, "spec.map[a.b]", "Invalid value: 9: failed rule: self < 5"),
        ),
        (
            json!({"must": false}),
            field("FieldValueRequired", "spec.must", "Required value: must be on"),
        ),
        (json!({"same": "x"}), field("FieldValueDuplicate", "spec.same", "Duplicate value: \"x\"")),
    ] {
        assert_eq!(wrong(sized(spec.clone())), [expected], "{spec}");
    }
    let mut forbidden = sized(json!({}));
    forbidden["metadata"]["name"] = json!("forbidden");
    let expected = field(invalid, "<nil>", "Invalid value: that name is forbidden");
    assert_eq!(wrong(forbidden), [expected]);
}

#[test]
fn a_rule_that_cannot_be_evaluated_rejects() {
    let found = wrong(sized(json!({"third": [1]})));

    assert_eq!(
        (found.len(), found[0].0, found[0].1.as_str()),
        (1, "FieldValueInvalid", "spec.third")
    );
    assert!(found[0].2.ends_with("evaluating rule: self[3] == 1"), "{found:?}");
}

#[test]
fn rules_wait_until_the_shape_is_right() {
    let mut object = thing(json!({"size": "x", "low": 3, "high": 2}));
    things().shape(&mut object);

    let causes = things().judge(&object, None);

    assert_eq!(causes.len(), 2, "{causes:?}");
    assert_eq!(causes[1], Cause::rules_not_checked());
}

#[test]
fn a_transition_rule_compares_with_the_object_as_it_was() {
    let old = sized(json!({"fixed": "a", "up": 3}));
    let judge = |spec: Value, old| things().judge(&sized(spec), old);

    assert_eq!(judge(json!({"fixed": "b", "up": 2}), None), [], "there is no before");
    assert_eq!(judge(json!({"fixed": "a", "up": 4}), Some(&old)), []);
    assert_eq!(judge(json!({"up": 3}), Some(&old)), [], "a field that goes is not compared");
    let causes = judge(json!({"fixed": "b", "up": 2}), Some(&old));
    let messages: Vec<&str> = causes.iter().map(|cause| cause.message.as_str()).collect();
    assert_eq!(
        messages,
        ["Invalid value: \"b\": is immutable", "Invalid value: 2: never goes down"]
    );
}

#[test]
fn rules_outside_the_dialect_are_refused_when_the_schema_is_compiled() {
    let refused = |schema: Value| Structural::compile(&schema).unwrap_err().problem;
    let rule =
        |text: &str| json!({"type": "integer", "x-kubernetes-validations": [{"rule": text}]});

    let optional = json!({"x-kubernetes-validations": [
        {"rule": "oldSelf.hasValue()", "optionalOldSelf": true}]});
    assert!(refused(optional).contains("optionalOldSelf"));
    for text in [
        "dyn(self) == 1",
        "cel.bind(x, self, x > 1)",
        "[1].all(i, v, i < v)",
        "quantity('1') == self",
    ] {
        assert!(refused(rule(text)).contains("not in the dialect"), "{text}");
    }
    assert!(!refused(rule("self ==")).is_empty());
    let item = json!({"type": "array", "items": rule("self >= oldSelf")});
    assert!(refused(item).contains("oldSelf inside a list"));
}

/// For each function: a rule, a value that it takes and one that it rejects.
const SHOWN: &[(&[&str], &str, &str, &str)] = &[
    (&["!_", "_==_"], "!(self == 'b')", "a", "b"),
    (&["_!=_"], "self != 'b'", "a", "b"),
    (&["-_", "_<_"], "-self.size() < -1", "aa", "a"),
    (&["@in"], "self in ['a', 'c']", "a", "b"),
    (&["@not_strictly_false", "_&&_"], "['x', 'y'].all(x, self != x)", "a", "y"),
    (&["_||_"], "['x', 'y'].exists(x, self == x)", "y", "a"),
    (&["_%_"], "self.size() % 2 == 0", "aa", "a"),
    (&["_*_"], "self.size() * 2 == 4", "aa", "a"),
    (&["_+_"], "self + 'x' == 'ax'", "a", "b"),
    (&["_-_"], "self.size() - 1 == 1", "aa", "a"),
    (&["_/_"], "self.size() / 2 == 1", "aa", "a"),
    (&["_<=_"], "self.size() <= 1", "a", "aa"),
    (&["_>=_"], "self.size() >= 2", "aa", "a"),
    (&["_>_"], "self.size() > 1", "aa", "a"),
    (&["_?_:_"], "self == 'a' ? true : false", "a", "b"),
    (&["_[_]"], "['a', 'b'][1] == self", "b", "a"),
    (
        &["isCIDR", "cidr", "masked", "string"],
        "isCIDR(self) && string(cidr(self).masked()) == self",
        "10.0.0.0/8",
        "10.0.0.1/8",
    ),
    (&["isCIDR"], "isCIDR(self)", "fd00::/8", "10.0.0.0/33"),
    (&["prefixLength"], "cidr(self).prefixLength() == 8", "fd00::/8", "fd00::/9"),
    (&["ip", "family"], "cidr(self).ip().family() == 4", "10.0.0.0/8", "fd00::/8"),
    (&["containsIP"], "cidr('10.0.0.0/8').containsIP(self)", "10.1.2.3", "11.1.2.3"),
    (&["containsCIDR"], "cidr('10.0.0.0/8').containsCIDR(self)", "10.1.0.0/16", "11.1.0.0/16"),
    (&["isIP", "ip"], "isIP(self) && ip(self).family() == 6", "fd00::1", "10.0.0.1"),
    (&["isIP"], "isIP(self)", "10.0.0.1", "010.0.0.1"),
    (&["contains"], "self.contains('b')", "abc", "ac"),
    (&["startsWith"], "self.startsWith('a')", "ab", "ba"),
    (&["endsWith"], "self.endsWith('b')", "ab", "ba"),
    (&["matches"], "self.matches('^[a-z]+$')", "ab", "aB"),
    (&["find"], "self.find('[0-9]+') == '12'", "a12", "a13"),
    (&["size"], "size(self) == 1", "a", "ab"),
    (&["lowerAscii"], "self.lowerAscii() == 'a'", "A", "B"),
    (&["replace"], "self.replace('a', 'b') == 'bb'", "ab", "ac"),
    (&["split"], "self.split('/')[1] == 'b'", "a/b", "a/c"),
    (&["join"], "[self, 'x'].join('-') == 'a-x'", "a", "b"),
    (&["int"], "int(self) < 5", "4", "5"),
    (&["duration"], "duration(self) < duration('1h')", "5m", "2h"),
    (
        &["timestamp"],
        "timestamp(self) < timestamp('2020-01-01T00:00:00Z')",
        "2019-01-01T00:00:00Z",
        "2021-01-01T00:00:00Z",
    ),
];

#[test]
fn each_function_of_the_dialect_works_and_rejects() {
    for (_, rule, good, bad) in SHOWN {
        let schema = json!({"type": "string", "x-kubernetes-validations": [{"rule": rule}]});
        let compiled =
            Structural::compile(&schema).unwrap_or_else(|error| panic!("{rule}: {error}"));

        assert_eq!(compiled.judge(&json!(good), None), [], "{rule} on {good}");
        let causes = compiled.judge(&json!(bad), None);
        let message = format!("Invalid value: {bad:?}: failed rule: {rule}");
        assert_eq!(causes, [Cause::new("FieldValueInvalid", "<nil>", message)]);
    }
}

#[test]
fn no_function_is_allowed_that_was_not_shown_to_work() {
    let shown: Vec<&str> = SHOWN.iter().flat_map(|(names, ..)| names.iter().copied()).collect();

    let unproven: Vec<_> = FUNCTIONS.iter().filter(|name| !shown.contains(name)).collect();
    assert!(unproven.is_empty(), "{unproven:?}");
    for (names, rule, ..) in SHOWN {
        let program = kube_cel::cel::Program::compile(rule).unwrap();
        let references = program.references();
        for name in *names {
            assert!(references.functions().contains(name), "{rule} does not call {name}");
        }
    }
}

/// Every rule of every resource, with the schema it stands in.
fn our_rules() -> Vec<(String, Value)> {
    fn collect(schema: &Value, found: &mut Vec<(String, Value)>) {
        match schema {
            Value::Object(words) => {
                for rule in words
                    .get("x-kubernetes-validations")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                {
                    found.push((rule["rule"].as_str().unwrap().to_owned(), schema.clone()));
                }
                words.values().for_each(|value| collect(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for crd in api::crds() {
        collect(&serde_json::to_value(crd).unwrap(), &mut found);
    }
    found
}

#[test]
fn our_resources_compile_and_keep_to_the_dialect() {
    for crd in api::crds() {
        let name = crd.spec.names.plural.clone();
        let crd = serde_json::to_value(crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        if let Err(error) = Structural::compile(schema) {
            panic!("{name}: {error}");
        }
    }
    assert!(our_rules().len() > 5, "the walk found the rules");
}

#[test]
fn our_rules_stay_within_a_clusters_budget() {
    use kube_cel::{ScopeContext, WarningKind, analyze_rule, compile_schema};
    for (rule, schema) in our_rules() {
        let mut warnings =
            analyze_rule(&rule, &compile_schema(&schema), ScopeContext::CrdValidation);
        // It takes the variable of a macro for one that nobody declared.
        warnings.retain(|warning| warning.kind != WarningKind::WrongScope);

        assert!(warnings.is_empty(), "{rule}: {warnings:?}");
    }
    let unbounded = json!({"type": "array", "items": {"type": "string"}});
    let rule = "self.all(a, self.all(b, self.all(c, a.matches(b + c))))";
    let warnings = analyze_rule(rule, &compile_schema(&unbounded), ScopeContext::CrdValidation);
    assert!(!warnings.is_empty(), "the analysis can find something");
}
