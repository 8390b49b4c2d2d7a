//! Where probes leave and come in: one UDP socket on each of this node's own mesh addresses.
//!
//! UDP and not ICMP, which takes `CAP_NET_RAW` or a host-wide switch (`net.ipv4.ping_group_range`),
//! and the agent has neither. It goes as pods' packets go: to mesh addresses there is the tunnel, or
//! what the operator permits in its place, or the guard.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::future::select_all;
use socket2::SockRef;
use tokio::{net::UdpSocket, time::sleep};

use super::message::{LONGEST, Message};
use crate::freebind;

/// Every agent's, on its mesh addresses alone. Below the range that outgoing connections take.
const PORT: u16 = 7374;
/// A socket that fails does so again at once.
const PAUSE: Duration = Duration::from_millis(200);

/// Open ones, by address.
#[derive(Default)]
pub(super) struct Sockets {
    open: BTreeMap<IpAddr, UdpSocket>,
    refused: BTreeSet<IpAddr>,
}

impl Sockets {
    /// Has one on each of these addresses, as far as they are to be had.
    pub(super) fn bind(&mut self, addresses: &BTreeSet<IpAddr>) {
        self.open.retain(|address, _| addresses.contains(address));
        for address in addresses {
            if self.open.contains_key(address) {
                continue;
            }
            match freebind::udp(SocketAddr::new(*address, PORT)) {
                Ok(socket) => {
                    self.refused.remove(address);
                    self.open.insert(*address, socket);
                }
                Err(error) if self.refused.insert(*address) => {
                    tracing::warn!(%error, %address, port = PORT, "no probes here");
                }
                Err(_) => {}
            }
        }
    }

    /// Whether there is one of this address' family.
    pub(super) fn reach(&self, address: IpAddr) -> bool {
        self.open.keys().any(|own| own.is_ipv4() == address.is_ipv4())
    }

    /// What cannot be sent is lost, like anything else.
    pub(super) fn send(&self, to: IpAddr, message: Message) {
        let own = self.open.iter().find(|(own, _)| own.is_ipv4() == to.is_ipv4());
        let Some((_, socket)) = own else { return };
        let sent =
            SockRef::from(socket).send_to(&message.write(), &SocketAddr::new(to, PORT).into());
        if let Err(error) = sent {
            tracing::trace!(%error, %to, "probe not sent");
        }
    }

    /// The next message and who it is from.
    pub(super) async fn receive(&self) -> (IpAddr, Message) {
        loop {
            let mut bytes = [0; LONGEST + 1];
            let Some((length, from)) = self.next(&mut bytes).await else {
                sleep(PAUSE).await;
                continue;
            };
            if let Some(message) = Message::read(&bytes[..length])
                && from.port() == PORT
            {
                return (from.ip(), message);
            }
        }
    }

    async fn next(&self, bytes: &mut [u8]) -> Option<(usize, SocketAddr)> {
        if self.open.is_empty() {
            return pending().await;
        }
        let readable = self.open.values().map(|socket| Box::pin(socket.readable()));
        let (_, which, _) = select_all(readable).await;
        match self.open.values().nth(which)?.try_recv_from(bytes) {
            Ok(received) => Some(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some((0, NOBODY)),
            Err(_) => None,
        }
    }
}

/// Nothing came after all.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
