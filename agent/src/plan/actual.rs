//! What the kernel and the data path have now, read by `kernel` and compared with the plan.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{Barred, Guard, LocalLookups, Peers, Route, Rule, Vxlan};

/// Ours only: routes of our protocol number, our device, our table.
#[derive(Clone, Debug, Default)]
pub struct Actual {
    pub device: Option<Device>,
    pub routes: BTreeSet<Route>,
    pub rules: BTreeSet<Rule>,
    pub barred: BTreeSet<Barred>,
    /// Everybody's.
    pub local: LocalLookups,
    /// The table as it was installed; none if it is gone or somebody changed it.
    pub table: Option<Guard>,
    pub sysctls: BTreeMap<&'static str, String>,
    /// The VXLAN device with its entries, if it is there and up.
    pub vxlan: Option<Vxlan>,
    /// What the data path was told last.
    pub peers: Peers,
}

/// The tunnel device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// False if it is not the data path's: left by an agent that is gone, or made by somebody else.
    pub attached: bool,
    pub up: bool,
    pub mtu: u16,
    pub addresses: BTreeSet<IpNet>,
}
