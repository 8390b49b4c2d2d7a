//! Reads what the mesh must agree with: kube-proxy, Services, the server's clock. Whatever these
//! credentials may not see, or the server does not have, is left out.

use hyper::http::{Request, header::DATE};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use kube::client::Body;
use serde_json::Value;

use crate::{
    cluster::Cluster,
    exit::Failure,
    view::surroundings::{self, Surroundings},
};

const PROXY_CONFIG: &str = "/api/v1/namespaces/kube-system/configmaps/kube-proxy";
const PROXY: &str = "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy";
const SERVICE_RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const SERVICE: &str = "/api/v1/namespaces/default/services/kubernetes";

pub(super) async fn read(cluster: &Cluster) -> Result<Surroundings, Failure> {
    let mesh = cluster.mesh().await?;
    let (pools, named_services) = mesh.map_or_else(Default::default, |mesh| {
        let pools = mesh.spec.pools.iter().map(|pool| pool.cidr.as_str());
        (nets(pools), nets(mesh.spec.service_cidrs.iter().map(String::as_str)))
    });
    let pods = surroundings::of_config_map(&get(cluster, PROXY_CONFIG).await);
    let pods = match pods[..] {
        [] => surroundings::of_daemon_set(&get(cluster, PROXY).await),
        _ => pods,
    };
    let services = surroundings::of_service_cidrs(&get(cluster, SERVICE_RANGES).await);
    let services = match services[..] {
        [] => surroundings::of_service(&get(cluster, SERVICE).await),
        _ => services,
    };
    let clock = ahead(cluster).await;
    Ok(Surroundings { pools, named_services, pods, services, clock })
}

fn nets<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<IpNet> {
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// Null where there is none.
async fn get(cluster: &Cluster, path: &str) -> Value {
    let Ok(request) = Request::get(path).body(Vec::new()) else {
        return Value::Null;
    };
    let answer = cluster.client.request::<Value>(request);
    cluster.ask(&format!("get {path}"), answer).await.unwrap_or_default()
}

/// How far this machine's clock is ahead, by the `Date` of an answer.
async fn ahead(cluster: &Cluster) -> Option<SignedDuration> {
    let request = Request::get("/version").body(Body::empty()).ok()?;
    let answer = cluster.ask("get /version", cluster.client.send(request)).await.ok()?;
    let date = answer.headers().get(DATE)?.to_str().ok()?;
    let theirs = rfc2822::parse(date).ok()?.timestamp();
    Some(Timestamp::now().duration_since(theirs))
}
