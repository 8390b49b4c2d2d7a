//! A kernel of a few lines: any plan's changes, from any state, lead to the plan, and at no step is
//! anything carried that the guard doesn't cover.

use super::*;

/// Does what Linux does for each change, side effects included.
fn step(actual: &mut Actual, change: Change) {
    match change {
        Change::Table(guard) => actual.table = Some(guard),
        Change::AddRoute(route) => {
            if let Target::Device { name, source } = &route.target {
                let device = actual.device.as_ref();
                let tunnel = device.filter(|device| device.up && name == "hawser0");
                assert!(tunnel.is_some() || name != "hawser0", "no tunnel for {route:?}");
                if let Some(source) = source {
                    let has = tunnel.unwrap().addresses.iter().any(|a| a.addr() == *source);
                    assert!(has, "no source address for {route:?}");
                }
            }
            if let Target::Via { device, .. } = &route.target {
                assert!(device != VXLAN_DEVICE || actual.vxlan.is_some(), "no VXLAN for {route:?}");
                let table = actual.table.as_ref().unwrap();
                assert!(
                    table.open[device].to.contains(&route.prefix),
                    "{route:?} would be dropped"
                );
            }
            if let Target::Probe { device, .. } = &route.target {
                assert!(device != VXLAN_DEVICE || actual.vxlan.is_some(), "no VXLAN for {route:?}");
                let open = &actual.table.as_ref().unwrap().open[device].to;
                let passes = open.iter().any(|net| net.contains(&route.prefix));
                assert!(passes, "{route:?} would be dropped");
            }
            actual.routes.retain(|old| old.prefix != route.prefix || place(old) != place(&route));
            actual.routes.insert(route);
        }
        Change::RemoveRoute(route) => assert!(actual.routes.remove(&route), "{route:?}"),
        Change::Bar(rule) => {
            let open = actual.table.as_ref().and_then(|table| table.open.get(&rule.device));
            assert!(open.is_none_or(|open| open.from.is_empty()), "{rule:?} bars what is let in");
            assert!(actual.barred.insert(rule));
        }
        Change::Unbar(rule) => assert!(actual.barred.remove(&rule)),
        Change::LocalBehind(family) => {
            let places = actual.local.entry(family).or_default();
            places.remove(&barred::FIRST);
            assert!(places.insert(barred::BEHIND));
        }
        Change::AddRule(rule) => assert!(actual.rules.insert(rule)),
        Change::RemoveRule(rule) => assert!(actual.rules.remove(&rule)),
        Change::Sysctl { path, value } => drop(actual.sysctls.insert(path, value.into())),
        Change::Attach => {
            let device = actual.device.get_or_insert_with(|| Device {
                attached: false,
                up: false,
                mtu: 1500,
                addresses: BTreeSet::new(),
            });
            device.attached = true;
        }
        Change::Mtu(mtu) => actual.device.as_mut().unwrap().mtu = mtu,
        Change::Up => actual.device.as_mut().unwrap().up = true,
        Change::AddAddress(address) => {
            assert!(actual.device.as_mut().unwrap().addresses.insert(address));
        }
        Change::RemoveAddress(address) => {
            assert!(actual.device.as_mut().unwrap().addresses.remove(&address));
            actual.routes.retain(|route| match &route.target {
                Target::Device { source: Some(source), .. } => *source != address.addr(),
                Target::Via { source: Some(source), .. }
                | Target::Probe { source: Some(source), .. } => *source != address.addr(),
                Target::Device { source: None, .. }
                | Target::Probe { source: None, .. }
                | Target::Via { source: None, .. }
                | Target::Machine { .. }
                | Target::Unreachable => true,
            });
        }
        Change::Vxlan(vxlan) => {
            let used = |route: &Route| over(VXLAN_DEVICE, route);
            assert!(vxlan.is_some() || !actual.routes.iter().any(used), "a route lost its device");
            actual.vxlan = vxlan;
        }
        Change::Peers(peers) => actual.peers = peers,
    }
}

/// Routes to one prefix in one table replace each other, but the guard's.
fn place(route: &Route) -> (bool, Option<SideTable>) {
    (route.target == Target::Unreachable, route.table())
}

fn over(wanted: &str, route: &Route) -> bool {
    match &route.target {
        Target::Via { device, .. } | Target::Probe { device, .. } => device == wanted,
        Target::Device { .. } | Target::Machine { .. } | Target::Unreachable => false,
    }
}

fn guarded(actual: &Actual, prefix: &IpNet) -> bool {
    let table = actual.table.as_ref().is_some_and(|table| table.covers(prefix));
    let route = actual
        .routes
        .iter()
        .any(|route| route.target == Target::Unreachable && route.prefix.contains(prefix));
    table && route
}

