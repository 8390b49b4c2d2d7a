//! Every kind of packet that a guard must hold, each with a marker of its own, sent all the time.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use e2e::lab::Namespace;
use socket2::{Domain, Protocol, Socket, Type};

/// Nobody listens there, so every datagram that arrives is answered by an error that quotes it.
const PORT: u16 = 9;
const EVERY: Duration = Duration::from_millis(10);
/// More than two packets of any MTU here, with the marker in each of them.
const LONG: usize = 4000;

/// Where a packet comes from, or what is odd about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    /// From a pod, forwarded.
    Pod,
    /// From a pod that may be taken away under it.
    Leaving,
    /// From a program of the node.
    Host,
    /// From a program of the node that chose the underlay's address.
    HostNetwork,
    /// Fragments, from a pod.
    Fragments,
    /// An error message of ICMP, from a pod.
    Error,
    /// To a Service's address, from a pod.
    Service,
    /// From the other end's pod.
    Return,
    /// From a stranger on the underlay, in the mesh's name, to a pod.
    ForgedToPod,
    /// The same to the node's own address.
    ForgedToHost,
}

impl Row {
    pub(crate) const ALL: [Self; 10] = [
        Self::Pod,
        Self::Leaving,
        Self::Host,
        Self::HostNetwork,
        Self::Fragments,
        Self::Error,
        Self::Service,
        Self::Return,
        Self::ForgedToPod,
        Self::ForgedToHost,
    ];

    /// True for what must not come in; the others must not go out.
    pub(crate) fn comes_in(self) -> bool {
        matches!(self, Self::ForgedToPod | Self::ForgedToHost)
    }
}

/// One row in one family.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) row: Row,
    pub v4: bool,
    /// In every packet of this stream, and in no other.
    pub(crate) marker: Vec<u8>,
}

impl Stream {
    pub(crate) fn new(row: Row, v4: bool) -> Self {
        let family = if v4 { 4 } else { 6 };
        let tag = e2e::oracle::marker();
        let marker = [format!("{row:?}{family}:").as_bytes(), &tag].concat();
        Self { row, v4, marker }
    }
}

/// Where a stream begins and ends.
pub(crate) struct Way<'a> {
    pub(crate) from: &'a Namespace,
    /// The source address; none leaves it to the kernel.
    pub(crate) source: Option<IpAddr>,
    pub(crate) to: IpAddr,
}

struct Sender {
    socket: Socket,
    to: SocketAddr,
    payload: Vec<u8>,
}

/// Streams that flow until this is dropped.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    pub(crate) fn start(ways: &[(Stream, Way<'_>)]) -> anyhow::Result<Self> {
        let senders = ways.iter().map(sender).collect::<anyhow::Result<Vec<_>>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                for Sender { socket, to, payload } in &senders {
                    let _ = socket.send_to(payload, &(*to).into()); // refused is as good as lost
                }
                std::thread::sleep(EVERY);
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sender((stream, way): &(Stream, Way<'_>)) -> anyhow::Result<Sender> {
    let (v4, error, source) = (stream.v4, stream.row == Row::Error, way.source);
    let socket = way.from.run(move || open(v4, error, source))?;
    let payload = match stream.row {
        Row::Error => unreachable_port(v4, &stream.marker),
        Row::Fragments => stream.marker.iter().copied().cycle().take(LONG).collect(),
        _ => stream.marker.clone(),
    };
    let port = if error { 0 } else { PORT };
    Ok(Sender { socket, to: SocketAddr::new(way.to, port), payload })
}

fn open(v4: bool, error: bool, source: Option<IpAddr>) -> std::io::Result<Socket> {
    let domain = if v4 { Domain::IPV4 } else { Domain::IPV6 };
    let (kind, protocol) = match (error, v4) {
        (false, _) => (Type::DGRAM, Protocol::UDP),
        (true, true) => (Type::RAW, Protocol::ICMPV4),
        (true, false) => (Type::RAW, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

/// "Nobody listens at that port", quoting a datagram with the marker (RFC 792, RFC 4443). The
/// kernel fills in ICMPv6's checksum.
fn unreachable_port(v4: bool, marker: &[u8]) -> Vec<u8> {
    let mut quoted = vec![0; if v4 { 28 } else { 48 }];
    quoted[0] = if v4 { 0x45 } else { 0x60 };
    let head = if v4 { [3, 3, 0, 0, 0, 0, 0, 0] } else { [1, 4, 0, 0, 0, 0, 0, 0] };
    let mut message = [&head[..], &quoted, marker].concat();
    message.resize(message.len().next_multiple_of(2), 0);
    if v4 {
        let words = message.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1]));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        message[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
    message
}
