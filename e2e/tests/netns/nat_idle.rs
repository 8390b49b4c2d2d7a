//! What two nodes send that have nothing to say: something where a NAT forgets, nothing elsewhere.

use std::time::Duration;

use e2e::lab::{Nat, Node, eventually};
use e2e::oracle::marker;

use super::nat::Hybrid;

const LIMIT: Duration = Duration::from_secs(30);
/// The lab's routers forget a mapping that nothing used for so long.
const IDLE: Duration = Duration::from_secs(31);
const PORT: [u8; 4] = [0xca, 0x6c, 0xca, 0x6c];

/// How a datagram between their tunnels' ports begins, either way, of both families.
fn between(a: &Node, b: &Node) -> Vec<Vec<u8>> {
    let way = |from: &Node, to: &Node| {
        let (from, to) = (from.address(), to.address());
        let v4 = [&from.v4.octets(), &to.v4.octets(), &PORT].map(|part| &part[..]).concat();
        let v6 = [&from.v6.octets()[..], &to.v6.octets(), &PORT].concat();
        [v4, v6]
    };
    [way(a, b), way(b, a)].concat()
}

#[test]
fn an_idle_pair_sends_nothing_unless_a_nat_lies_between_and_is_reached_through_it_all_the_same() {
    let mut hybrid = Hybrid::start("natidle");
    let router = hybrid.router("nat", Nat::EndpointIndependent);
    hybrid.add("one", router, Nat::EndpointIndependent);
    hybrid.settle();
    for to in ["node-2", "one"] {
        hybrid.reach("node-1", to, LIMIT).unwrap();
    }
    let kind = |name| hybrid.told(name).0.unwrap_or_default();
    eventually("it is known where there is a NAT", LIMIT, || {
        [kind("node-1"), kind("node-2")] == ["none", "none"] && kind("one") != "none"
    })
    .unwrap();
    let [first, second] = ["node-1", "node-2"].map(|name| &hybrid.member(name).node);
    let nat = hybrid.outside(router);
    // What answers the last question has been sent by then, the empty message after 10 s included.
    std::thread::sleep(Duration::from_secs(12));

    let direct = between(first, second);
    let markers: Vec<&[u8]> = direct.iter().map(Vec::as_slice).collect();
    let without = first.capture("eth0", &markers).unwrap();
    let from = [nat.address().v4.octets(), first.address().v4.octets()].concat();
    let through = first.capture("eth0", &[&from]).unwrap();
    std::thread::sleep(IDLE);
    let (without, through) = (without.seen().marked(), through.seen().marked());

    println!("in {IDLE:?}: {without} datagrams without a NAT between, {through} with one");
    assert_eq!(without, 0);
    assert!(through > 0, "the mapping is held open, and the capture sees it");
    let [from, to] = ["node-1", "one"].map(|name| &hybrid.member(name).pods[0]);
    for v4 in [true, false] {
        let to = to.address(v4).unwrap();
        let took = from.namespace.ping(to, &marker()).unwrap();
        println!("{to} answered after {took:?}");
    }
}
