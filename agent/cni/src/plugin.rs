//! One call of the plugin: read, decide which command, do it, answer.
//!
//! ```text
//! variables ─▶ Call ┐
//! stdin ──▶ NetworkConfig ┴▶ add | del | check | gc | status ─▶ JSON on stdout, exit code
//! ```

mod add;
mod chained;
mod check;
mod gc;
mod remove;
mod status;

use std::{
    cell::RefCell,
    ffi::OsString,
    io::{self, Read},
    net::IpAddr,
    path::Path,
};

use ipnet::IpNet;
use serde::Deserialize;

use crate::{
    InUse, NodeFile, NodeFileError, Reservations,
    kernel::{self, Namespace, NamespaceError, Netlink},
    protocol::{Call, Code, Failure, NetworkConfig, Version, version_of, versions},
};

/// The most that is read of a configuration: one byte more than is accepted.
const READ: u64 = crate::protocol::LARGEST as u64 + 1;

/// What to print, and whether it went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub stdout: String,
    pub ok: bool,
}

/// Runs one call. `lookup` gives the environment's variables.
pub fn call(lookup: &dyn Fn(&str) -> Option<OsString>, stdin: impl Read) -> Answer {
    let mut input = Vec::new();
    let outcome = Call::from_environment(lookup).and_then(|call| {
        let read = stdin.take(READ).read_to_end(&mut input);
        read.map_err(|e| Failure::because(Code::Io, "reading the network configuration", &e))?;
        dispatch(call, &input)
    });
    match outcome {
        Ok(stdout) => Answer { stdout, ok: true },
        Err(failure) => {
            let version = version_of(&input).unwrap_or(Version::NEWEST);
            Answer { stdout: failure.to_json(version), ok: false }
        }
    }
}

fn dispatch(call: Call, input: &[u8]) -> Result<String, Failure> {
    if call == Call::Version {
        return asked_version(input).map(|asked| versions(&asked));
    }
    let config = NetworkConfig::parse(input)?;
    if config.chained {
        return chained::call(&call, &config);
    }
    match call {
        Call::Add { who, netns } => add::add(&config, &who, &netns),
        Call::Del { who } => remove::del(&config, &who).map(|()| String::new()),
        Call::Check { who, netns } => check::check(&config, &who, &netns).map(|()| String::new()),
        Call::Gc => gc::gc(&config).map(|()| String::new()),
        Call::Status | Call::Version => status::status(&config).map(|()| String::new()),
    }
}

/// VERSION answers in the asker's version, even in one that we don't speak.
fn asked_version(input: &[u8]) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(rename = "cniVersion")]
        version: Option<String>,
    }
    let newest = || Version::NEWEST.as_str().to_owned();
    if input.trim_ascii().is_empty() {
        return Ok(newest());
    }
    let head: Head = serde_json::from_slice(input)
        .map_err(|error| Failure::because(Code::Decode, "decoding the asker's version", &error))?;
    Ok(head.version.unwrap_or_else(newest))
}

/// What the agent says of this node, if it is all there.
fn node(state: &Path) -> Result<NodeFile, Failure> {
    let node = NodeFile::read(state).map_err(|error| {
        let code = match error {
            NodeFileError::Missing(_) => Code::TryAgainLater,
            NodeFileError::Read { .. } => Code::Io,
            NodeFileError::Damaged { .. } | NodeFileError::Newer { .. } => Code::DamagedState,
        };
        Failure::because(code, "the node is not ready for pods", &error)
    })?;
    let covered = |subnet: &IpNet| node.pools.iter().any(|pool| pool.contains(subnet));
    if let Some(subnet) = node.subnets.iter().find(|subnet| !covered(subnet)) {
        let msg = format!("node.json: the subnet {subnet} lies in no pool, so nothing guards it");
        return Err(Failure::new(Code::DamagedState, msg));
    }
    Ok(node)
}

/// Refuses while something addressed to the mesh could leave in clear: while a layer is missing.
fn guarded(netlink: &mut Netlink, node: &NodeFile, code: Code) -> Result<(), Failure> {
    let open = kernel::unguarded(netlink, &node.pools).map_err(kernel_failure)?;
    if !open.is_empty() {
        let open: Vec<String> = open.iter().map(IpNet::to_string).collect();
        return Err(unguarded(code, &format!("no unreachable route for {}", open.join(", "))));
    }
    let missing = kernel::missing_chains(&kernel::GUARD).map_err(kernel_failure)?;
    if !missing.is_empty() {
        let what = format!("no rule in the nftables table inet hawser, {}", missing.join(", "));
        return Err(unguarded(code, &what));
    }
    Ok(())
}

fn unguarded(code: Code, what: &str) -> Failure {
    let hint = "is hawser-agent running? `hawser-agent guard` puts it back";
    Failure::new(code, format!("the guard is not in place: {what}; {hint}"))
}

fn open_netns(path: &Path) -> Result<Namespace, Failure> {
    Namespace::open(path).map_err(|error| {
        let code = match error {
            NamespaceError::Missing => Code::UnknownContainer,
            NamespaceError::Open(_) => Code::Io,
            NamespaceError::NotANamespace | NamespaceError::TheNodes => Code::InvalidEnvironment,
        };
        Failure::because(code, format!("CNI_NETNS {}", path.display()), &error)
    })
}

fn open_netlink() -> Result<Netlink, Failure> {
    Netlink::open().map_err(kernel_failure)
}

fn open_reservations(state: &Path) -> Result<Reservations, Failure> {
    Reservations::open(state).map_err(|error| state_failure(&error))
}

/// Frees what nobody uses. Asks the kernel what is used.
fn reclaim(reservations: &Reservations, netlink: &mut Netlink) -> Result<usize, Failure> {
    let addresses = kernel::routed_addresses(netlink).map_err(kernel_failure)?;
    let netlink = RefCell::new(netlink);
    let has_device = |name: &str| Ok(netlink.borrow_mut().link(name)?.is_some());
    let in_use = InUse { addresses, has_device: &has_device };
    reservations.reclaim(&in_use).map_err(|error| state_failure(&error))
}

fn kernel_failure(error: io::Error) -> Failure {
    Failure::because(Code::Kernel, "the kernel refused", &error)
}

fn state_failure(error: &io::Error) -> Failure {
    let msg = "using the reservations; is the state directory full, read-only or missing?";
    Failure::because(Code::Io, msg, error)
}

/// A pod's address in CIDR form, with its next hop.
fn with_gateway(address: IpAddr) -> (IpNet, IpAddr) {
    (address.into(), kernel::gateway(address))
}
