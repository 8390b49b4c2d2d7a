use super::*;

const TO: Head = Head { to: 7, from: 9 };

fn at() -> SocketAddr {
    "192.0.2.2:51820".parse().unwrap()
}

fn with_head(sealed: &[u8], head: Head) -> Vec<u8> {
    let mut whole = [&[0; HEADER], sealed].concat();
    head.write(&mut whole);
    whole
}

fn arrival(train: Train) -> Arrival {
    Arrival { from: train.to, range: train.range, stride: train.stride, class: train.class }
}

#[test]
fn a_train_keeps_its_datagrams_and_marks_on_its_way_through_a_relay() {
    let bytes: Vec<u8> = (0..45).flat_map(|n| vec![n; 1452]).chain([9; 100]).collect();
    let mut headed: Vec<u8> = bytes.chunks(1452).flat_map(|one| with_head(one, TO)).collect();
    let whole = Arrival { from: at(), range: 0..headed.len(), stride: 1452 + HEADER, class: 3 };

    let trains = within_limits(at(), &whole);
    assert!(trains.iter().all(|train| train.range.len() <= MOST_BYTES));
    assert!(trains.len() <= 2, "trains stay trains");
    let mut inner: Vec<Vec<u8>> = Vec::new();
    for train in trains {
        for (head, mut came) in runs(arrival(train), &headed) {
            assert_eq!((head, came.class), (Some(TO), 3));
            take_off(&mut came, &mut headed);
            inner.extend(headed[came.range.clone()].chunks(came.stride).map(<[u8]>::to_vec));
        }
    }

    assert_eq!(inner, bytes.chunks(1452).map(<[u8]>::to_vec).collect::<Vec<_>>());
}

#[test]
fn what_the_kernel_joined_of_several_senders_is_told_apart() {
    let one = |head: Option<Head>| match head {
        Some(head) => with_head(&[4; 96], head),
        None => vec![4; 96 + HEADER],
    };
    let other = Head { from: 10, ..TO };
    let heads = [Some(TO), Some(TO), None, Some(other), Some(TO)];
    let bytes: Vec<u8> = heads.into_iter().flat_map(one).collect();
    let stride = 96 + HEADER;

    let runs = runs(Arrival { from: at(), range: 0..bytes.len(), stride, class: 0 }, &bytes);

    let lengths: Vec<_> = runs.iter().map(|(head, came)| (*head, came.range.len())).collect();
    assert_eq!(
        lengths,
        [(Some(TO), 2 * stride), (None, stride), (Some(other), stride), (Some(TO), stride)]
    );
}

#[test]
fn no_wireguard_message_and_nothing_cut_short_has_a_header() {
    let whole = with_head(&[4; 96], TO);
    assert_eq!(head(&whole), Some(TO));
    for length in 0..=HEADER {
        assert_eq!(head(&whole[..length]), None, "{length}");
    }
    for first in 0..=4 {
        let mut other = whole.clone();
        other[0] = first;
        assert_eq!(head(&other), None, "{first}");
    }
}

#[test]
fn what_a_relay_address_stands_for() {
    let peer = |place: &str, relays: &[u64]| Relayed {
        places: vec![place.parse().unwrap()],
        relays: relays.to_vec(),
        used: None,
        bridged: false,
    };
    let peers = [(7, peer("192.0.2.2:51820", &[1, 2])), (8, peer("192.0.2.3:51820", &[1]))];
    let seam = Seam::default();
    seam.set(Some(Relays { own: 9, peers: peers.into(), quota: None }));
    let (first, second) = (relay::address(7, 0), relay::address(7, 1));

    let table = seam.table.load();
    assert_eq!(table.ways(7).collect::<Vec<_>>(), [at(), first, second]);
    assert_eq!(table.ways(6).count(), 0);
    assert_eq!([first, second].map(|way| table.relay(way)), [Some(1), Some(2)]);
    assert_eq!(
        [relay::address(7, 2), relay::address(6, 0), at()].map(|way| table.relay(way)),
        [None; 3]
    );
    assert_eq!((seam.head(first), seam.head(at())), (Some(Head { to: 7, from: 9 }), None));
    let knows = |at| seam.knows(at, None);
    assert!(knows(first) && !knows(relay::address(6, 0)) && !knows(at()));
}
