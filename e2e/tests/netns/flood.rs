//! 200,000 initiations a second that nobody can tell from real ones without looking.
//!
//! What is asserted here holds on however slow a machine; `./e2e/bench --flood` prints the figures.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use api::{MeshPeer, MeshPeerSpec};
use e2e::flood::{Attempts, CookieReplies, Flood, Member};
use e2e::lab::{Flow, Node};
use e2e::mesh::pods;

use crate::interop_native::native;
use crate::laptop::{PORT, public_key, reaches};

const PER_SECOND: u32 = 200_000;
const PATIENCE: Duration = Duration::from_secs(30);

fn attempts(count: usize) -> Attempts {
    Attempts { count, limit: PATIENCE, within: PATIENCE }
}

fn plain_peer(name: &str, member: &Member, endpoint: Option<&Node>) -> MeshPeer {
    let at = |node: &Node| SocketAddr::new(node.address().v4.into(), PORT).to_string();
    let spec = MeshPeerSpec {
        public_key: member.public_key(),
        addresses: vec!["10.42.200.7/32".to_owned()],
        endpoint: endpoint.map(at),
        entries: Vec::new(),
        preshared_key_file: None,
        preshared_key_secret_ref: None,
        persistent_keepalive: None,
    };
    MeshPeer::new(name, spec)
}

#[test]
fn a_flood_of_forged_handshakes_stops_no_flow_and_keeps_no_member_out() {
    let mesh = native("flood", 2);
    let pods = pods(&mesh.members);
    let (near, far) = (pods[0], pods[1]);
    let node = &mesh.members[1].node;
    let to = SocketAddrV4::new(node.address().v4, PORT);
    let stranger = mesh.lab.node("stranger").unwrap();
    let home = mesh.lab.node("home").unwrap();
    let member = Member::new(home.namespace(), to, &public_key(node)).unwrap();
    mesh.write(&[plain_peer("member", &member, Some(&home))]).unwrap();
    reaches(&near.namespace, &far.addresses, b"before");
    assert_eq!(member.handshakes(PORT, attempts(1)).unwrap().failed, 0);
    let cookies = CookieReplies::of(node).unwrap();
    let agent = mesh.members[1].agent().unwrap();

    let flow = Flow::start(&near.namespace, (&far.namespace, far.addresses[0]), 500, b"flow");
    let flow = flow.unwrap();
    let flood = Flood::start(stranger.namespace(), to, &public_key(node), PER_SECOND).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let early = agent.rss_kib().unwrap();
    let known = member.handshakes(PORT, attempts(5)).unwrap();
    let unknown = member.handshakes(0, attempts(1)).unwrap();
    let replies = cookies.sent().unwrap();
    let late = agent.rss_kib().unwrap();
    let flood = flood.finish();
    let flow = flow.finish();

    println!(
        "{:.0} initiations/s for {:?}, its own CPU {:?}; flow {flow:?}; handshakes from a known \
         endpoint {:?}, from elsewhere {:?}; {replies} cookies; {early} to {late} KiB",
        flood.per_second(),
        flood.lasted,
        flood.cpu,
        known.done,
        unknown.done,
    );
    assert!(flow.received * 2 > flow.sent, "{flow:?}");
    assert_eq!((known.failed, unknown.failed), (0, 0), "a member was kept out");
    assert!(replies > 0 && replies * 2 < flood.sent, "{replies} cookies for {}", flood.sent);
    assert!(late < early + (16 << 10), "the agent grew from {early} to {late} KiB");
    reaches(&near.namespace, &far.addresses, b"after");
}
