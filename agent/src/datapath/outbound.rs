//! Packets from the tunnel device to their peers. Mirror image of `inbound.rs`.

use std::time::Instant;

use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
};

use super::{
    batch::{Inbox, Outgoing},
    shared::Shared,
};

/// Runs until the data path stops.
pub(super) fn run(shared: &Shared) {
    let mut inbox = Inbox::new();
    let mut out = Outgoing::default();
    loop {
        let tun = shared.tun.load_full();
        let files = tun.iter().map(|tun| PollFd::new(&**tun, PollFlags::IN));
        let changed = PollFd::new(&shared.tun_changed, PollFlags::IN);
        if !wait(shared, files.chain([changed])) {
            return;
        }
        let Some(tun) = tun else {
            continue;
        };
        inbox.clear();
        let filled = inbox.fill(|into| tun.read(into).map(|length| (length, ())));
        seal(shared, &inbox, &mut out);
        if let Err(error) = filled
            && error != Errno::AGAIN
            && error != Errno::INTR
        {
            forget(shared, &tun, error);
        }
    }
}

fn wait<'a>(shared: &'a Shared, files: impl Iterator<Item = PollFd<'a>>) -> bool {
    let goes_on = shared.wait(files, None);
    let _ = rustix::io::read(&shared.tun_changed, &mut [0u8; 8]);
    goes_on
}

fn seal(shared: &Shared, inbox: &Inbox<()>, out: &mut Outgoing) {
    if inbox.is_empty() {
        return;
    }
    let now = Instant::now();
    let mut mesh = shared.mesh();
    for (packet, ()) in inbox.iter() {
        if let Err(discard) = mesh.seal(packet, out, now) {
            tracing::trace!(discard = discard.name(), "packet not sent");
        }
    }
    drop(mesh);
    shared.flush(out);
}

/// The device was deleted. Whoever cares for the node's devices attaches the next one.
fn forget(shared: &Shared, tun: &std::sync::Arc<super::tun::Tun>, error: Errno) {
    tracing::warn!(%error, "tunnel device lost");
    shared.tun.compare_and_swap(tun, None);
}
