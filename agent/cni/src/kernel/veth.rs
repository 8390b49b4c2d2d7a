//! A pod's veth pair: routed, both ends knowing each other's MAC address for ever.
//!
//! ```text
//!   pod                                          node
//!   eth0  10.42.1.5/32, fd42:…:5/128     ══════  hwp1a2b3c4d5e6f   10.42.1.5, fd42:…:5 routed here
//!         default via 169.254.1.1, fe80::1       (neighbours both ways are permanent, so nothing
//!                                                 waits for ARP, neighbour or duplicate discovery)
//! ```

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage},
};

use super::{
    message::{
        End, delete_link, family, link_up, main_table, new_address, new_local_route, new_neighbour,
        new_pair, new_route,
    },
    namespace::Namespace,
    netlink::{Link, Netlink},
    sysctl,
};
use crate::attachment::Mac;

/// How often the kernel is asked whether its work queues have come round; together 2 s, after
/// which they will do so without us.
const TRIES: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(2);

/// The pod's next hop of the family that `address` has. Nobody owns these addresses.
pub(crate) fn gateway(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::new(169, 254, 1, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// All that a pair is made of.
pub(crate) struct Pair<'a> {
    pub(crate) host_device: &'a str,
    pub(crate) ifname: &'a str,
    pub(crate) macs: (Mac, Mac),
    pub(crate) mtu: u16,
    pub(crate) addresses: &'a [IpAddr],
}

impl Pair<'_> {
    /// Makes the pair, ready for traffic. After an error the caller deletes the device, unless the
    /// error's kind is `AlreadyExists` from the first step: then it was somebody else's.
    pub(crate) fn create(&self, host: &mut Netlink, pod: &Namespace) -> Result<(), CreateError> {
        let (host_mac, pod_mac) = self.macs;
        let host_end = End { name: self.host_device, mac: host_mac, mtu: self.mtu };
        let pod_end = End { name: self.ifname, mac: pod_mac, mtu: self.mtu };
        host.all(vec![new_pair(&host_end, &pod_end, pod.raw())]).map_err(CreateError::Pair)?;
        self.set_up_host(host).map_err(CreateError::Setup)?;
        pod.run(|| self.set_up_pod()).map_err(CreateError::Setup)?;
        self.wait_for_carrier(host).map_err(CreateError::Setup)
    }

    /// The end that came up first got its carrier from the other one; Linux lets packets out of
    /// it a little later, on a work queue that a busy machine serves late. From 6.8 on asking for
    /// the link settles it (linkwatch_sync_dev in rtnl_getlink), before that it is waited for.
    fn wait_for_carrier(&self, host: &mut Netlink) -> io::Result<()> {
        for _ in 0..TRIES {
            if host.link(self.host_device)?.is_some_and(|link| link.running) {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn set_up_host(&self, host: &mut Netlink) -> io::Result<()> {
        host_sysctls(self.host_device)?;
        let index = index_of(host, self.host_device)?;
        let mut requests = vec![link_up(index)];
        for &address in self.addresses {
            requests.push(new_neighbour(index, address, self.macs.1));
            requests.push(new_route(index, address.into(), None));
        }
        host.all(requests)
    }

    fn set_up_pod(&self) -> io::Result<()> {
        let mut pod = Netlink::open()?;
        pod_sysctls(self.ifname)?;
        let index = index_of(&mut pod, self.ifname)?;
        let mut requests = vec![link_up(index)];
        for &address in self.addresses {
            let gateway = gateway(address);
            requests.push(new_address(index, address));
            if address.is_ipv6() {
                requests.push(new_local_route(index, address));
            }
            requests.push(new_neighbour(index, gateway, self.macs.0));
            requests.push(new_route(index, default_route(address), Some(gateway)));
        }
        pod.all(requests)?;
        self.wait_for_addresses(&mut pod)
    }

    /// ADD does not answer before a packet would arrive. With the local route of our own that is
    /// so at once; waiting for Linux's, of 200 pods at once each took 14 to 25 ms of CPU to ask
    /// again and again, now 5, and the last one was ready after 1.4 to 2.6 s, now 0.5 (two cores).
    fn wait_for_addresses(&self, pod: &mut Netlink) -> io::Result<()> {
        for &address in self.addresses {
            for _ in 0..TRIES {
                if pod.is_local(address)? {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// What is missing or changed, in words. `routes`: also the pod's default routes.
    pub(crate) fn drift(
        &self,
        host: &mut Netlink,
        pod: &Namespace,
        routes: bool,
    ) -> io::Result<Vec<String>> {
        let mut drift = link_drift(host.link(self.host_device)?, self.host_device, self.macs.0);
        let host_routes = routes_of(host, self.host_device)?;
        for &address in self.addresses {
            if !host_routes.contains(&address.into()) {
                drift.push(format!("the node's route to {address} is missing"));
            }
        }
        drift.extend(pod.run(|| self.pod_drift(routes))?);
        Ok(drift)
    }

    fn pod_drift(&self, routes: bool) -> io::Result<Vec<String>> {
        let mut pod = Netlink::open()?;
        let link = pod.link(self.ifname)?;
        let mut drift = link_drift(link.clone(), self.ifname, self.macs.1);
        let Some(link) = link else { return Ok(drift) };
        let addresses = addresses_of(&mut pod, link.index)?;
        let pod_routes = routes_of(&mut pod, self.ifname)?;
        for &address in self.addresses {
            if !addresses.contains(&address) {
                drift.push(format!("the address {address} is missing from {}", self.ifname));
            }
            if routes && !pod_routes.contains(&default_route(address)) {
                let gateway = gateway(address);
                drift.push(format!("the pod's default route via {gateway} is missing"));
            }
        }
        Ok(drift)
    }
}

/// Which half of making a pair has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    #[error(transparent)]
    Pair(io::Error),
    #[error(transparent)]
    Setup(io::Error),
}

impl Netlink {
    /// Deletes a device, with it its other end and all routes. Nothing to delete is no error.
    pub(crate) fn delete(&mut self, name: &str) -> io::Result<()> {
        match self.link(name)? {
            None => Ok(()),
            Some(_) => match self.all(vec![delete_link(name)]) {
                Err(_) if self.link(name)?.is_none() => Ok(()),
                other => other,
            },
        }
    }
}

fn default_route(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => Ipv4Net::default().into(),
        IpAddr::V6(_) => Ipv6Net::default().into(),
    }
}

/// A pod is not to be believed: no redirects, no router advertisements, and (IPv4, where the
/// kernel has it) no source address that is not its own.
fn host_sysctls(device: &str) -> io::Result<()> {
    sysctl::set("ipv4", device, "forwarding", "1")?;
    sysctl::set("ipv4", device, "rp_filter", "1")?;
    sysctl::set("ipv4", device, "accept_redirects", "0")?;
    if sysctl::has_ipv6() {
        sysctl::set("ipv6", device, "disable_ipv6", "0")?;
        sysctl::set("ipv6", device, "accept_dad", "0")?;
        sysctl::set("ipv6", device, "accept_ra", "0")?;
        sysctl::set("ipv6", device, "accept_redirects", "0")?;
        sysctl::set("ipv6", device, "forwarding", "1")?;
        // Linux forwards IPv6 only while this is on. The agent sets it with more care for the
        // node's own router advertisements; then nothing is written here.
        sysctl::set("ipv6", "all", "forwarding", "1")?;
    }
    Ok(())
}

fn pod_sysctls(device: &str) -> io::Result<()> {
    if sysctl::has_ipv6() {
        sysctl::set("ipv6", device, "disable_ipv6", "0")?;
        sysctl::set("ipv6", device, "accept_dad", "0")?;
        sysctl::set("ipv6", device, "accept_ra", "0")?;
    }
    Ok(())
}

fn index_of(netlink: &mut Netlink, name: &str) -> io::Result<u32> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, format!("{name} has disappeared"));
    Ok(netlink.link(name)?.ok_or_else(gone)?.index)
}

fn link_drift(link: Option<Link>, name: &str, mac: Mac) -> Vec<String> {
    let Some(link) = link else {
        return vec![format!("the device {name} is missing")];
    };
    let mut drift = Vec::new();
    if !link.up {
        drift.push(format!("the device {name} is down"));
    }
    if link.mac != mac {
        drift.push(format!("the device {name} has another MAC address"));
    }
    drift
}

fn addresses_of(netlink: &mut Netlink, index: u32) -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    netlink.dump(message, |answer| {
        let RouteNetlinkMessage::NewAddress(answer) = answer else {
            return;
        };
        if answer.header.index == index {
            addresses.extend(answer.attributes.iter().filter_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            }));
        }
    })?;
    Ok(addresses)
}

/// The destinations in the main table that lead to a device.
fn routes_of(netlink: &mut Netlink, device: &str) -> io::Result<Vec<IpNet>> {
    let mut routes = Vec::new();
    let Some(link) = netlink.link(device)? else {
        return Ok(routes);
    };
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let message = RouteNetlinkMessage::GetRoute(main_table(family));
        netlink.dump(message, |answer| {
            let RouteNetlinkMessage::NewRoute(route) = answer else {
                return;
            };
            if route.attributes.contains(&RouteAttribute::Oif(link.index)) {
                routes.extend(destination(&route));
            }
        })?;
    }
    Ok(routes)
}

pub(super) fn destination(route: &RouteMessage) -> Option<IpNet> {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    let any = match route.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let address = address.unwrap_or(any);
    debug_assert_eq!(family(address), route.header.address_family);
    IpNet::new(address, route.header.destination_prefix_length).ok()
}
