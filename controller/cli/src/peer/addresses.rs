//! Single addresses for plain peers, out of blocks that are claimed for that. Pure.
//!
//! A block's claim lists what is taken of it, and is written under the version that was read: so no
//! address is given out twice, whoever asks at the same time. Nodes get none of a block, because
//! its claim has the block's name.

use std::net::IpAddr;

use api::{AddressOf, Pool, SubnetClaim, SubnetClaimSpec, claim_name};
use ipnet::IpNet;

/// Marks a block that single addresses come out of.
pub const PURPOSE: (&str, &str) = ("hawser.dev/purpose", "addresses");
/// As many as a claim lists.
const MOST: usize = 250;
/// How many blocks, and addresses in a block, are looked at.
const TRIES: u32 = 4096;

/// The next write for one pool.
#[derive(Debug)]
pub enum Step {
    /// A block is needed: the claim to create.
    Claim(Box<SubnetClaim>),
    /// An address is free: the claim as it is after taking it.
    Take(Box<SubnetClaim>, IpAddr),
    /// The pool has no block left, or is cut into blocks too small for this.
    Full,
}

/// What to write so that `peer` gets an address of `pool`. `taken`: what others have, claim or not,
/// such as nodes' subnets and peers that somebody wrote by hand.
pub fn next(pool: &Pool, claims: &[SubnetClaim], peer: &str, taken: &[IpNet]) -> Step {
    let Ok(cidr) = api::parse_prefix(&pool.cidr) else {
        return Step::Full;
    };
    for claim in claims.iter().filter(|claim| is_block(claim, &cidr)) {
        let Some(address) = free_in(claim, taken) else { continue };
        let mut claim = claim.clone();
        let entry = AddressOf { address: address.to_string(), peer: peer.to_owned() };
        claim.spec.addresses.push(entry);
        return Step::Take(Box::new(claim), address);
    }
    match free_block(&cidr, pool.node_prefix_length, claims, taken) {
        Some(block) => Step::Claim(Box::new(block_claim(&block))),
        None => Step::Full,
    }
}

/// Those of `claims` that list an address of `peer`'s which `gone` says is no longer its, without
/// it.
pub fn without(
    claims: &[SubnetClaim],
    peer: &str,
    gone: impl Fn(IpAddr) -> bool,
) -> Vec<SubnetClaim> {
    let is_gone = |one: &AddressOf| one.peer == peer && one.address.parse().is_ok_and(&gone);
    let listing = claims.iter().filter(|claim| claim.spec.addresses.iter().any(is_gone));
    let mut changed: Vec<SubnetClaim> = listing.cloned().collect();
    for claim in &mut changed {
        claim.spec.addresses.retain(|one| !is_gone(one));
    }
    changed
}

/// True if a claim lists `address` as `peer`'s.
pub fn is_held(claims: &[SubnetClaim], peer: &str, address: IpAddr) -> bool {
    let mut listed = claims.iter().flat_map(|claim| &claim.spec.addresses);
    listed.any(|one| one.peer == peer && one.address.parse() == Ok(address))
}

fn is_block(claim: &SubnetClaim, pool: &IpNet) -> bool {
    let labels = claim.metadata.labels.as_ref();
    let marked = labels.and_then(|labels| labels.get(PURPOSE.0)).is_some_and(|p| p == PURPOSE.1);
    let inside = subnet(claim).is_some_and(|subnet| pool.contains(&subnet));
    marked && inside && claim.spec.node.is_none() && claim.spec.released_at.is_none()
}

/// None where the name stands for another subnet: then it proves nothing.
fn subnet(claim: &SubnetClaim) -> Option<IpNet> {
    let subnet: IpNet = claim.spec.subnet.parse().ok()?;
    (claim.metadata.name.as_deref() == Some(&claim_name(&subnet))).then_some(subnet)
}

