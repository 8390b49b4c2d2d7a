//! Our own engine as a whole: the control half through any datagrams and pauses, and the workers'
//! half through any train.

use std::{
    net::IpAddr,
    ops::Range,
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant, UNIX_EPOCH},
};

use keys::KeyEpoch;
use zeroize::Zeroizing;

use super::{
    input::Input,
    mesh::{START, address, config, packet, private},
};
use crate::{
    Discard, HEADER, Inbox, Mesh, Place, SessionState, Settings, TAG, Train,
    message::{INITIATION, Message},
    random::Sequence,
    workbench::Made,
};

/// Two nodes of ours that have a session, begun by the first.
struct Pair {
    a: Mesh,
    b: Mesh,
}

fn node(n: u8, now: Instant) -> Mesh {
    let settings = Settings {
        identities: vec![(KeyEpoch::FIRST, private(n))],
        sending: KeyEpoch::FIRST,
        random: Box::new(Sequence::new(n.into())),
        timestamp_floor: None,
        wall: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    };
    Mesh::new(settings, now)
}

impl Pair {
    fn new(now: Instant) -> Self {
        let mut made = Made::default();
        let [mut a, mut b] = [1, 2].map(|n| node(n, now));
        a.set_peers(vec![config("b", 2)], &[], &mut made, now);
        b.set_peers(vec![config("a", 1)], &[], &mut made, now);
        let _ = a.seal(&packet(), &mut made, now);
        let mut pair = Self { a, b };
        pair.exchange(made, now);
        pair
    }

    /// Carries datagrams from the first to the second and back until there are none.
    fn exchange(&mut self, mut from_a: Made, now: Instant) {
        while !from_a.datagrams.is_empty() {
            let mut from_b = Made::default();
            for datagram in std::mem::take(&mut from_a.datagrams) {
                let _ = self.b.open(&datagram, address(1), &mut from_b, now);
            }
            for datagram in &from_b.datagrams {
                let _ = self.a.open(datagram, address(2), &mut from_a, now);
            }
        }
    }
}

fn total(mesh: &Mesh) -> u64 {
    mesh.discards().iter().map(|(_, count)| count).sum()
}

/// Whatever comes, in whatever order and time: a packet is delivered only if its datagram came
/// unchanged, whatever dies is counted once and answered with little, and an undisturbed link
/// works again afterwards.
pub(super) fn mesh(data: &[u8]) {
    let mut input = Input::new(data);
    let mut now = *START;
    let mut pair = Pair::new(now);
    for _ in 0..16 {
        let (kind, length) = (input.byte(), usize::from(input.byte()));
        let from = address(1 + kind / 64);
        let mut sealed = Made::default();
        let _ = pair.a.seal(&packet(), &mut sealed, now);
        let genuine = sealed.datagrams.pop().unwrap_or_default();
        let datagram = match kind % 4 {
            0 => input.slice(length).to_vec(),
            1 => {
                now += Duration::from_millis(u64::from(input.short()) * 8);
                pair.a.tick(&mut Made::default(), now);
                genuine.clone()
            }
            _ => Input::new(input.slice(length)).touched(&genuine),
        };
        let before = total(&pair.b);
        let mut made = Made::default();
        let opened = pair.b.open(&datagram, from, &mut made, now);
        assert!(made.packets.is_empty() || datagram == genuine);
        assert!(made.packets.iter().all(|delivered| *delivered == packet()));
        assert_eq!(total(&pair.b) - before, u64::from(opened.is_err()));
        // What is authentic may come on a session so old that the answer is a handshake.
        let most = if made.packets.is_empty() { 32 } else { INITIATION };
        assert!(made.datagrams.iter().map(Vec::len).sum::<usize>() <= datagram.len().max(most));
    }
    recovers(pair, now + Duration::from_secs(600));
}

/// Long after: the first packet begins a handshake, and it arrives.
fn recovers(mut pair: Pair, now: Instant) {
    let mut made = Made::default();
    pair.a.tick(&mut made, now);
    pair.b.tick(&mut Made::default(), now);
    let before = pair.b.status()[0].rx_bytes;
    let _ = pair.a.seal(&packet(), &mut made, now);
    pair.exchange(made, now);
    assert!(pair.b.status()[0].rx_bytes > before);
}

/// What came out of a train.
#[derive(Default)]
struct Found {
    packets: Vec<Range<usize>>,
    handshakes: usize,
    discards: usize,
}

impl Inbox for Found {
    fn packet(&mut self, place: Range<usize>) {
        self.packets.push(place);
    }

