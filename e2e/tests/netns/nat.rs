//! Machines behind NATs of every kind reach each other, and each is told of where the others see it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::lab::{Flow, FlowReport, Nat, NatRouter, eventually};
use e2e::mesh::{Member, Mesh};
use e2e::oracle::marker;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(20);

/// How a pair is to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// One of them is reached where it says.
    Direct,
    /// Both call where the other is seen.
    Punched,
    /// Neither can know where the other will be seen: another node passes on.
    Relayed,
}

/// One of each kind, and two of the one that calls get through.
pub(crate) const KINDS: [(&str, Nat); 5] = [
    ("kept", Nat::PortKept),
    ("one", Nat::EndpointIndependent),
    ("two", Nat::EndpointIndependent),
    ("cone", Nat::FullCone),
    ("each", Nat::Symmetric),
];

/// What becomes of each pair of kinds. `FullCone` is as good as no NAT once it has sent anything.
pub(crate) fn way(a: Nat, b: Nat) -> Way {
    use Nat::{EndpointIndependent, FullCone, None, PortKept, Symmetric};
    match (a, b) {
        (None, _) | (_, None) => Way::Direct,
        (Symmetric, Symmetric | PortKept | EndpointIndependent) => Way::Relayed,
        (PortKept | EndpointIndependent, Symmetric) => Way::Relayed,
        (PortKept | EndpointIndependent | FullCone, _) | (Symmetric, FullCone) => Way::Punched,
    }
}

/// A mesh of two machines without a NAT, who are the witnesses, and others.
pub(crate) struct Hybrid {
    pub(crate) mesh: Mesh,
    pub(crate) kinds: BTreeMap<String, Nat>,
    routers: Vec<NatRouter>,
}

impl Hybrid {
    pub(crate) fn start(prefix: &str) -> Self {
        let mut mesh = Mesh::start(prefix, 2).unwrap();
        mesh.add_pods(1).unwrap();
        let kinds = mesh.members.iter().map(|m| (m.node.name().to_owned(), Nat::None)).collect();
        Self { mesh, kinds, routers: Vec::new() }
    }

    pub(crate) fn router(&mut self, name: &str, nat: Nat) -> usize {
        let switch = self.mesh.lab.switch().unwrap();
        self.routers.push(self.mesh.lab.router(name, &switch, nat).unwrap());
        self.routers.len() - 1
    }

    pub(crate) fn outside(&self, router: usize) -> &e2e::lab::Node {
        self.routers[router].node()
    }

    /// A machine behind that router, of that kind; started, but not ready yet.
    pub(crate) fn add(&mut self, name: &str, router: usize, nat: Nat) {
        let node = self.mesh.lab.node_on(name, self.routers[router].inside()).unwrap();
        let source = self.mesh.controller.add_node(name).unwrap();
        let mut member = Member::new(node, source);
        member.start_agent().unwrap();
        self.mesh.members.push(member);
        self.kinds.insert(name.to_owned(), nat);
    }

