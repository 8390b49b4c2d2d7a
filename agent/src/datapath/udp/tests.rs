//! Real sockets on loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::*;

const WORKERS: usize = 2;

fn bound() -> Udp {
    Udp::bind(0, None, WORKERS).unwrap()
}

/// What came to any of the sockets, in order.
fn received(udp: &Udp) -> Vec<(SocketAddr, u8, Vec<Vec<u8>>)> {
    let mut slots = vec![0; MOST * LONGEST];
    let mut all = Vec::new();
    for socket in (0..WORKERS).flat_map(|worker| udp.of_worker(worker).each()) {
        let mut arrivals = Vec::new();
        while receive(socket, &mut slots, MOST, &mut arrivals).is_ok() {
            for Arrival { from, range, stride, class } in arrivals.drain(..) {
                let datagrams = slots[range].chunks(stride).map(<[u8]>::to_vec).collect();
                all.push((from, class, datagrams));
            }
        }
    }
    all
}

fn train(to: (IpAddr, u16), lengths: &[usize]) -> (Train, Vec<u8>) {
    let marked = lengths.iter().enumerate().flat_map(|(mark, &n)| vec![mark as u8; n]);
    let bytes: Vec<u8> = marked.collect();
    (Train { to: to.into(), range: 0..bytes.len(), stride: lengths[0], class: 0 }, bytes)
}

#[test]
fn every_worker_and_both_families_share_a_port() {
    let udp = bound();

    let ports: Vec<_> = (0..WORKERS)
        .flat_map(|worker| udp.of_worker(worker).each())
        .map(|socket| socket.local_addr().unwrap().port())
        .collect();

    assert!(ports.len() >= WORKERS);
    assert!(ports.iter().all(|&port| port == udp.port()), "{ports:?}");
}

#[test]
fn a_port_in_use_is_an_error_and_is_not_shared_with_another_data_path() {
    let first = bound();

    let error = Udp::bind(first.port(), None, WORKERS).unwrap_err();

    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_train_arrives_with_its_sender_and_in_its_parts_over_both_families() {
    for loopback in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let (a, b) = (bound(), bound());
        let (train, bytes) = train((loopback, b.port()), &[1000, 1000, 1000, 300]);

        assert_eq!(a.of_worker(0).send(&[train], &bytes), 0);

        let came = received(&b);
        let datagrams: Vec<_> = came.iter().flat_map(|(.., parts)| parts.clone()).collect();
        let expected: Vec<_> = bytes.chunks(1000).map(<[u8]>::to_vec).collect();
        assert_eq!(datagrams, expected);
        assert!(came.iter().all(|(from, ..)| *from == (loopback, a.port()).into()));
    }
}

#[test]
fn without_segmentation_the_same_datagrams_come_one_by_one() {
    let (a, b) = (bound(), bound());
    let (train, bytes) = train((Ipv4Addr::LOCALHOST.into(), b.port()), &[700, 700, 9]);
    a.of_worker(0).trains.store(false, Ordering::Relaxed);

    assert_eq!(a.of_worker(0).send(&[train], &bytes), 0);

    let came: Vec<_> = received(&b).into_iter().flat_map(|(.., parts)| parts).collect();
    assert_eq!(came, bytes.chunks(700).map(<[u8]>::to_vec).collect::<Vec<_>>());
}

#[test]
fn a_train_that_the_system_refuses_whole_goes_in_parts() {
    let (a, b) = (bound(), bound());
    // More segments than the kernel takes in one call.
    let lengths = [8; 2000];
    let (train, bytes) = train((Ipv4Addr::LOCALHOST.into(), b.port()), &lengths);

    assert_eq!(a.of_worker(0).send(&[train], &bytes), 0);

    let came = received(&b).into_iter().map(|(.., parts)| parts.len()).sum::<usize>();
    assert_eq!(came, lengths.len());
    assert!(a.of_worker(0).trains.load(Ordering::Relaxed), "only EIO is for good");
}

#[test]
fn congestion_marks_go_and_come_with_a_datagram() {
    for loopback in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        for class in 0..4 {
            let (a, b) = (bound(), bound());
            let (train, bytes) = train((loopback, b.port()), &[100, 100]);

            a.of_worker(1).send(&[Train { class, ..train }], &bytes);

            assert!(received(&b).iter().all(|(_, mark, _)| *mark == class), "{loopback} {class}");
        }
    }
}

#[test]
fn what_cannot_be_sent_is_counted_and_the_rest_is_sent() {
    let (a, b) = (bound(), bound());
    let (good, bytes) = train((Ipv4Addr::LOCALHOST.into(), b.port()), &[50]);
    let nowhere = Train { to: (Ipv4Addr::BROADCAST, 1).into(), ..good.clone() };

    assert_eq!(a.of_worker(0).send(&[good.clone(), nowhere, good], &bytes), 1);

    assert_eq!(received(&b).len(), 2);
}

#[test]
fn receiving_where_nothing_is_does_not_wait() {
    let udp = bound();
    let socket = udp.of_worker(0).each().next().unwrap();

    let nothing = receive(socket, &mut vec![0; LONGEST], 1, &mut Vec::new());

    assert_eq!(nothing, Err(Errno::AGAIN));
}
