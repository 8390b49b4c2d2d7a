//! Gathers what only this machine knows, for the plan.

mod preshared;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::Context;
use cni::{DeviceRecords, Reservations};
use ipnet::IpNet;
use keys::PresharedKey;

use crate::{
    datapath::Engine,
    kernel::{Kernel, sysctl, underlay::Choice},
    options::Run,
    plan::{Facts, Heard, PodRoute},
    view::{Backend, View},
};

/// Where the operator says that this node is reached.
pub fn choice(options: &Run) -> Choice {
    match (&options.interface, options.endpoint.as_slice()) {
        (Some(device), _) => Choice::Device(device.clone()),
        (None, []) => Choice::DefaultRoute,
        (None, endpoints) => Choice::Addresses(endpoints.iter().map(|e| e.address).collect()),
    }
}

pub async fn gather(
    kernel: &Kernel,
    options: &Run,
    view: &View,
    heard: Heard,
) -> anyhow::Result<Facts> {
    let devices = devices(kernel, &options.state.directory).await?;
    let pod_devices = kernel.pod_devices().await?;
    Ok(Facts {
        node: options.node.clone(),
        tun: options.tun.clone(),
        underlay: kernel.underlay(&choice(options), &devices).await?,
        ipv6: sysctl::has_ipv6(),
        foreign: kernel.foreign_devices().await?,
        pods: pods(&pod_devices, &options.state.directory)?,
        has_pods: !pod_devices.is_empty() || !devices.is_empty(),
        devices,
        preshared: preshared_keys(view),
        heard,
        rotates: Engine::from(options.engine) == Engine::Native,
        backend: options.backend,
        keepalive: options.keepalive.map(|seconds| Duration::from_secs(seconds.into())),
        on_link: on_link(kernel, options, view).await?,
        networks: kernel.networks(announced(options, view)).await?,
        chosen: BTreeMap::new(),
        silent: BTreeSet::new(),
    })
}

impl Facts {
    /// The same machine, told of another view. Not where links are asked for.
    pub(crate) fn told_of(self, view: &View, heard: Heard) -> Self {
        Self { preshared: preshared_keys(view), heard, ..self }
    }
}

/// Pods that have an address on file and a device in the kernel: while a pod is being made or
/// taken away it has only one of them.
fn pods(devices: &BTreeSet<String>, state: &Path) -> anyhow::Result<Vec<PodRoute>> {
    let records = Reservations::list(state).context("reading the pods' reservations")?;
    let present = records.into_iter().filter(|record| devices.contains(&record.host_device));
    let routes = present.flat_map(|record| {
        let device = record.host_device;
        record
            .addresses
            .into_iter()
            .map(move |address| PodRoute { address, device: device.clone() })
    });
    Ok(routes.collect())
}

/// Devices on file and in the kernel, that other plugins' pods are behind. One that is gone leaves
/// the file: whoever takes its name next is nobody's pods'. One by which the node leaves may not carry
/// the mesh in clear, whoever else is behind it.
pub(crate) async fn devices(kernel: &Kernel, state: &Path) -> anyhow::Result<BTreeSet<String>> {
    const READING: &str = "reading the records of devices";
    let Some(records) = DeviceRecords::look(state).context(READING)? else {
        return Ok(BTreeSet::new());
    };
    let names = records.names().context(READING)?;
    if names.is_empty() {
        return Ok(names);
    }
    let present = kernel.present(&names).await?;
    for gone in names.iter().filter(|name| !present.contains_key(*name)) {
        records.forget(gone).context("forgetting a device")?;
    }
    for (device, _) in present.iter().filter(|(_, leaves)| **leaves) {
        tracing::warn!(device, "has a default route by now, so it is no pods' device any more");
    }
    Ok(present.into_iter().filter(|(_, leaves)| !leaves).map(|(device, _)| device).collect())
}

fn announced<'a>(options: &Run, view: &'a View) -> &'a [IpNet] {
    view.nodes.get(&options.node).map_or(&[], |node| &node.announced)
}

/// Whether the plan depends on the routing table: which routes lead to others' endpoints, or to what
/// this node announces.
pub(crate) fn asks_for_links(options: &Run, view: &View) -> bool {
    asks_for_endpoints(options, view) || !announced(options, view).is_empty()
}

fn asks_for_endpoints(options: &Run, view: &View) -> bool {
    let wanted = view.carriers(options.backend).contains(&Backend::Direct);
    wanted && view.permits_clear()
}

/// Asks the routing table once for each endpoint, where the answers are needed.
async fn on_link(
    kernel: &Kernel,
    options: &Run,
    view: &View,
) -> anyhow::Result<BTreeMap<IpAddr, String>> {
    if !asks_for_endpoints(options, view) {
        return Ok(BTreeMap::new());
    }
    let others = view.nodes.iter().filter(|(name, _)| **name != options.node);
    let endpoints = others.flat_map(|(_, node)| &node.endpoints).map(SocketAddr::ip);
    Ok(kernel.on_link(endpoints.collect()).await?)
}

fn preshared_keys(view: &View) -> BTreeMap<String, PresharedKey> {
    let mut keys = BTreeMap::new();
    for (name, peer) in &view.peers {
        let Some(path) = &peer.preshared_key_file else {
            continue;
        };
        match preshared::read(path) {
            Ok(key) => drop(keys.insert(name.clone(), key)),
            Err(error) => tracing::debug!(peer = ?name, %error, "preshared key not read"),
        }
    }
    keys
}
