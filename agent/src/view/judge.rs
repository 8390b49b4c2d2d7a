//! From decoded resources to a [`View`]: first each object alone, then all of them together.
//!
//! Whoever held a subnet or a key in the previous view keeps it: a newcomer that claims the same
//! can't push an honest node out. With no previous holder, nobody gets it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use api::{
    MeshNodeSpec, MeshNodeStatus, MeshPeerSpec, MeshSpec, NO_NAT, TlsListener, is_unicast, overlap,
    parse_prefix, published,
};
use ipnet::IpNet;
use keys::{KeyEpoch, PublicKey};

use super::{Complaint, Listener, Node, PlainPeer, Resources, View};

/// What came of the resources.
#[derive(Debug)]
pub struct Judgement {
    /// None while there has never been a usable Mesh.
    pub view: Option<View>,
    pub complaints: Vec<Complaint>,
    pub overlaps: Vec<Overlap>,
}

/// Two objects that claim the same addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    pub first: (String, IpNet),
    pub second: (String, IpNet),
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first: (a, net_a), second: (b, net_b) } = self;
        write!(f, "{net_a} of {a:?} and {net_b} of {b:?} overlap")
    }
}

impl Overlap {
    pub fn complaint(&self) -> Complaint {
        Complaint::new("MeshNode", &self.second.0, self)
    }
}

impl View {
    /// Everybody's prefixes.
    pub fn prefixes(&self) -> Vec<IpNet> {
        let nodes = self.nodes.values();
        let nodes = nodes.flat_map(|node| node.subnets.iter().chain(&node.announced));
        nodes.chain(self.peers.values().flat_map(|peer| &peer.addresses)).copied().collect()
    }

    pub fn judge(resources: &Resources, previous: Option<&View>) -> Judgement {
        let mut complaints = Vec::new();
        let Some(mut view) = frame(resources.mesh.as_ref(), previous, &mut complaints) else {
            return Judgement { view: None, complaints, overlaps: Vec::new() };
        };
        for (name, (spec, status)) in &resources.nodes {
            match node(name, spec, status, &view.pools, &mut complaints) {
                Ok(node) => drop(view.nodes.insert(name.clone(), node)),
                Err(problem) => complaints.push(Complaint::new("MeshNode", name, problem)),
            }
        }
        for (name, spec) in &resources.peers {
            match peer(spec, &view) {
                Ok(peer) => drop(view.peers.insert(name.clone(), peer)),
                Err(problem) => complaints.push(Complaint::new("MeshPeer", name, problem)),
            }
        }
        let overlaps = settle_subnets(&mut view, previous);
        settle_addresses(&mut view, previous);
        leave_the_announced(&mut view);
        refuse_revoked_keys(&mut view, &resources.revoked_keys, &mut complaints);
        settle_keys(&mut view, previous, &mut complaints);
        remember_sealed(&mut view, previous);
        Judgement { view: Some(view), complaints, overlaps }
    }
}

/// The Mesh without anybody in it. An unusable one leaves the previous one in force.
fn frame(
    spec: Option<&MeshSpec>,
    previous: Option<&View>,
    complaints: &mut Vec<Complaint>,
) -> Option<View> {
    let complaint = |problem| Complaint::new("Mesh", api::MESH, problem);
    let old = || {
        let (nodes, peers) = (BTreeMap::new(), BTreeMap::new());
        Some(View { nodes, peers, ..previous?.clone() })
    };
    let Some(spec) = spec else {
        complaints.push(complaint("there is no Mesh".to_owned()));
        return old();
    };
    let pools = spec.pools.iter().map(|pool| parse_prefix(&pool.cidr));
    let pools = pools.collect::<Result<_, _>>().map_err(|problem| format!("pools: {problem}"));
    let pools = pools.and_then(|pools| of_sites(spec).map(|()| pools));
    let max_age = max_age(spec, previous, complaints);
    let return_after = spec.return_after.as_deref().and_then(api::duration);
    let return_after = return_after.unwrap_or_else(api::return_after);
    match pools {
        Ok(pools) => Some(View {
            pools,
            backend: spec.backend,
            encryption: spec.encryption,
            site_encryption: spec.site_encryption.clone(),
            site_gateways: spec.site_gateways.clone(),
            detours: BTreeMap::new(),
            behind: BTreeMap::new(),
            forwards: false,
            fallback: spec.fallback.clone(),
            vxlan_shaped_port: spec.vxlan_shaped_port,
            relay: spec.relay,
            return_after,
            allow_downgrade: spec.allow_downgrade,
            sealed: BTreeSet::new(),
            mtu: spec.mtu,
            nodes: BTreeMap::new(),
            peers: BTreeMap::new(),
            revoked_keys: previous.map(|view| view.revoked_keys.clone()).unwrap_or_default(),
            removing: spec.removing,
            max_age,
        }),
        Err(problem) => {
            complaints.push(complaint(problem));
            old()
        }
    }
}

