//! What the agent tells the CNI plugin, which addresses the plugin gave out, and the plugin itself.
//!
//! ```text
//! hawser-agent ── writes ──▶ STATE/node.json ── read by ──▶ hawser-cni (ADD, STATUS)
//!      ▲                                                       │
//!      └───── Reservations::list ◀── STATE/pods/ ◀── writes ───┘
//! ```
//! The two programs share files and never talk, so pods come and go while the agent restarts.
//!
//! Behind another plugin (`"chained": true`) ours gives no address and makes no device: it checks
//! theirs, and leaves the device's name in `STATE/devices/` until node.json says that the guard
//! knows it.

#![forbid(unsafe_code)]

mod attachment;
mod device_records;
mod durable;
mod kernel;
mod node_file;
mod plugin;
mod protocol;
mod reservations;
mod subnet;

pub use attachment::{Attachment, POD_DEVICE_PREFIX, PodRecord};
pub use device_records::DeviceRecords;
pub use kernel::SOURCE_NAT_CHAIN;
pub use node_file::{NodeFile, NodeFileError};
pub use plugin::{Answer, call};
pub use reservations::{InUse, Reservation, Reservations, ReserveError};
pub use subnet::node_address;