/// Applies everything, looking at every state in between.
fn reach(plan: &Plan, mut actual: Actual) -> Actual {
    let guarded_before: Vec<IpNet> =
        plan.guard.ranges.iter().filter(|range| guarded(&actual, range)).copied().collect();
    for change in plan.changes_from(&actual) {
        let carries = match &change {
            Change::AddRoute(Route { prefix, target: Target::Device { .. } }) => Some(*prefix),
            _ => None,
        };
        step(&mut actual, change);
        if let Some(prefix) = carries {
            assert!(guarded(&actual, &prefix), "{prefix} is carried before it is guarded");
        }
        for range in &guarded_before {
            assert!(guarded(&actual, range), "{range} lost its guard on the way");
        }
    }
    actual
}

/// Any mesh of up to eight nodes, some odd, in a pool of either size.
fn any_view() -> impl Strategy<Value = View> {
    let nodes = prop::collection::btree_set(1u8..9, 0..8);
    let backends = vec![Backend::Wireguard, Backend::Vxlan, Backend::Direct, Backend::Udp];
    let encryptions = vec![Encryption::Required, Encryption::Preferred, Encryption::None];
    let fallback = prop::sample::subsequence(backends.clone(), 0..3);
    let carriers = (prop::sample::select(backends), prop::sample::select(encryptions), fallback);
    let sites = (prop::collection::vec(0usize..4, 8), prop::collection::vec(any_sites(), 0..4));
    (nodes, any::<bool>(), carriers, any::<bool>(), any::<bool>(), sites).prop_map(
        |(nodes, small, (backend, encryption, fallback), router, machines, (stand, sites))| {
            let mut view = view(nodes);
            for (node, site) in view.nodes.values_mut().zip(stand) {
                node.site = SITES.get(site).map(|&site| site.to_owned());
            }
            view.site_encryption = sites;
            if machines {
                for node in view.nodes.values_mut() {
                    node.addresses = node.endpoints.iter().map(|e| e.ip()).collect();
                }
            }
            if small {
                view.pools = vec![net("10.42.0.0/20"), net("fd42::/56")];
            }
            (view.backend, view.encryption) = (backend, encryption);
            view.fallback = fallback;
            if router {
                view.peers.insert("router".into(), peer(&["192.168.7.0/24", "10.42.200.7/32"]));
            }
            view
        },
    )
}

const SITES: [&str; 3] = ["a", "b", "c"];

fn any_sites() -> impl Strategy<Value = SiteEncryption> {
    let encryption =
        prop::sample::select(vec![Encryption::Required, Encryption::Preferred, Encryption::None]);
    (prop::collection::vec(prop::sample::select(SITES.as_slice()), 1..3), encryption).prop_map(
        |(sites, encryption)| {
            let sites = sites.into_iter().map(str::to_owned).collect();
            SiteEncryption { sites, encryption }
        },
    )
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let pods = prop::collection::btree_set(2u8..12, 0..4);
    let backends = vec![Backend::Wireguard, Backend::Vxlan, Backend::Direct, Backend::Udp];
    let choice = prop::sample::select(backends).prop_map(Way::from);
    let chosen = prop::collection::btree_map((1u8..9).prop_map(|n| format!("n{n}")), choice, 0..8);
    let devices = ["eth0", "eth1", "docker0"].map(str::to_owned).to_vec();
    let foreign = prop::sample::subsequence(devices, 0..4);
    let all = (pods, any::<bool>(), 1280u16..9000, chosen, foreign);
    all.prop_map(|(pods, ipv6, mtu, chosen, foreign)| {
        let pod = |n: u8| PodRoute { address: [10, 42, 1, n].into(), device: format!("hwp{n}") };
        let underlay = Underlay { mtu, ..facts().underlay };
        let endpoint =
            |node: u8| [[192, 0, 2, node].into(), format!("2001:db8::{node:x}").parse().unwrap()];
        let on_link = (2..6).flat_map(endpoint).map(|at: IpAddr| (at, "eth0".to_owned())).collect();
        let pods = pods.into_iter().map(pod).collect();
        let foreign = foreign.into_iter().collect();
        Facts { underlay, ipv6, foreign, pods, on_link, chosen, ..facts() }
    })
}

/// What somebody may do to a running node.
#[derive(Clone, Debug)]
enum Damage {
    Nothing,
    Device,
    Down,
    Detached,
    Addresses,
    Routes,
    GuardRoutes,
    Table,
    Mtu,
    Sysctls,
    Rules,
    Vxlan,
}

fn any_damage() -> impl Strategy<Value = Damage> {
    prop::sample::select(vec![
        Damage::Nothing,
        Damage::Device,
        Damage::Down,
        Damage::Detached,
        Damage::Addresses,
        Damage::Routes,
        Damage::GuardRoutes,
        Damage::Table,
        Damage::Mtu,
        Damage::Sysctls,
        Damage::Rules,
        Damage::Vxlan,
    ])
}

