//! The UDP sockets: one a worker and family, all on one port, trains in both directions.
//!
//! A train is several datagrams of one length (the last may be shorter) to or from one address,
//! back to back in memory. The kernel takes and gives it in one piece (UDP_SEGMENT, UDP_GRO);
//! where it does not, the same bytes go as single datagrams in one `sendmmsg`.

mod message;
mod open;

use std::{
    io,
    net::UdpSocket,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::io::Errno;

pub(super) use self::message::{Arrival, LONGEST, MOST, Train};

/// Most datagrams in one train: what Linux allows since 4.18.
pub(super) const MOST_SEGMENTS: usize = 64;
/// Most bytes in one train. With its IPv6, UDP, Ethernet and VLAN headers it stays below the 65,536
/// from which on Linux takes it apart before the device (`gso_max_size`), and every datagram then
/// goes alone to the other end: half the throughput.
pub(super) const MOST_BYTES: usize = 65_536 - 128;

/// All sockets of a data path. A machine may lack one family, not both.
#[derive(Debug)]
pub(super) struct Udp {
    workers: Vec<Sockets>,
    port: u16,
}

/// One worker's sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    /// False once the kernel or a device could not take trains apart.
    trains: Arc<AtomicBool>,
}

impl Udp {
    /// Binds `workers` sockets a family; datagrams of one sender come to one of them.
    pub(super) fn bind(port: u16, mark: Option<u32>, workers: usize) -> io::Result<Self> {
        let (v4, v6, port) = open::groups(port, mark, workers.max(1))?;
        let segments = v4.iter().chain(&v6).all(open::takes_trains);
        let trains = Arc::new(AtomicBool::new(segments));
        let (mut v4, mut v6) = (v4.into_iter(), v6.into_iter());
        let sockets = (0..workers.max(1)).map(|_| Sockets {
            v4: v4.next(),
            v6: v6.next(),
            trains: Arc::clone(&trains),
        });
        Ok(Self { workers: sockets.collect(), port })
    }

    /// One socket a family on another port, beside the workers' own.
    pub(super) fn beside(port: u16, mark: Option<u32>) -> io::Result<Sockets> {
        let (v4, v6, _) = open::groups(port, mark, 1)?;
        let segments = v4.iter().chain(&v6).all(open::takes_trains);
        let trains = Arc::new(AtomicBool::new(segments));
        Ok(Sockets { v4: v4.into_iter().next(), v6: v6.into_iter().next(), trains })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn workers(&self) -> usize {
        self.workers.len()
    }

    pub(super) fn of_worker(&self, worker: usize) -> &Sockets {
        &self.workers[worker]
    }
}

impl Sockets {
    /// The sockets that there are, to be read from.
    pub(super) fn each(&self) -> impl Iterator<Item = &UdpSocket> {
        self.v4.iter().chain(self.v6.iter())
    }

    /// Sends what `trains` describe of `bytes`, in order, and returns how many datagrams were
    /// refused. Waits while a socket's buffer is full: that slows down whoever sends.
    pub(super) fn send(&self, trains: &[Train], bytes: &[u8]) -> u64 {
        let (mut left, mut refused) = (trains, 0);
        while let Some(first) = left.first() {
            let whole = self.trains.load(Ordering::Relaxed) || first.is_single();
            let sent = if whole { self.send_some(left, bytes) } else { Err(Errno::IO) };
            let done = match sent {
                Ok(sent) => sent,
                Err(Errno::INTR) => 0,
                Err(error) => {
                    refused += self.send_singly(first, bytes, error);
                    1
                }
            };
            left = &left[done..];
        }
        refused
    }

    /// As many of the first trains as go to one family.
    fn send_some(&self, trains: &[Train], bytes: &[u8]) -> Result<usize, Errno> {
        let v4 = trains[0].to.is_ipv4();
        let run = trains.iter().take(MOST).take_while(|train| train.to.is_ipv4() == v4).count();
        message::send(self.socket(v4)?, &trains[..run], bytes)
    }

    /// `why` the whole train was refused: a device without checksums (EIO), or one whose MTU is
    /// smaller than the datagrams (EINVAL), which are then sent in fragments.
    fn send_singly(&self, train: &Train, bytes: &[u8], why: Errno) -> u64 {
        if train.is_single() {
            tracing::trace!(to = %train.to, error = %why, "datagram refused");
            return 1;
        }
        if why == Errno::IO && self.trains.swap(false, Ordering::Relaxed) {
            tracing::info!("trains refused by the device; sending single datagrams");
        }
        let singles: Vec<_> = train.singles().collect();
        let (mut left, mut refused) = (&singles[..], 0);
        while !left.is_empty() {
            match self.send_some(left, bytes) {
                Ok(sent) => left = &left[sent..],
                Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::trace!(to = %train.to, %error, "datagram refused");
                    (left, refused) = (&left[1..], refused + 1);
                }
            }
        }
        refused
    }

    fn socket(&self, v4: bool) -> Result<BorrowedFd<'_>, Errno> {
        let socket = if v4 { &self.v4 } else { &self.v6 };
        socket.as_ref().map(AsFd::as_fd).ok_or(Errno::AFNOSUPPORT)
    }
}

/// Takes up to `most` datagrams or trains that are there, without waiting, each into a slot of
/// [`LONGEST`] bytes of its own.
pub(super) fn receive(
    socket: &UdpSocket,
    slots: &mut [u8],
    most: usize,
    into: &mut Vec<Arrival>,
) -> Result<(), Errno> {
    message::receive(socket.as_fd(), slots, most, into)
}

#[cfg(test)]
mod tests;
