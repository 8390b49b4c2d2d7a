use std::{collections::BTreeSet, time::Duration};

use keys::{KeyEpoch, PrivateKey};

use super::*;
use crate::{
    Discard,
    mesh::tests::{Pair, address, mesh_after, packet, peer},
    workbench::Made,
};

/// Node 1 begins again with these sessions of its earlier life.
fn restart(pair: &mut Pair, states: Vec<SessionState>) -> (Vec<ImportError>, Made) {
    pair.a = mesh_after(Some(pair.a.timestamp()), &[(1, 1)], pair.now);
    let mut made = Made::default();
    pair.a.set_peers(vec![peer(2, &[(1, 2)])], &[], &mut made, pair.now);
    let errors = pair.a.import(states, &mut made, pair.now);
    (errors, made)
}

fn sealed(pair: &mut Pair) -> Vec<u8> {
    let mut made = Made::default();
    pair.a.seal(&packet(1, 2, 100), &mut made, pair.now).unwrap();
    made.datagrams.remove(0)
}

fn counter(datagram: &[u8]) -> u64 {
    u64::from_le_bytes(*datagram[8..].first_chunk().unwrap())
}

#[test]
fn a_restart_loses_nothing_and_needs_no_handshake() {
    let mut pair = Pair::connected();
    let mut late = Made::default();
    pair.b.seal(&packet(2, 1, 100), &mut late, pair.now).unwrap();
    let seen = pair.b_sends();

    let states = pair.a.export(0, pair.now);
    let (errors, made) = restart(&mut pair, states);

    assert_eq!((errors, made.datagrams.len(), seen.len()), (vec![], 0, 1));
    assert_eq!(pair.exchange(late.datagrams.clone(), false).len(), 1, "what was under way");
    assert_eq!(pair.exchange(late.datagrams, false).len(), 0, "once");
    for _ in 0..3 {
        assert_eq!((pair.a_sends().len(), pair.b_sends().len()), (1, 1));
    }
    assert_eq!(pair.b.discards().get(Discard::Replay), 0);
    pair.pass(Duration::from_secs(121));
    assert_eq!((pair.a_sends().len(), pair.b_sends().len()), (1, 1), "and is renewed in time");
    let age = pair.now.duration_since(pair.a.status()[0].last_handshake.unwrap());
    assert!(age < Duration::from_secs(10), "{age:?}");
}

#[test]
fn no_counter_is_used_by_both_lives_however_the_first_one_ends() {
    let mut pair = Pair::connected();
    let mut used = BTreeSet::new();
    let states = pair.a.export(3_000, pair.now);
    for _ in 0..2_500 {
        assert!(used.insert(counter(&sealed(&mut pair))));
    }
    assert!(pair.a.export_due(), "it should have been asked for the next one");

    restart(&mut pair, states);

    for _ in 0..1000 {
        assert!(used.insert(counter(&sealed(&mut pair))));
    }
}

#[test]
fn a_process_that_is_not_asked_again_begins_a_handshake_instead_of_using_what_it_gave() {
    let mut pair = Pair::connected();
    let given = pair.a.export(3_000, pair.now)[0].next;

    let made: Vec<_> = (0..4_000).map(|_| sealed(&mut pair)).take_while(|d| d[0] == 4).collect();

    assert!(made.iter().all(|datagram| counter(datagram) < given));
    assert_eq!(made.len(), 3_000);
}

#[test]
fn what_was_heard_between_an_export_and_a_crash_is_not_delivered_again() {
    let mut pair = Pair::connected();
    let states = pair.a.export(1_000, pair.now);
    let mut heard = Vec::new();
    for _ in 0..900 {
        let mut made = Made::default();
        pair.b.seal(&packet(2, 1, 100), &mut made, pair.now).unwrap();
        heard.extend(made.datagrams.clone());
        assert_eq!(pair.exchange(made.datagrams, false).len(), 1);
    }

    let (errors, made) = restart(&mut pair, states);

    assert_eq!(errors, []);
    assert_eq!(made.datagrams[0][0], 1, "and a new session is asked for at once");
    assert_eq!(pair.exchange(heard, false).len(), 0);
    pair.exchange(made.datagrams, true);
    assert_eq!((pair.a_sends().len(), pair.b_sends().len()), (1, 1));
}

#[test]
fn a_state_that_cannot_be_used_says_why() {
    let mut pair = Pair::connected();
    let state = pair.a.export(0, pair.now).remove(0);
    let other = (KeyEpoch(1), PrivateKey::from_bytes([99; 32]).public());
    let name = || "node-2".to_owned();
    let wrong = |change: &dyn Fn(&mut SessionState)| {
        let mut state = state.clone();
        change(&mut state);
        vec![state]
    };

    let cases = [
        (wrong(&|s| s.peer = "x".to_owned()), ImportError::UnknownPeer("x".to_owned())),
        (wrong(&|s| s.ours = other), ImportError::OtherKeys(name())),
        (wrong(&|s| s.theirs = other), ImportError::OtherKeys(name())),
        (wrong(&|s| s.age = Duration::from_secs(180)), ImportError::Over(name())),
        (wrong(&|s| s.next = u64::MAX), ImportError::Over(name())),
        (wrong(&|s| s.window = vec![0; 3]), ImportError::BadWindow(name())),
        (vec![state.clone(), state.clone()], ImportError::IndexTaken(name())),
    ];

    for (states, expected) in cases {
        let (errors, _) = restart(&mut pair, states);
        assert_eq!(errors, [expected]);
    }
}

#[test]
fn counters_that_come_near_their_limit_are_used_to_the_last_and_renewed() {
    let mut pair = Pair::connected();
    let mut states = pair.a.export(0, pair.now);
    states[0].next = REJECT_AFTER_MESSAGES - 5;
    restart(&mut pair, states);

    for _ in 0..5 {
        let datagram = sealed(&mut pair);
        assert_eq!(datagram[0], 4);
        assert_eq!(pair.exchange(vec![datagram], true).len(), 1);
    }

    // The first initiation was lost in here; the packet waits for the second.
    assert_eq!(pair.a_sends().len(), 0);
    pair.pass(Duration::from_secs(1));
    let status = &pair.b.status()[0];
    let age = pair.now.duration_since(status.last_handshake.unwrap());
    assert!(age < Duration::from_secs(1), "{age:?}");
    assert_eq!(status.rx_bytes, 7 * 100);
}

#[test]
fn what_is_printed_holds_no_key() {
    let mut pair = Pair::connected();
    let mut state = pair.a.export(0, pair.now).remove(0);
    state.receive_key = Zeroizing::new([171; 32]);
    state.send_key = Some(Zeroizing::new([171; 32]));

    let printed = format!("{state:?}").to_lowercase();

    assert!(!printed.contains("abab") && !printed.contains("171, 171"), "{printed}");
    assert_eq!(state.endpoint, Some(address(2)));
}