/// One that names no pair says nothing, and it may have been the one that forbids clear text.
fn of_sites(spec: &MeshSpec) -> Result<(), String> {
    match spec.site_encryption.iter().find(|of| of.pair().is_none()) {
        None => Ok(()),
        Some(of) => {
            Err(format!("siteEncryption: {} sites are named, not one or two", of.sites.len()))
        }
    }
}

/// A bound that cannot be read leaves the one before in force.
fn max_age(
    spec: &MeshSpec,
    previous: Option<&View>,
    complaints: &mut Vec<Complaint>,
) -> Option<Duration> {
    let text = spec.max_view_age.as_deref()?;
    let bound = api::duration(text);
    if bound.is_none() {
        let problem = format!("maxViewAge {text:?} is no time such as 24h");
        complaints.push(Complaint::new("Mesh", api::MESH, problem));
        return previous.and_then(|view| view.max_age);
    }
    bound
}

fn node(
    name: &str,
    spec: &MeshNodeSpec,
    status: &MeshNodeStatus,
    pools: &[IpNet],
    complaints: &mut Vec<Complaint>,
) -> Result<Node, String> {
    let subnets = prefixes(&spec.subnets)?;
    if let Some(greedy) = subnets.iter().find(|net| swallows(net, pools)) {
        return Err(format!("subnet {greedy} would take a whole pool"));
    }
    let (mut keys, bad) = published::public_keys(&status.public_keys);
    complaints.extend(bad.iter().map(|problem| Complaint::new("MeshNode", name, problem)));
    let mut endpoints = Vec::new();
    for text in &status.endpoints {
        match published::endpoint(text, pools) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(problem) => complaints.push(Complaint::new("MeshNode", name, problem)),
        }
    }
    let epoch = KeyEpoch(spec.key_epoch.max(1));
    let epochs: BTreeSet<KeyEpoch> = spec.epochs.iter().copied().map(KeyEpoch).collect();
    if !spec.revoked {
        keys.retain(|(of, _)| epochs.is_empty() || epochs.contains(of));
    }
    keys.sort_by_key(|(of, _)| (*of != epoch, *of));
    let addresses = spec.addresses.iter();
    let (announced, bad) = announced(&spec.routed, pools);
    complaints.extend(bad.iter().map(|problem| Complaint::new("MeshNode", name, problem)));
    Ok(Node {
        announced,
        addresses: addresses.filter_map(|a| published::machine_address(a, pools)).collect(),
        subnets,
        epoch,
        epochs,
        newest: status.newest_epoch.map(KeyEpoch),
        keys,
        endpoints,
        nat: status.nat.clone().filter(|nat| nat != NO_NAT),
        bare: status.nat.as_deref() == Some(NO_NAT),
        site: spec.site.clone(),
        revoked: spec.revoked,
        serves: status.serves.iter().map(|one| (one.peer.clone(), one.turn)).collect(),
        tls: status.tls.as_ref().and_then(|tls| listener(name, tls, pools, complaints)),
        relays: status.relays.clone(),
    })
}

fn listener(
    name: &str,
    tls: &TlsListener,
    pools: &[IpNet],
    complaints: &mut Vec<Complaint>,
) -> Option<Listener> {
    let mut endpoints = Vec::new();
    for text in &tls.endpoints {
        match published::endpoint(text, pools) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(problem) => {
                complaints.push(Complaint::new("MeshNode", name, format!("tls: {problem}")));
            }
        }
    }
    let fingerprint = published::fingerprint(&tls.fingerprint);
    if fingerprint.is_none() {
        let problem = "tls: the fingerprint has not 64 hexadecimal digits";
        complaints.push(Complaint::new("MeshNode", name, problem));
    }
    Some(Listener { endpoints, fingerprint: fingerprint? }).filter(|one| !one.endpoints.is_empty())
}

/// The controller's word, but whatever it says no node gets a part of a pool, or everything.
fn announced(routed: &[String], pools: &[IpNet]) -> (Vec<IpNet>, Vec<String>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for text in routed {
        match parse_prefix(text) {
            Err(problem) => bad.push(problem.to_string()),
            Ok(net) => {
                let pool = pools.iter().any(|pool| overlap(pool, &net));
                if pool || net.prefix_len() == 0 || !is_unicast(&net) {
                    bad.push(format!("{net} is not for a node to announce"));
                } else {
                    good.push(net);
                }
            }
        }
    }
    (good, bad)
}

