use std::collections::BTreeSet;

use api::SiteGateways;

use super::*;

/// Sites a (n1), b (n2 and n3, its gateways, and n4) and c (n5).
fn apart() -> View {
    let mut view = view([1, 2, 3, 4, 5]);
    for (name, site) in [("n1", "a"), ("n2", "b"), ("n3", "b"), ("n4", "b"), ("n5", "c")] {
        view.nodes.get_mut(name).unwrap().site = Some(site.to_owned());
    }
    view.nodes.get_mut("n4").unwrap().addresses = vec!["192.0.2.4".parse().unwrap()];
    let gateways = ["n2", "n3"].map(str::to_owned).to_vec();
    view.site_gateways = vec![SiteGateways { site: "b".into(), gateways }];
    view
}

fn plan(node: &str, silent: &[&str]) -> Plan {
    let silent: BTreeSet<String> = silent.iter().map(ToString::to_string).collect();
    let facts = Facts { node: node.to_owned(), silent, ..facts() };
    Plan::new(&apart().seen_by(node, &facts.silent), &facts)
}

fn peers(plan: &Plan) -> Vec<&str> {
    plan.peers.others.iter().map(|peer| peer.name.as_str()).collect()
}

fn peer<'a>(plan: &'a Plan, name: &str) -> &'a PeerConfig {
    plan.peers.others.iter().find(|peer| peer.name == name).unwrap()
}

#[test]
fn what_is_behind_a_gateway_is_sent_to_it_and_taken_from_any_of_them() {
    let plan = plan("n1", &[]);

    assert_eq!(peers(&plan), ["n2", "n3", "n5"]);
    let behind = ["10.42.4.0/24", "fd42:0:0:4::/64", "192.0.2.4/32"].map(net);
    for prefix in &behind {
        assert!(peer(&plan, "n2").allowed.contains(prefix), "{prefix}");
        assert!(!peer(&plan, "n3").allowed.contains(prefix), "{prefix}");
    }
    for gateway in ["n2", "n3"] {
        let forwards: BTreeSet<_> = peer(&plan, gateway).forwards.iter().copied().collect();
        assert_eq!(forwards, behind.into(), "{gateway}");
    }
    assert_eq!(peer(&plan, "n5").forwards, []);
    let to_machine =
        plan.routes.iter().filter(|route| matches!(route.target, Target::Machine { .. }));
    assert_eq!(to_machine.map(|route| route.prefix).collect::<Vec<_>>(), [net("192.0.2.4/32")]);
    assert!(plan.guard.machines.contains(&net("192.0.2.4/32")) && !plan.guard.forwards);
}

#[test]
fn a_silent_gateway_is_passed_over_unless_all_are() {
    let through = |silent: &[&str]| {
        let plan = plan("n1", silent);
        let with = |peer: &&PeerConfig| peer.allowed.contains(&net("10.42.4.0/24"));
        plan.peers.others.iter().find(with).unwrap().name.clone()
    };

    assert_eq!(through(&["n2"]), "n3");
    assert_eq!(through(&["n3"]), "n2");
    assert_eq!(through(&["n2", "n3"]), "n2");
}

#[test]
fn a_node_behind_gateways_speaks_with_its_own_site_alone_and_a_gateway_with_all() {
    let behind = plan("n4", &[]);
    assert_eq!(peers(&behind), ["n2", "n3"]);
    assert!(peer(&behind, "n2").allowed.contains(&net("10.42.1.0/24")));
    assert!(peer(&behind, "n2").allowed.contains(&net("10.42.5.0/24")));

    let gateway = plan("n3", &[]);
    assert_eq!(peers(&gateway), ["n1", "n2", "n4", "n5"]);
    assert!(gateway.guard.forwards);
    assert!(gateway.peers.others.iter().all(|peer| peer.forwards.is_empty()));
}

#[test]
fn a_laptop_whose_entry_is_behind_a_gateway_is_sent_to_through_it() {
    let mut view = apart();
    let laptop = PlainPeer { entries: vec!["n4".into()], ..super::peer(&["10.42.200.7/32"]) };
    view.peers.insert("laptop".into(), laptop);
    let facts = facts();
    let plan = Plan::new(&view.seen_by("n1", &facts.silent), &facts);

    let laptop = net("10.42.200.7/32");
    assert!(peer(&plan, "n2").allowed.contains(&laptop));
    assert!(peer(&plan, "n3").forwards.contains(&laptop));
    assert!(plan.routes.iter().any(|route| route.prefix == laptop), "{:?}", plan.routes);
}
