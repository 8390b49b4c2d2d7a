//! The tunnel device: one queue a worker, super packets in both directions.
//!
//! ```text
//!   read:  virtio_net_hdr | packet, or super packet of up to 64 KiB to be split
//!   write: virtio_net_hdr | packet, or super packet that the kernel takes apart where it must
//! ```
//! The device is persistent: when the agent dies it stays, with its addresses and routes, and
//! drops what is sent into it. A device that went away with its owner would hand the mesh's
//! packets to the default route. For the same reason a device that an earlier run made with one
//! queue is used as it is, not made anew.

mod request;

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with},
};

use self::request::Offload;
use super::offload::Merging;

/// Packets that each queue holds while its worker waits for a core: as many as the kernel's WireGuard
/// queues. Linux gives a TUN 500, and a busy machine of two cores lost 240 of 89,764 packets there.
const QUEUE: i32 = 1024;

/// One tunnel device, open.
#[derive(Debug)]
pub(super) struct Tun {
    queues: Vec<Queue>,
    name: String,
    offload: Offload,
    /// Set once it refused what it said it would take.
    refuses_trains: AtomicBool,
}

/// One queue of the device. Reads and writes never block, and begin with a `virtio_net_hdr`.
#[derive(Debug)]
pub(super) struct Queue(OwnedFd);

impl Tun {
    /// Opens the device `name` with up to `queues` queues, creating it when it is missing.
    pub(super) fn open(name: &str, mtu: u16, queues: usize) -> io::Result<Self> {
        let existed = index(name).is_ok();
        let first = Queue::file()?;
        let several = attach_as_it_is(first.as_fd(), name)?;
        request::persist(first.as_fd())?;
        request::set_header_length(first.as_fd())?;
        let offload = request::offload(first.as_fd());
        if !existed {
            request::set_mtu(any_socket()?.as_fd(), name, mtu)?;
        }
        request::lengthen_queues(any_socket()?.as_fd(), name, QUEUE)?;
        let mut all = vec![Queue(first)];
        if several {
            while all.len() < queues.max(1) {
                let next = Queue::file()?;
                request::attach(next.as_fd(), name, true)?;
                all.push(Queue(next));
            }
        }
        tracing::info!(device = name, queues = all.len(), ?offload, "tunnel device attached");
        Ok(Self {
            queues: all,
            name: name.to_owned(),
            offload,
            refuses_trains: AtomicBool::new(false),
        })
    }

    /// The device's index, or an error when it was deleted or renamed since.
    pub(super) fn index(&self) -> io::Result<u32> {
        if request::attached_name(self.queues[0].as_fd())? != self.name {
            return Err(Errno::NODEV.into());
        }
        index(&self.name)
    }

    /// The queue of that worker alone, to be read from. None if the device has fewer.
    pub(super) fn own_queue(&self, worker: usize) -> Option<&Queue> {
        self.queues.get(worker)
    }

    /// A queue to write to: any takes every packet, and one worker's stay in order.
    pub(super) fn queue(&self, worker: usize) -> &Queue {
        &self.queues[worker % self.queues.len()]
    }

    /// Of the device, as it is now.
    pub(super) fn mtu(&self) -> io::Result<usize> {
        let mtu = request::mtu(any_socket()?.as_fd(), &self.name)?;
        usize::try_from(mtu).map_err(|_| Errno::RANGE.into())
    }

    /// What the kernel takes in one write.
    pub(super) fn merging(&self) -> Merging {
        let trains = !self.refuses_trains.load(Ordering::Relaxed);
        Merging {
            tcp: trains && self.offload != Offload::Nothing,
            udp: trains && self.offload == Offload::TcpAndUdp,
        }
    }

    /// A super packet that it should have taken was not.
    pub(super) fn refused_a_train(&self) {
        if !self.refuses_trains.swap(true, Ordering::Relaxed) {
            tracing::info!(device = self.name, "super packets refused; writing single packets");
        }
    }
}

impl Queue {
    fn file() -> io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(rustix::fs::open("/dev/net/tun", flags, Mode::empty())?)
    }

    /// One packet or super packet behind its header.
    pub(super) fn read(&self, into: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::read(&self.0, into)
    }

    /// The parts of one header and its packet.
    pub(super) fn write(&self, parts: &[IoSlice<'_>]) -> Result<(), Errno> {
        rustix::io::writev(&self.0, parts).map(|_| ())
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// True when the device has, or may get, more queues. The kernel refuses to open a device in
/// another way than the one it was made in.
fn attach_as_it_is(file: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    match request::attach(file, name, true) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL) => {
            request::attach(file, name, false)?;
            tracing::info!(device = name, "made with one queue, so one core reads it");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn index(name: &str) -> io::Result<u32> {
    Ok(netdevice::name_to_index(any_socket()?, name)?)
}

/// Questions about devices are put to a socket of whatever family there is.
fn any_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?)
}

#[cfg(test)]
mod tests;