fn peer(spec: &MeshPeerSpec, view: &View) -> Result<PlainPeer, String> {
    if spec.preshared_key_secret_ref.is_some() {
        return Err("presharedKeySecretRef needs the API of a cluster: in a file, write \
                    presharedKeyFile"
            .into());
    }
    let addresses = prefixes(&spec.addresses)?;
    if addresses.is_empty() {
        return Err("addresses is empty".into());
    }
    if let Some(greedy) =
        addresses.iter().find(|net| swallows(net, &view.pools) || view.pools.contains(net))
    {
        return Err(format!("{greedy} would take a whole pool"));
    }
    let key = PublicKey::from_published(&spec.public_key).map_err(|e| format!("publicKey: {e}"))?;
    let endpoint = spec.endpoint.as_deref().map(|text| published::endpoint(text, &view.pools));
    let endpoint = endpoint.transpose().map_err(|e| e.to_string())?;
    Ok(PlainPeer {
        key,
        addresses,
        endpoint,
        entries: spec.entries.clone(),
        preshared_key_file: spec.preshared_key_file.as_ref().map(PathBuf::from),
        keepalive: spec.persistent_keepalive,
    })
}

/// A subnet may lie outside the pools, as after one has shrunk, but nobody gets everything.
fn swallows(net: &IpNet, pools: &[IpNet]) -> bool {
    let whole = |pool: &IpNet| net.contains(pool) && net != pool;
    net.prefix_len() == 0 || pools.iter().any(whole)
}

fn prefixes(texts: &[String]) -> Result<Vec<IpNet>, String> {
    texts.iter().map(|text| parse_prefix(text).map_err(|e| e.to_string())).collect()
}

/// Takes contested prefixes from everybody but the one who had them.
fn settle_subnets(view: &mut View, previous: Option<&View>) -> Vec<Overlap> {
    let had = |name: &str, net: &IpNet| {
        let node = previous.and_then(|p| p.nodes.get(name));
        let peer = previous.and_then(|p| p.peers.get(name)).map(|p| &p.addresses);
        node.is_some_and(|n| n.subnets.contains(net) || n.announced.contains(net))
            || peer.is_some_and(|s| s.contains(net))
    };
    let overlaps = overlaps(claims(view));
    for Overlap { first, second } in &overlaps {
        for (name, net) in [first, second] {
            if had(name, net) {
                continue;
            }
            if let Some(node) = view.nodes.get_mut(name) {
                node.subnets.retain(|other| other != net);
                node.announced.retain(|other| other != net);
            }
            if let Some(peer) = view.peers.get_mut(name) {
                peer.addresses.retain(|other| other != net);
            }
        }
    }
    overlaps
}

/// Takes a machine's address from everybody but the one who had it, and one inside somebody's
/// prefixes from everybody.
fn settle_addresses(view: &mut View, previous: Option<&View>) {
    let prefixes = view.prefixes();
    let mut owners: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for address in view.nodes.values().flat_map(|node| &node.addresses) {
        *owners.entry(*address).or_default() += 1;
    }
    for (name, node) in &mut view.nodes {
        let before = previous.and_then(|view| view.nodes.get(name));
        let had = |address: &IpAddr| before.is_some_and(|node| node.addresses.contains(address));
        node.addresses.retain(|address| {
            let free = !prefixes.iter().any(|net| net.contains(address));
            free && (owners[address] == 1 || had(address))
        });
    }
}

/// Packets to an endpoint inside of an announced prefix would go through a tunnel, perhaps the very
/// one that they carry: a site gateway stands in its own LAN, and is called where else it is reached.
fn leave_the_announced(view: &mut View) {
    let announced: Vec<IpNet> =
        view.nodes.values().flat_map(|node| &node.announced).copied().collect();
    if announced.is_empty() {
        return;
    }
    for node in view.nodes.values_mut() {
        let outside =
            |at: &SocketAddr| !announced.iter().any(|net| net.contains(&at.ip().to_canonical()));
        node.endpoints.retain(outside);
    }
}