fn damage(mut actual: Actual, damage: &Damage) -> Actual {
    let through_tunnel = |route: &Route| match &route.target {
        Target::Device { name, .. } | Target::Machine { name } => name == "hawser0",
        Target::Via { .. } | Target::Probe { .. } | Target::Unreachable => false,
    };
    match damage {
        Damage::Nothing => {}
        Damage::Device => {
            actual.device = None;
            actual.routes.retain(|route| !through_tunnel(route));
        }
        Damage::Vxlan => {
            actual.vxlan = None;
            actual.routes.retain(|route| !over(VXLAN_DEVICE, route));
        }
        Damage::Table => actual.table = None,
        Damage::Routes => actual.routes.clear(),
        Damage::GuardRoutes => actual.routes.retain(|r| r.target != Target::Unreachable),
        Damage::Sysctls => actual.sysctls.clear(),
        Damage::Rules => {
            actual.rules.clear();
            actual.barred.clear();
            actual.local.clear();
        }
        Damage::Down | Damage::Detached | Damage::Addresses | Damage::Mtu => {
            let Some(device) = &mut actual.device else {
                return actual;
            };
            match damage {
                Damage::Detached => device.attached = false,
                Damage::Mtu => device.mtu = 1400,
                Damage::Addresses => device.addresses.clear(),
                _ => {
                    device.up = false;
                    device.addresses.retain(|address| address.addr().is_ipv4());
                }
            }
            if !matches!(damage, Damage::Detached | Damage::Mtu) {
                actual.routes.retain(|route| !through_tunnel(route));
            }
        }
    }
    actual
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn from_any_state_the_changes_lead_to_the_plan_and_then_there_are_none(
        (old, new) in (any_view(), any_view()),
        (old_facts, new_facts) in (any_facts(), any_facts()),
        harm in any_damage(),
    ) {
        let local = [Family::V4, Family::V6].map(|family| (family, [barred::FIRST].into())).into();
        let first = Actual { local, ..Actual::default() };
        let before = reach(&Plan::new(&old, &old_facts), first);
        let plan = Plan::new(&new, &new_facts);

        let after = reach(&plan, damage(before, &harm));

        prop_assert!(plan.changes_from(&after).is_empty(), "{:?}", plan.changes_from(&after));
        prop_assert_eq!(after.table.as_ref(), Some(&plan.guard));
        for route in &plan.routes {
            prop_assert!(after.routes.contains(route));
        }
        let unreachable = after.routes.iter().filter(|r| r.target == Target::Unreachable);
        let ranges: BTreeSet<_> = unreachable.map(|r| r.prefix).collect();
        prop_assert_eq!(&ranges, &plan.guard.ranges);
        prop_assert_eq!(&after.barred, &plan.barred);
        for rule in &plan.barred {
            prop_assert!(barred::stands(&after.local, Family::of(&rule.source)));
        }
        prop_assert_eq!(after.routes.len(), plan.routes.len() + ranges.len());
        if plan.takes_part() {
            let device = after.device.unwrap();
            prop_assert!(device.up && device.attached);
            prop_assert_eq!(&after.vxlan, &plan.vxlan);
            prop_assert_eq!(device.addresses, plan.addresses);
        }
    }

    #[test]
    fn nothing_is_open_to_or_from_a_node_that_encryption_is_required_with(
        view in any_view(), facts in any_facts(),
    ) {
        let plan = Plan::new(&view, &facts);
        let sealed = |name: &&String| {
            view.encryption_between(&facts.node, name) == Encryption::Required
        };

        for name in view.nodes.keys().filter(sealed) {
            let carrier = plan.carriers.get(name);
            prop_assert!(carrier.is_none_or(|backend| backend.encrypts()), "{name}: {carrier:?}");
            for prefix in &view.nodes[name].subnets {
                let open = plan.guard.open.values();
                let mut open = open.flat_map(|open| open.to.union(&open.from));
                prop_assert!(!open.any(|net| net.contains(prefix)), "{prefix} is open");
                let mut clear = plan.peers.clear.iter().flat_map(|peer| &peer.prefixes);
                prop_assert!(!clear.any(|net| net.contains(prefix)), "{prefix} is in frames");
                let mut plain = plan.routes.iter().filter(|route| route.prefix == *prefix);
                let routed = plain.any(|route| matches!(route.target, Target::Via { .. }));
                prop_assert!(!routed, "{prefix} has a plain route");
            }
        }
    }

    #[test]
    fn nothing_is_carried_that_is_not_guarded(view in any_view(), facts in any_facts()) {
        let plan = Plan::new(&view, &facts);
        let ours = plan.routes.iter().map(|route| &route.prefix).chain(&plan.addresses);

        for prefix in ours {
            let to_machine = plan.guard.machines.contains(prefix);
            prop_assert!(plan.guard.covers(prefix) || to_machine, "{prefix}");
        }
    }
}
