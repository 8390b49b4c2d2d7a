//! One packet socket that sees every device of this network namespace, in both directions.
//!
//! It is bound to no device (packet(7)), so the tunnel and the underlay are watched by the same
//! instrument, and a device that appears later is watched too.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use nix::{
    errno::Errno,
    net::if_::if_nameindex,
    sys::{
        socket::{
            AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt,
            socket,
            sockopt::{RcvBuf, RcvBufForce, ReceiveTimeout},
        },
        time::TimeVal,
    },
};

use super::{
    frame::Link,
    tally::{Direction, Frame, Tally},
};
use crate::exit::{Exit, Failure};

/// Room for a burst while this thread waits for a core.
const BUFFER: usize = 32 << 20;
/// linux/if_packet.h
const PACKET_OUTGOING: u8 = 4;
/// linux/if_arp.h
const ARPHRD_ETHER: u16 = 1;

/// A running capture.
pub(super) struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Tally>>,
}

impl Capture {
    /// From here on everything is seen.
    pub(super) fn start(tally: Tally) -> Result<Self, Failure> {
        let socket = open()?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("capture".into())
            .spawn(move || watch(&socket, tally, &told))
            .map_err(|error| Failure::failed(format!("starting the capture: {error}")))?;
        Ok(Self { stop, thread })
    }

    pub(super) fn finish(self) -> Result<Tally, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join().map_err(|_| Failure::failed("the capture ended badly"))?;
        ended.map_err(|error| Failure::failed(format!("capturing: {error}")))
    }
}

fn open() -> Result<OwnedFd, Failure> {
    let family = AddressFamily::Packet;
    let opened = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
    let socket = opened.map_err(|error| match error {
        Errno::EPERM | Errno::EACCES => {
            Failure::new(Exit::Forbidden, "not permitted: capturing packets needs CAP_NET_RAW")
                .check("run it as root on the node, or give this program the capability")
        }
        other => Failure::failed(format!("opening a packet socket: {other}")),
    })?;
    // Without CAP_NET_ADMIN the kernel's own limit must do; the control says if it did not.
    if setsockopt(&socket, RcvBufForce, &BUFFER).is_err() {
        let _ = setsockopt(&socket, RcvBuf, &BUFFER);
    }
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(0, 50_000))
        .map_err(|error| Failure::failed(format!("preparing the packet socket: {error}")))?;
    Ok(socket)
}

fn watch(socket: &OwnedFd, mut tally: Tally, stop: &AtomicBool) -> io::Result<Tally> {
    // The largest packet that segmentation offload hands to a device, with its headers.
    let mut buffer = vec![0u8; 1 << 17];
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
            Ok((length, Some(from))) => tally.observe(Frame {
                device: u32::try_from(from.ifindex()).unwrap_or(0),
                link: if from.hatype() == ARPHRD_ETHER { Link::Ethernet } else { Link::Ip },
                direction: match from.pkttype() {
                    PACKET_OUTGOING => Direction::Out,
                    _ => Direction::In,
                },
                bytes: &buffer[..length.min(buffer.len())],
            }),
            // Quiet for a moment, so everything that was there has been read.
            Err(Errno::EAGAIN) if stop.load(Ordering::Relaxed) => return Ok(tally),
            // ENETDOWN: a device went away under the socket; the others are still watched.
            Ok((_, None)) | Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The devices of this network namespace, by index. /sys may show another namespace's; this not.
pub(super) fn devices() -> Result<BTreeMap<u32, String>, Failure> {
    let list = if_nameindex()
        .map_err(|error| Failure::failed(format!("listing the network devices: {error}")))?;
    Ok(list.iter().map(|d| (d.index(), d.name().to_string_lossy().into_owned())).collect())
}