fn claims(view: &View) -> Vec<(IpNet, &str)> {
    let nodes = view.nodes.iter().map(|(name, node)| (name, &node.subnets));
    let behind = view.nodes.iter().map(|(name, node)| (name, &node.announced));
    let peers = view.peers.iter().map(|(name, peer)| (name, &peer.addresses));
    let mut claims: Vec<_> = nodes
        .chain(behind)
        .chain(peers)
        .flat_map(|(name, nets)| nets.iter().map(|net| (*net, name.as_str())))
        .collect();
    claims.sort_unstable();
    claims
}

/// Sorted prefixes nest or follow each other, so a stack of the open ones finds every overlap.
fn overlaps(claims: Vec<(IpNet, &str)>) -> Vec<Overlap> {
    let mut open: Vec<(IpNet, &str)> = Vec::new();
    let mut found = Vec::new();
    for (net, name) in claims {
        open.retain(|(outer, _)| outer.contains(&net));
        for (outer, owner) in open.iter().filter(|(_, owner)| *owner != name) {
            let (first, second) = ((*owner).to_owned(), name.to_owned());
            found.push(Overlap { first: (first, *outer), second: (second, net) });
        }
        open.push((net, name));
    }
    found
}

/// Keeps the keys of revoked nodes, and takes them from everybody who publishes one.
fn refuse_revoked_keys(view: &mut View, told: &[String], complaints: &mut Vec<Complaint>) {
    let revoked = view.nodes.values().filter(|node| node.revoked);
    let now: Vec<PublicKey> = revoked.flat_map(|node| &node.keys).map(|(_, key)| *key).collect();
    let told = told.iter().filter_map(|text| PublicKey::from_published(text).ok());
    view.revoked_keys.extend(told.chain(now));
    let refused = &view.revoked_keys;
    for (name, node) in view.nodes.iter_mut().filter(|(_, node)| !node.revoked) {
        let before = node.keys.len();
        node.keys.retain(|(_, key)| !refused.contains(key));
        if node.keys.len() < before {
            complaints.push(Complaint::new("MeshNode", name, "its key is a revoked node's"));
        }
    }
    view.peers.retain(|name, peer| {
        let good = !refused.contains(&peer.key);
        if !good {
            complaints.push(Complaint::new("MeshPeer", name, "its key is a revoked node's"));
        }
        good
    });
}

/// Who had a key keeps the mark, though nothing in the API tells of the key any more; the view is kept
/// on disk, so a restart forgets nobody. One that has just vanished may be held on to.
fn remember_sealed(view: &mut View, previous: Option<&View>) {
    let had = view.nodes.iter().filter(|(_, node)| node.had_key()).map(|(name, _)| name.clone());
    let had: BTreeSet<String> = had.collect();
    let before = previous.into_iter().flat_map(|old| {
        let known =
            |name: &&String| view.nodes.contains_key(*name) || old.nodes.contains_key(*name);
        old.sealed.iter().filter(known).cloned()
    });
    view.sealed = before.chain(had).collect();
}

/// Takes a key that two objects publish from everybody but the one who had it.
fn settle_keys(view: &mut View, previous: Option<&View>, complaints: &mut Vec<Complaint>) {
    for (key, names) in contested_keys(view) {
        for name in names {
            let node = previous.and_then(|p| p.nodes.get(&name));
            let peer = previous.and_then(|p| p.peers.get(&name));
            let had = node.is_some_and(|n| n.keys.iter().any(|k| k.1 == key))
                || peer.is_some_and(|p| p.key == key);
            if had {
                continue;
            }
            let problem = format!("its key {} is somebody else's too", key.fingerprint());
            if let Some(node) = view.nodes.get_mut(&name) {
                node.keys.retain(|(_, other)| *other != key);
                complaints.push(Complaint::new("MeshNode", &name, &problem));
            }
            if view.peers.get(&name).is_some_and(|peer| peer.key == key) {
                view.peers.remove(&name);
                complaints.push(Complaint::new("MeshPeer", &name, &problem));
            }
        }
    }
}

fn contested_keys(view: &View) -> BTreeMap<PublicKey, BTreeSet<String>> {
    let nodes = view.nodes.iter().flat_map(|(n, node)| node.keys.iter().map(move |k| (k.1, n)));
    let peers = view.peers.iter().map(|(name, peer)| (peer.key, name));
    let mut owners: Vec<(PublicKey, &String)> = nodes.chain(peers).collect();
    owners.sort_unstable();
    owners.dedup();
    let of_one_key = owners.chunk_by(|a, b| a.0 == b.0).filter(|of_it| of_it.len() > 1);
    let names = |of_it: &[(PublicKey, &String)]| {
        (of_it[0].0, of_it.iter().map(|(_, name)| (*name).clone()).collect())
    };
    of_one_key.map(names).collect()
}
