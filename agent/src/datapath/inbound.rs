//! Datagrams from the underlay to the tunnel device. Mirror image of `outbound.rs`.

use std::{
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd,
    time::Instant,
};

use rustix::event::{PollFd, PollFlags};

use super::{
    batch::{Inbox, Outgoing},
    shared::Shared,
    udp,
};

/// Runs until the data path stops.
pub(super) fn run(shared: &Shared, socket: &UdpSocket) {
    let mut inbox = Inbox::new();
    let mut out = Outgoing::default();
    while shared.wait([PollFd::new(socket, PollFlags::IN)], None) {
        inbox.clear();
        // Whatever it ends with (nothing more, or an error that a datagram of ours came back
        // with), what was read counts.
        let _ = inbox.fill(|into| udp::receive(socket.as_fd(), into));
        open(shared, &inbox, &mut out);
    }
}

fn open(shared: &Shared, inbox: &Inbox<SocketAddr>, out: &mut Outgoing) {
    if inbox.is_empty() {
        return;
    }
    let now = Instant::now();
    let mut mesh = shared.mesh();
    for (datagram, from) in inbox.iter() {
        if let Err(discard) = mesh.open(datagram, *from, out, now) {
            tracing::trace!(discard = discard.name(), %from, "datagram not delivered");
        }
    }
    drop(mesh);
    shared.flush(out);
}
