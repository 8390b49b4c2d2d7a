//! Two data paths on loopback, without a tunnel device: sessions, timers, shutdown.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

fn config(key: u8) -> Config {
    Config {
        engine: Engine::Boringtun,
        identities: vec![(KeyEpoch::FIRST, PrivateKey::from_bytes([key; 32]))],
        sending: KeyEpoch::FIRST,
        listen_port: 0,
        tun_name: "hawser0".to_owned(),
        mtu: 1420,
        fwmark: None,
        timestamp_floor: None,
        workers: None,
        pinned: false,
        dscp: Dscp::Zero,
        recording: Recording { packets: 10, payload: 0 },
    }
}

fn start(key: u8) -> Datapath {
    Datapath::start(config(key)).unwrap()
}

fn peer(key: u8, endpoint: Option<SocketAddr>) -> PeerConfig {
    PeerConfig {
        name: format!("node-{key}"),
        keys: vec![(KeyEpoch::FIRST, PrivateKey::from_bytes([key; 32]).public())],
        send_to: None,
        follows: true,
        preshared_key: None,
        endpoint,
        keepalive: endpoint.map(|_| Duration::from_secs(1)),
        allowed: vec![format!("10.42.{key}.0/24").parse().unwrap()],
        others: Vec::new(),
        forwards: Vec::new(),
        relayed: false,
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not become true");
        thread::sleep(Duration::from_millis(20));
    }
}

fn a_session_over(loopback: IpAddr) {
    let (a, b) = (start(1), start(2));

    b.set_peers(vec![peer(1, None)]);
    a.set_peers(vec![peer(2, Some((loopback, b.listen_port()).into()))]);

    eventually("the session", || a.status()[0].established && b.status()[0].established);
    let seen = &b.status()[0];
    assert_eq!(seen.endpoint, Some((loopback, a.listen_port()).into()), "learned from data");
    let age = seen.last_handshake.unwrap().elapsed().unwrap_or_default();
    assert!(age < LIMIT, "{age:?}");
    assert!(a.alive() && b.alive());
}

#[test]
fn a_peer_that_shall_stay_connected_gets_a_session_over_ipv4() {
    a_session_over(Ipv4Addr::LOCALHOST.into());
}

#[test]
fn and_over_ipv6() {
    a_session_over(Ipv6Addr::LOCALHOST.into());
}

#[test]
fn peers_that_stay_keep_their_sessions() {
    let (a, b) = (start(1), start(2));
    let to_b = peer(2, Some((Ipv4Addr::LOCALHOST, b.listen_port()).into()));
    b.set_peers(vec![peer(1, None)]);
    a.set_peers(vec![to_b.clone()]);
    eventually("the session", || a.status()[0].established);
    let handshake = a.status()[0].last_handshake;

    a.set_peers(vec![peer(3, None), to_b]);
    a.set_own_prefixes(vec!["10.42.1.0/24".parse().unwrap()]);

    let status = a.status();
    assert_eq!(status.len(), 2);
    let b_now = status.iter().find(|peer| peer.name == "node-2").unwrap();
    assert!(b_now.established);
    let apart = b_now.last_handshake.unwrap().duration_since(handshake.unwrap());
    assert!(apart.unwrap_or_else(|back| back.duration()) < Duration::from_millis(100));
}

#[test]
fn garbage_is_counted_under_a_name() {
    let a = start(1);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();

    socket.send_to(b"garbage", (Ipv4Addr::LOCALHOST, a.listen_port())).unwrap();

    eventually("the count", || a.discards()["not_wireguard"] == 1);
    assert_eq!(a.discards().len(), crypto::Discard::ALL.len());
}

#[test]
fn dropping_it_ends_its_threads_and_frees_the_port() {
    let a = start(1);
    let port = a.listen_port();

    drop(a);

    std::net::UdpSocket::bind(("0.0.0.0", port)).unwrap();
    std::net::UdpSocket::bind(("::", port)).unwrap();
}

#[test]
fn the_handshake_clock_never_goes_back_behind_what_was_kept() {
    let floor = SystemTime::now() + Duration::from_secs(3600);
    let late = Config { timestamp_floor: Some(floor), ..config(1) };

    let late = Datapath::start(late).unwrap();

    assert_eq!(late.handshake_clock(), floor);
    assert!(start(2).handshake_clock() <= SystemTime::now());
}
