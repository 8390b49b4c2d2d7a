//! One pod's place in the mesh: who it is, what it was given, and how its devices are called.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Every pod device on the node's side starts with this; the agent's guard relies on it.
pub const POD_DEVICE_PREFIX: &str = "hwp";

/// What CNI calls an attachment: an interface of a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attachment {
    pub container_id: String,
    pub ifname: String,
}

/// A MAC address.
pub(crate) type Mac = [u8; 6];

impl Attachment {
    pub fn new(container_id: impl Into<String>, ifname: impl Into<String>) -> Self {
        Self { container_id: container_id.into(), ifname: ifname.into() }
    }

    /// The name of the device on the node's side, and of the record: the prefix and 48 bits of
    /// SHA-256, 15 characters, the most that Linux permits.
    pub fn host_device(&self) -> String {
        let digest = self.digest();
        let hash: String = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{POD_DEVICE_PREFIX}{hash}")
    }

    /// Both MAC addresses (node's side, pod's side), locally administered. They are set when the
    /// devices are made: udev leaves such a device's address alone.
    pub(crate) fn macs(&self) -> (Mac, Mac) {
        let digest = self.digest();
        let mac = |last: u8| [0x0a, digest[6], digest[7], digest[8], digest[9], last];
        (mac(digest[10] & 0xfe), mac(digest[10] | 0x01))
    }

    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.container_id.as_bytes());
        hash.update([0]);
        hash.update(self.ifname.as_bytes());
        hash.finalize().into()
    }
}

/// What one attachment holds; a file of `STATE/pods/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRecord {
    /// The form of this record.
    pub version: u32,
    /// The CNI network's name: garbage collection is per network.
    pub network: String,
    pub container_id: String,
    pub ifname: String,
    pub host_device: String,
    /// At most one of each family.
    pub addresses: Vec<IpAddr>,
}

impl PodRecord {
    pub const VERSION: u32 = 1;

    pub fn attachment(&self) -> Attachment {
        Attachment::new(&self.container_id, &self.ifname)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_name_fits_linux_and_never_changes() {
        let name = Attachment::new("c".repeat(64), "eth0").host_device();

        assert_eq!(name.len(), 15);
        assert_eq!(name, Attachment::new("c".repeat(64), "eth0").host_device());
        assert_ne!(name, Attachment::new("c".repeat(64), "eth1").host_device());
        assert_ne!(
            Attachment::new("ab", "c").host_device(),
            Attachment::new("a", "bc").host_device()
        );
    }

    #[test]
    fn the_two_macs_differ_and_are_local_unicast() {
        let (host, pod) = Attachment::new("c1", "eth0").macs();

        assert_ne!(host, pod);
        for mac in [host, pod] {
            assert_eq!(mac[0] & 0b11, 0b10, "local, unicast");
        }
    }
}
