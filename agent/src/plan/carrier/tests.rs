use super::*;
use crate::plan::{
    Heard, Plan,
    tests::{facts, net, view},
};

mod sites;
mod tls;

fn plan(
    encryption: Encryption,
    backend: Backend,
    change: impl FnOnce(&mut View, &mut Facts),
) -> Plan {
    let mut view = view([1, 2, 3]);
    view.encryption = encryption;
    view.backend = backend;
    let on_link = [
        ("192.0.2.2", "eth0"),
        ("192.0.2.3", "eth0"),
        ("2001:db8::2", "eth0"),
        ("2001:db8::3", "eth0"),
    ];
    let on_link = on_link.map(|(at, device)| (at.parse().unwrap(), device.to_owned())).into();
    let mut facts = Facts { on_link, ..facts() };
    change(&mut view, &mut facts);
    Plan::new(&view, &facts)
}

fn carriers(plan: &Plan) -> Vec<Backend> {
    plan.carriers.values().copied().collect()
}

fn via(plan: &Plan, prefix: &str) -> Option<(String, String)> {
    plan.routes.iter().find(|r| r.prefix == net(prefix) && r.table().is_none()).and_then(|route| {
        match &route.target {
            Target::Via { gateway, device, .. } => Some((gateway.to_string(), device.clone())),
            Target::Device { .. }
            | Target::Machine { .. }
            | Target::Probe { .. }
            | Target::Unreachable => None,
        }
    })
}

#[test]
fn required_never_sends_in_clear_and_none_sends_as_told() {
    use Backend::{Direct, Udp, Vxlan, Wireguard};
    for (encryption, backend, chosen) in [
        (Encryption::Required, Wireguard, Wireguard),
        (Encryption::Preferred, Wireguard, Wireguard),
        (Encryption::Preferred, Vxlan, Wireguard),
        (Encryption::Preferred, Direct, Wireguard),
        (Encryption::None, Wireguard, Wireguard),
        (Encryption::None, Vxlan, Vxlan),
        (Encryption::None, Direct, Direct),
        (Encryption::Preferred, Udp, Wireguard),
        (Encryption::None, Udp, Udp),
    ] {
        let plan = plan(encryption, backend, |_, _| {});

        assert_eq!(carriers(&plan), [chosen, chosen], "{encryption} {backend}");
        let frames = plan.peers.clear.iter();
        let sent_open = plan.guard.open.values().any(|open| !open.to.is_empty())
            || frames.clone().any(|peer| peer.send);
        assert_eq!(sent_open, !chosen.encrypts(), "{encryption} {backend}");
        let taken_open = encryption != Encryption::Required && !backend.encrypts();
        let taken = !plan.guard.open.is_empty() || frames.len() == 2;
        assert_eq!(taken, taken_open, "{encryption} {backend}");
        assert_eq!(plan.peers.others.len(), 2, "sessions are kept whatever carries");
        assert!(plan.refusals.is_empty());
    }
    for backend in [Udp, Vxlan, Direct] {
        let refused = plan(Encryption::Required, backend, |_, _| {});
        assert!(!refused.takes_part() && refused.guard.open.is_empty());
        assert_eq!(refused.refusals, [Refusal::Plain(backend)]);
    }
}

#[test]
fn preferred_is_in_clear_only_with_a_peer_that_has_no_key() {
    let plan = plan(Encryption::Preferred, Backend::Vxlan, |view, _| {
        view.nodes.get_mut("n3").unwrap().keys.clear();
    });

    assert_eq!(carriers(&plan), [Backend::Wireguard, Backend::Vxlan]);
    let third = [net("10.42.3.0/24"), net("fd42:0:0:3::/64")];
    let open = &plan.guard.open[VXLAN_DEVICE];
    assert_eq!(open.to, third.into());
    assert_eq!(open.from.len(), 4, "who changes later is still heard");
}

#[test]
fn preferred_is_never_in_clear_with_a_node_that_once_had_a_key() {
    let without_key = |change: fn(&mut Node)| {
        let plan = plan(Encryption::Preferred, Backend::Vxlan, |view, _| {
            let node = view.nodes.get_mut("n3").unwrap();
            node.keys.clear();
            change(node);
        });
        let prefix = net("10.42.3.0/24");
        (plan.carriers.get("n3").copied(), plan.routes.iter().any(|r| r.prefix == prefix))
    };

    assert_eq!(without_key(|_| {}), (Some(Backend::Vxlan), true));
    assert_eq!(without_key(|node| node.newest = Some(keys::KeyEpoch(1))), (None, false));
    assert_eq!(without_key(|node| node.epochs = [keys::KeyEpoch(1)].into()), (None, false));
}

