//! Which pod holds which address: files under `STATE/pods`, right after a crash at any step.
//!
//! A record is one file with several names (hard links): the attachment's device name, and every
//! address it holds. Since a name exists once, an address has one owner. Names are made and
//! removed under one lock, and a name `pending` tells what the last holder left unfinished:
//!
//! ```text
//! reserve   create pending ─▶ link 10.42.1.5 ─▶ link fd42:…:5 ─▶ rename pending to hwp…
//! release   rename hwp… to pending ─▶ remove 10.42.1.5 ─▶ remove fd42:…:5 ─▶ remove pending
//! recover   (pending is there)       remove the addresses that are its links, remove pending
//! ```
//! So both directions are finished by the same recovery, done by whoever takes the lock next.
//! Nothing is flushed: a power cut ends every pod too, so all that it may lose or garble is stale,
//! and [`Reservations::reclaim`] frees it. (Two flushes took up to 1.4 s of an ADD on a busy disk,
//! all the rest of it 4 ms.)
//!
//! Who works on an attachment keeps its record locked; a record whose holder lives is left alone.

mod disk;
#[cfg(test)]
mod faulty;
#[cfg(test)]
mod tests;

use std::{collections::HashSet, fmt::Write as _, io, net::IpAddr, path::Path};

use ipnet::IpNet;

use crate::{
    attachment::{Attachment, POD_DEVICE_PREFIX, PodRecord},
    subnet,
};
use disk::{Directory, Disk};

const PENDING: &str = "pending";
const LAST: &str = "last";

/// Why no address was reserved.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    #[error("interface {ifname} of container {container_id} is attached already; DEL comes first")]
    Attached { container_id: String, ifname: String },
    #[error("another call for this container is still running")]
    Busy,
    #[error("this node has no subnet yet")]
    NoSubnet,
    #[error(
        "every address of {subnets} is taken; is the garbage collected, or the subnet too small?"
    )]
    Exhausted { subnets: String },
    #[error("writing the reservation; is the state directory full or read-only?")]
    Io(#[from] io::Error),
}

/// What the kernel knows, so that leftovers can be told from what is in use.
pub struct InUse<'a> {
    /// Addresses that a pod device is routed for.
    pub addresses: HashSet<IpAddr>,
    /// Whether a device is there now. Asked while its record is held, so that no ADD can be
    /// between asking and answering.
    pub has_device: &'a dyn Fn(&str) -> io::Result<bool>,
}

/// A record together with the right to work on its attachment, given up when dropped.
#[derive(Debug)]
pub struct Reservation<H = std::fs::File> {
    /// None where the record exists and can't be read.
    pub record: Option<PodRecord>,
    name: String,
    _hold: H,
}

/// The reservations of one node.
#[derive(Debug)]
pub struct Reservations<D: Disk = Directory> {
    disk: D,
}

impl Reservations {
    /// Opens `STATE/pods`, making it where it is not there; STATE itself must exist.
    pub fn open(state: &Path) -> io::Result<Self> {
        Ok(Self { disk: Directory::open(&state.join("pods"))? })
    }

    /// Forgets all pods of a node whose pod devices are gone for good.
    pub fn remove_all(state: &Path) -> io::Result<()> {
        match std::fs::remove_dir_all(state.join("pods")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Every readable record, for whoever must know the pods and changes nothing.
    pub fn list(state: &Path) -> io::Result<Vec<PodRecord>> {
        let this = Self { disk: Directory::at(&state.join("pods")) };
        match this.records() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        }
    }
}

impl<D: Disk> Reservations<D> {
    /// Reserves one address of each family that `subnets` have, none of them in `avoid`.
    pub fn reserve(
        &self,
        who: &Attachment,
        network: &str,
        subnets: &[IpNet],
        avoid: &HashSet<IpAddr>,
    ) -> Result<Reservation<D::Hold>, ReserveError> {
        let name = who.host_device();
        let _section = self.disk.enter()?;
        self.recover()?;
        if self.disk.exists(&name)? {
            return Err(self.why_taken(&name, who)?);
        }
        let record = PodRecord {
            version: PodRecord::VERSION,
            network: network.to_owned(),
            container_id: who.container_id.clone(),
            ifname: who.ifname.clone(),
            host_device: name.clone(),
            addresses: self.choose(subnets, avoid)?,
        };
        match self.commit(&record) {
            Ok(hold) => Ok(Reservation { record: Some(record), name, _hold: hold }),
            Err(error) => {
                // Takes back the names made so far; the first error is the one to tell.
                let _ = self.recover();
                Err(error.into())
            }
        }
    }