    /// Machines behind a router each.
    pub(crate) fn add_each(&mut self, machines: impl IntoIterator<Item = (&'static str, Nat)>) {
        for (name, nat) in machines {
            let router = self.router(&format!("{name}-nat"), nat);
            self.add(name, router, nat);
        }
    }

    pub(crate) fn settle(&mut self) {
        for member in &mut self.mesh.members {
            member.wait_until_ready(LIMIT).unwrap();
            if member.pods.is_empty() {
                member.add_pod(&self.mesh.lab, "a").unwrap();
            }
        }
    }

    pub(crate) fn member(&self, name: &str) -> &Member {
        self.mesh.members.iter().find(|member| member.node.name() == name).unwrap()
    }

    /// A pod on one reaches a pod on the other: after how long.
    pub(crate) fn reach(&self, from: &str, to: &str, limit: Duration) -> Option<Duration> {
        let (from, to) = (&self.member(from).pods[0], &self.member(to).pods[0]);
        let begun = Instant::now();
        let address = to.address(true).unwrap();
        from.namespace.ping_until(address, &marker(), limit).ok().map(|_| begun.elapsed())
    }

    /// Where one of them speaks to the other.
    fn endpoint(&self, of: &str, to: &str) -> String {
        let state = self.member(of).state().unwrap();
        let peers = state["peers"].as_array().unwrap();
        let peer = peers.iter().find(|peer| peer["name"] == to).unwrap();
        peer["endpoint"].as_str().unwrap_or_default().to_owned()
    }

    /// The status in the API says so of a machine.
    pub(crate) fn told(&self, name: &str) -> (Option<String>, Vec<String>) {
        let nodes = self.mesh.controller.nodes().unwrap();
        let node = nodes.into_iter().find(|node| node.metadata.name.as_deref() == Some(name));
        let status = node.and_then(|node| node.status).unwrap_or_default();
        (status.nat, status.endpoints)
    }
}

#[test]
fn every_pair_of_nats_that_can_meet_meets() {
    let mut hybrid = Hybrid::start("natgrid");
    let begun = Instant::now();
    hybrid.add_each(KINDS);
    hybrid.settle();
    println!("ready after {:?}", begun.elapsed());

    let mut failed = Vec::new();
    for (a, of_a) in &hybrid.kinds {
        for (b, of_b) in hybrid.kinds.range::<String, _>(a.clone()..).skip(1) {
            let way = way(*of_a, *of_b);
            if way == Way::Relayed {
                continue;
            }
            let took = hybrid.reach(a, b, LIMIT).and_then(|_| hybrid.reach(b, a, LIMIT));
            println!("{a} × {b}: {way:?}, {took:?}, at {:?}", hybrid.endpoint(a, b));
            failed.extend(took.is_none().then(|| format!("{a} × {b}: {way:?}")));
        }
    }
    println!("all after {:?}", begun.elapsed());
    assert!(failed.is_empty(), "{failed:?}");

    let kind = |name| hybrid.told(name).0;
    assert_eq!(kind("node-1").as_deref(), Some("none"));
    assert_eq!(kind("one").as_deref(), Some("endpoint-independent"));
    eventually("the symmetric one is known", LIMIT, || {
        kind("each").as_deref() == Some("symmetric")
    })
    .unwrap();
    assert_eq!(hybrid.told("each").1.len(), 2, "its own, one a family: the others are of no use");
}

#[test]
fn two_behind_one_nat_speak_inside_whether_or_not_it_lets_them_meet_outside() {
    let mut hybrid = Hybrid::start("natsame");
    for (hairpin, names) in [(false, ["a", "b"]), (true, ["c", "d"])] {
        let router = hybrid.router(&format!("nat-{}", names[0]), Nat::EndpointIndependent);
        hybrid.routers[router].hairpin(hairpin).unwrap();
        for name in names {
            hybrid.add(name, router, Nat::EndpointIndependent);
        }
    }
    hybrid.settle();
    for [a, b] in [["a", "b"], ["c", "d"]] {
        hybrid.reach(a, b, LIMIT).unwrap();
        let inside = hybrid.member(b).node.address().sockets(51820).map(|at| at.to_string());
        let used = hybrid.endpoint(a, b);
        assert!(inside.contains(&used), "{used} is not inside");
    }
    hybrid.reach("a", "c", LIMIT).unwrap();
}

#[test]
fn a_nat_that_forgets_its_mappings_under_traffic_is_followed() {
    let mut hybrid = Hybrid::start("natrebind");
    let router = hybrid.router("nat", Nat::EndpointIndependent);
    hybrid.add("one", router, Nat::EndpointIndependent);
    hybrid.settle();
    hybrid.reach("one", "node-1", LIMIT).unwrap();
    let (inner, outer) = (&hybrid.member("one").pods[0], &hybrid.member("node-1").pods[0]);
    let flow = |from: &e2e::mesh::Pod, to: &e2e::mesh::Pod| {
        let to = (&to.namespace, to.address(true).unwrap());
        Flow::start(&from.namespace, to, 1000, b"rebinds").unwrap()
    };
    let flows = [("out", flow(inner, outer)), ("in", flow(outer, inner))];
    let before = hybrid.endpoint("node-1", "one");

    std::thread::sleep(Duration::from_secs(1));
    hybrid.routers[router].rebind().unwrap();
    std::thread::sleep(Duration::from_secs(1));

    for (way, flow) in flows {
        let FlowReport { sent, lost, gap, .. } = flow.finish();
        println!("{way}: {lost} of {sent} lost, nothing for {gap:?}");
        assert!(lost <= 50, "{way}: {lost} of {sent} lost");
    }
    assert_ne!(hybrid.endpoint("node-1", "one"), before);
}

/// How they travel, as one of them says.
fn is_relayed(hybrid: &Hybrid, of: &str, to: &str) -> bool {
    let state = hybrid.member(of).state().unwrap();
    let peers = state["peers"].as_array().unwrap();
    let peer = peers.iter().find(|peer| peer["name"] == to).unwrap();
    peer["path"].as_str().unwrap_or_default().starts_with("relay")
}

/// The pods of the two reach each other, both ways, by both families.
fn speak(hybrid: &Hybrid, a: &str, b: &str, limit: Duration) -> bool {
    [(a, b), (b, a)].into_iter().all(|(from, to)| {
        let (from, to) = (&hybrid.member(from).pods[0], &hybrid.member(to).pods[0]);
        [true, false]
            .into_iter()
            .all(|v4| from.namespace.ping_until(to.address(v4).unwrap(), &marker(), limit).is_ok())
    })
}

#[test]
fn every_pair_of_nats_connects_and_by_a_relay_only_where_it_must() {
    let mut hybrid = Hybrid::start("natrelay");
    hybrid.mesh.ask_for(json!({"relay": "Auto"})).unwrap();
    hybrid.add_each([
        ("kept", Nat::PortKept),
        ("one", Nat::EndpointIndependent),
        ("cone", Nat::FullCone),
        ("each", Nat::Symmetric),
        ("other", Nat::Symmetric),
    ]);
    hybrid.settle();
    let names: Vec<(String, Nat)> = hybrid.kinds.clone().into_iter().collect();
    let mut failed = Vec::new();
    for (place, (a, of_a)) in names.iter().enumerate() {
        for (b, of_b) in &names[place + 1..] {
            let (way, begun) = (way(*of_a, *of_b), Instant::now());
            let speak = speak(&hybrid, a, b, LIMIT);
            let took = begun.elapsed();
            let relayed = || [(a, b), (b, a)].map(|(of, to)| is_relayed(&hybrid, of, to));
            let wanted = [way == Way::Relayed; 2];
            let as_it_must = eventually("its way", LIMIT, || relayed() == wanted).is_ok();
            println!(
                "{a} × {b}: {way:?} after {took:?}, relayed {:?} after {:?}",
                relayed(),
                begun.elapsed()
            );
            failed.extend((!speak || !as_it_must).then(|| format!("{a} × {b}: {way:?}, {speak}")));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");

    // Both are known to all, and to each other: what a start costs where nothing is to be learned.
    for [a, b] in [["each", "other"], ["kept", "each"]] {
        let places = [a, b].map(|name| {
            hybrid.mesh.members.iter().position(|member| member.node.name() == name).unwrap()
        });
        for place in places {
            hybrid.mesh.members[place].kill_agent();
        }
        let begun = Instant::now();
        for place in places {
            hybrid.mesh.members[place].start_agent().unwrap();
        }
        assert!(speak(&hybrid, a, b, LIMIT), "{a} × {b}");
        println!("{a} × {b}: {:?} after a cold start", begun.elapsed());
    }
}
