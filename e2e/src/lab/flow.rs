//! A numbered UDP flow: what was lost, doubled, out of order, and how long the longest gap was.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Namespace;

/// What arrives while the receiving thread waits for a core must not count as lost.
const RECEIVE: usize = 16 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowReport {
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    /// The longest time without an arrival.
    pub gap: Duration,
}

/// A flow that runs until it is finished.
pub struct Flow {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<Arrivals>,
}

#[derive(Default)]
struct Arrivals {
    seen: Vec<bool>,
    received: u64,
    duplicated: u64,
    reordered: u64,
    highest: u64,
    gap: Duration,
}

impl Flow {
    /// Starts `per_second` numbered datagrams with `marker` in each, from one namespace to an
    /// address of another.
    pub fn start(
        from: &Namespace,
        to: (&Namespace, IpAddr),
        per_second: u32,
        marker: &[u8],
    ) -> anyhow::Result<Self> {
        let target = SocketAddr::new(to.1, 0);
        let inbox = to.0.run(move || UdpSocket::bind(target)).context("binding the receiver")?;
        let target = inbox.local_addr().context("asking for the receiver's port")?;
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let outbox = from.run(move || UdpSocket::bind(any)).context("binding the sender")?;
        nix::sys::socket::setsockopt(&inbox, nix::sys::socket::sockopt::RcvBufForce, &RECEIVE)
            .context("enlarging the receiver's buffer")?;
        inbox.set_read_timeout(Some(Duration::from_millis(50))).context("setting a timeout")?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, marker) = (stop.clone(), marker.to_vec());
        let sender = std::thread::spawn(move || {
            send(&outbox, target, Duration::from_secs(1) / per_second, &marker, &stopped)
        });
        let stopped = stop.clone();
        let receiver = std::thread::spawn(move || receive(&inbox, &stopped));
        Ok(Self { stop, sender, receiver })
    }

    /// Stops sending, waits for stragglers and reports.
    pub fn finish(self) -> FlowReport {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("the sender does not panic");
        let arrivals = self.receiver.join().expect("the receiver does not panic");
        FlowReport {
            sent,
            received: arrivals.received,
            lost: sent - arrivals.received,
            duplicated: arrivals.duplicated,
            reordered: arrivals.reordered,
            gap: arrivals.gap,
        }
    }
}

fn send(
    socket: &UdpSocket,
    to: SocketAddr,
    every: Duration,
    marker: &[u8],
    stop: &AtomicBool,
) -> u64 {
    let start = Instant::now();
    let mut number: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        let payload = [&number.to_be_bytes(), marker].concat();
        let _ = socket.send_to(&payload, to); // a refused packet is a lost one
        number += 1;
        let due = every * u32::try_from(number).expect("flows are short");
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
    number
}

fn receive(socket: &UdpSocket, stop: &AtomicBool) -> Arrivals {
    let mut arrivals = Arrivals::default();
    let mut buffer = [0; 2048];
    let mut last: Option<Instant> = None;
    let mut silent = 0;
    while silent < 6 {
        let number = socket
            .recv_from(&mut buffer)
            .ok()
            .and_then(|(length, _)| buffer[..length].first_chunk().copied())
            .map(u64::from_be_bytes);
        let Some(number) = number else {
            silent = if stop.load(Ordering::Relaxed) { silent + 1 } else { 0 };
            continue;
        };
        let now = Instant::now();
        let gap = last.map(|last| now - last).unwrap_or_default();
        arrivals.gap = arrivals.gap.max(gap);
        last = Some(now);
        arrivals.note(number);
    }
    arrivals
}

impl Arrivals {
    fn note(&mut self, number: u64) {
        let at = usize::try_from(number).expect("64 bit machine");
        if self.seen.len() <= at {
            self.seen.resize(at + 1, false);
        }
        if std::mem::replace(&mut self.seen[at], true) {
            self.duplicated += 1;
            return;
        }
        self.received += 1;
        self.reordered += u64::from(number < self.highest);
        self.highest = self.highest.max(number);
    }
}