    /// Takes hold of an attachment's record. None: there is no such attachment.
    pub fn hold(&self, who: &Attachment) -> io::Result<Option<Reservation<D::Hold>>> {
        self.hold_name(&who.host_device(), true)
    }

    /// The same, but None also while somebody else works on it.
    pub fn try_hold(&self, who: &Attachment) -> io::Result<Option<Reservation<D::Hold>>> {
        self.hold_name(&who.host_device(), false)
    }

    /// Frees what a held record reserved.
    pub fn release(&self, reservation: Reservation<D::Hold>) -> io::Result<()> {
        let _section = self.disk.enter()?;
        self.recover()?;
        if self.disk.exists(&reservation.name)? {
            self.disk.rename(&reservation.name, PENDING)?;
            self.recover()?;
        }
        Ok(())
    }

    /// Frees what nobody can be using: records without a device, names that crashes, power cuts
    /// or other programs left over. Gives the number of names removed.
    pub fn reclaim(&self, in_use: &InUse<'_>) -> io::Result<usize> {
        let mut removed = 0;
        for name in self.disk.names()? {
            if !name.starts_with(POD_DEVICE_PREFIX) {
                continue;
            }
            let Some(held) = self.hold_name(&name, false)? else {
                continue;
            };
            if !(in_use.has_device)(&name)? {
                self.release(held)?;
                removed += 1;
            }
        }
        Ok(removed + self.remove_orphans(in_use)?)
    }

    pub fn records(&self) -> io::Result<Vec<PodRecord>> {
        let names = self.disk.names()?;
        let devices = names.iter().filter(|name| name.starts_with(POD_DEVICE_PREFIX));
        Ok(devices.filter_map(|name| self.record(name)).collect())
    }

    /// Whether a further pod would find an address of each family.
    pub fn has_room(&self, subnets: &[IpNet]) -> io::Result<bool> {
        let taken: HashSet<IpAddr> =
            self.disk.names()?.iter().filter_map(|name| name.parse().ok()).collect();
        let room = |subnet: &IpNet| {
            let used = taken.iter().filter(|address| subnet.contains(*address)).count();
            (used as u128) < subnet::capacity(subnet)
        };
        Ok(families(subnets).iter().all(|family| family.iter().any(room)))
    }

    fn why_taken(&self, name: &str, who: &Attachment) -> io::Result<ReserveError> {
        let busy = self.disk.hold(name, false)?.is_none();
        let Attachment { container_id, ifname } = who.clone();
        Ok(if busy { ReserveError::Busy } else { ReserveError::Attached { container_id, ifname } })
    }

    /// Everything up to the rename can be taken back; the rename makes it so.
    fn commit(&self, record: &PodRecord) -> io::Result<D::Hold> {
        let hold = self.disk.create(PENDING, &serde_json::to_vec(record)?)?;
        for address in &record.addresses {
            self.disk.link(PENDING, &address.to_string())?;
        }
        self.disk.rename(PENDING, &record.host_device)?;
        self.remember(&record.addresses);
        Ok(hold)
    }

    fn choose(
        &self,
        subnets: &[IpNet],
        avoid: &HashSet<IpAddr>,
    ) -> Result<Vec<IpAddr>, ReserveError> {
        let last = self.remembered();
        let mut chosen = Vec::new();
        for family in families(subnets) {
            let Some(address) = self.first_free(&family, &last, avoid)? else {
                let subnets: Vec<_> = family.iter().map(IpNet::to_string).collect();
                return Err(ReserveError::Exhausted { subnets: subnets.join(", ") });
            };
            chosen.push(address);
        }
        if chosen.is_empty() { Err(ReserveError::NoSubnet) } else { Ok(chosen) }
    }