#[test]
fn who_was_once_sealed_to_is_in_clear_again_only_where_a_downgrade_is_allowed() {
    use Backend::{Vxlan, Wireguard};
    let without_key = |encryption, allow_downgrade| {
        let plan = plan(encryption, Vxlan, |view, _| {
            view.sealed.insert("n3".into());
            view.allow_downgrade = allow_downgrade;
            view.nodes.get_mut("n3").unwrap().keys.clear();
        });
        let open = plan.guard.open.get(VXLAN_DEVICE).map(|open| open.to.len());
        (carriers(&plan), open.unwrap_or_default())
    };

    assert_eq!(without_key(Encryption::Preferred, false), (vec![Wireguard], 0));
    assert_eq!(without_key(Encryption::Preferred, true), (vec![Wireguard, Vxlan], 2));
    assert_eq!(without_key(Encryption::None, false), (vec![Vxlan, Vxlan], 4));
    let refused = plan(Encryption::Required, Vxlan, |view, _| view.allow_downgrade = true);
    assert!(!refused.takes_part() && refused.guard.open.is_empty());
}

#[test]
fn a_downgrade_that_is_allowed_takes_nothing_from_a_node_that_has_a_key() {
    let plan = plan(Encryption::Preferred, Backend::Vxlan, |view, _| view.allow_downgrade = true);

    assert_eq!(carriers(&plan), [Backend::Wireguard, Backend::Wireguard]);
    assert!(plan.guard.open.values().all(|open| open.to.is_empty()));
}

#[test]
fn vxlan_hands_packets_to_the_peers_own_address_and_knows_where_that_is() {
    let plan = plan(Encryption::None, Backend::Vxlan, |_, _| {});

    let hop = |address: &str| Some((address.to_owned(), VXLAN_DEVICE.to_owned()));
    assert_eq!(via(&plan, "10.42.2.0/24"), hop("10.42.2.1"));
    let (third, _) = via(&plan, "fd42:0:0:3::/64").unwrap();
    assert!(third.starts_with("fe80::"), "{third}");
    let vxlan = plan.vxlan.unwrap();
    assert_eq!((vxlan.mtu, plan.pod_mtu, plan.mtu), (1450, 1450, 1420));
    let at: BTreeSet<String> = vxlan.others.values().map(|vtep| vtep.at.to_string()).collect();
    assert_eq!(at, ["192.0.2.2".to_owned(), "192.0.2.3".to_owned()].into());
    let known = |vtep: &Vtep| vtep.gateways.contains(&third.parse().unwrap());
    assert_eq!(vxlan.others.values().filter(|vtep| known(vtep)).count(), 1);
    for mac in vxlan.others.keys().chain([&vxlan.mac]) {
        assert_eq!(mac[0] & 0b11, 0b10, "unicast and locally administered: {mac:?}");
    }
    assert!(!vxlan.others.contains_key(&vxlan.mac));
}

#[test]
fn vxlan_over_ipv6_costs_twenty_bytes_more() {
    let plan = plan(Encryption::None, Backend::Vxlan, |_, facts| {
        facts.underlay.v4 = None;
        facts.underlay.v6 = Some("2001:db8::1".parse().unwrap());
    });

    assert_eq!((plan.vxlan.unwrap().mtu, plan.pod_mtu), (1430, 1430));
}

#[test]
fn direct_routes_by_the_peers_address_and_refuses_where_a_router_lies_between() {
    let plan = plan(Encryption::None, Backend::Direct, |_, facts| {
        facts.on_link.remove(&"192.0.2.3".parse().unwrap());
    });

    let hop = |address: &str| Some((address.to_owned(), "eth0".to_owned()));
    assert_eq!(via(&plan, "10.42.2.0/24"), hop("192.0.2.2"));
    assert_eq!(via(&plan, "fd42:0:0:2::/64"), hop("2001:db8::2"));
    assert_eq!(carriers(&plan), [Backend::Direct]);
    let refusal = Refusal::NotOnLink { peer: "n3".into(), prefix: net("10.42.3.0/24") };
    assert_eq!(plan.refusals, [refusal]);
    assert!(plan.takes_part(), "the others are reached");
    assert_eq!(plan.pod_mtu, 1500);
}

#[test]
fn the_meshs_mtu_is_everybodys() {
    let plan = plan(Encryption::None, Backend::Direct, |view, _| view.mtu = Some(1300));

    assert_eq!((plan.mtu, plan.pod_mtu), (1300, 1300));
}

fn with_machines(view: &mut View) {
    for node in view.nodes.values_mut() {
        node.addresses = node.endpoints.iter().map(|endpoint| endpoint.ip()).collect();
    }
}

fn to_machines(plan: &Plan) -> usize {
    plan.routes.iter().filter(|route| matches!(route.target, Target::Machine { .. })).count()
}