    fn handshake(&mut self, _: Range<usize>) {
        self.handshakes += 1;
    }

    fn discard(&mut self, _: Discard) {
        self.discards += 1;
    }
}

static ESTABLISHED: LazyLock<Mutex<Pair>> = LazyLock::new(|| Mutex::new(Pair::new(*START)));

/// A train of genuine datagrams with changes, cut anywhere, opened with any stride: each one that
/// is whole and unchanged is found, in order, and nothing else is.
pub(super) fn train(data: &[u8]) {
    let mut input = Input::new(data);
    let count = 1 + usize::from(input.byte() % 70);
    let odd_stride = usize::from(input.short());
    let pair = ESTABLISHED.lock().unwrap_or_else(PoisonError::into_inner);
    let (genuine, sealed_stride) = seal(&pair, count);
    let touched = input.touched(&genuine);
    let stride = if odd_stride == 0 { sealed_stride } else { odd_stride };
    let mut opened = touched.clone();
    let mut found = Found::default();
    pair.b.paths().open(&mut opened, stride, address(1), *START, &mut found);

    assert!(found.packets.iter().all(|place| opened[place.clone()] == packet()));
    assert!(found.packets.is_sorted_by(|a, b| a.end <= b.start));
    if stride == sealed_stride {
        let pairs = genuine.chunks(stride).zip(touched.chunks(stride));
        assert_eq!(found.packets.len(), pairs.filter(|(one, other)| one == other).count());
    }
}

/// So many packets sealed one after the other, and the length of each datagram.
fn seal(pair: &Pair, count: usize) -> (Vec<u8>, usize) {
    let to = IpAddr::from([10, 2, 0, 1]);
    let mut train = pair
        .a
        .paths()
        .train(to, count as u32, *START)
        .unwrap_or_else(|_| unreachable!("there is a session, and the clock stands still"));
    let stride = Train::length(packet().len(), 1420);
    assert_eq!(stride, HEADER + 32 + TAG);
    let mut datagrams = vec![0; stride * count];
    for record in datagrams.chunks_exact_mut(stride) {
        record[HEADER..][..packet().len()].copy_from_slice(&packet());
        assert_eq!(train.seal(record, packet().len()), stride);
    }
    (datagrams, stride)
}

/// Sessions of an earlier life with any numbers in them: taken or refused, and no counter below
/// the one they name is ever used.
pub(super) fn import(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut mesh, mut made) = (node(1, *START), Made::default());
    mesh.set_peers(vec![config("b", 2)], &[], &mut made, *START);
    let mut states = Vec::new();
    while !input.is_empty() && states.len() < 4 {
        states.push(state(&mut input));
    }
    let floor = |state: &SessionState| (state.sender, state.next);
    let floors: Vec<_> = states.iter().map(floor).collect();

    let _ = mesh.import(states, &mut made, *START);
    mesh.tick(&mut made, *START);
    for _ in 0..3 {
        let _ = mesh.seal(&packet(), &mut made, *START);
        let _ = mesh.open(&[4; 64], address(2), &mut made, *START);
    }
    for datagram in made.datagrams {
        if let Ok(Message::Data { receiver, counter }) = Message::parse(&datagram) {
            assert!(floors.iter().any(|&(sender, next)| sender == receiver && counter >= next));
        }
    }
    for state in mesh.export(0, *START).into_iter().filter(|state| state.send_key.is_some()) {
        assert!(floors.iter().any(|&(sender, next)| sender == state.sender && state.next >= next));
    }
}

fn state(input: &mut Input<'_>) -> SessionState {
    let [shape, words] = input.array();
    let places = [Place::Previous, Place::Current, Place::Next];
    let key = |n: u8| (KeyEpoch(1 + u32::from(shape & 1)), private(n).public());
    SessionState {
        peer: if shape & 2 == 0 { "b" } else { "stranger" }.to_owned(),
        ours: key(1),
        theirs: key(2 + (shape >> 2 & 1)),
        place: places[usize::from(shape >> 3) % places.len()],
        endpoint: (shape & 0x80 == 0).then(|| address(2)),
        age: Duration::from_millis(input.long() >> (shape >> 4)),
        initiator: shape & 0x40 == 0,
        receiver: u32::from_le_bytes(input.array()),
        sender: u32::from(input.byte()),
        receive_key: Zeroizing::new([1; 32]),
        send_key: (words & 1 == 0).then(|| Zeroizing::new([2; 32])),
        next: input.long(),
        received: input.long(),
        window: vec![input.long(); if words & 2 == 0 { 129 } else { usize::from(words) }],
    }
}
