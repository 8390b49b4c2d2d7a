use super::*;

fn columns() -> Columns {
    Columns::compile(&json!([
        {"name": "Ready", "type": "string",
         "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
        {"name": "Pools", "type": "string", "jsonPath": ".spec.pools[*].cidr", "priority": 1},
        {"name": "Epoch", "type": "integer", "jsonPath": ".spec.epoch"},
        {"name": "On", "type": "boolean", "jsonPath": ".spec.on"},
        {"name": "Share", "type": "number", "jsonPath": ".spec.share"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]))
    .unwrap()
}

fn object() -> Value {
    json!({
        "apiVersion": "hawser.dev/v1alpha1", "kind": "Mesh",
        "metadata": {"name": "default", "resourceVersion": "7",
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"pools": [{"cidr": "10.0.0.0/8"}, {"cidr": "fd00::/8"}],
                 "epoch": 2, "on": false, "share": 1},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn now() -> Timestamp {
    "2026-01-04T04:00:00Z".parse().unwrap()
}

#[test]
fn a_row_holds_what_the_columns_name() {
    let table =
        columns().list([&object()], json!({"resourceVersion": "9"}), IncludeObject::None, now());

    assert_eq!(table["kind"], "Table");
    assert_eq!(table["metadata"]["resourceVersion"], "9");
    let row = &table["rows"][0];
    let cells = json!(["default", "True", "10.0.0.0/8,fd00::/8", 2, false, 1.0, "3d4h"]);
    assert_eq!(row["cells"], cells);
    assert_eq!(row["object"], Value::Null);
    let names: Vec<_> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| (column["name"].as_str().unwrap(), column["priority"].as_i64().unwrap()))
        .collect();
    assert_eq!(names[..3], [("Name", 0), ("Ready", 0), ("Pools", 1)]);
    assert_eq!(table["columnDefinitions"][0]["format"], "name");
}

#[test]
fn what_is_missing_or_of_the_wrong_kind_is_an_empty_cell() {
    let odd = json!({"metadata": {"name": "a", "creationTimestamp": "soon"},
                     "spec": {"epoch": "two", "on": 3, "share": []}});

    let table = columns().one(&odd, IncludeObject::None, true, now());

    assert_eq!(table["rows"][0]["cells"], json!(["a", null, null, null, null, null, "<invalid>"]));
}

#[test]
fn a_row_carries_as_much_of_the_object_as_was_asked_for() {
    let row = |include| columns().one(&object(), include, true, now())["rows"][0]["object"].clone();

    assert_eq!(row(IncludeObject::None), Value::Null);
    assert_eq!(row(IncludeObject::Object), object());
    assert_eq!(row(IncludeObject::Metadata)["kind"], "PartialObjectMetadata");
    assert_eq!(row(IncludeObject::Metadata)["metadata"], object()["metadata"]);
    assert_eq!(row(IncludeObject::Metadata)["spec"], Value::Null);
}

#[test]
fn a_watch_says_the_columns_once_and_bookmarks_have_no_rows() {
    let later = columns().one(&object(), IncludeObject::Metadata, false, now());
    assert_eq!(later["columnDefinitions"], json!([]));
    assert_eq!(later["metadata"]["resourceVersion"], "7");

    let bookmark = columns().bookmark("12");
    assert_eq!(bookmark["rows"], json!([]));
    assert_eq!(bookmark["metadata"]["resourceVersion"], "12");
}

#[test]
fn a_kind_without_columns_shows_name_and_age() {
    for declared in [Value::Null, json!([])] {
        let table =
            Columns::compile(&declared).unwrap().one(&object(), IncludeObject::None, true, now());

        assert_eq!(table["rows"][0]["cells"], json!(["default", "3d4h"]));
    }
}

#[test]
fn a_column_with_an_unreadable_path_stops_the_server_at_its_start() {
    let columns = json!([{"name": "X", "type": "string", "jsonPath": ".a["}]);

    assert!(Columns::compile(&columns).is_err());
}
