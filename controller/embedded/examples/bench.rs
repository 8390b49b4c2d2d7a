//! Measures the server in this process over real TLS connections on loopback.
//!
//! `cargo run --release -p embedded --example bench`: writes a second, the way of one event to
//! 1,000 watchers, and lists of 10,000 MeshNodes.

use anyhow::{Context, ensure};
use embedded::{Client, Options, Server};
use futures::future::join_all;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const NODES: &str = "/apis/hawser.dev/v1alpha1/meshnodes";
const WATCHERS: usize = 1_000;
const LISTED: usize = 10_000;
const MEASURE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("hawser-bench-{}", std::process::id()));
    let options = Options { crds: api::crds(), names: Vec::new() };
    let server = Server::open(&dir, options)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    server.write_kubeconfig(listener.local_addr()?).await?;
    let client = Client::from_kubeconfig(&server.kubeconfig())?;
    let serving = tokio::spawn(server.serve(listener, std::future::pending()));

    for writers in [1, 16, 128] {
        writes(&client, writers).await?;
    }
    fan_out(&client).await?;
    lists(&client).await?;
    serving.abort();
    std::fs::remove_dir_all(&dir).context("removing the directory")
}

fn node(name: &str) -> Value {
    json!({
        "apiVersion": "hawser.dev/v1alpha1", "kind": "MeshNode", "metadata": {"name": name},
        "spec": {"subnets": ["10.42.1.0/24", "fd42:0:0:1::/64"]},
    })
}

fn status(count: usize) -> String {
    json!({"status": {
        "publicKeys": [{"epoch": 1, "publicKey": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}],
        "endpoints": ["192.0.2.1:51820", "[2001:db8::1]:51820"],
        "version": count.to_string(),
    }})
    .to_string()
}

async fn post(client: &Client, names: Vec<String>) -> anyhow::Result<()> {
    let mut connection = client.connect().await?;
    for name in names {
        let body = node(&name).to_string();
        let answer = connection.request("POST", NODES, "application/json", body).await?;
        ensure!(answer.status == 201, "{}: {:?}", answer.status, answer.body);
    }
    Ok(())
}

async fn writes(client: &Client, writers: usize) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    let until = Instant::now() + MEASURE;
    for writer in 0..writers {
        let client = client.clone();
        tasks.spawn(async move {
            let name = format!("writer-{writers}-{writer}");
            post(&client, vec![name.clone()]).await?;
            let mut connection = client.connect().await?;
            let path = format!("{NODES}/{name}/status");
            let mut count = 0;
            while Instant::now() < until {
                let kind = "application/merge-patch+json";
                let answer = connection.request("PATCH", &path, kind, status(count)).await?;
                ensure!(answer.status == 200, "{}: {:?}", answer.status, answer.body);
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut total = 0;
    while let Some(count) = tasks.join_next().await {
        total += count??;
    }
    println!(
        "status patches, {writers} writers: {:.0} a second, each on disk when acknowledged",
        total as f64 / MEASURE.as_secs_f64()
    );
    Ok(())
}

async fn fan_out(client: &Client) -> anyhow::Result<()> {
    const ROUNDS: usize = 20;
    let list = client.request("GET", NODES, "", "").await?;
    let list: Value = serde_json::from_slice(&list.body)?;
    let version = list["metadata"]["resourceVersion"].as_str().context("a version")?.to_owned();
    let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let mut connection = client.connect().await?;
        let mut request = http::Request::new(Full::default());
        *request.uri_mut() = format!("{NODES}?watch=1&resourceVersion={version}").parse()?;
        let mut response = connection.send(request).await?;
        let arrived = arrived.clone();
        watchers.spawn(async move {
            let _open = connection;
            while let Some(Ok(frame)) = response.body_mut().frame().await {
                let Some(data) = frame.data_ref() else {
                    continue;
                };
                let lines = data.split(|byte| *byte == b'\n').count() - 1;
                for _ in 0..lines {
                    // The receiver goes first, at the end of the measurement.
                    let _ = arrived.send(Instant::now());
                }
            }
        });
    }
    let mut last = Vec::new();
    let mut connection = client.connect().await?;
    let path = format!("{NODES}/writer-1-0/status");
    for round in 0..ROUNDS {
        let sent = Instant::now();
        let body = status(1_000_000 + round);
        let kind = "application/merge-patch+json";
        connection.request("PATCH", &path, kind, body).await?;
        for _ in 0..WATCHERS {
            arrivals.recv().await.context("a watcher ended")?;
        }
        last.push(sent.elapsed());
    }
    last.sort_unstable();
    println!(
        "one change to {WATCHERS} watchers: all have it after {:?} (median), {:?} (worst of {ROUNDS})",
        last[ROUNDS / 2],
        last[ROUNDS - 1]
    );
    watchers.shutdown().await;
    Ok(())
}

async fn lists(client: &Client) -> anyhow::Result<()> {
    let names: Vec<String> = (0..LISTED).map(|index| format!("node-{index}")).collect();
    let started = Instant::now();
    let posts = names.chunks(LISTED / 64).map(|names| post(client, names.to_vec()));
    join_all(posts).await.into_iter().collect::<anyhow::Result<()>>()?;
    let created = started.elapsed();
    println!("creating {LISTED} MeshNodes over 64 connections: {created:.1?}");
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    for (what, accept) in [("objects", "application/json"), ("a table", table)] {
        let mut connection = client.connect().await?;
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..5 {
            let mut request = http::Request::new(Full::default());
            *request.uri_mut() = NODES.parse()?;
            request.headers_mut().insert(http::header::ACCEPT, accept.parse()?);
            let started = Instant::now();
            let response = connection.send(request).await?;
            bytes = response.into_body().collect().await?.to_bytes().len();
            times.push(started.elapsed());
        }
        times.sort_unstable();
        println!("list of {LISTED} as {what}: {:?} (median), {bytes} bytes", times[2]);
    }
    Ok(())
}
