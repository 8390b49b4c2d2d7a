//! What lies behind a node: everybody's way to it, its own way out, and two networks of one address.

use super::*;

const LAN: [&str; 2] = ["192.168.7.0/24", "fd07::/64"];

/// n2 announces a LAN of both families.
fn site() -> View {
    let mut view = view([1, 2]);
    view.nodes.get_mut("n2").unwrap().announced = LAN.map(net).to_vec();
    view
}

/// n2 itself, whose LAN is behind eth1.
fn gateway() -> Facts {
    let networks = [("eth1".to_owned(), LAN.map(net).into())].into();
    let foreign = ["eth0", "eth1"].map(str::to_owned).into();
    Facts { node: "n2".into(), networks, foreign, ..facts() }
}

#[test]
fn what_lies_behind_a_node_is_reached_and_taken_through_it_alone_and_guarded_everywhere_else() {
    let plan = Plan::new(&site(), &facts());

    for prefix in LAN.map(net) {
        assert_eq!(allowed(&plan, "n2").map(|all| all.contains(&prefix)), Some(true));
        let routed = plan.routes.iter().any(|route| {
            let tunnel = matches!(&route.target, Target::Device { name, .. } if name == "hawser0");
            route.prefix == prefix && tunnel
        });
        assert!(routed && plan.guard.covers(&prefix), "{prefix}");
        assert!(plan.barred.iter().any(|rule| rule.source == prefix));
    }
    assert!(plan.guard.open.is_empty());
}

#[test]
fn its_node_hands_it_on_by_the_device_that_leads_there_and_by_no_other() {
    let plan = Plan::new(&site(), &gateway());

    let lan: BTreeSet<IpNet> = LAN.map(net).into();
    let open = Open { to: lan.clone(), from: lan.clone() };
    assert_eq!(plan.guard.open, [("eth1".to_owned(), open)].into());
    assert!(LAN.iter().all(|prefix| !plan.guard.covers(&net(prefix))), "the machine lives there");
    assert!(plan.guard.covers(&net("10.42.1.0/24")));
    assert!(plan.routes.iter().all(|route| !lan.contains(&route.prefix)), "{:?}", plan.routes);
    let down = Facts { networks: BTreeMap::new(), ..gateway() };
    assert!(Plan::new(&site(), &down).guard.open.is_empty(), "not by the default route");
    let mut revoked = site();
    revoked.nodes.get_mut("n2").unwrap().revoked = true;
    assert!(Plan::new(&revoked, &gateway()).guard.open.is_empty());
    assert!(LAN.iter().all(|lan| Plan::new(&revoked, &facts()).guard.covers(&net(lan))), "fenced");
}

#[test]
fn what_another_node_announces_is_no_way_out_of_this_one() {
    let networks = [("eth1".to_owned(), LAN.map(net).into())].into();

    let plan = Plan::new(&site(), &Facts { networks, ..facts() });

    assert!(plan.guard.open.is_empty());
}

#[test]
fn a_machine_that_stands_in_such_a_network_itself_keeps_it_and_says_so() {
    let underlay = Underlay { v4: Some([192, 168, 7, 9].into()), v6: None, mtu: 1500 };

    let plan = Plan::new(&site(), &Facts { underlay, ..facts() });

    assert!(!plan.guard.covers(&net(LAN[0])) && plan.guard.covers(&net(LAN[1])));
    assert_eq!(allowed(&plan, "n2").map(|all| all.contains(&net(LAN[0]))), Some(false));
    let [refusal] = plan.refusals.as_slice() else { panic!("{:?}", plan.refusals) };
    assert_eq!(refusal.reason(), "PrefixOverlap");
    assert!(refusal.to_string().contains("holds this node's own address 192.168.7.9"));
    assert!(plan.takes_part());
}

#[test]
fn every_carrier_takes_it_and_none_is_probed_there() {
    for backend in [Backend::Udp, Backend::Vxlan, Backend::Direct] {
        let mut view = site();
        (view.encryption, view.backend) = (Encryption::None, backend);
        view.fallback = vec![Backend::Wireguard];
        let at = ["192.0.2.2", "2001:db8::2"].map(|at| (at.parse().unwrap(), "eth0".to_owned()));
        let plan = Plan::new(&view, &Facts { on_link: at.into(), ..facts() });

        let to_lan = plan.routes.iter().filter(|route| route.prefix == net(LAN[0])).count();
        assert_eq!(to_lan, 1, "{backend}");
        let inside = |route: &&Route| net(LAN[0]).contains(&route.prefix.addr());
        assert_eq!(plan.routes.iter().filter(inside).count(), 1, "{backend}: {:?}", plan.routes);
    }
}