/// Above all that were given out, while there is room: an address is not soon somebody else's.
fn free_in(claim: &SubnetClaim, taken: &[IpNet]) -> Option<IpAddr> {
    let block = subnet(claim)?;
    if claim.spec.addresses.len() >= MOST {
        return None;
    }
    let listed = claim.spec.addresses.iter().filter_map(|one| one.address.parse().ok());
    let listed: Vec<IpAddr> = listed.filter(|at| block.contains(at)).collect();
    let used = |at: &IpAddr| listed.contains(at) || taken.iter().any(|net| net.contains(at));
    let offset = listed.iter().map(|at| number(*at) - number(block.network())).max().unwrap_or(1);
    let size = number(block.broadcast()) - number(block.network());
    let above = offset + 1..size.min(offset + 1 + u128::from(TRIES));
    let below = 2..=offset.min(u128::from(TRIES));
    above.chain(below).map(|at| of(number(block.network()) + at, &block)).find(|at| !used(at))
}

/// Nodes are numbered from the bottom of a pool, so this goes down from the top.
fn free_block(pool: &IpNet, length: u8, claims: &[SubnetClaim], taken: &[IpNet]) -> Option<IpNet> {
    let bits = pool.max_prefix_len().checked_sub(length).filter(|bits| (2..128).contains(bits))?;
    let step = 1u128 << bits;
    let claimed: Vec<IpNet> = claims.iter().filter_map(|c| c.spec.subnet.parse().ok()).collect();
    let clash = |block: &IpNet| {
        let overlaps = |net: &IpNet| net.contains(block) || block.contains(net);
        claimed.iter().chain(taken).any(overlaps)
    };
    let last = number(pool.broadcast()) & !(step - 1);
    let starts = (0..TRIES).map_while(|at| last.checked_sub(u128::from(at) * step));
    let starts = starts.take_while(|start| *start >= number(pool.network()));
    let mut blocks = starts.filter_map(|start| IpNet::new(of(start, pool), length).ok());
    blocks.find(|block| !clash(block))
}

