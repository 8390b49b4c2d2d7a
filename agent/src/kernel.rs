//! The kernel's side: the only code that speaks rtnetlink and nft. Reads [`Actual`], does single
//! steps; what to do is decided in `plan`.

mod address;
pub mod events;
mod link;
mod nft;
mod route;
mod rule;
pub mod sysctl;
pub mod underlay;
mod vxlan;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cni::POD_DEVICE_PREFIX;
use ipnet::IpNet;
use rtnetlink::Handle;

pub use self::{link::PodDevices, nft::Blocked};
use crate::plan::{
    Actual, Barred, Device, Family, Guard, LocalLookups, Peers, Plan, Route, Rule, Sysctls, Target,
    VXLAN_DEVICE, Vxlan, barred,
};

/// Marks our routes (`ip route show proto 72`), so that we read and touch no others.
pub const ROUTE_PROTOCOL: u8 = 72;

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("netlink socket: {0}; is CAP_NET_ADMIN granted?")]
    Socket(#[source] io::Error),
    #[error("{what}: {source}")]
    Netlink { what: String, source: rtnetlink::Error },
    #[error("no device {0}")]
    NoDevice(String),
    #[error("nft: {0}; is the nft program installed and nf_tables in the kernel?")]
    Nft(String),
    #[error("/proc/sys/{path}: {source}; is it mounted read-only?")]
    Sysctl { path: String, source: io::Error },
}

impl KernelError {
    fn netlink(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let what = what.into();
        move |source| Self::Netlink { what, source }
    }
}

/// One network namespace's kernel, as seen by this process.
pub struct Kernel {
    handle: Handle,
    tun: String,
    table: nft::Table,
    tables_changed: Arc<AtomicBool>,
    table_listed: Option<Instant>,
}

/// Listing the table starts a program, so it is done when a table has changed, and this often for
/// the counters and for events that were missed.
const LIST_AGAIN: Duration = Duration::from_secs(10);

impl Kernel {
    /// Opens the netlink socket; needs a tokio runtime, which then drives it.
    pub fn open(tun: &str) -> Result<Self, KernelError> {
        let (connection, handle, _) =
            rtnetlink::new_connection_with_strict_check().map_err(KernelError::Socket)?;
        tokio::spawn(connection);
        Ok(Self {
            handle,
            tun: tun.to_owned(),
            table: nft::Table::default(),
            tables_changed: Arc::new(AtomicBool::new(true)),
            table_listed: None,
        })
    }

