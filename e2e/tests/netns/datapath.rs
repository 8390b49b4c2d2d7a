//! Bulk data through the tunnel: whole and in order, whatever kernel and devices offer.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use e2e::lab::Node;
use e2e::mesh::Alone;
use e2e::oracle::{Oracles, marker};

const LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 7008;
const TUNNEL: &str = "hawser0";
const BLOCK: usize = 64 << 10;
const BLOCKS: usize = 256;
const NATIVE: &[&str] = &["--engine", "native"];

/// A byte stream in which every piece is where it belongs and nowhere else.
struct Numbers(u64);

impl Numbers {
    fn fill(&mut self, block: &mut [u8]) {
        for word in block.chunks_exact_mut(8) {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            word.copy_from_slice(&self.0.to_le_bytes());
        }
    }
}

/// Two agents with `flags`, after `prepare` did something to each machine.
fn two(name: &str, flags: &[&str], prepare: impl Fn(&Node)) -> Alone {
    let mut mesh = Alone::prepare(name, 2).unwrap();
    for member in &mut mesh.members {
        prepare(&member.node);
        member.start_agent_with(flags).unwrap();
    }
    for member in &mut mesh.members {
        member.wait_until_ready(LIMIT).unwrap();
    }
    mesh
}

fn far_end() -> [IpAddr; 2] {
    ["10.42.2.1", "fd42:0:0:2::1"].map(|address| address.parse().unwrap())
}

/// Sends both ways at once over TCP and compares every byte.
fn transfer(mesh: &Alone, to: IpAddr) {
    let [near, far] = [0, 1].map(|at: usize| mesh.members[at].node.namespace());
    near.ping_until(to, b"transfer", LIMIT).unwrap();
    let listener = far.run(move || TcpListener::bind((to, PORT))).unwrap();
    let server = std::thread::spawn(move || exchange(listener.accept().unwrap().0, [1, 2]));
    let stream = near.run(move || TcpStream::connect((to, PORT))).unwrap();

    exchange(stream, [2, 1]);
    server.join().unwrap();
}

/// Writes the numbers of one seed while it reads those of another.
fn exchange(mut stream: TcpStream, [own, other]: [u64; 2]) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut out = stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let (mut numbers, mut block) = (Numbers(own), vec![0; BLOCK]);
        for _ in 0..BLOCKS {
            numbers.fill(&mut block);
            out.write_all(&block).unwrap();
        }
    });
    let (mut numbers, mut block, mut expected) = (Numbers(other), vec![0; BLOCK], vec![0; BLOCK]);
    for _ in 0..BLOCKS {
        stream.read_exact(&mut block).unwrap();
        numbers.fill(&mut expected);
        assert!(block == expected, "other bytes came than were sent");
    }
    writer.join().unwrap();
}

fn carries_bulk(name: &str, flags: &[&str], prepare: impl Fn(&Node)) {
    let marker = marker();
    let mesh = two(name, flags, prepare);
    let oracles = Oracles::watch(&mesh.lab, &marker).unwrap();
    let tunnel = mesh.members[0].node.capture(TUNNEL, &[&marker]).unwrap();

    for to in far_end() {
        transfer(&mesh, to);
        mesh.members[0].node.namespace().ping(to, &marker).unwrap();
    }

    oracles.judge(&tunnel.seen()).unwrap();
}

#[test]
fn bulk_data_is_whole_over_both_families() {
    carries_bulk("bulk", NATIVE, |_| ());
}

#[test]
fn bulk_data_is_whole_with_the_engine_boringtun() {
    carries_bulk("bulkbt", &["--engine", "boringtun"], |_| ());
}

#[test]
fn bulk_data_is_whole_with_one_worker() {
    carries_bulk("bulk1", &["--engine", "native", "--workers", "1"], |_| ());
}

#[test]
fn a_device_that_was_made_with_one_queue_is_used_as_it_is() {
    carries_bulk("onequeue", NATIVE, |node| {
        let add = node.command("ip").args(["tuntap", "add", "dev", TUNNEL, "mode", "tun"]);
        add.stdout().unwrap();
    });
}

#[test]
fn an_underlay_too_narrow_for_a_train_carries_fragments() {
    carries_bulk("narrow", NATIVE, |node| {
        node.command("ip").args(["link", "set", "eth0", "mtu", "1300"]).stdout().unwrap();
    });
}

/// Sends `lengths` one by one, quickly, so that they travel as trains, and counts what comes.
fn datagrams(mesh: &Alone, to: IpAddr, lengths: &[usize]) -> usize {
    let [near, far] = [0, 1].map(|at: usize| mesh.members[at].node.namespace());
    near.ping_until(to, b"datagrams", LIMIT).unwrap();
    let inbox = far.run(move || UdpSocket::bind((to, PORT))).unwrap();
    inbox.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let outbox = near.run(move || UdpSocket::bind(any)).unwrap();
    for (number, &length) in lengths.iter().enumerate() {
        outbox.send_to(&vec![number as u8; length], SocketAddr::new(to, PORT)).unwrap();
    }
    let mut buffer = vec![0; 65_536];
    let mut came = 0;
    for (number, &length) in lengths.iter().enumerate() {
        let Ok(received) = inbox.recv(&mut buffer) else {
            break;
        };
        let whole = buffer[..received] == vec![number as u8; length];
        assert!(whole, "{number} of {length} came changed or out of order, as {received}");
        came += 1;
    }
    came
}

#[test]
fn datagrams_of_every_length_keep_their_bounds_and_their_order() {
    let mesh = two("dgrams", NATIVE, |_| ());
    let odd: Vec<usize> = (0..60).map(|n| n * 23 % 1300).collect();
    // As many as the reader's socket holds before it is read.
    let alike = [1200; 60];
    // Longer than a packet: they go as fragments, which have no ports, so the kernel may give
    // them another queue than the whole datagrams of the same flow, as network cards do.
    let long = [4000, 9000, 60_000];

    for to in far_end() {
        for lengths in [&odd[..], &alike, &long, &[1, 0]] {
            assert_eq!(datagrams(&mesh, to, lengths), lengths.len(), "{to}");
        }
    }
}