fn block_claim(block: &IpNet) -> SubnetClaim {
    let spec = SubnetClaimSpec {
        subnet: block.to_string(),
        generation: 1,
        node: None,
        node_uid: None,
        released_at: None,
        addresses: Vec::new(),
    };
    let mut claim = SubnetClaim::new(&claim_name(block), spec);
    let (key, value) = PURPOSE;
    claim.metadata.labels = Some([(key.to_owned(), value.to_owned())].into());
    claim
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The address of that number, in the family of `net`.
fn of(number: u128, net: &IpNet) -> IpAddr {
    match (net, u32::try_from(number)) {
        (IpNet::V4(_), Ok(number)) => IpAddr::V4(number.into()),
        _ => IpAddr::V6(number.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(cidr: &str, node_prefix_length: u8) -> Pool {
        Pool { cidr: cidr.to_owned(), node_prefix_length, name: None }
    }

    fn block(net: &str) -> SubnetClaim {
        block_claim(&net.parse().unwrap())
    }

    fn take(pool: &Pool, claims: &mut Vec<SubnetClaim>, peer: &str) -> Option<String> {
        match next(pool, claims, peer, &[]) {
            Step::Take(claim, address) => {
                claims.retain(|one| one.spec.subnet != claim.spec.subnet);
                claims.push(*claim);
                Some(address.to_string())
            }
            Step::Claim(claim) => {
                claims.push(*claim);
                take(pool, claims, peer)
            }
            Step::Full => None,
        }
    }

    #[test]
    fn the_first_peer_makes_a_block_at_the_top_of_each_pool() {
        let claimed = |cidr, length| match next(&pool(cidr, length), &[], "laptop", &[]) {
            Step::Claim(claim) => claim.spec.subnet,
            other => panic!("{other:?}"),
        };

        assert_eq!(claimed("10.42.0.0/16", 24), "10.42.255.0/24");
        assert_eq!(claimed("fd42::/48", 64), "fd42:0:0:ffff::/64");
    }

    #[test]
    fn peers_get_one_address_after_the_other_and_a_free_one_is_not_soon_reused() {
        let pool = pool("10.42.0.0/16", 24);
        let mut claims = vec![block("10.42.255.0/24")];

        assert_eq!(take(&pool, &mut claims, "a").unwrap(), "10.42.255.2");
        assert_eq!(take(&pool, &mut claims, "b").unwrap(), "10.42.255.3");
        claims = without(&claims, "a", |_| true);
        assert_eq!(claims.len(), 1);
        assert_eq!(take(&pool, &mut claims, "c").unwrap(), "10.42.255.4");
    }

    #[test]
    fn only_the_address_that_is_gone_is_given_back() {
        let pool = pool("10.42.0.0/16", 24);
        let mut claims = vec![block("10.42.255.0/24")];
        let first: IpAddr = take(&pool, &mut claims, "a").unwrap().parse().unwrap();
        let second: IpAddr = take(&pool, &mut claims, "a").unwrap().parse().unwrap();

        let claims = without(&claims, "a", |at| at == second);

        assert!(is_held(&claims, "a", first) && !is_held(&claims, "a", second));
        assert!(!is_held(&claims, "b", first));
        assert!(without(&claims, "b", |_| true).is_empty(), "nothing to write");
    }

    #[test]
    fn no_address_is_given_out_twice_until_the_block_is_full_and_then_another_is_claimed() {
        let pool = pool("10.42.0.0/22", 24);
        let mut claims = Vec::new();
        let mut all = std::collections::BTreeSet::new();

        for number in 0..300 {
            let address = take(&pool, &mut claims, &format!("p{number}")).unwrap();
            assert!(all.insert(address.clone()), "{address} twice");
        }

        let mut blocks: Vec<_> = claims.iter().map(|claim| claim.spec.subnet.as_str()).collect();
        blocks.sort_unstable();
        assert_eq!(blocks, ["10.42.2.0/24", "10.42.3.0/24"]);
        assert!(!all.contains("10.42.3.255") && !all.contains("10.42.3.0"));
    }

    #[test]
    fn a_block_that_wrapped_fills_its_gaps() {
        let pool = pool("10.42.0.0/29", 29);
        let mut claims = Vec::new();
        let given: Vec<_> = (0..5).map(|_| take(&pool, &mut claims, "a").unwrap()).collect();
        assert_eq!(given.last().unwrap(), "10.42.0.6");
        assert_eq!(take(&pool, &mut claims, "b"), None);

        claims = without(&claims, "a", |at| at.to_string() == "10.42.0.3");

        assert_eq!(take(&pool, &mut claims, "b").unwrap(), "10.42.0.3");
    }

    #[test]
    fn what_nodes_and_others_have_is_stepped_over() {
        let small = pool("10.42.0.0/23", 24);
        let node = vec!["10.42.1.0/24".parse().unwrap()];
        let Step::Claim(claim) = next(&small, &[], "a", &node) else { panic!("no block") };
        assert_eq!(claim.spec.subnet, "10.42.0.0/24");

        let other = vec!["10.42.0.2/32".parse().unwrap()];
        let Step::Take(_, address) = next(&small, &[*claim], "a", &other) else { panic!("none") };
        assert_eq!(address.to_string(), "10.42.0.3");
        let full: Vec<IpNet> = vec!["10.42.0.0/23".parse().unwrap()];
        assert!(matches!(next(&small, &[], "a", &full), Step::Full));
    }

    #[test]
    fn a_claim_that_proves_nothing_and_an_address_from_elsewhere_do_no_harm() {
        let pool = pool("10.42.0.0/16", 24);
        let mut named_otherwise = block("10.42.255.0/24");
        named_otherwise.metadata.name = Some("mine".into());
        let Step::Claim(claim) = next(&pool, &[named_otherwise], "a", &[]) else { panic!("took") };
        assert_eq!(claim.spec.subnet, "10.42.254.0/24", "and what it names is left alone");

        let mut claims = vec![block("10.42.255.0/24")];
        for address in ["192.0.2.1", "fd42::1", "what"] {
            let odd = AddressOf { address: address.into(), peer: "x".into() };
            claims[0].spec.addresses.push(odd);
        }
        assert_eq!(take(&pool, &mut claims, "a").unwrap(), "10.42.255.2");
    }

    #[test]
    fn a_pool_of_single_addresses_or_without_sense_has_no_blocks() {
        for pool in [pool("10.42.0.0/16", 32), pool("10.42.0.0/16", 31), pool("10.42.0.1/16", 24)] {
            assert!(matches!(next(&pool, &[], "a", &[]), Step::Full), "{pool:?}");
        }
    }
}
