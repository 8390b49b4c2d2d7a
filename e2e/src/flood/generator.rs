//! Sends the flood from a namespace, and says how fast it really was and what it cost itself.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::socket::sockopt::UdpGsoSegment;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg, setsockopt};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Socket, Type};

use super::forged::{Forger, INITIATION, Numbers, forged_source};
use crate::lab::Namespace;

/// Initiations from one forged address, one behind the other: they cross the sender's kernel in one
/// piece. Single ones would cost it more than all that the node does with them.
const BURST: usize = 8;
/// Different initiations: so many that no cache of anything holds them all.
const POOL: usize = 512 * BURST;
/// Different source ports.
const SOCKETS: usize = 16;
const TICK: Duration = Duration::from_micros(200);

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub struct FloodReport {
    pub sent: u64,
    pub lasted: Duration,
    /// CPU of the sender alone, with what the kernel does while it sends.
    pub cpu: Duration,
}

impl FloodReport {
    pub fn per_second(&self) -> f64 {
        self.sent as f64 / self.lasted.as_secs_f64()
    }
}

/// A flood that runs until it is finished.
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<FloodReport>,
}

impl Flood {
    /// Floods the node at `to` that has `public_key` (base64) with so many initiations a second,
    /// each eight from another forged address. A machine that is too busy sends fewer.
    pub fn start(
        from: &Namespace,
        to: SocketAddrV4,
        public_key: &str,
        per_second: u32,
    ) -> anyhow::Result<Self> {
        let forger = Forger::new(public_key)?;
        let sockets =
            from.run(|| (0..SOCKETS).map(|_| open()).collect::<std::io::Result<Vec<_>>>());
        let sockets = sockets.context("opening sockets that may use any source")?;
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let thread = std::thread::Builder::new()
            .name("flood".into())
            .spawn(move || send(&sockets, to, &forger, per_second, &until))
            .context("starting the flood")?;
        Ok(Self { stop, thread })
    }

    pub fn finish(self) -> FloodReport {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the flood does not panic")
    }
}

fn open() -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    socket.set_ip_transparent_v4(true)?;
    setsockopt(&socket, UdpGsoSegment, &i32::try_from(INITIATION).map_err(std::io::Error::other)?)?;
    Ok(socket)
}

fn send(
    sockets: &[Socket],
    to: SocketAddrV4,
    forger: &Forger,
    per_second: u32,
    stop: &AtomicBool,
) -> FloodReport {
    let mut numbers = Numbers::new();
    let pool: Vec<u8> = (0..POOL).flat_map(|_| forger.initiation(&mut numbers)).collect();
    let mut bursts = pool.chunks(BURST * INITIATION).zip(sockets.iter().cycle()).cycle();
    let (start, cpu) = (Instant::now(), thread_cpu());
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = start.elapsed().as_micros() as u64 * u64::from(per_second) / 1_000_000;
        // What a busy machine missed is not made up for later in one burst.
        let behind = due.saturating_sub(sent).min(64 * BURST as u64);
        if behind < BURST as u64 {
            std::thread::sleep(TICK);
        }
        for (burst, socket) in bursts.by_ref().take(behind as usize / BURST) {
            sent += send_burst(socket, to, burst, forged_source(&mut numbers));
        }
    }
    FloodReport { sent, lasted: start.elapsed(), cpu: thread_cpu().saturating_sub(cpu) }
}

/// How many went out.
fn send_burst(socket: &Socket, to: SocketAddrV4, burst: &[u8], from: Ipv4Addr) -> u64 {
    let address = |bits: u32| nix::libc::in_addr { s_addr: bits };
    let source = nix::libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: address(from.to_bits().to_be()),
        ipi_addr: address(0),
    };
    let control = [ControlMessage::Ipv4PacketInfo(&source)];
    let (slices, flags) = ([IoSlice::new(burst)], MsgFlags::empty());
    let sent = sendmsg(socket.as_raw_fd(), &slices, &control, flags, Some(&SockaddrIn::from(to)));
    sent.map_or(0, |bytes| (bytes / INITIATION) as u64)
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