#[test]
fn pods_speak_to_machines_in_clear_only_where_the_pair_may_be_in_clear() {
    use Backend::{Direct, Vxlan, Wireguard};
    for (encryption, backend, sealed, routes) in [
        (Encryption::Required, Wireguard, 4, 4),
        (Encryption::Preferred, Vxlan, 4, 4),
        (Encryption::Preferred, Direct, 4, 4),
        (Encryption::None, Wireguard, 4, 4),
        (Encryption::None, Vxlan, 0, 0),
        (Encryption::None, Direct, 0, 0),
        (Encryption::Preferred, Backend::Udp, 4, 4),
        (Encryption::None, Backend::Udp, 0, 0),
        // Refused: nothing is carried, and nothing leaks.
        (Encryption::Required, Vxlan, 4, 0),
        (Encryption::None, Backend::Esp, 4, 0),
    ] {
        let plan = plan(encryption, backend, |view, _| with_machines(view));

        let counts = (plan.guard.machines.len(), to_machines(&plan));
        assert_eq!(counts, (sealed, routes), "{encryption} {backend}");
        assert_eq!(plan.rules.is_empty(), routes == 0, "{encryption} {backend}");
        let to = plan.guard.open.values().flat_map(|open| &open.to);
        assert_eq!(to.filter(|net| plan.guard.machines.contains(net)).count(), 0);
    }
}

#[test]
fn machines_that_still_answer_in_clear_are_heard_and_never_sent_to() {
    let plan = plan(Encryption::Preferred, Backend::Vxlan, |view, _| with_machines(view));

    let open = &plan.guard.open[VXLAN_DEVICE];
    assert!(open.from.contains(&net("192.0.2.2/32")), "{open:?}");
    assert!(open.to.is_empty(), "{open:?}");
    let frames = self::plan(Encryption::Preferred, Backend::Udp, |view, _| with_machines(view));
    for peer in &frames.peers.clear {
        let machines = frames.guard.machines.iter().filter(|net| peer.prefixes.contains(net));
        assert_eq!((peer.send, machines.count()), (false, 2), "{peer:?}");
    }
}

#[test]
fn nothing_is_in_clear_before_the_api_was_asked_and_nothing_is_taken_down() {
    for backend in [Backend::Vxlan, Backend::Direct] {
        let asked = plan(Encryption::None, backend, |_, _| {});
        let asking = plan(Encryption::None, backend, |_, facts| facts.heard = Heard::Asking);

        assert!(!asked.guard.open.is_empty() && asking.guard.open.is_empty(), "{backend}");
        assert_eq!((asking.routes, asking.vxlan), (asked.routes, asked.vxlan), "{backend}");
    }
    let frames = |heard| plan(Encryption::None, Backend::Udp, |_, facts| facts.heard = heard);
    let clear = [Heard::Now, Heard::Asking].map(|heard| frames(heard).peers.clear.len());
    assert_eq!(clear, [2, 0]);
}

fn listed(
    encryption: Encryption,
    list: &[Backend],
    change: impl FnOnce(&mut View, &mut Facts),
) -> Plan {
    plan(encryption, list[0], |view, facts| {
        view.fallback = list[1..].to_vec();
        change(view, facts);
    })
}

#[test]
fn of_a_list_each_pair_uses_the_best_that_can_or_the_one_that_was_chosen() {
    use Backend::{Direct, Udp, Vxlan, Wireguard};
    let list = [Direct, Vxlan, Udp, Wireguard];
    let plan = listed(Encryption::None, &list, |view, facts| {
        facts.on_link.remove(&"192.0.2.3".parse().unwrap());
        facts.chosen =
            [("n2".to_owned(), Wireguard.into()), ("n3".to_owned(), Direct.into())].into();
        view.nodes.get_mut("n3").unwrap().keys.clear();
    });

    assert_eq!(carriers(&plan), [Wireguard, Vxlan]);
    assert_eq!(plan.ways["n2"], list.map(Way::from));
    assert_eq!(plan.ways["n3"], [Vxlan, Udp].map(Way::from), "no link of its own, and no key");
    assert!(plan.refusals.is_empty(), "{:?}", plan.refusals);
    assert_eq!(plan.pod_mtu, 1420, "a packet fits whichever is next");
}

