use crate::harness::*;
use jiff::Timestamp;
use serde_json::{Value, json};

const MESH: &str = "/apis/hawser.dev/v1alpha1/meshes";

fn mesh() -> Value {
    json!({
        "apiVersion": "hawser.dev/v1alpha1", "kind": "Mesh", "metadata": {"name": "default"},
        "spec": {"pools": [{"cidr": "10.42.0.0/16", "nodePrefixLength": 24}]},
    })
}

/// A server with one claim, a live backup, and then a second claim.
async fn claims_around_a_backup(dir: &std::path::Path, out: &std::path::Path) {
    let running = start(dir).await;
    let client = &running.client;
    assert_eq!(ask(client, "POST", MESH, mesh()).await.0, 201);
    ask(client, "POST", NODES, node("a")).await;
    ask(client, "POST", NODES, node("gone")).await;
    ask(client, "POST", CLAIMS, claim("10-42-0-0-24", "10.42.0.0/24", "a")).await;
    embedded::backup(dir, out).await.unwrap();
    let later = claim("10-42-1-0-24", "10.42.1.0/24", "b");
    assert_eq!(ask(client, "POST", CLAIMS, later).await.0, 201);
    let revoked = json!({"spec": {"revoked": true}});
    ask(client, "PATCH", &format!("{NODES}/a"), revoked).await;
    ask(client, "POST", NODES, node("b")).await;
    let gone = ask(client, "DELETE", &format!("{NODES}/gone"), Value::Null).await;
    assert_eq!(gone.0, 200);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_place_keeps_the_claims_made_since() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("backup"));
    claims_around_a_backup(&data, &out).await;

    let report = embedded::restore(&data, &out, Timestamp::now()).unwrap();

    assert_eq!(report.claims_carried_over, 1);
    assert!(!report.allocation_paused);
    let running = start(&data).await;
    let (_, claims) = get(&running.client, CLAIMS).await;
    assert_eq!(claims["items"].as_array().unwrap().len(), 2);
    let (_, a) = get(&running.client, &format!("{NODES}/a")).await;
    assert_eq!(a["spec"]["revoked"], true, "a restore lets nobody in again");
    let joined_since = get(&running.client, &format!("{NODES}/b")).await;
    assert_eq!(joined_since.0, 200);
    assert_eq!(report.nodes_returned, ["gone"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_elsewhere_pauses_allocation() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("backup"));
    claims_around_a_backup(&data, &out).await;
    let elsewhere = dir.path().join("elsewhere");

    let report = embedded::restore(&elsewhere, &out, Timestamp::now()).unwrap();

    assert!(report.allocation_paused);
    let running = start(&elsewhere).await;
    let (_, mesh) = get(&running.client, &format!("{MESH}/default")).await;
    assert!(mesh["metadata"]["annotations"][embedded::RESTORED_AT].is_string());
    assert_eq!(get(&running.client, &format!("{CLAIMS}/10-42-0-0-24")).await.0, 200);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restore_every_client_lists_again() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("backup"));
    claims_around_a_backup(&data, &out).await;
    let running = start(&data).await;
    let (_, before) = get(&running.client, NODES).await;
    running.stop().await;

    embedded::restore(&data, &out, Timestamp::now()).unwrap();

    let running = start(&data).await;
    let (_, after) = get(&running.client, NODES).await;
    assert!(version(&after) > version(&before));
    let from = version(&before);
    let path = format!("{NODES}?watch=1&timeoutSeconds=5&resourceVersion={from}");
    let events = watch(&running.client, &path).await;
    assert_eq!(events[0]["object"]["code"], 410);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_server_is_trusted_by_who_trusted_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("backup"));
    claims_around_a_backup(&data, &out).await;
    let authority = |dir: &std::path::Path| {
        let text = std::fs::read_to_string(dir.join("admin.kubeconfig")).unwrap();
        text.lines().find(|line| line.contains("certificate-authority-data")).unwrap().to_owned()
    };
    let first = authority(&data);
    let elsewhere = dir.path().join("elsewhere");

    embedded::restore(&elsewhere, &out, Timestamp::now()).unwrap();
    start(&elsewhere).await.stop().await;

    assert_eq!(authority(&elsewhere), first);
    let fresh = dir.path().join("fresh");
    start(&fresh).await.stop().await;
    assert_ne!(authority(&fresh), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_can_be_taken_without_a_server_and_a_restore_not_under_one() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (dir.path().join("data"), dir.path().join("backup"));
    claims_around_a_backup(&data, &out).await;

    embedded::backup(&data, &out).await.unwrap();

    let running = start(&data).await;
    let refused = embedded::restore(&data, &out, Timestamp::now()).unwrap_err();
    assert!(refused.to_string().contains("in use"), "{refused}");
    running.stop().await;
    let report = embedded::restore(&data, &out, Timestamp::now()).unwrap();
    assert_eq!(report.claims_carried_over, 0);
    let nothing = dir.path().join("nothing");
    assert!(embedded::backup(&nothing, &out).await.is_err());
}
