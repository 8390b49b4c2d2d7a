//! A server in this process, and a client that speaks JSON.

use embedded::{Client, Options, Server};
use serde_json::{Value, json};
use std::path::Path;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const NODES: &str = "/apis/hawser.dev/v1alpha1/meshnodes";
pub(crate) const CLAIMS: &str = "/apis/hawser.dev/v1alpha1/subnetclaims";
pub(crate) const MERGE: &str = "application/merge-patch+json";

pub(crate) struct Running {
    pub(crate) client: Client,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

pub(crate) fn open(dir: &Path) -> Result<Server, embedded::OpenError> {
    Server::open(dir, Options { crds: api::crds(), names: Vec::new() })
}

pub(crate) async fn start(dir: &Path) -> Running {
    let server = open(dir).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    server.write_kubeconfig(listener.local_addr().unwrap()).await.unwrap();
    let client = Client::from_kubeconfig(&server.kubeconfig()).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let shutdown = async { drop(stopped.await) };
        server.serve(listener, shutdown).await.unwrap();
    });
    Running { client, stop, task }
}

impl Running {
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

/// One request with a JSON body; the code and the JSON that came back.
pub(crate) async fn ask(client: &Client, method: &str, path: &str, body: Value) -> (u16, Value) {
    let kind = if method == "PATCH" { MERGE } else { "application/json" };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = client.request(method, path, kind, body).await.unwrap();
    let value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    (answer.status.as_u16(), value)
}

pub(crate) async fn get(client: &Client, path: &str) -> (u16, Value) {
    ask(client, "GET", path, Value::Null).await
}

pub(crate) fn node(name: &str) -> Value {
    json!({
        "apiVersion": "hawser.dev/v1alpha1", "kind": "MeshNode", "metadata": {"name": name},
        "spec": {"subnets": []},
    })
}

pub(crate) fn claim(name: &str, subnet: &str, node: &str) -> Value {
    json!({
        "apiVersion": "hawser.dev/v1alpha1", "kind": "SubnetClaim", "metadata": {"name": name},
        "spec": {"subnet": subnet, "generation": 1, "node": node, "nodeUID": "u"},
    })
}

pub(crate) fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// A watch that ends by itself: its events.
pub(crate) async fn watch(client: &Client, path: &str) -> Vec<Value> {
    let answer = client.request("GET", path, "", "").await.unwrap();
    assert_eq!(answer.status.as_u16(), 200, "{:?}", answer.body);
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
