//! `hawser check`: looks at this machine before an agent runs on it, or at the mesh as it runs.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
};

use nix::ifaddrs::getifaddrs;

use super::{status, surroundings};
use crate::{
    args,
    cluster::Cluster,
    exit::{Exit, Failure},
    settings::Settings,
    terminal::Terminal,
    view::{
        self,
        preflight::{self, Finding, Machine, Verdict},
    },
};

/// What an agent makes: an address there is the mesh's own.
const OURS: [&str; 2] = ["hawser", "hwp"];
/// Its number in capabilities(7).
const CAP_NET_ADMIN: u64 = 12;

pub(super) async fn run(
    args: args::Check,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let args::Check { pre, listen_port, pool, conf_dir } = args;
    let findings = if pre {
        preflight::judge(&machine(listen_port, &conf_dir), &pool)
    } else {
        let cluster = Cluster::connect(settings).await?;
        let status = status::read(&cluster, settings).await?;
        let around = surroundings::read(&cluster).await?;
        running(status).into_iter().chain(view::surroundings::judge(&around)).collect()
    };
    terminal.print(&preflight::output(&findings))?;
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Failed);
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

fn running(status: view::status::Status) -> Vec<Finding> {
    status.into_problems().into_iter().map(Finding::from).collect()
}

fn machine(port: u16, conf_dir: &Path) -> Machine {
    let tun = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    Machine {
        tun: tun.err().map(|error| error.to_string()),
        net_admin: has_net_admin(),
        port: why_not_free(port).map(|why| (port, why)),
        underlay: underlay(),
        addresses: addresses(),
        has_nft: is_on_path("nft"),
        devices: names(Path::new("/sys/class/net")),
        configurations: names(conf_dir),
    }
}

fn has_net_admin() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    held.is_some_and(|held| held >> CAP_NET_ADMIN & 1 == 1)
}

/// Both families, one after the other: a socket for both would hide which is taken.
fn why_not_free(port: u16) -> Option<String> {
    let families = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    families.into_iter().find_map(|any| match UdpSocket::bind(SocketAddr::new(any, port)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Some(error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(error.to_string()),
        Ok(_) | Err(_) => None,
    })
}

/// The device of the default route, IPv4 before IPv6.
fn underlay() -> Option<(String, u32)> {
    let v4 = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v4 = v4.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let v4 = v4.filter(|words| words.get(1) == Some(&"00000000")).map(|words| words[0].to_owned());
    let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let v6 = v6.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let v6 = v6.filter(|words| words.get(1) == Some(&"00") && words.last() != Some(&"lo"));
    let v6 = v6.filter_map(|words| words.last().map(|name| (*name).to_owned()));
    let name = v4.chain(v6).next()?;
    let mtu = fs::read_to_string(format!("/sys/class/net/{name}/mtu")).ok()?;
    Some((name, mtu.trim().parse().ok()?))
}

fn addresses() -> Vec<IpAddr> {
    let Ok(all) = getifaddrs() else {
        return Vec::new();
    };
    let ours = |name: &str| OURS.iter().any(|prefix| name.starts_with(prefix));
    let others = all.filter(|one| !ours(&one.interface_name));
    let found = others.filter_map(|one| {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    found.collect()
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path).chain(usual).any(|dir| dir.join(program).is_file())
}

/// Sorted; none where there is no such directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
