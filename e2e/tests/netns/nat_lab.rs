//! The lab's NAT routers map and filter as their kinds say; the tests of NAT stand on them.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use e2e::lab::{Lab, Nat, NatRouter, Node, Outbound};

const PORT: u16 = 51820;
/// Long for a datagram between namespaces.
const SOON: Duration = Duration::from_millis(400);

/// A socket on the node's address of that family, at the agent's port.
fn socket(node: &Node, v4: bool) -> UdpSocket {
    let own = node.address().sockets(PORT)[usize::from(!v4)];
    let socket = node.namespace().run(move || UdpSocket::bind(own)).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn at(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().unwrap()
}

/// Sends one datagram and says whom the receiver saw, if it came.
fn seen(from: &UdpSocket, to: SocketAddr, receiver: &UdpSocket) -> Option<SocketAddr> {
    // An ICMP error of an earlier one may be told now.
    let _ = from.send_to(b"?", to);
    let mut bytes = [0; 8];
    receiver.recv_from(&mut bytes).ok().map(|(_, from)| from)
}

fn outside(router: Option<&NatRouter>, v4: bool) -> IpAddr {
    router.unwrap().node().address().both()[usize::from(!v4)]
}

#[test]
fn each_kind_of_nat_maps_and_filters_as_its_name_says() {
    for v4 in [true, false] {
        for nat in [Nat::PortKept, Nat::EndpointIndependent, Nat::FullCone, Nat::Symmetric] {
            let lab = Lab::new("natkind").unwrap();
            let pair = lab.nat_pair(nat, Nat::None).unwrap();
            let [a, b, public] =
                [&pair.a.node, &pair.b.node, &pair.public].map(|node| socket(node, v4));

            let by_b = seen(&a, at(&b), &b).unwrap();
            let unasked = seen(&public, by_b, &a);
            let by_public = seen(&a, at(&public), &public).unwrap();
            let asked = seen(&public, by_public, &a);

            let what = format!("{nat:?}: {by_b} and {by_public}");
            assert_eq!(by_b.ip(), outside(pair.a.router.as_ref(), v4), "{what}");
            assert_eq!(by_b == by_public, nat != Nat::Symmetric, "{what}");
            assert_eq!(by_b.port() == PORT, nat == Nat::PortKept, "{what}");
            assert_eq!(unasked.is_some(), nat == Nat::FullCone, "{what}");
            assert_eq!(asked, Some(at(&public)), "{what}");
        }
    }
}

#[test]
fn two_machines_behind_one_router_reach_each_other_from_outside_only_with_a_hairpin() {
    let lab = Lab::new("hairpin").unwrap();
    let public = lab.node("public").unwrap();
    let mut router = lab.router("nat", &lab.switch().unwrap(), Nat::EndpointIndependent).unwrap();
    let nodes = ["a", "b"].map(|name| lab.node_on(name, router.inside()).unwrap());
    for v4 in [true, false] {
        let [a, b, public] = [&nodes[0], &nodes[1], &public].map(|node| socket(node, v4));
        let [of_a, of_b] = [&a, &b].map(|inner| seen(inner, at(&public), &public).unwrap());

        router.hairpin(false).unwrap();
        let without = seen(&a, of_b, &b);
        router.hairpin(true).unwrap();
        for inner in [&a, &b] {
            seen(inner, at(&public), &public).unwrap();
        }
        let with = seen(&a, of_b, &b);

        assert_ne!(of_a, of_b);
        assert_eq!((without, with), (None, Some(of_a)));
        assert_eq!(seen(&b, of_a, &a), Some(of_b));
    }
}

#[test]
fn a_router_forgets_mappings_and_lets_out_what_it_should() {
    let lab = Lab::new("natforgets").unwrap();
    let mut pair = lab.nat_pair(Nat::EndpointIndependent, Nat::None).unwrap();
    let [a, public] = [&pair.a.node, &pair.public].map(|node| socket(node, true));
    let before = seen(&a, at(&public), &public).unwrap();
    let router = pair.a.router.as_mut().unwrap();

    router.rebind().unwrap();
    assert_eq!(seen(&public, before, &a), None);
    let after = seen(&a, at(&public), &public).unwrap();
    assert_ne!(before, after);
    assert_eq!(seen(&public, after, &a), Some(at(&public)));

    let address = pair.public.address().v4;
    let listeners = [443, 80].map(|port| {
        pair.public.namespace().run(move || TcpListener::bind((address, port))).unwrap()
    });
    let opens = |port: u16| {
        let connect = move || TcpStream::connect_timeout(&(address, port).into(), SOON);
        pair.a.node.namespace().run(connect).is_ok()
    };
    assert!(opens(443) && opens(80));
    router.let_out(Outbound::NoUdp).unwrap();
    assert_eq!(seen(&a, at(&public), &public), None);
    assert!(opens(443) && opens(80));
    router.let_out(Outbound::OnlyTcp(443)).unwrap();
    assert_eq!(seen(&a, at(&public), &public), None);
    assert!(opens(443) && !opens(80));
    router.let_out(Outbound::Everything).unwrap();
    assert!(seen(&a, at(&public), &public).is_some());
    drop(listeners);
}
