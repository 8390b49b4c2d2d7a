//! Addresses taken and given back, each by a write under the version that was read.

use std::net::IpAddr;

use api::SubnetClaim;
use kube::{Api, api::PostParams};

use super::Seen;
use crate::{
    cluster::Cluster,
    exit::{Exit, Failure},
    peer::addresses::{self, Step},
};

/// So often is a lost race for an address tried again.
const TRIES: usize = 50;

/// One address of each family that the pools cover, each by one conditional write.
pub(super) async fn take_addresses(
    name: &str,
    cluster: &Cluster,
    got: &mut Vec<IpAddr>,
) -> Result<(), Failure> {
    for v4 in [true, false] {
        if let Some(address) = take(name, v4, cluster).await? {
            got.push(address);
        }
    }
    if got.is_empty() {
        return Err(Failure::failed("the mesh has no pools").check("hawser status"));
    }
    Ok(())
}

/// None if no pool is of that family.
async fn take(name: &str, v4: bool, cluster: &Cluster) -> Result<Option<IpAddr>, Failure> {
    let api = Api::<SubnetClaim>::all(cluster.client.clone());
    for _ in 0..TRIES {
        // Who gave something out since has written the claim that is read before the rest.
        let claims = claims(cluster).await?;
        let seen = Seen::read(cluster).await?;
        let (pools, taken) = (seen.pools(v4), seen.taken());
        let steps = pools.iter().map(|pool| addresses::next(pool, &claims, name, &taken));
        let Some(step) = steps.into_iter().find(|step| !matches!(step, Step::Full)) else {
            return if pools.is_empty() { Ok(None) } else { Err(full(v4)) };
        };
        match step {
            Step::Claim(claim) => {
                let parameters = PostParams::default();
                cluster.settle("create subnetclaims", api.create(&parameters, &claim)).await?;
            }
            Step::Take(claim, address) => {
                if replace(cluster, &claim).await? {
                    return Ok(Some(address));
                }
            }
            Step::Full => {}
        }
    }
    Err(Failure::failed(format!("others were faster {TRIES} times")).check("run it again"))
}

fn full(v4: bool) -> Failure {
    let family = if v4 { "IPv4" } else { "IPv6" };
    Failure::failed(format!("no {family} pool has a block left to give single addresses out of"))
        .check("is it cut into blocks of 4 addresses or more, and has it room? kubectl get hwsc")
}

/// Under the version that was read. False if somebody was faster.
async fn replace(cluster: &Cluster, claim: &SubnetClaim) -> Result<bool, Failure> {
    let api = Api::<SubnetClaim>::all(cluster.client.clone());
    let name = claim.metadata.name.clone().unwrap_or_default();
    let parameters = PostParams::default();
    cluster.settle("update subnetclaims", api.replace(&name, &parameters, claim)).await
}

/// Frees those of the peer's addresses that are `gone`. True if there were any.
pub(super) async fn give_back(
    name: &str,
    gone: impl Fn(IpAddr) -> bool,
    cluster: &Cluster,
) -> Result<bool, Failure> {
    let mut any = false;
    for _ in 0..TRIES {
        let listing = addresses::without(&claims(cluster).await?, name, &gone);
        if listing.is_empty() {
            return Ok(any);
        }
        any = true;
        for claim in listing {
            replace(cluster, &claim).await?;
        }
    }
    Err(Failure::failed(format!("the addresses of {name} are still claimed"))
        .check(format!("hawser peer delete {name}")))
}

pub(super) async fn claims(cluster: &Cluster) -> Result<Vec<SubnetClaim>, Failure> {
    cluster.claims().await?.ok_or_else(|| {
        Failure::new(Exit::Forbidden, "not permitted: list subnetclaims")
            .check("addresses for peers take the rights of a mesh's admin")
    })
}
