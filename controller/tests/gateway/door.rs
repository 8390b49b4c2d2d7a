//! What a machine that is in may do, and how fast it is thrown out.

use std::time::Duration;

use api::MeshNode;
use http::Request;
use http_body_util::BodyExt;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::world::{LIFE, SOON, World, answer, send};

const BASE: &str = "/apis/hawser.dev/v1alpha1";
const MERGE: &str = "application/merge-patch+json";

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_reads_the_mesh_writes_its_own_status_and_nothing_else() {
    let world = World::start(LIFE).await;
    let machine = world.machine(1, "edge-1").await;
    world.machine(2, "edge-2").await;
    let patch = |path: &str| {
        let body = json!({"spec": {"site": "mine"}, "status": {"mtu": 1400}}).to_string();
        let request = Request::patch(format!("{BASE}/{path}")).header("content-type", MERGE);
        world.ask(Some(&machine), request, body)
    };

    for plural in ["meshes", "meshnodes", "meshpeers", "keyrotations"] {
        assert_eq!(world.list(&machine, plural).await.code, 200, "{plural}");
    }
    assert_eq!(patch("meshnodes/edge-1/status").await.code, 200);
    let own =
        world.nodes().await.into_iter().find(|n| n.metadata.name.as_deref() == Some("edge-1"));
    let own = own.unwrap();
    assert_eq!((own.status.unwrap().mtu, own.spec.site), (Some(1400), None));

    for path in
        ["meshnodes/edge-2/status", "meshnodes/edge-1", "meshes/default", "meshes/default/status"]
    {
        assert_eq!(patch(path).await.code, 403, "{path}");
    }
    for plural in ["jointokens", "subnetclaims"] {
        assert_eq!(world.list(&machine, plural).await.code, 403, "{plural}");
    }
    for (request, code) in [
        (Request::delete(format!("{BASE}/meshnodes/edge-1")), 403),
        (Request::post(format!("{BASE}/meshnodes")), 403),
        (Request::put(format!("{BASE}/meshnodes/edge-1/status")), 405),
        (Request::get("/api/v1/secrets"), 404),
        (Request::get("/apis/coordination.k8s.io/v1/namespaces/default/leases"), 404),
        (Request::get("/hawser/backup"), 404),
        (Request::get(format!("{BASE}/meshnodes?fieldSelector=metadata.name%3Da")), 400),
    ] {
        let said = world.ask(Some(&machine), request, "{}").await;
        assert_eq!(said.code, code, "{}", said.body);
    }
    assert_eq!(world.ask(None, Request::get(format!("{BASE}/meshnodes")), "").await.code, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_machine_is_cut_off_in_its_watch_and_at_every_question() {
    let world = World::start(LIFE).await;
    let machine = world.machine(1, "edge-1").await;
    let mut sender = world.connect(Some(&machine)).await.unwrap();
    let watch = Request::get(format!("{BASE}/meshpeers?watch=true"));
    let mut lines = send(&mut sender, watch, "").await.into_body();
    assert!(timeout(Duration::from_millis(200), lines.frame()).await.is_err(), "nothing to tell");

    let nodes: Api<MeshNode> = Api::all(world.server.client.clone());
    let patch = json!({"spec": {"revoked": true}});
    nodes.patch("edge-1", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let begun = Instant::now();
    let last = timeout(SOON, lines.frame()).await.unwrap().unwrap().unwrap();
    let cut = begun.elapsed();

    let event: Value = serde_json::from_slice(last.data_ref().unwrap()).unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(401)));
    assert!(cut < Duration::from_secs(2), "{cut:?}");
    assert!(lines.frame().await.is_none());
    let asked = world.list(&machine, "meshnodes").await;
    assert_eq!(asked.code, 401, "{}", asked.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_every_watching_machine_and_a_cut_watch_goes_on_where_it_was() {
    let world = World::start(LIFE).await;
    let machine = world.machine(1, "edge-1").await;
    let list = world.list(&machine, "meshnodes").await.body;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let nodes: Api<MeshNode> = Api::all(world.server.client.clone());
    for name in ["a", "b", "c"] {
        let node = MeshNode::new(name, Default::default());
        nodes.create(&PostParams::default(), &node).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut from = version;
    let begun = Instant::now();
    // A watch of one second after the other: each is cut by its time.
    while seen.len() < 3 && begun.elapsed() < SOON {
        let mut sender = world.connect(Some(&machine)).await.unwrap();
        let watch = format!("{BASE}/meshnodes?watch=1&timeoutSeconds=1&resourceVersion={from}");
        let body = send(&mut sender, Request::get(watch), "").await.into_body();
        let text = body.collect().await.unwrap().to_bytes();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let event: Value = serde_json::from_slice(line).unwrap();
            let metadata = &event["object"]["metadata"];
            from = metadata["resourceVersion"].as_str().unwrap().to_owned();
            seen.push(format!("{} {}", event["type"], metadata["name"]));
        }
    }

    assert_eq!(seen, [r#""ADDED" "a""#, r#""ADDED" "b""#, r#""ADDED" "c""#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_machine_that_asks_too_often_waits_and_the_others_do_not() {
    let world = World::start(LIFE).await;
    let greedy = world.machine(1, "edge-1").await;
    let modest = world.machine(2, "edge-2").await;
    let mut sender = world.connect(Some(&greedy)).await.unwrap();
    let mut codes = Vec::new();
    for _ in 0..300 {
        let list = Request::get(format!("{BASE}/meshes"));
        codes.push(answer(&mut sender, list, "").await.code);
    }

    assert!(codes.iter().filter(|code| **code == 429).count() > 100, "{codes:?}");
    assert_eq!(world.list(&modest, "meshes").await.code, 200);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.list(&greedy, "meshes").await.code, 200);
}
