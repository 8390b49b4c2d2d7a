//! What is taken: a set of blocks of any size that answers "does this overlap" in logarithmic time.
//!
//! Blocks are aligned, so two overlap exactly when one holds the other: either an entry starts
//! inside the block asked for, or one of the few prefix lengths in use has an entry around it.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::pools::{Family, Pool};

/// Why a block is not free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Taken {
    /// A claim holds it, or is about to.
    claimed: bool,
    /// Specs name it.
    named: Named,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Named {
    #[default]
    Nowhere,
    /// In the spec of this node (an index) alone, for which the block is free.
    By(usize),
    BySeveral,
}

#[derive(Default)]
pub(super) struct Occupied {
    blocks: BTreeMap<(Family, u128, u8), Taken>,
    /// The few prefix lengths in use.
    lengths: Vec<(Family, u8)>,
}

impl Occupied {
    pub(super) fn claim(&mut self, block: &IpNet) {
        self.entry(block).claimed = true;
    }

    pub(super) fn name(&mut self, block: &IpNet, node: usize) {
        let named = &mut self.entry(block).named;
        *named = match *named {
            Named::Nowhere => Named::By(node),
            Named::By(other) if other == node => Named::By(node),
            Named::By(_) | Named::BySeveral => Named::BySeveral,
        };
    }

    fn entry(&mut self, block: &IpNet) -> &mut Taken {
        let key = key(block);
        if !self.lengths.contains(&(key.0, key.2)) {
            self.lengths.push((key.0, key.2));
        }
        self.blocks.entry(key).or_default()
    }

    /// Whether `node` may have `block`.
    pub(super) fn is_free_for(&self, block: &IpNet, node: usize) -> bool {
        (self.overlapping(block)).all(|(_, taken)| !taken.claimed && taken.is_named_by(node))
    }

    /// Whether `block`, which `node` has claimed, collides with no other claim or spec.
    pub(super) fn stands_alone(&self, block: &IpNet, node: usize) -> bool {
        let claims = self.overlapping(block).filter(|(_, taken)| taken.claimed);
        claims.count() == 1 && self.overlapping(block).all(|(_, taken)| taken.is_named_by(node))
    }

    /// The first block of `pool` at or after `cursor` that nobody has; the cursor moves past it.
    pub(super) fn next_free(&self, pool: &Pool, cursor: &mut Option<u128>) -> Option<IpNet> {
        let (first, end) = range(&pool.cidr);
        let step = 1u128
            .checked_shl(u32::from(pool.cidr.max_prefix_len() - pool.node_prefix))
            .unwrap_or(u128::MAX);
        let mut start = cursor.unwrap_or(first);
        while start <= end {
            let block = block_at(pool, start);
            match self.overlapping(&block).map(|(end, _)| end).max() {
                None => {
                    *cursor = Some(start.saturating_add(step));
                    return Some(block);
                }
                // The next block that starts after what is in the way.
                Some(until) => {
                    let beyond = (until.max(range(&block).1) - first).checked_div(step)?;
                    start = first.checked_add(beyond.checked_add(1)?.checked_mul(step)?)?;
                }
            }
        }
        *cursor = Some(start);
        None
    }

    fn overlapping(&self, block: &IpNet) -> impl Iterator<Item = (u128, Taken)> + '_ {
        let (family, start, length) = key(block);
        let end = range(block).1;
        let inside = self
            .blocks
            .range((family, start, length)..=(family, end, u8::MAX))
            .map(|(key, taken)| (last_of(*key), *taken));
        let around = (self.lengths.iter())
            .filter(move |(of, shorter)| *of == family && *shorter < length)
            .filter_map(move |(_, shorter)| {
                let key = (family, mask(family, start, *shorter), *shorter);
                self.blocks.get(&key).map(|taken| (last_of(key), *taken))
            });
        around.chain(inside)
    }
}

impl Taken {
    /// By this node alone, or by none.
    fn is_named_by(self, node: usize) -> bool {
        match self.named {
            Named::Nowhere => true,
            Named::By(other) => other == node,
            Named::BySeveral => false,
        }
    }
}

