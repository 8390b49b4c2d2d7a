//! Where the carriers' probes leave and come in: one UDP socket on each of this node's own mesh
//! addresses. A mark leads them to the kernel's carriers; those of the data path get whole packets.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::future::select_all;
use socket2::SockRef;
use tokio::{net::UdpSocket, time::sleep};

use super::message::{LENGTH, Message, PORT};
use crate::{datapath::Datapath, freebind, plan::SideTable, view::Backend};

/// A socket that fails does so again at once.
const PAUSE: Duration = Duration::from_millis(200);

/// Open ones, by address.
#[derive(Default)]
pub(super) struct Sockets(BTreeMap<IpAddr, UdpSocket>);

impl Sockets {
    /// Has one on each of these addresses, as far as they are to be had, and no other.
    pub(super) fn bind(&mut self, addresses: &[IpAddr]) {
        self.0.retain(|address, _| addresses.contains(address));
        for address in addresses {
            if self.0.contains_key(address) {
                continue;
            }
            match freebind::udp(SocketAddr::new(*address, PORT)) {
                Ok(socket) => drop(self.0.insert(*address, socket)),
                Err(error) => tracing::debug!(%error, %address, port = PORT, "no probes here"),
            }
        }
    }

    /// Whether there is one of this address' family.
    pub(super) fn reach(&self, to: IpAddr) -> bool {
        self.of(to).is_some()
    }

    /// By the message's carrier. What cannot be sent is lost, like anything else.
    pub(super) fn send(&self, datapath: &Datapath, to: IpAddr, message: Message) {
        let Some((own, socket)) = self.of(to) else { return };
        let packet = || message.packet(*own, to).unwrap_or_default();
        match message.by.backend {
            Backend::Vxlan => by_mark(socket, SideTable::Vxlan, to, message),
            Backend::Direct => by_mark(socket, SideTable::Direct, to, message),
            Backend::Wireguard => datapath.send_sealed(&packet(), message.by.sealed()),
            Backend::Udp => datapath.send_clear(&mut packet()),
            Backend::Esp => {}
        }
    }

    fn of(&self, to: IpAddr) -> Option<(&IpAddr, &UdpSocket)> {
        self.0.iter().find(|(own, _)| own.is_ipv4() == to.is_ipv4())
    }

    /// The next message and who it is from; for ever, if there is no socket.
    pub(super) async fn receive(&self) -> (IpAddr, Message) {
        loop {
            if self.0.is_empty() {
                return std::future::pending().await;
            }
            let readable = self.0.values().map(|socket| Box::pin(socket.readable()));
            let (_, which, _) = select_all(readable).await;
            let mut bytes = [0; LENGTH + 1];
            match self.next(which, &mut bytes) {
                Ok((length, from)) => {
                    if let Some(message) = Message::read(&bytes[..length])
                        && from.port() == PORT
                    {
                        return (from.ip(), message);
                    }
                }
                Err(error) => {
                    tracing::trace!(%error, "probe not received");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn next(&self, which: usize, bytes: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let none = || Ok((0, SocketAddr::from(([0, 0, 0, 0], 0))));
        let Some(socket) = self.0.values().nth(which) else { return none() };
        match socket.try_recv_from(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => none(),
            received => received,
        }
    }
}

fn by_mark(socket: &UdpSocket, table: SideTable, to: IpAddr, message: Message) {
    let socket = SockRef::from(socket);
    let sent = socket
        .set_mark(table.mark().0)
        .and_then(|()| socket.send_to(&message.write(), &SocketAddr::new(to, PORT).into()));
    if let Err(error) = sent {
        tracing::trace!(%error, %to, by = %message.by, "probe not sent");
    }
}
