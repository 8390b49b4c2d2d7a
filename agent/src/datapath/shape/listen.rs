//! The thread that takes what comes in the shape, as long as its sockets are the ones in force.

use std::{sync::Arc, time::Duration};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::datapath::{inbound::Inbound, shared::Shared, train::Departures, udp::Sockets};

/// Between two looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(500);

/// Runs until there are other sockets, or the data path stops.
pub(in crate::datapath) fn run(shared: &Shared, sockets: &Arc<Sockets>) {
    let (mut inbound, mut device) = (Inbound::new(), None);
    let mut departures = Departures::new(shared, shared.udp.of_worker(0));
    let timeout = Timespec::try_from(LOOK).expect("half a second");
    loop {
        let mut files: Vec<_> =
            sockets.each().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        // An interrupted wait is as good as a short one.
        let _ = poll(&mut files, Some(&timeout));
        let ready: Vec<bool> = files.iter().map(|file| !file.revents().is_empty()).collect();
        if shared.stopped()
            || !shared.shapes.sockets().is_some_and(|now| Arc::ptr_eq(&now, sockets))
        {
            return;
        }
        let now = shared.tun();
        if now.as_ref().map(Arc::as_ptr) != device.as_ref().map(Arc::as_ptr) {
            if let Some(tun) = &now {
                inbound.set_merging(tun.merging());
            }
            device = now;
        }
        let tun = device.as_deref().map(|tun| (tun, tun.queue(0)));
        for (socket, _) in sockets.each().zip(ready).filter(|(_, ready)| *ready) {
            inbound.turn_shaped(socket, tun, &mut departures);
        }
        if shared.sessions.wants_control() {
            shared.desk.ring();
        }
    }
}
