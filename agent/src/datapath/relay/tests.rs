use super::*;

const TO: Head = Head { to: 7, from: 9 };

fn at() -> SocketAddr {
    "192.0.2.2:51820".parse().unwrap()
}

fn arrival(train: Train) -> Arrival {
    Arrival { from: train.to, range: train.range, stride: train.stride, class: train.class }
}

#[test]
fn a_train_keeps_its_datagrams_and_marks_on_its_way_through_a_relay() {
    let bytes: Vec<u8> = (0..45).flat_map(|n| vec![n; 1452]).chain([9; 100]).collect();
    let train = Train { to: at(), range: 0..bytes.len(), stride: 1452, class: 3 };

    let (trains, mut headed) = put_on(&train, &bytes, TO, at());
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
    let one = |head: Option<Head>| {
        let bytes = vec![4; if head.is_some() { 96 } else { 96 + HEADER }];
        let train = Train { to: at(), range: 0..bytes.len(), stride: bytes.len(), class: 0 };
        head.map_or(bytes.clone(), |head| put_on(&train, &bytes, head, at()).1)
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
    let train = Train { to: at(), range: 0..96, stride: 96, class: 0 };
    let (_, whole) = put_on(&train, &[4; 96], TO, at());
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
fn a_handshake_takes_every_way_there_is_to_its_peer_and_none_to_others() {
    let seam = Seam::default();
    let peer = |endpoint: &str, relays: &[u64]| Relayed {
        endpoint: Some(endpoint.parse().unwrap()),
        relays: relays.to_vec(),
        used: None,
        bridged: false,
    };
    let peers = [(7, peer("192.0.2.2:51820", &[1, 2])), (8, peer("192.0.2.3:51820", &[1]))];
    seam.set(Some(Relays { own: 9, peers: peers.into(), quota: None }));
    let (first, second) = (relay::address(7, 0), relay::address(7, 1));

    assert_eq!(seam.others(at(), None), [first, second].into());
    assert_eq!(seam.others(first, None), [at(), second].into());
    assert!(seam.others("192.0.2.9:51820".parse().unwrap(), None).is_empty());
    assert!(
        seam.knows(first, None)
            && !seam.knows(relay::address(6, 0), None)
            && !seam.knows(at(), None)
    );
}
