//! What a packet allocates: nothing. What a peer keeps: little.

#![allow(clippy::disallowed_methods, reason = "a moment to count from")]
#![allow(clippy::unwrap_used, reason = "a test may panic, its helpers as well")]

mod common;
mod counting;

use std::time::{Duration, Instant};

use common::{Counted, Last, Pair, address, key, mesh, packet, peer, pod};
use counting::{Counting, counted};
use crypto::{Mesh, PeerConfig};

#[global_allocator]
static COUNTING: Counting = Counting;

const TRAIN: usize = 44;

#[test]
fn no_packet_allocates_neither_out_nor_in() {
    let pair = Pair::with_peers(100);
    let mut train = vec![0; 65_536];
    let record = packet(1, 2, 1400);
    let stride = crypto::Train::length(1400, 1420);
    let mut round = |packets: usize| {
        for place in train.chunks_mut(stride).take(packets) {
            place[crypto::HEADER..][..1400].copy_from_slice(&record);
        }
        pair.seal(packets, 1400, &mut train);
        let mut found = Counted::default();
        pair.to.open(&mut train[..packets * stride], stride, address(1), pair.now, &mut found);
        assert_eq!(found.packets, packets);
    };
    // The first time each thread makes its place in arc-swap's list.
    round(1);

    let ((), counted) = counted(|| (0..100).for_each(|packets| round(packets % TRAIN)));

    assert_eq!((counted.times, counted.bytes), (0, 0));
}

#[test]
fn the_counter_counts() {
    let (kept, counted) = counted(|| {
        drop(vec![0_u8; 500]);
        vec![0_u8; 1000]
    });

    assert_eq!((kept.len(), counted.times, counted.bytes), (1000, 2, 1000));
}

fn list(peers: std::ops::Range<u32>, keepalive: Option<Duration>) -> Vec<PeerConfig> {
    peers.map(|number| PeerConfig { keepalive, ..peer(number) }).collect()
}

#[test]
fn a_peer_that_is_idle_costs_less_than_a_kilobyte() {
    let peers = 10_000;
    let now = Instant::now();
    let mut hub = mesh(1, now);
    let mut out = Last::default();
    // The caller's list becomes the mesh's: it is counted, too.
    let ((), counted) = counted(|| {
        hub.set_peers(list(2..2 + peers, None), &[], &mut out, now);
    });

    let each = counted.bytes / i64::from(peers);
    println!("{each} bytes for each of {peers} idle peers");
    assert!(each <= 1024, "{each}");
}

/// The handshake with node `number`; what of it is the hub's is counted.
fn connect(hub: &mut Mesh, number: u32, out: &mut Last, now: Instant) -> i64 {
    let mut other = mesh(number, now);
    other.set_peers(list(1..2, None), &[], out, now);
    other.seal(&packet(number, 1, 100), out, now).unwrap();
    let initiation = out.bytes().to_vec();
    let (opened, answered) = counted(|| hub.open(&initiation, address(number), out, now));
    opened.unwrap();
    let response = out.bytes().to_vec();
    other.open(&response, address(1), out, now).unwrap();
    let first = out.bytes().to_vec();
    let (opened, confirmed) = counted(|| hub.open(&first, address(number), out, now));
    opened.unwrap();
    answered.bytes + confirmed.bytes
}

#[test]
fn a_peer_with_a_session_costs_less_than_four_kilobytes() {
    let peers = 1_000;
    let now = Instant::now();
    let mut hub = mesh(1, now);
    let mut out = Last::default();
    let ((), idle) = counted(|| {
        hub.set_peers(list(2..2 + peers, None), &[], &mut out, now);
    });

    let sessions: i64 = (2..2 + peers).map(|number| connect(&mut hub, number, &mut out, now)).sum();

    assert!(hub.status().iter().all(|peer| peer.established));
    let each = (idle.bytes + sessions) / i64::from(peers);
    println!("{each} bytes for each of {peers} peers with a session");
    assert!(each <= 4096, "{each}");
}

#[test]
fn a_list_of_ten_thousand_that_did_not_change_is_cheap_and_one_change_touches_one() {
    let peers = 10_000;
    let now = Instant::now();
    let mut hub = mesh(1, now);
    let mut out = Last::default();
    let timed = |hub: &mut Mesh, list: Vec<PeerConfig>, out: &mut Last| {
        let begun = Instant::now();
        assert_eq!(hub.set_peers(list, &[], out, now), []);
        begun.elapsed()
    };
    let first = timed(&mut hub, list(2..2 + peers, None), &mut out);
    connect(&mut hub, 77, &mut out, now);

    let same = timed(&mut hub, list(2..2 + peers, None), &mut out);
    let mut changed = list(2..2 + peers, None);
    changed[5].allowed.push("10.250.0.0/16".parse().unwrap());
    changed[6].keys = vec![(keys::KeyEpoch::FIRST, key(999_999).public())];
    let one = timed(&mut hub, changed, &mut out);

    println!("first {first:?}, the same {same:?}, two of them changed {one:?}");
    assert!(same < Duration::from_millis(50), "{same:?}");
    assert!(one < Duration::from_millis(500), "{one:?}");
    assert_eq!(hub.status().iter().filter(|peer| peer.established).count(), 1);
    assert!(hub.paths().train(pod(77), 1, now).is_ok());
}