    fn first_free(
        &self,
        family: &[IpNet],
        last: &[IpAddr],
        avoid: &HashSet<IpAddr>,
    ) -> io::Result<Option<IpAddr>> {
        for subnet in family {
            let last = last.iter().copied().find(|last| subnet.contains(last));
            for address in subnet::candidates(subnet, last) {
                if !avoid.contains(&address) && !self.disk.exists(&address.to_string())? {
                    return Ok(Some(address));
                }
            }
        }
        Ok(None)
    }

    /// Finishes what the lock's last holder began: see the picture above.
    fn recover(&self) -> io::Result<()> {
        if !self.disk.exists(PENDING)? {
            return Ok(());
        }
        let pending = self.disk.read(PENDING)?;
        let addresses = match serde_json::from_slice::<PodRecord>(&pending) {
            Ok(record) => record.addresses.iter().map(IpAddr::to_string).collect(),
            Err(_) => self.addresses()?,
        };
        for address in addresses {
            if self.disk.exists(&address)? && self.is_of(&address, &pending)? {
                self.disk.remove(&address)?;
            }
        }
        self.disk.remove(PENDING)
    }

    /// A link to the pending file, or (where the state was copied) of the same readable text.
    fn is_of(&self, address: &str, pending: &[u8]) -> io::Result<bool> {
        let readable = serde_json::from_slice::<PodRecord>(pending).is_ok();
        Ok(self.disk.same(address, PENDING)? || (readable && self.disk.read(address)? == pending))
    }

    /// Removes the addresses that no record names, except those with a route to a pod.
    fn remove_orphans(&self, in_use: &InUse<'_>) -> io::Result<usize> {
        let _section = self.disk.enter()?;
        self.recover()?;
        let owned: HashSet<IpAddr> =
            self.records()?.into_iter().flat_map(|record| record.addresses).collect();
        let mut removed = 0;
        for name in self.addresses()? {
            let Ok(address) = name.parse() else { continue };
            if owned.contains(&address) || in_use.addresses.contains(&address) {
                continue;
            }
            if !self.belongs_to_a_damaged_record(&name)? {
                self.disk.remove(&name)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// A record that can't be read still owns its links.
    fn belongs_to_a_damaged_record(&self, address: &str) -> io::Result<bool> {
        for name in self.disk.names()? {
            if name.starts_with(POD_DEVICE_PREFIX) && self.disk.same(&name, address)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn hold_name(&self, name: &str, wait: bool) -> io::Result<Option<Reservation<D::Hold>>> {
        let hold = match self.disk.hold(name, wait) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let Some(hold) = hold else { return Ok(None) };
        Ok(Some(Reservation { record: self.record(name), name: name.to_owned(), _hold: hold }))
    }

    fn record(&self, name: &str) -> Option<PodRecord> {
        serde_json::from_slice(&self.disk.read(name).ok()?).ok()
    }

    /// The names that are addresses, in the one form that we write.
    fn addresses(&self) -> io::Result<Vec<String>> {
        let mut names = self.disk.names()?;
        names.retain(|name| name.parse().is_ok_and(|a: IpAddr| a.to_string() == *name));
        Ok(names)
    }

    fn remembered(&self) -> Vec<IpAddr> {
        let text = self.disk.read(LAST).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Notes where the next walk starts. Losing it costs an address its rest, no more.
    fn remember(&self, addresses: &[IpAddr]) {
        let mut text = String::new();
        for address in addresses {
            writeln!(text, "{address}").expect("a String takes all");
        }
        let _ = self.disk.overwrite(LAST, text.as_bytes());
    }
}

/// The subnets by family, without empty ones.
fn families(subnets: &[IpNet]) -> Vec<Vec<IpNet>> {
    let (v4, v6): (Vec<IpNet>, _) =
        subnets.iter().partition(|subnet| matches!(subnet, IpNet::V4(_)));
    [v4, v6].into_iter().filter(|family| !family.is_empty()).collect()
}
