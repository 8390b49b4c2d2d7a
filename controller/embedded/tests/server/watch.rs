use crate::harness::*;
use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;

type Seen = BTreeMap<String, Value>;

fn seen(list: &Value) -> Seen {
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    list["items"].as_array().unwrap().iter().map(|o| (name(o), o.clone())).collect()
}

/// What a client holds after these events; every event must fit what it held before.
fn apply(mut held: Seen, events: &[Value]) -> Seen {
    for event in events {
        let object = &event["object"];
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        match event["type"].as_str().unwrap() {
            "ADDED" => assert!(held.insert(name, object.clone()).is_none(), "{event}"),
            "MODIFIED" => assert!(held.insert(name, object.clone()).is_some(), "{event}"),
            "DELETED" => assert!(held.remove(&name).is_some(), "{event}"),
            "BOOKMARK" => {}
            other => panic!("{other}: {event}"),
        }
    }
    held
}

/// A small generator with a seed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

async fn change_something(client: &embedded::Client, random: &mut Random) {
    let name = format!("n{}", random.below(6));
    let path = format!("{NODES}/{name}");
    let shown = if random.below(2) == 0 { json!("yes") } else { Value::Null };
    match random.below(4) {
        0 => drop(ask(client, "POST", NODES, node(&name)).await),
        1 => drop(ask(client, "DELETE", &path, Value::Null).await),
        2 => {
            let site = format!("s{}", random.below(3));
            drop(ask(client, "PATCH", &path, json!({"spec": {"site": site}})).await);
        }
        _ => {
            let patch = json!({"metadata": {"labels": {"shown": shown}}});
            drop(ask(client, "PATCH", &path, patch).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_and_a_watch_from_its_version_show_what_is_there() {
    const SELECTORS: [&str; 3] = ["", "&labelSelector=shown%3Dyes", "&labelSelector=%21shown"];
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let client = &running.client;
    let mut random = Random(7);
    let mut lists = Vec::new();
    for _ in 0..60 {
        change_something(client, &mut random).await;
        for selector in SELECTORS {
            let (_, list) = get(client, &format!("{NODES}?x=1{selector}")).await;
            lists.push((selector, version(&list), seen(&list)));
        }
    }

    let watches = lists.iter().map(|(selector, from, _)| {
        let path = format!("{NODES}?watch=1&timeoutSeconds=2&resourceVersion={from}{selector}");
        async move { watch(client, &path).await }
    });
    let watched = join_all(watches).await;

    for ((selector, from, held), events) in lists.iter().zip(watched) {
        let last = lists.iter().rfind(|(other, ..)| other == selector).unwrap();
        assert_eq!(apply(held.clone(), &events), last.2, "{selector:?} from {from}");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_carries_its_own_version() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let client = &running.client;
    let (_, created) = ask(client, "POST", NODES, node("a")).await;
    ask(client, "DELETE", &format!("{NODES}/a"), Value::Null).await;

    let from = version(&created);
    let path = format!("{NODES}?watch=1&timeoutSeconds=1&resourceVersion={from}");
    let events = watch(client, &path).await;

    assert_eq!(events[0]["type"], "DELETED");
    assert_eq!(version(&events[0]["object"]), from + 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_known_is_told_inside_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    for unknown in ["1", "99999999999999999"] {
        let path = format!("{NODES}?watch=1&timeoutSeconds=5&resourceVersion={unknown}");
        let events = watch(&running.client, &path).await;
        assert_eq!(events.len(), 1);
        assert_eq!(events[0]["type"], "ERROR");
        assert_eq!(events[0]["object"]["code"], 410);
        assert_eq!(events[0]["object"]["reason"], "Expired");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bookmark_ends_the_initial_events_and_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let client = &running.client;
    ask(client, "POST", NODES, node("a")).await;

    let asked = "watch=1&timeoutSeconds=1&allowWatchBookmarks=true&sendInitialEvents=true";
    let path = format!("{NODES}?{asked}&resourceVersionMatch=NotOlderThan");
    let events = watch(client, &path).await;

    let types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["ADDED", "BOOKMARK", "BOOKMARK"]);
    let annotations = &events[1]["object"]["metadata"]["annotations"];
    assert_eq!(annotations["k8s.io/initial-events-end"], "true");
    assert!(events[2]["object"]["metadata"].get("annotations").is_none());
    assert_eq!(get(client, &format!("{NODES}?{asked}")).await.0, 422);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_after_a_restart_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let (_, created) = ask(&running.client, "POST", NODES, node("a")).await;
    ask(&running.client, "PATCH", &format!("{NODES}/a"), json!({"spec": {"site": "x"}})).await;
    running.stop().await;

    let running = start(dir.path()).await;
    let from = version(&created);
    let path = format!("{NODES}?watch=1&timeoutSeconds=1&resourceVersion={from}");
    let events = watch(&running.client, &path).await;

    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["type"], "MODIFIED");
    running.stop().await;
}
