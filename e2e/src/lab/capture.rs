//! What crosses a wire: an AF_PACKET socket, a thread, and the search for markers.
//!
//! Frames are not kept. Each is searched as raw bytes for every marker, and its outermost IP
//! addresses are noted, so "an inner address is on the wire in clear" can be asked afterwards.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::Namespace;

const OUTGOING: u8 = 4; // PACKET_OUTGOING, linux/if_packet.h
const ETHERNET: u16 = 1; // ARPHRD_ETHER; a TUN device has no link header
const TICK: Duration = Duration::from_millis(50);

/// What a capture has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub frames: u64,
    pub bytes: u64,
    /// Frames with the marker in them, one figure for each marker asked for.
    pub hits: Vec<u64>,
    /// The first frame with a marker, to show.
    pub example: Option<Vec<u8>>,
    /// Every outermost IP address.
    pub addresses: BTreeSet<IpAddr>,
    /// UDP ports of the outermost header.
    pub udp_ports: BTreeSet<u16>,
}

impl Seen {
    /// Frames with any marker in them.
    pub fn marked(&self) -> u64 {
        self.hits.iter().sum()
    }

    /// Outermost addresses that lie inside one of `ranges`.
    pub fn inside(&self, ranges: &[ipnet::IpNet]) -> Vec<IpAddr> {
        let within = |address: &&IpAddr| ranges.iter().any(|range| range.contains(*address));
        self.addresses.iter().filter(within).copied().collect()
    }
}

/// A running capture; dropping it ends it.
pub struct Capture {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Filter {
    device: Option<usize>,
    outgoing: bool,
}

impl Capture {
    /// Every device of a namespace, arriving frames only: on a switch, each frame once.
    pub(super) fn incoming(namespace: &Namespace, markers: &[&[u8]]) -> anyhow::Result<Self> {
        Self::start(namespace, Filter { device: None, outgoing: false }, markers)
    }

    /// Both directions of one device.
    pub fn device(namespace: &Namespace, device: &str, markers: &[&[u8]]) -> anyhow::Result<Self> {
        let name = device.to_owned();
        let index = namespace.netlink(async move |net| net.index(&name).await)?;
        let filter = Filter { device: Some(index as usize), outgoing: true };
        Self::start(namespace, filter, markers)
    }

    fn start(namespace: &Namespace, filter: Filter, markers: &[&[u8]]) -> anyhow::Result<Self> {
        let socket = namespace.run(open).context("opening a packet socket")?;
        let markers: Vec<Vec<u8>> = markers.iter().map(|marker| marker.to_vec()).collect();
        let seen = Seen { hits: vec![0; markers.len()], ..Seen::default() };
        let seen = Arc::new(Mutex::new(seen));
        let stop = Arc::new(AtomicBool::new(false));
        let (into, until) = (seen.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("capture".into())
            .spawn(move || read(&socket, &filter, &markers, &into, &until))
            .context("starting a capture thread")?;
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// What has been seen until now; frames already queued are waited for.
    pub fn seen(&self) -> Seen {
        std::thread::sleep(2 * TICK);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open() -> nix::Result<OwnedFd> {
    let socket =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20))?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(TICK.as_millis() as i64))?;
    Ok(socket)
}

fn read(
    socket: &OwnedFd,
    filter: &Filter,
    markers: &[Vec<u8>],
    seen: &Mutex<Seen>,
    stop: &AtomicBool,
) {
    let mut buffer = vec![0; 1 << 17];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, Some(from))) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) else {
            continue;
        };
        let wanted = filter.device.is_none_or(|device| device == from.ifindex())
            && (filter.outgoing || from.pkttype() != OUTGOING);
        if wanted {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            note(&buffer[..length], from.hatype() == ETHERNET, markers, &mut seen);
        }
    }
}

fn note(frame: &[u8], ethernet: bool, markers: &[Vec<u8>], seen: &mut Seen) {
    seen.frames += 1;
    seen.bytes += frame.len() as u64;
    for (hits, marker) in seen.hits.iter_mut().zip(markers) {
        if frame.windows(marker.len()).any(|window| window == marker) {
            *hits += 1;
            seen.example.get_or_insert_with(|| frame.to_vec());
        }
    }
    let packet = if ethernet { frame.get(14..).unwrap_or_default() } else { frame };
    if let Some((addresses, transport)) = ip_header(packet) {
        seen.addresses.extend(addresses);
        if let Some(&[a, b, c, d, ..]) = transport {
            seen.udp_ports.extend([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
        }
    }
}

/// Source and destination, and what follows the header if that is UDP.
fn ip_header(packet: &[u8]) -> Option<([IpAddr; 2], Option<&[u8]>)> {
    const UDP: u8 = 17;
    match packet.first()? >> 4 {
        4 => {
            let address = |at: usize| -> Option<IpAddr> {
                let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
                Some(Ipv4Addr::from(octets).into())
            };
            let length = usize::from(packet[0] & 0xf) * 4;
            let rest = packet.get(length..).filter(|_| packet[9] == UDP);
            Some(([address(12)?, address(16)?], rest))
        }
        6 => {
            let address = |at: usize| -> Option<IpAddr> {
                let octets: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
                Some(Ipv6Addr::from(octets).into())
            };
            let rest = packet.get(40..).filter(|_| packet[6] == UDP);
            Some(([address(8)?, address(24)?], rest))
        }
        _ => None,
    }
}
