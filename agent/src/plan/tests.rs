use std::collections::{BTreeMap, BTreeSet};

use api::{Encryption, SiteEncryption};
use keys::{KeyEpoch, PrivateKey};
use proptest::prelude::*;

use super::*;
use crate::view::PlainPeer;

mod announced;
mod gateways;
mod inbound;
mod model;

fn node(number: u8) -> Node {
    Node {
        subnets: vec![
            format!("10.42.{number}.0/24").parse().unwrap(),
            format!("fd42:0:0:{number:x}::/64").parse().unwrap(),
        ],
        addresses: vec![],
        announced: vec![],
        epoch: KeyEpoch(1),
        epochs: BTreeSet::new(),
        newest: None,
        keys: vec![(KeyEpoch(1), PrivateKey::from_bytes([number; 32]).public())],
        endpoints: vec![
            format!("192.0.2.{number}:51820").parse().unwrap(),
            format!("[2001:db8::{number:x}]:51820").parse().unwrap(),
        ],
        nat: None,
        bare: false,
        site: None,
        revoked: false,
        serves: BTreeMap::new(),
        tls: None,
        relays: Vec::new(),
    }
}

fn peer(addresses: &[&str]) -> PlainPeer {
    PlainPeer {
        key: PrivateKey::from_bytes([99; 32]).public(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        endpoint: None,
        entries: vec![],
        preshared_key_file: None,
        keepalive: None,
    }
}

pub(super) fn view(nodes: impl IntoIterator<Item = u8>) -> View {
    View {
        pools: vec!["10.42.0.0/16".parse().unwrap(), "fd42::/48".parse().unwrap()],
        backend: Backend::Wireguard,
        encryption: Encryption::Required,
        site_encryption: vec![],
        site_gateways: vec![],
        detours: BTreeMap::new(),
        behind: BTreeMap::new(),
        forwards: false,
        fallback: vec![],
        vxlan_shaped_port: None,
        relay: crate::view::Relay::Never,
        return_after: api::return_after(),
        allow_downgrade: false,
        sealed: BTreeSet::new(),
        mtu: None,
        nodes: nodes.into_iter().map(|n| (format!("n{n}"), node(n))).collect(),
        peers: BTreeMap::new(),
        revoked_keys: BTreeSet::new(),
        removing: false,
        max_age: None,
    }
}

pub(super) fn facts() -> Facts {
    Facts {
        devices: BTreeSet::new(),
        node: "n1".into(),
        tun: "hawser0".into(),
        underlay: Underlay { v4: Some([192, 0, 2, 1].into()), v6: None, mtu: 1500 },
        ipv6: true,
        foreign: ["eth0".to_owned()].into(),
        pods: vec![],
        has_pods: false,
        silent: BTreeSet::new(),
        preshared: BTreeMap::new(),
        rotates: true,
        keepalive: None,
        heard: Heard::Now,
        backend: None,
        on_link: BTreeMap::new(),
        networks: BTreeMap::new(),
        chosen: BTreeMap::new(),
    }
}

pub(super) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn a_node_routes_every_other_nodes_subnets_from_its_own_address() {
    let plan = Plan::new(&view([1, 2]), &facts());

    assert_eq!(plan.addresses, [net("10.42.1.1/32"), net("fd42:0:0:1::1/128")].into());
    let tunnel = |prefix, source: &str| Route {
        prefix: net(prefix),
        target: Target::Device { name: "hawser0".into(), source: Some(source.parse().unwrap()) },
    };
    let wanted = [tunnel("10.42.2.0/24", "10.42.1.1"), tunnel("fd42:0:0:2::/64", "fd42:0:0:1::1")];
    assert_eq!(plan.routes, wanted.into());
    assert_eq!(plan.mtu, 1420);
    assert!(plan.refusals.is_empty());
}

#[test]
fn pods_alone_reach_other_machines_through_the_tunnel_and_never_in_clear() {
    let mut view = view([1, 2, 3]);
    for (name, node) in &mut view.nodes {
        let last = name.trim_start_matches('n');
        node.addresses = vec![format!("192.0.2.{last}").parse().unwrap()];
    }
    view.nodes.get_mut("n3").unwrap().keys.clear();

    let plan = Plan::new(&view, &facts());

    let machine = Target::Machine { name: "hawser0".into() };
    let route = Route { prefix: net("192.0.2.2/32"), target: machine };
    assert!(plan.routes.contains(&route), "{:?}", plan.routes);
    assert_eq!(plan.guard.machines, [net("192.0.2.2/32")].into());
    assert!(plan.peers.others[0].allowed.contains(&net("192.0.2.2/32")));
    assert!(!plan.guard.covers(&net("192.0.2.2/32")), "the tunnel's own datagrams must pass");
    assert_eq!(plan.rules, [Rule { family: Family::V4, table: SideTable::Machines }].into());
}

#[test]
fn pods_are_routed_to_their_devices_inside_the_own_subnet() {
    let pods = vec![PodRoute { address: "10.42.1.7".parse().unwrap(), device: "hwp1".into() }];
    let plan = Plan::new(&view([1]), &Facts { pods, has_pods: true, ..facts() });

    let target = Target::Device { name: "hwp1".into(), source: None };
    assert_eq!(plan.routes, [Route { prefix: net("10.42.1.7/32"), target }].into());
    assert_eq!(plan.guard.masquerade, [net("10.42.1.0/24"), net("fd42:0:0:1::/64")].into());
    assert_eq!(Plan::new(&view([1]), &facts()).guard.masquerade, [].into());
}

#[test]
fn devices_of_other_plugins_pods_are_the_guards_and_leave_it_last() {
    let with = |names: &[&str]| {
        let devices = names.iter().map(ToString::to_string).collect();
        Plan::new(&view([1, 2]), &Facts { devices, ..facts() }).guard
    };

    let (one, two) = (with(&["cni0", "hawser0"]), with(&["cni0", "veth1"]));

    assert_eq!(one.devices, ["cni0".to_owned()].into(), "the tunnel is nobody's pod");
    assert_eq!(one.joined(&two).devices, two.devices, "packets may still be under way");
    assert_eq!(with(&["veth1"]).joined(&one).devices, two.devices);
    let routes = Plan::new(&view([1]), &facts()).routes;
    let devices = ["cni0".to_owned()].into();
    assert_eq!(Plan::new(&view([1]), &Facts { devices, ..facts() }).routes, routes);
}

#[test]
fn the_guard_covers_pools_and_what_plain_peers_own_elsewhere() {
    let mut view = view([1]);
    view.peers.insert("router".into(), peer(&["10.42.200.7/32", "192.168.7.0/24"]));

    let guard = Plan::new(&view, &facts()).guard;

    assert_eq!(guard.ranges, [net("10.42.0.0/16"), net("192.168.7.0/24"), net("fd42::/48")].into());
}

#[test]
fn an_endpoint_is_taken_from_a_family_that_this_node_has() {
    let endpoint = |v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>| {
        let underlay = Underlay { v4, v6, mtu: 1500 };
        let plan = Plan::new(&view([1, 2]), &Facts { underlay, ..facts() });
        plan.peers.others[0].endpoint.unwrap().to_string()
    };

    assert_eq!(endpoint(Some([192, 0, 2, 1].into()), None), "192.0.2.2:51820");
    assert_eq!(endpoint(None, Some(Ipv6Addr::LOCALHOST)), "[2001:db8::2]:51820");
    assert_eq!(endpoint(None, None), "192.0.2.2:51820");
}

#[test]
fn what_is_refused_leaves_the_guard_and_nothing_else() {
    let mut plain = view([1, 2]);
    plain.backend = Backend::Vxlan;
    let mut open = plain.clone();
    (open.encryption, open.backend) = (Encryption::None, Backend::Esp);
    let mut revoked = view([1, 2]);
    revoked.nodes.get_mut("n1").unwrap().revoked = true;
    let cases = [
        (plain, "EncryptionRequired"),
        (open, "BackendUnavailable"),
        (revoked, "Revoked"),
        (view([2]), "NotInTheMesh"),
    ];
    for (view, reason) in cases {
        let plan = Plan::new(&view, &facts());

        assert_eq!(plan.refusals[0].reason(), reason);
        assert!(!plan.takes_part(), "{reason}");
        assert!(plan.routes.is_empty() && plan.peers.others.is_empty(), "{reason}");
        assert!(plan.guard.covers(&net("10.42.2.0/24")), "{reason}");
    }
}

#[test]
fn the_flag_overrides_the_backend_and_encryption_judges_it_all_the_same() {
    let flagged = Facts { backend: Some(Backend::Udp), ..facts() };

    assert_eq!(Plan::new(&view([1, 2]), &flagged).refusals, [Refusal::Plain(Backend::Udp)]);
}

#[test]
fn a_revoked_node_and_one_without_a_key_are_no_peers() {
    let mut view = view([1, 2, 3]);
    view.nodes.get_mut("n2").unwrap().revoked = true;
    view.nodes.get_mut("n3").unwrap().keys.clear();

    assert!(Plan::new(&view, &facts()).peers.others.is_empty());
}

/// The prefixes that n1 gives to `peer`; none if it does not know it.
fn allowed(plan: &Plan, peer: &str) -> Option<Vec<IpNet>> {
    let mut others = plan.peers.others.iter();
    others.find(|other| other.name == peer).map(|other| other.allowed.clone())
}

#[test]
fn a_peer_with_entries_is_spoken_to_by_them_and_reached_through_the_one_that_has_it() {
    let mut view = view([1, 2, 3]);
    let entries = vec!["n1".to_owned(), "n2".to_owned()];
    let laptop = PlainPeer { entries, ..peer(&["10.42.9.9/32", "fd42:0:0:9::9/128"]) };
    view.peers.insert("p".into(), laptop);
    let theirs = [net("10.42.9.9/32"), net("fd42:0:0:9::9/128")];
    let of = |view: &View, me: &str| Plan::new(view, &Facts { node: me.into(), ..facts() });
    let has = |plan: &Plan, who: &str| {
        allowed(plan, who).is_some_and(|all| theirs.iter().all(|net| all.contains(net)))
    };

    assert_eq!(allowed(&of(&view, "n1"), "p"), Some(theirs.to_vec()));
    assert_eq!(allowed(&of(&view, "n2"), "p"), Some(vec![]), "it is listened for");
    assert!(has(&of(&view, "n2"), "n1"));
    assert_eq!(allowed(&of(&view, "n3"), "p"), None);
    assert!(has(&of(&view, "n3"), "n1") && !has(&of(&view, "n3"), "n2"));

    // It calls the other.
    view.nodes.get_mut("n2").unwrap().serves.insert("p".into(), 1);
    assert_eq!(allowed(&of(&view, "n1"), "p"), Some(vec![]));
    assert!(has(&of(&view, "n1"), "n2") && has(&of(&view, "n3"), "n2"));
    assert!(!has(&of(&view, "n3"), "n1"));
    let to_laptop = |plan: &Plan| plan.routes.iter().any(|route| route.prefix == theirs[0]);
    assert!(["n1", "n2", "n3"].iter().all(|me| to_laptop(&of(&view, me))));

    // Nobody is left that it could call.
    view.nodes.get_mut("n1").unwrap().revoked = true;
    view.nodes.get_mut("n2").unwrap().revoked = true;
    assert!(!to_laptop(&of(&view, "n3")));
}

#[test]
fn a_peer_whose_preshared_key_is_missing_stays_out() {
    let mut view = view([1]);
    let file = Some("/psk".into());
    view.peers
        .insert("p".into(), PlainPeer { preshared_key_file: file, ..peer(&["10.42.9.9/32"]) });

    let without = Plan::new(&view, &facts());
    let preshared = [("p".to_owned(), PresharedKey::from_bytes([1; 32]))].into();
    let with = Plan::new(&view, &Facts { preshared, ..facts() });

    assert!(without.peers.others.is_empty());
    assert_eq!(without.refusals, [Refusal::NoPresharedKey("p".into())]);
    assert!(without.takes_part(), "one peer's key is no reason to leave the mesh");
    assert!(with.peers.others[0].preshared_key.is_some());
}

#[test]
fn a_kernel_without_ipv6_gets_ipv4_alone() {
    let plan = Plan::new(&view([1, 2]), &Facts { ipv6: false, ..facts() });

    assert!(
        plan.addresses
            .iter()
            .chain(plan.routes.iter().map(|r| &r.prefix))
            .all(|n| n.addr().is_ipv4())
    );
    assert!(plan.sysctls.keys().all(|path| path.starts_with("net/ipv4")));
}

#[test]
fn the_mtu_is_the_meshs_or_the_underlays_less_the_overhead_and_never_too_small_for_ipv6() {
    let mut set = view([1]);
    set.mtu = Some(1300);
    let small = Facts { underlay: Underlay { mtu: 1280, ..facts().underlay }, ..facts() };

    assert_eq!(Plan::new(&set, &facts()).mtu, 1300);
    assert_eq!(Plan::new(&view([1]), &small).mtu, 1280);
}

#[test]
fn all_published_keys_are_listened_to_and_the_controller_says_what_is_sent_with() {
    let mut view = view([1, 2]);
    let second = (KeyEpoch(2), PrivateKey::from_bytes([22; 32]).public());
    let first = view.nodes["n2"].keys[0];
    view.nodes.get_mut("n2").unwrap().keys.push(second);
    let peer = |view: &View, rotates| {
        let plan = Plan::new(view, &Facts { rotates, ..facts() });
        let peer = plan.peers.others[0].clone();
        (peer.keys, peer.send_to)
    };

    assert_eq!(peer(&view, true), (vec![first, second], Some(KeyEpoch(1))));
    assert_eq!(peer(&view, false), (vec![first], Some(KeyEpoch(1))), "an engine of one key");
    view.nodes.get_mut("n2").unwrap().epoch = KeyEpoch(2);
    assert_eq!(peer(&view, true), (vec![first, second], Some(KeyEpoch(2))));
}

#[test]
fn a_view_older_than_the_mesh_permits_speaks_with_nobody_and_keeps_the_guard() {
    let hour = Duration::from_secs(3600);
    let plan =
        |max_age, heard| Plan::new(&View { max_age, ..view(1..=3) }, &Facts { heard, ..facts() });
    let is_old = |plan: &Plan| plan.refusals.iter().any(|r| r.reason() == "ViewTooOld");

    for (most, heard, old) in [
        (None, Heard::Ago(1000 * hour), false),
        (None, Heard::Unknown, false),
        (Some(hour), Heard::Now, false),
        (Some(hour), Heard::Ago(hour), false),
        (Some(hour), Heard::Ago(hour + Duration::from_secs(1)), true),
        (Some(hour), Heard::Unknown, true),
    ] {
        let plan = plan(most, heard);
        assert_eq!(is_old(&plan), old, "{most:?} {heard:?}");
        assert_eq!(plan.peers.others.is_empty(), old);
        assert_eq!(plan.guard.ranges.len(), 2);
    }
}

#[test]
fn nobody_is_spoken_with_before_the_api_was_asked_and_nothing_is_taken_down() {
    let asking = Plan::new(&view(1..=3), &Facts { heard: Heard::Asking, ..facts() });
    let asked = Plan::new(&view(1..=3), &facts());

    assert!(asking.peers.others.is_empty());
    assert_eq!(asked.peers.others.len(), 2);
    assert_eq!((asking.routes, asking.addresses), (asked.routes, asked.addresses));
}
