//! Which of a mesh's pools subnets may come from, and what is wrong with the others.
//!
//! A pool that is refused gives out nothing new; what was given out from it stays. Of two pools
//! that overlap the one named first stands.

use std::fmt;
use std::net::IpAddr;

use api::is_unicast;
pub use api::overlap;
use ipnet::IpNet;
use thiserror::Error;

/// A range from which each node gets one aligned block of a fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub cidr: IpNet,
    pub node_prefix: u8,
}

/// An IP family. A node gets one subnet in each that the pools cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

/// Why nothing is given out from a pool.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PoolProblem {
    #[error("pool {0:?} is not a network in CIDR notation")]
    Malformed(String),
    #[error("pool {pool} has host bits set; write {network}")]
    HostBits { pool: IpNet, network: IpNet },
    #[error("pool {0} is the whole address space")]
    Everything(IpNet),
    #[error("pool {0} is loopback, link-local, multicast, unspecified or IPv4-mapped space")]
    NotUnicast(IpNet),
    #[error(
        "pool {pool} cannot be cut into /{node_prefix}: choose a nodePrefixLength from {least} to {most}"
    )]
    NodePrefix { pool: IpNet, node_prefix: u8, least: u8, most: u8 },
    #[error("pool {pool} overlaps pool {with}, which is named before it")]
    Overlap { pool: IpNet, with: IpNet },
    #[error("pool {pool} overlaps the service range {service}")]
    CoversServices { pool: IpNet, service: IpNet },
    #[error("service range {0:?} is not a network in CIDR notation")]
    MalformedServices(String),
}

/// The verdict over all pools of a mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pools {
    pub usable: Vec<Pool>,
    pub problems: Vec<PoolProblem>,
}

impl Pools {
    /// Judges `pools` (text and node prefix length) beside the cluster's service ranges.
    pub fn judge<'a>(
        pools: impl IntoIterator<Item = (&'a str, u8)>,
        services: impl IntoIterator<Item = &'a str>,
    ) -> Pools {
        let mut out = Pools::default();
        let mut ranges = Vec::new();
        for text in services {
            match text.parse::<IpNet>() {
                Ok(range) => ranges.push(range.trunc()),
                Err(_) => out.problems.push(PoolProblem::MalformedServices(clip(text))),
            }
        }
        let mut named = Vec::new();
        for (text, node_prefix) in pools {
            match judge_one(text, node_prefix, &named, &ranges) {
                Ok(pool) => {
                    named.push(pool.cidr);
                    out.usable.push(pool);
                }
                Err(problem) => out.problems.push(problem),
            }
        }
        out
    }
}

fn judge_one(
    text: &str,
    node_prefix: u8,
    named: &[IpNet],
    services: &[IpNet],
) -> Result<Pool, PoolProblem> {
    let pool: IpNet = text.parse().map_err(|_| PoolProblem::Malformed(clip(text)))?;
    let network = pool.trunc();
    if network != pool {
        return Err(PoolProblem::HostBits { pool, network });
    }
    if pool.prefix_len() == 0 {
        return Err(PoolProblem::Everything(pool));
    }
    if !is_unicast(&pool) {
        return Err(PoolProblem::NotUnicast(pool));
    }
    let (least, most) = (pool.prefix_len(), pool.max_prefix_len());
    if node_prefix < least || node_prefix > most {
        return Err(PoolProblem::NodePrefix { pool, node_prefix, least, most });
    }
    if let Some(with) = named.iter().find(|other| overlap(other, &pool)) {
        return Err(PoolProblem::Overlap { pool, with: *with });
    }
    if let Some(service) = services.iter().find(|range| overlap(range, &pool)) {
        return Err(PoolProblem::CoversServices { pool, service: *service });
    }
    Ok(Pool { cidr: pool, node_prefix })
}

impl Pool {
    pub fn family(&self) -> Family {
        Family::of(&self.cidr)
    }

    /// Whether `subnet` is one of the blocks that this pool is cut into.
    pub fn has_block(&self, subnet: &IpNet) -> bool {
        subnet.prefix_len() == self.node_prefix && self.cidr.contains(subnet)
    }

    pub fn covers(&self, address: &IpAddr) -> bool {
        self.cidr.contains(address)
    }

    /// How many blocks there are, at most `u64::MAX`.
    pub fn blocks(&self) -> u64 {
        let bits = u32::from(self.node_prefix - self.cidr.prefix_len());
        1u64.checked_shl(bits).unwrap_or(u64::MAX)
    }
}

impl Family {
    pub fn of(net: &IpNet) -> Family {
        match net {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// Somebody else's text, short enough for a message.
fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}
