//! What the plugin asks of Linux: veth pairs, addresses, routes, neighbours, sysctls.
//!
//! One blocking netlink socket a namespace and no runtime: a call lives for milliseconds. Several
//! requests go in one datagram, since the kernel works through it and answers each.

mod guard;
mod message;
mod namespace;
mod netlink;
mod nft;
mod sysctl;
mod veth;

pub(crate) use guard::{routed_addresses, unguarded, ways_out};
pub(crate) use namespace::{Namespace, NamespaceError};
pub(crate) use netlink::Netlink;
pub use nft::SOURCE_NAT_CHAIN;
pub(crate) use nft::{GUARD, missing_chains};
pub(crate) use veth::{CreateError, Pair, gateway};