#[test]
fn a_carrier_that_waits_lets_probes_out_and_everything_in() {
    use Backend::{Udp, Vxlan};
    let plan = listed(Encryption::None, &[Vxlan, Udp], |view, facts| {
        with_machines(view);
        facts.chosen = [("n2".to_owned(), Udp.into())].into();
    });

    let open = &plan.guard.open[VXLAN_DEVICE];
    let probed = [net("10.42.2.1/32"), net("fd42:0:0:2::1/128")];
    let third = [net("10.42.3.0/24"), net("fd42:0:0:3::/64")];
    assert_eq!(open.to, probed.into_iter().chain(third).collect());
    assert!(open.from.contains(&net("10.42.2.0/24")) && open.from.contains(&net("10.42.3.0/24")));
    let probes = plan.routes.iter().filter(|route| route.table() == Some(SideTable::Vxlan));
    assert_eq!(probes.count(), 4, "both families of both peers, in use or not");
    assert!(plan.rules.iter().all(|rule| rule.table == SideTable::Vxlan));
    let sends: Vec<bool> = plan.peers.clear.iter().map(|peer| peer.send).collect();
    assert_eq!(sends, [true, false]);
    assert_eq!(plan.vxlan.unwrap().others.len(), 2);
}

#[test]
fn with_required_a_plain_carrier_in_the_list_is_refused_and_nothing_is_carried() {
    for list in [[Backend::Wireguard, Backend::Udp], [Backend::Wireguard, Backend::Direct]] {
        let plan = listed(Encryption::Required, &list, |_, facts| {
            facts.chosen = [("n2".to_owned(), list[1].into())].into();
        });

        assert_eq!(plan.refusals, [Refusal::Plain(list[1])]);
        assert!(!plan.takes_part() && plan.guard.open.is_empty() && plan.ways.is_empty());
    }
}

#[test]
fn preferred_falls_back_to_clear_text_only_where_a_downgrade_is_allowed() {
    use Backend::{Udp, Vxlan, Wireguard};
    let plan = |allow_downgrade| {
        listed(Encryption::Preferred, &[Wireguard, Vxlan, Udp], |view, facts| {
            view.allow_downgrade = allow_downgrade;
            view.nodes.get_mut("n3").unwrap().keys.clear();
            facts.chosen = [("n2".to_owned(), Udp.into()), ("n3".to_owned(), Udp.into())].into();
        })
    };

    let firm = plan(false);
    assert_eq!(carriers(&firm), [Wireguard, Udp]);
    assert_eq!(firm.ways, [("n3".to_owned(), [Vxlan, Udp].map(Way::from).to_vec())].into());
    let loose = plan(true);
    assert_eq!(carriers(&loose), [Udp, Udp]);
    assert_eq!(loose.ways["n2"], [Wireguard, Vxlan, Udp].map(Way::from));
}

#[test]
fn pods_speak_to_machines_by_the_carrier_in_use() {
    use Backend::{Udp, Wireguard};
    for (chosen, sealed) in [(Wireguard, 4), (Udp, 2)] {
        let plan = listed(Encryption::None, &[Wireguard, Udp], |view, facts| {
            with_machines(view);
            facts.chosen = [("n2".to_owned(), chosen.into())].into();
        });

        assert_eq!((plan.guard.machines.len(), to_machines(&plan)), (sealed, sealed), "{chosen}");
    }
}

#[test]
fn without_a_choice_nothing_is_probed() {
    for (encryption, backend) in
        [(Encryption::Required, Backend::Wireguard), (Encryption::None, Backend::Vxlan)]
    {
        let plan = plan(encryption, backend, |_, _| {});

        assert!(plan.ways.is_empty() && plan.rules.is_empty());
        assert!(plan.routes.iter().all(|route| route.table().is_none()));
    }
    let asking = listed(Encryption::None, &[Backend::Vxlan, Backend::Udp], |_, facts| {
        facts.heard = Heard::Asking;
    });
    assert!(asking.ways.is_empty(), "the guard lets nothing out yet");
}

#[test]
fn the_tunnel_has_a_second_way_where_the_mesh_says_so_and_packets_fit_both() {
    let plan = |shaped| {
        plan(Encryption::Required, Backend::Wireguard, |view, facts| {
            view.vxlan_shaped_port = Some(8472);
            facts.chosen = [("n3".to_owned(), Way { shaped, ..Backend::Wireguard.into() })].into();
        })
    };

    let usual = plan(false);
    assert_eq!((usual.mtu, usual.pod_mtu), (1370, 1370));
    let shaped = usual.peers.shaped.unwrap();
    assert_eq!((shaped.port, shaped.peers.len(), shaped.used.len()), (8472, 2, 0));
    assert!(usual.guard.open.is_empty() && usual.peers.clear.is_empty(), "all is sealed");
    let blocked = plan(true);
    let used = blocked.peers.shaped.clone().unwrap().used;
    assert_eq!(used, ["192.0.2.3:51820".parse().unwrap()].into());
    assert_eq!(blocked.shaped, ["n3".to_owned()].into());
    assert_eq!(carriers(&blocked), [Backend::Wireguard; 2]);
}