fn key(block: &IpNet) -> (Family, u128, u8) {
    (Family::of(block), range(block).0, block.prefix_len())
}

/// First and last address of a block as numbers.
fn range(block: &IpNet) -> (u128, u128) {
    match block {
        IpNet::V4(net) => {
            (u128::from(u32::from(net.network())), u128::from(u32::from(net.broadcast())))
        }
        IpNet::V6(net) => (u128::from(net.network()), u128::from(net.broadcast())),
    }
}

fn width(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

fn host_mask(family: Family, length: u8) -> u128 {
    let bits = u32::from(width(family).saturating_sub(length));
    1u128.checked_shl(bits).map_or(u128::MAX, |bit| bit - 1)
}

fn mask(family: Family, address: u128, length: u8) -> u128 {
    address & !host_mask(family, length)
}

fn last_of((family, start, length): (Family, u128, u8)) -> u128 {
    start | host_mask(family, length)
}

fn block_at(pool: &Pool, start: u128) -> IpNet {
    match pool.cidr {
        IpNet::V4(_) => {
            let start = u32::try_from(start).expect("a block of an IPv4 pool starts below 2^32");
            IpNet::V4(Ipv4Net::new_assert(start.into(), pool.node_prefix))
        }
        IpNet::V6(_) => IpNet::V6(Ipv6Net::new_assert(start.into(), pool.node_prefix)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn pool(cidr: &str, node_prefix: u8) -> Pool {
        Pool { cidr: net(cidr), node_prefix }
    }

    #[test]
    fn the_lowest_free_block_comes_first() {
        let mut taken = Occupied::default();
        taken.claim(&net("10.42.0.0/24"));

        let free = taken.next_free(&pool("10.42.0.0/22", 24), &mut None);

        assert_eq!(free, Some(net("10.42.1.0/24")));
    }

    #[test]
    fn a_block_inside_or_around_another_is_not_free() {
        let mut taken = Occupied::default();
        taken.claim(&net("10.42.0.64/26"));
        taken.claim(&net("10.42.2.0/23"));

        let mut cursor = None;
        let pool = pool("10.42.0.0/22", 24);

        assert_eq!(taken.next_free(&pool, &mut cursor), Some(net("10.42.1.0/24")));
        assert_eq!(taken.next_free(&pool, &mut cursor), None);
    }

    #[test]
    fn the_edges_of_the_address_space_hold() {
        let taken = Occupied::default();
        let whole = pool("200.0.0.0/8", 8);
        let last = pool("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", 128);

        let (mut a, mut b) = (None, None);

        assert_eq!(taken.next_free(&whole, &mut a), Some(net("200.0.0.0/8")));
        assert_eq!(taken.next_free(&whole, &mut a), None);
        assert!(taken.next_free(&last, &mut b).is_some());
        assert_eq!(taken.next_free(&last, &mut b), None);
    }

    #[test]
    fn a_huge_pool_is_not_walked() {
        let mut taken = Occupied::default();
        taken.claim(&net("fd00::/9"));

        let free = taken.next_free(&pool("fd00::/8", 127), &mut None);

        assert_eq!(free, Some(net("fd80::/127")));
    }

    #[test]
    fn what_one_node_had_is_free_for_it_alone() {
        let mut taken = Occupied::default();
        taken.name(&net("10.42.7.0/24"), 3);

        assert!(taken.is_free_for(&net("10.42.7.0/24"), 3));
        assert!(!taken.is_free_for(&net("10.42.7.0/24"), 4));

        taken.name(&net("10.42.7.0/24"), 4);
        assert!(!taken.is_free_for(&net("10.42.7.0/24"), 3));
    }

    #[test]
    fn a_claim_stands_alone_until_another_overlaps_it_or_a_spec_names_it() {
        let block = net("10.42.7.0/24");
        let mut taken = Occupied::default();
        taken.claim(&block);
        taken.name(&block, 3);

        assert!(taken.stands_alone(&block, 3));
        assert!(!taken.stands_alone(&block, 4));

        taken.claim(&net("10.42.7.128/25"));
        assert!(!taken.stands_alone(&block, 3));
    }
}
