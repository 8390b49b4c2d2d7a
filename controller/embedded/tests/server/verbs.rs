use crate::harness::*;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_can_be_created_once() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let mut attempts = Vec::new();
    for index in 0..20 {
        let client = running.client.clone();
        let claim = claim("10-42-1-0-24", "10.42.1.0/24", &format!("node-{index}"));
        attempts.push(tokio::spawn(async move { ask(&client, "POST", CLAIMS, claim).await.0 }));
    }

    let mut codes = Vec::new();
    for attempt in attempts {
        codes.push(attempt.await.unwrap());
    }

    codes.sort_unstable();
    assert_eq!(codes[0], 201);
    assert!(codes[1..].iter().all(|code| *code == 409), "{codes:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_from_a_stale_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let client = &running.client;
    let (_, first) = ask(client, "POST", NODES, node("a")).await;
    let path = format!("{NODES}/a");
    let (code, _) = ask(client, "PATCH", &path, json!({"spec": {"site": "x"}})).await;
    assert_eq!(code, 200);

    let (put, refusal) = ask(client, "PUT", &path, first.clone()).await;
    let stale = json!({
        "metadata": {"resourceVersion": first["metadata"]["resourceVersion"]},
        "spec": {"site": "y"},
    });
    let (patch, _) = ask(client, "PATCH", &path, stale).await;

    assert_eq!((put, patch), (409, 409));
    assert_eq!(refusal["reason"], "Conflict");
    assert_eq!(get(client, &path).await.1["spec"]["site"], "x");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_path_changes_the_status_alone_and_the_main_path_all_else() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let client = &running.client;
    let mut with_status = node("a");
    with_status["status"] = json!({"version": "made-up"});
    let (_, created) = ask(client, "POST", NODES, with_status).await;
    assert!(created.get("status").is_none());
    let path = format!("{NODES}/a");

    let both = json!({"spec": {"site": "x"}, "status": {"version": "1"}});
    let (_, by_status) = ask(client, "PATCH", &format!("{path}/status"), both.clone()).await;
    assert_eq!(by_status["status"]["version"], "1");
    assert!(by_status["spec"].get("site").is_none());
    assert_eq!(by_status["metadata"]["generation"], 1);

    let other = json!({"spec": {"site": "x"}, "status": {"version": "2"}});
    let (_, by_main) = ask(client, "PATCH", &path, other).await;
    assert_eq!(by_main["status"]["version"], "1");
    assert_eq!(by_main["spec"]["site"], "x");
    assert_eq!(by_main["metadata"]["generation"], 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_changes_nothing_gets_no_version() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let client = &running.client;
    let (_, created) = ask(client, "POST", NODES, node("a")).await;
    let path = format!("{NODES}/a");

    let (_, again) = ask(client, "PUT", &path, created.clone()).await;
    let (_, dry) =
        ask(client, "PATCH", &format!("{path}?dryRun=All"), json!({"spec": {"site": "x"}})).await;

    assert_eq!(again, created);
    assert_eq!(dry["spec"]["site"], "x");
    assert_eq!(get(client, &path).await.1, created);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finalizer_holds_an_object_until_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let client = &running.client;
    let mut held = node("a");
    held["metadata"]["finalizers"] = json!(["hawser.dev/subnets"]);
    ask(client, "POST", NODES, held).await;
    let path = format!("{NODES}/a");

    let (_, marked) = ask(client, "DELETE", &path, Value::Null).await;
    assert_eq!(marked["kind"], "MeshNode");
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let (code, _) =
        ask(client, "PATCH", &path, json!({"metadata": {"finalizers": ["a.b/c"]}})).await;
    assert_eq!(code, 422);
    assert_eq!(get(client, &path).await.0, 200);

    ask(client, "PATCH", &path, json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(get(client, &path).await.0, 404);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_for_trial_deletes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let client = &running.client;
    let (_, created) = ask(client, "POST", NODES, node("a")).await;
    let path = format!("{NODES}/a");

    let (trial, _) = ask(client, "DELETE", &path, json!({"dryRun": ["All"]})).await;
    assert_eq!(trial, 200);
    assert_eq!(get(client, &path).await.0, 200);

    let wrong = json!({"preconditions": {"uid": "another"}});
    assert_eq!(ask(client, "DELETE", &path, wrong).await.0, 409);
    let right = json!({"preconditions": {"uid": created["metadata"]["uid"]}});
    assert_eq!(ask(client, "DELETE", &path, right).await.0, 200);
    assert_eq!(get(client, &path).await.0, 404);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_of_a_list_show_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let client = &running.client;
    for index in 0..5 {
        ask(client, "POST", NODES, node(&format!("n{index}"))).await;
    }

    let (_, first) = get(client, &format!("{NODES}?limit=2")).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    ask(client, "DELETE", &format!("{NODES}/n3"), Value::Null).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let (_, rest) = get(client, &format!("{NODES}?continue={token}")).await;

    assert_eq!(version(&rest), version(&first));
    let names: Vec<_> = rest["items"].as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 3);
    assert_eq!(rest["items"][1]["metadata"]["name"], "n3");
    assert_eq!(get(client, &format!("{NODES}?continue=bm9uc2Vuc2U")).await.0, 400);
    assert_eq!(get(client, &format!("{NODES}?continue=MS4xLjE")).await.0, 410);
    running.stop().await;
}
