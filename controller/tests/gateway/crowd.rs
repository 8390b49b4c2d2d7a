//! How soon a change reaches everybody who watches. Printed; with `HAWSER_LONG=1` for a crowd.

use std::time::Duration;

use api::MeshNode;
use http::Request;
use http_body_util::BodyExt;
use kube::Api;
use kube::api::PostParams;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::world::{LIFE, Machine, SOON, World, send};

/// As many as a machine may hold.
const EACH: usize = 16;
const CHANGES: usize = 20;

/// Tells of every line of a watch.
async fn follow(world: &World, machine: &Machine, told: mpsc::UnboundedSender<Instant>) {
    let mut sender = world.connect(Some(machine)).await.unwrap();
    let list = world.list(machine, "meshnodes").await.body;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
    let path = format!("/apis/hawser.dev/v1alpha1/meshnodes?watch=1&resourceVersion={version}");
    let mut body = send(&mut sender, Request::get(path), "").await.into_body();
    tokio::spawn(async move {
        let _connection = sender;
        while let Some(Ok(_)) = body.frame().await {
            if told.send(Instant::now()).is_err() {
                return;
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_every_watch_soon() {
    let long = std::env::var("HAWSER_LONG").is_ok_and(|value| value == "1");
    let machines = if long { 100 } else { 5 };
    let world = World::start(LIFE).await;
    let mut members = Vec::new();
    for number in 0..machines {
        members.push(world.machine(number, &format!("edge-{number}")).await);
    }
    let (told, mut heard) = mpsc::unbounded_channel();
    for member in &members {
        for _ in 0..EACH {
            follow(&world, member, told.clone()).await;
        }
    }
    let watches = members.len() * EACH;
    let nodes: Api<MeshNode> = Api::all(world.server.client.clone());
    let mut delays = Vec::new();
    for change in 0..CHANGES {
        let node = MeshNode::new(&format!("new-{change}"), Default::default());
        nodes.create(&PostParams::default(), &node).await.unwrap();
        let written = Instant::now();
        for _ in 0..watches {
            let at = timeout(SOON, heard.recv()).await.unwrap().unwrap();
            delays.push(at.saturating_duration_since(written));
        }
    }

    delays.sort();
    let percentile = |p: usize| delays[(delays.len() - 1) * p / 100];
    println!(
        "{watches} watches: a change reaches them after {:?} (p50), {:?} (p99), {:?} (all)",
        percentile(50),
        percentile(99),
        percentile(100)
    );
    assert!(percentile(99) < Duration::from_secs(2), "{:?}", percentile(99));
}
