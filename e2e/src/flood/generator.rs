//! Sends the flood from a namespace, and says how fast it really was and what it cost itself.

use std::io::IoSlice;
use std::net::SocketAddrV4;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Protocol, Socket, Type};

use super::forged::{Forger, Numbers, PACKET, forge_source};
use crate::lab::Namespace;

/// Packets a system call.
const BATCH: usize = 64;
/// Different initiations: so many that no cache of anything holds them all.
const POOL: usize = 64 * BATCH;
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
    /// each from another forged address. A machine that is too busy sends fewer.
    pub fn start(
        from: &Namespace,
        to: SocketAddrV4,
        public_key: &str,
        per_second: u32,
    ) -> anyhow::Result<Self> {
        let forger = Forger::new(public_key, (*to.ip(), to.port()))?;
        let socket = from.run(move || open(to)).context("opening a raw socket")?;
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let thread = std::thread::Builder::new()
            .name("flood".into())
            .spawn(move || send(&socket, &forger, per_second, &until))
            .context("starting the flood")?;
        Ok(Self { stop, thread })
    }

    pub fn finish(self) -> FloodReport {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the flood does not panic")
    }
}

fn open(to: SocketAddrV4) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?; // IPPROTO_RAW
    socket.set_header_included_v4(true)?;
    socket.connect(&to.into())?;
    Ok(socket)
}

fn send(socket: &Socket, forger: &Forger, per_second: u32, stop: &AtomicBool) -> FloodReport {
    let mut numbers = Numbers::new();
    let mut pool: Vec<_> = (0..POOL).map(|_| forger.packet(&mut numbers)).collect();
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let (start, cpu) = (Instant::now(), thread_cpu());
    let mut sent = 0;
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = start.elapsed().as_micros() as u64 * u64::from(per_second) / 1_000_000;
        // What a busy machine missed is not made up for later in one burst.
        let behind = due.saturating_sub(sent).min(8 * BATCH as u64);
        if behind == 0 {
            std::thread::sleep(TICK);
            continue;
        }
        let batch = &mut pool[next..next + BATCH.min(behind as usize)];
        next = (next + BATCH) % POOL;
        for packet in batch.iter_mut() {
            forge_source(packet, &mut numbers);
        }
        sent += send_batch(socket, &mut headers, batch);
    }
    FloodReport { sent, lasted: start.elapsed(), cpu: thread_cpu().saturating_sub(cpu) }
}

/// How many went out.
fn send_batch(
    socket: &Socket,
    headers: &mut MultiHeaders<SockaddrIn>,
    batch: &[[u8; PACKET]],
) -> u64 {
    let slices: Vec<_> = batch.iter().map(|packet| [IoSlice::new(packet)]).collect();
    let nowhere = [None; BATCH];
    let flags = MsgFlags::empty();
    let sent = sendmmsg(socket.as_raw_fd(), headers, &slices, &nowhere[..batch.len()], [], flags);
    sent.map_or(0, |results| results.count() as u64)
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