    /// What [`events::watch`] raises when anybody changes a table.
    pub fn tables_changed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.tables_changed)
    }

    /// What is there of the plan's things, and of things like them. What the data path knows is the
    /// caller's to add.
    pub async fn read(&mut self, wanted: &Sysctls) -> Result<Actual, KernelError> {
        let links = link::list(&self.handle).await?;
        let device = match links.by_name(&self.tun) {
            Some(link) => Some(Device {
                attached: false,
                up: link.up,
                mtu: link.mtu,
                addresses: address::list(&self.handle, link.index).await?,
            }),
            None => None,
        };
        let rules = rule::list(&self.handle).await?;
        Ok(Actual {
            device,
            routes: route::list(&self.handle, &links).await?,
            rules: rules.marked,
            barred: rules.barred,
            local: rules.local,
            table: self.table_in_force().await?,
            sysctls: sysctl::read(wanted),
            vxlan: vxlan::read(&self.handle, &links).await?,
            peers: Peers::default(),
        })
    }

    async fn table_in_force(&mut self) -> Result<Option<Guard>, KernelError> {
        let fresh = self.table_listed.is_some_and(|at| at.elapsed() < LIST_AGAIN);
        let changed = self.tables_changed.swap(false, Ordering::AcqRel);
        if fresh
            && !changed
            && let Some(guard) = self.table.installed()
        {
            return Ok(Some(guard));
        }
        let guard = self.table.read().await.inspect_err(|_| {
            self.tables_changed.store(true, Ordering::Release);
        })?;
        self.table_listed = guard.is_some().then(Instant::now);
        Ok(guard)
    }

    pub async fn pod_devices(&self) -> Result<PodDevices, KernelError> {
        Ok(link::list(&self.handle).await?.pod_devices())
    }

    /// What else packets may come in by.
    pub async fn foreign_devices(&self) -> Result<BTreeSet<String>, KernelError> {
        Ok(link::list(&self.handle).await?.foreign(&self.tun))
    }

    /// Which of these devices are there, and for each whether the node leaves by it.
    pub async fn present(
        &self,
        names: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, bool>, KernelError> {
        let links = link::list(&self.handle).await?;
        let ways_out = route::ways_out(&self.handle).await?;
        let there = names.iter().filter_map(|name| Some((name, links.by_name(name)?)));
        Ok(there.map(|(name, link)| (name.clone(), ways_out.contains(&link.index))).collect())
    }

    pub async fn replace_table(&mut self, guard: &Guard) -> Result<(), KernelError> {
        self.table.replace(guard).await
    }

    pub async fn add_route(&self, route: &Route) -> Result<(), KernelError> {
        let added = match self.index_of(route).await {
            Ok(device) => route::add(&self.handle, route, device).await,
            Err(error) => Err(error),
        };
        match added {
            // A pod may come and go between two looks; what is left to do, the next one shows.
            Err(error) if leads_to_pod(route) => {
                tracing::debug!(%error, "pod route not added");
                Ok(())
            }
            other => other,
        }
    }

    pub async fn remove_route(&self, route: &Route) -> Result<(), KernelError> {
        let device = self.index_of(route).await?;
        route::remove(&self.handle, route, device).await
    }

    pub async fn bar(&self, rule: &Barred) -> Result<(), KernelError> {
        rule::bar(&self.handle, rule).await
    }

    pub async fn unbar(&self, rule: &Barred) -> Result<(), KernelError> {
        rule::unbar(&self.handle, rule).await
    }

    pub async fn look_for_local_behind(&self, family: Family) -> Result<(), KernelError> {
        rule::move_local(&self.handle, family, (barred::FIRST, barred::BEHIND)).await
    }

    pub async fn add_rule(&self, rule: Rule) -> Result<(), KernelError> {
        rule::add(&self.handle, rule).await
    }

    pub async fn remove_rule(&self, rule: Rule) -> Result<(), KernelError> {
        rule::remove(&self.handle, rule).await
    }

    pub async fn add_address(&self, address: IpNet) -> Result<(), KernelError> {
        address::add(&self.handle, self.tunnel().await?, address).await
    }

    pub async fn remove_address(&self, address: IpNet) -> Result<(), KernelError> {
        address::remove(&self.handle, self.tunnel().await?, address).await
    }

    pub async fn set_mtu(&self, mtu: u16) -> Result<(), KernelError> {
        link::set_mtu(&self.handle, self.tunnel().await?, mtu).await
    }

    /// Prepares the tunnel device's IPv6 and sets it up.
    pub async fn set_up(&self) -> Result<(), KernelError> {
        sysctl::prepare_device(&self.tun, true)?;
        link::set_up(&self.handle, self.tunnel().await?).await
    }

    /// Makes the VXLAN device and its entries as wanted.
    pub async fn put_vxlan(&self, wanted: &Vxlan) -> Result<(), KernelError> {
        vxlan::put(&self.handle, wanted).await
    }

    pub async fn remove_vxlan(&self) -> Result<(), KernelError> {
        match link::index(&self.handle, VXLAN_DEVICE).await? {
            Some(index) => link::delete(&self.handle, index).await,
            None => Ok(()),
        }
    }

    /// Which of these addresses no router lies before, and the device that each is on.
    pub async fn on_link(
        &self,
        addresses: BTreeSet<IpAddr>,
    ) -> Result<BTreeMap<IpAddr, String>, KernelError> {
        let links = link::list(&self.handle).await?;
        let mut found = BTreeMap::new();
        for address in addresses {
            let device = route::link_to(&self.handle, address).await;
            if let Some(name) = device.and_then(|index| links.name_of(index))
                && self.is_foreign(name)
            {
                found.insert(address, name.to_owned());
            }
        }
        Ok(found)
    }

    /// Of these prefixes, which each device leads to by a route that is neither ours nor the default
    /// one.
    pub async fn networks(
        &self,
        announced: &[IpNet],
    ) -> Result<BTreeMap<String, BTreeSet<IpNet>>, KernelError> {
        let mut found: BTreeMap<String, BTreeSet<IpNet>> = BTreeMap::new();
        if announced.is_empty() {
            return Ok(found);
        }
        let links = link::list(&self.handle).await?;
        let table = route::others(&self.handle).await?;
        for prefix in announced {
            for index in route::leading(prefix, &table) {
                if let Some(name) = links.name_of(index).filter(|name| self.is_foreign(name)) {
                    found.entry(name.to_owned()).or_default().insert(*prefix);
                }
            }
        }
        Ok(found)
    }

    fn is_foreign(&self, name: &str) -> bool {
        name != self.tun
            && name != VXLAN_DEVICE
            && name != "lo"
            && !name.starts_with(POD_DEVICE_PREFIX)
    }

    /// Packets that the guard has dropped so far.
    pub fn blocked(&self) -> Blocked {
        self.table.blocked()
    }

    /// Takes away all that is ours in the kernel: the pods' devices, which nothing would guard any
    /// more, then the tunnel, the routes and the table.
    pub async fn remove_everything(&mut self) -> Result<(), KernelError> {
        for pod in self.pod_devices().await? {
            if let Some(index) = link::index(&self.handle, &pod).await? {
                link::delete(&self.handle, index).await?;
            }
        }
        let actual = self.read(&BTreeMap::new()).await?;
        let (guard, traffic): (Vec<_>, Vec<_>) =
            actual.routes.into_iter().partition(|route| route.target == Target::Unreachable);
        for route in traffic {
            self.remove_route(&route).await?;
        }
        for rule in actual.rules {
            self.remove_rule(rule).await?;
        }
        if actual.device.is_some() {
            link::delete(&self.handle, self.tunnel().await?).await?;
        }
        self.remove_vxlan().await?;
        self.let_in(&actual.barred, &actual.local).await?;
        for route in guard {
            self.remove_route(&route).await?;
        }
        self.table.remove().await
    }

    /// Takes the guard's rules away, and has local addresses looked for as the kernel does.
    async fn let_in(
        &self,
        barred: &BTreeSet<Barred>,
        local: &LocalLookups,
    ) -> Result<(), KernelError> {
        for rule in barred {
            self.unbar(rule).await?;
        }
        for (family, places) in local {
            if places.contains(&barred::BEHIND) {
                rule::move_local(&self.handle, *family, (barred::BEHIND, barred::FIRST)).await?;
            }
        }
        Ok(())
    }

    /// Whether nothing of ours is left but perhaps the table, which nobody else makes.
    pub async fn is_bare(&mut self) -> Result<bool, KernelError> {
        let actual = self.read(&BTreeMap::new()).await?;
        let links = link::list(&self.handle).await?;
        let devices = links.pod_devices().is_empty() && links.by_name(VXLAN_DEVICE).is_none();
        let rules = actual.rules.is_empty() && actual.barred.is_empty();
        Ok(devices && rules && actual.device.is_none() && actual.routes.is_empty())
    }

    async fn tunnel(&self) -> Result<u32, KernelError> {
        self.index(&self.tun).await
    }

    async fn index_of(&self, route: &Route) -> Result<Option<u32>, KernelError> {
        match &route.target {
            Target::Unreachable => Ok(None),
            Target::Device { name, .. }
            | Target::Via { device: name, .. }
            | Target::Probe { device: name, .. }
            | Target::Machine { name } => self.index(name).await.map(Some),
        }
    }

    async fn index(&self, name: &str) -> Result<u32, KernelError> {
        let index = link::index(&self.handle, name).await?;
        index.ok_or_else(|| KernelError::NoDevice(name.to_owned()))
    }
}

fn leads_to_pod(route: &Route) -> bool {
    match &route.target {
        Target::Device { name, .. } => name.starts_with(POD_DEVICE_PREFIX),
        Target::Via { .. }
        | Target::Probe { .. }
        | Target::Unreachable
        | Target::Machine { .. } => false,
    }
}

/// True if the plan's guard is in force in both layers.
pub fn guard_in_force(plan: &Plan, actual: &Actual) -> (bool, bool) {
    let unreachable = |prefix: &IpNet| {
        actual.routes.contains(&Route { prefix: *prefix, target: Target::Unreachable })
    };
    let routes = plan.guard.ranges.iter().all(unreachable);
    let asked = |rule: &Barred| barred::stands(&actual.local, Family::of(&rule.source));
    let barred = plan.barred.iter().all(|rule| actual.barred.contains(rule) && asked(rule));
    (routes && barred, actual.table.as_ref() == Some(&plan.guard))
}
