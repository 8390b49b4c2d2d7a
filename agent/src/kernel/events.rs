//! Wakes the agent when somebody touches what is ours, or a device comes or goes, so that repair takes milliseconds and an
//! idle node costs nothing. What exactly happened does not matter: the whole is read again.

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use cni::POD_DEVICE_PREFIX;
use futures::StreamExt;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::AddressScope,
    link::{LinkAttribute, LinkMessage},
    route::{RouteMessage, RouteProtocol},
};
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols};
use rtnetlink::MulticastGroup;
use tokio::sync::mpsc;

use super::{KernelError, ROUTE_PROTOCOL};
use crate::plan::VXLAN_DEVICE;

/// NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h).
const NFTABLES_GROUP: u32 = 7;

/// Sends a word on every change of our device, addresses, routes, of any rule or nftables table,
/// which also raises `tables_changed`; and another where this machine may speak from another address
/// now. One waiting word is enough.
pub fn watch(
    tun: &str,
    tables_changed: Arc<AtomicBool>,
    changed: mpsc::Sender<()>,
) -> Result<mpsc::Receiver<()>, KernelError> {
    let (moves, moved) = mpsc::channel(1);
    watch_routes(tun.to_owned(), changed.clone(), moves).map_err(KernelError::Socket)?;
    watch_tables(changed, tables_changed).map_err(KernelError::Socket)?;
    Ok(moved)
}

fn watch_routes(tun: String, changed: mpsc::Sender<()>, moved: mpsc::Sender<()>) -> io::Result<()> {
    let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&[
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Rule,
    ])?;
    tokio::spawn(connection);
    tokio::spawn(async move {
        let mut known = HashSet::new();
        while let Some((message, _)) = messages.next().await {
            if may_move_us(&message) {
                moved.try_send(()).ok();
            }
            if concerns_us(&message, &tun) || is_new(&message, &mut known) {
                changed.try_send(()).ok();
            }
        }
    });
    Ok(())
}

/// A busy router changes routes all day; only ours count.
fn concerns_us(message: &NetlinkMessage<RouteNetlinkMessage>, tun: &str) -> bool {
    match &message.payload {
        NetlinkPayload::InnerMessage(inner) => match inner {
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
                our_device(link, tun)
            }
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
                our_route(route)
            }
            _ => true,
        },
        // The kernel's queue ran over: something was missed.
        _ => true,
    }
}

/// A device that comes or goes, or the first word of one: the guard knows them all.
fn is_new(message: &NetlinkMessage<RouteNetlinkMessage>, known: &mut HashSet<u32>) -> bool {
    match &message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
            known.insert(link.header.index)
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
            known.remove(&link.header.index);
            true
        }
        _ => false,
    }
}

/// Addresses, and the routes by which most is reached.
fn may_move_us(message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
    match &message.payload {
        NetlinkPayload::InnerMessage(inner) => match inner {
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
                address.header.scope == AddressScope::Universe
            }
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
                route.header.destination_prefix_length == 0
            }
            _ => false,
        },
        _ => false,
    }
}

fn our_device(link: &LinkMessage, tun: &str) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::IfName(name) => {
            name == tun || name == VXLAN_DEVICE || name.starts_with(POD_DEVICE_PREFIX)
        }
        _ => false,
    })
}

fn our_route(route: &RouteMessage) -> bool {
    route.header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL)
}

fn watch_tables(changed: mpsc::Sender<()>, tables_changed: Arc<AtomicBool>) -> io::Result<()> {
    let mut socket = TokioSocket::new(protocols::NETLINK_NETFILTER)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    socket.socket_mut().add_membership(NFTABLES_GROUP)?;
    tokio::spawn(async move {
        loop {
            // An error means a full queue, which is news too.
            let news = socket.recv_from_full().await;
            tables_changed.store(true, Ordering::Release);
            changed.try_send(()).ok();
            if news.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    });
    Ok(())
}
