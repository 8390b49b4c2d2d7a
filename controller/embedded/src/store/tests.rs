use super::ring::{KEPT, Ring};
use super::*;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn object(name: &str, size: u64) -> Value {
    json!({"kind": "Thing", "metadata": {"name": name}, "size": size})
}

fn key(name: &str) -> Key {
    Key::new("things", "", name)
}

fn open(dir: &std::path::Path) -> Store {
    Store::open(Disk::open(dir, Lock::take(dir).unwrap(), 1000).unwrap()).unwrap()
}

async fn put(store: &Store, name: &str, size: u64) -> Arc<Object> {
    let value = object(name, size);
    let written = store.submit(key(name), move |_, _| Ok(Decision::Put(value))).await;
    written.unwrap().object().clone()
}

async fn remove(store: &Store, name: &str) {
    let written =
        store.submit(key(name), |current, _| Ok(Decision::Remove(current.unwrap().value.clone())));
    written.await.unwrap();
}

#[tokio::test]
async fn a_restart_finds_objects_versions_and_events() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let first = put(&store, "a", 1).await;
    put(&store, "a", 2).await;
    put(&store, "b", 1).await;
    remove(&store, "b").await;
    let (events, _) = store.events_after(1000, 100).unwrap();
    let listing = store.list("things", "");
    drop(store);

    let store = open(dir.path());

    assert_eq!(store.version(), 1004);
    assert_eq!(store.list("things", "").objects, listing.objects);
    assert_eq!(store.events_after(1000, 100).unwrap().0, events);
    assert_eq!(first.value["metadata"]["resourceVersion"], "1001");
    assert_eq!(put(&store, "c", 1).await.value["metadata"]["resourceVersion"], "1005");
}

#[tokio::test]
async fn a_refused_write_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a", 1).await;

    let refused = store.submit(key("a"), |_, _| Err(Status::bad_request("no")));
    assert_eq!(refused.await.unwrap_err().code, 400);
    let trial = store.submit(key("b"), |_, _| Ok(Decision::Answer(object("b", 1))));
    assert_eq!(trial.await.unwrap().object().value["size"], 1);
    let same = store.submit(key("a"), |_, _| Ok(Decision::Same));
    assert_eq!(same.await.unwrap().object().value["size"], 1);

    assert_eq!(store.version(), 1001);
    assert_eq!(store.list("things", "").objects.len(), 1);
}

#[tokio::test]
async fn writes_that_share_a_commit_see_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "counter", 0).await;
    let add = |current: Option<&Object>, _| {
        let mut value = current.unwrap().value.clone();
        value["size"] = (value["size"].as_u64().unwrap() + 1).into();
        Ok(Decision::Put(value))
    };

    let adds = (0..200).map(|_| store.submit(key("counter"), add));
    futures::future::join_all(adds).await;

    assert_eq!(store.get(&key("counter")).unwrap().value["size"], 200);
    assert_eq!(store.version(), 1201);
}

#[tokio::test]
async fn a_list_keeps_to_its_kind_and_namespace() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for (kind, namespace) in [("things", "x"), ("things", "xy"), ("thingsandmore", "x")] {
        let key = Key::new(kind, namespace, "a");
        let put = store.submit(key, |_, _| Ok(Decision::Put(object("a", 1))));
        put.await.unwrap();
    }

    assert_eq!(store.list("things", "").objects.len(), 2);
    assert_eq!(store.list("things", "x").objects.len(), 1);
    assert_eq!(store.list("thing", "").objects.len(), 0);
}

fn event(version: u64) -> Arc<Event> {
    let object = object("a", version);
    Arc::new(Event::new(version, key("a"), Change::Added, &object, None))
}

#[test]
fn the_ring_keeps_the_last_events_and_says_when_it_has_not() {
    let mut ring = Ring::new(10);
    assert_eq!(ring.after(9, 10), Err(TooOld));
    assert_eq!(ring.after(10, 10), Ok(Vec::new()));
    let mut last = 10;
    while ring.excess().is_none() {
        last += 1;
        ring.push(event(last));
    }

    ring.trim(ring.excess().unwrap());

    let oldest = last - KEPT as u64;
    assert_eq!(ring.after(oldest - 1, 1), Err(TooOld));
    assert_eq!(ring.after(oldest, 1).unwrap()[0].version, oldest + 1);
    assert_eq!(ring.after(oldest, usize::MAX).unwrap().len(), KEPT);
    assert_eq!(ring.excess(), None);
}

#[tokio::test]
async fn the_log_on_disk_is_trimmed_with_the_ring() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let writes = (0..KEPT + 2_000).map(|size| put(&store, "a", size as u64));
    futures::stream::StreamExt::collect::<Vec<_>>(futures::stream::StreamExt::buffer_unordered(
        futures::stream::iter(writes),
        1_000,
    ))
    .await;
    drop(store);

    let store = open(dir.path());

    assert_eq!(store.events_after(1000, 1), Err(TooOld));
    let recent = store.version() - 1_000;
    assert_eq!(store.events_after(recent, 2_000).unwrap().0.len(), 1_000);
}

#[test]
fn an_event_sends_the_object_as_it_is() {
    let event = event(7);
    let line: Value = serde_json::from_slice(&event.line).unwrap();
    assert_eq!(line, json!({"type": "ADDED", "object": object("a", 7)}));
    assert_eq!(event.json(), object("a", 7).to_string());
}

#[test]
fn pages_are_kept_a_minute_and_for_their_own_query() {
    let listing = || Listing {
        version: 5,
        objects: (0..5).map(|n| Arc::new(Object::new(object("a", n)))).collect(),
    };
    let (pages, start) = (Pages::default(), Instant::now());
    let first = pages.first("q", listing(), 2, start);
    let (token, left) = first.rest.unwrap();
    assert_eq!((first.objects.len(), left), (2, 3));

    let second = pages.next("q", &token, 2, start).unwrap();
    assert_eq!(second.objects[0].value["size"], 2);
    assert_eq!(second.rest.as_ref().unwrap().1, 1);
    assert_eq!(pages.next("other", &token, 2, start).unwrap_err().code, 400);
    assert_eq!(pages.next("q", &token, 0, start).unwrap().objects.len(), 3);
    let late = start + Duration::from_secs(61);
    assert_eq!(pages.next("q", &token, 2, late).unwrap_err().code, 410);
    assert!(pages.first("q", listing(), 5, start).rest.is_none());
}

#[test]
fn a_directory_belongs_to_one_opener() {
    let dir = tempfile::tempdir().unwrap();
    let lock = Lock::take(dir.path()).unwrap();
    assert!(matches!(Lock::take(dir.path()), Err(DiskError::InUse(_))));
    drop(lock);
    assert!(Lock::take(dir.path()).is_ok());
}
