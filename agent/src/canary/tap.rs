//! The canary's eye: a packet socket that sees every device of this network namespace, both ways,
//! from the IP header on (packet(7)), and is given only what the filter passes. A thread reads it: few
//! packets come, and none of them may wait for the agent's other work.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    net::if_::if_nameindex,
    sys::socket::{LinkAddr, recvfrom},
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::sync::mpsc;

/// linux/if_ether.h
const ETH_P_ALL: u16 = 3;
/// A probe in its readable wrappings is shorter; of longer ones the beginning is enough.
const LONGEST: usize = 512;
/// Between two looks whether anybody still listens.
const TICK: Duration = Duration::from_millis(100);
/// Sights that wait to be noted; each probe is seen twice, and seldom more.
const WAITING: usize = 1024;

/// A packet from its IP header on, and the index of the device that shows it.
pub(super) type Sight = io::Result<(usize, Vec<u8>)>;

/// Sights until the first error. Needs `CAP_NET_RAW`.
pub(super) fn open(program: &[SockFilter]) -> io::Result<mpsc::Receiver<Sight>> {
    let all = Protocol::from(i32::from(ETH_P_ALL.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(all))?;
    socket.attach_filter(program)?;
    socket.set_read_timeout(Some(TICK))?;
    let (sights, seen) = mpsc::channel(WAITING);
    let watch = move || watch(&socket, &sights);
    std::thread::Builder::new().name("canary".to_owned()).spawn(watch)?;
    Ok(seen)
}

fn watch(socket: &Socket, sights: &mpsc::Sender<Sight>) {
    let mut bytes = [0; LONGEST];
    while !sights.is_closed() {
        let sight = match recvfrom::<LinkAddr>(socket.as_fd().as_raw_fd(), &mut bytes) {
            Ok((length, Some(from))) => Ok((from.ifindex(), bytes[..length.min(LONGEST)].to_vec())),
            // ENETDOWN: a device went away under the socket; the others are still watched.
            Ok((_, None)) | Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => continue,
            Err(error) => Err(error.into()),
        };
        let last = sight.is_err();
        if sights.blocking_send(sight).is_err() || last {
            return;
        }
    }
}

/// What the device is called now.
pub(super) fn name_of(index: usize) -> Option<String> {
    let devices = if_nameindex().ok()?;
    let mut devices = devices.iter();
    let device = devices.find(|device| device.index() as usize == index)?;
    Some(device.name().to_string_lossy().into_owned())
}
