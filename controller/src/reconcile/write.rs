//! One write each, guarded by the API server: create-if-absent, or the version that was read.

use anyhow::Context;
use api::{MeshNode, SubnetClaim, SubnetClaimSpec, claim_name, conditions};
use ipnet::IpNet;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::read::{self, Seen};
use crate::allocate::{Owner, Write, may_release};

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// Somebody else was faster, or the world has moved on: look again.
    Lost,
}

impl Outcome {
    pub(super) fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Lost => "lost",
        }
    }
}

pub(super) fn name_of(write: &Write) -> &'static str {
    match write {
        Write::Create { .. } => "create",
        Write::Bind { .. } => "bind",
        Write::Release { .. } => "release",
        Write::Publish { .. } => "publish",
    }
}

pub(super) async fn apply(
    client: &Client,
    write: &Write,
    seen: &Seen,
    now: Timestamp,
) -> anyhow::Result<Outcome> {
    match write {
        Write::Create { subnet, owner } => create(client, subnet, owner).await,
        Write::Bind { subnet, generation, owner } => {
            let spec = json!({"generation": generation + 1, "node": &*owner.node,
                "nodeUID": &*owner.uid, "releasedAt": null});
            update_claim(client, seen, subnet, spec).await
        }
        Write::Release { subnet, owner, .. } => {
            if !look_again(client, subnet, owner).await? {
                return Ok(Outcome::Lost);
            }
            let released = conditions::rfc3339(now);
            let spec = json!({"node": null, "nodeUID": null, "releasedAt": released});
            update_claim(client, seen, subnet, spec).await
        }
        Write::Publish { owner, subnets } => publish(client, seen, owner, subnets).await,
    }
}

async fn create(client: &Client, subnet: &IpNet, owner: &Owner) -> anyhow::Result<Outcome> {
    let spec = SubnetClaimSpec {
        subnet: subnet.to_string(),
        generation: 1,
        node: Some(owner.node.to_string()),
        node_uid: Some(owner.uid.to_string()),
        released_at: None,
        addresses: Vec::new(),
    };
    let claim = SubnetClaim::new(&claim_name(subnet), spec);
    let api: Api<SubnetClaim> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &claim).await;
    settle(answer.map(drop)).with_context(|| format!("claiming {subnet}"))
}

async fn update_claim(
    client: &Client,
    seen: &Seen,
    subnet: &IpNet,
    spec: Value,
) -> anyhow::Result<Outcome> {
    let claim = (seen.claims.iter()).find(|claim| read::subnet(claim).as_ref() == Some(subnet));
    let Some(claim) = claim else {
        return Ok(Outcome::Lost);
    };
    let patch = json!({"metadata": version_of(claim.as_ref()), "spec": spec});
    let api: Api<SubnetClaim> = Api::all(client.clone());
    let answer = merge(&api, &claim.name_any(), &patch).await;
    settle(answer).with_context(|| format!("updating the claim of {subnet}"))
}

/// The owner, read after the claim.
async fn look_again(client: &Client, subnet: &IpNet, owner: &Owner) -> anyhow::Result<bool> {
    let api: Api<MeshNode> = Api::all(client.clone());
    let node = (api.get_opt(&owner.node).await)
        .with_context(|| format!("looking for the owner of {subnet}"))?;
    let Some(node) = node else {
        return Ok(may_release(subnet, owner, None));
    };
    let subnets: Vec<IpNet> =
        (node.spec.subnets.iter()).filter_map(|text| text.parse().ok()).collect();
    let uid = node.uid().unwrap_or_default();
    Ok(may_release(subnet, owner, Some((&uid, &subnets))))
}

async fn publish(
    client: &Client,
    seen: &Seen,
    owner: &Owner,
    subnets: &[IpNet],
) -> anyhow::Result<Outcome> {
    let node = (seen.nodes.iter()).find(|node| node.metadata.uid.as_deref() == Some(&owner.uid));
    let Some(node) = node else {
        return Ok(Outcome::Lost);
    };
    let patch = json!({"metadata": version_of(node.as_ref()), "spec": {"subnets": subnets}});
    let api: Api<MeshNode> = Api::all(client.clone());
    let answer = merge(&api, &owner.node, &patch).await;
    settle(answer).with_context(|| format!("writing the subnets of {}", owner.node))
}

async fn merge<K>(api: &Api<K>, name: &str, patch: &Value) -> kube::Result<()>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

/// The precondition of every update: this very object, in this very version.
pub(super) fn version_of(object: &impl ResourceExt) -> Value {
    json!({"resourceVersion": object.resource_version(), "uid": object.uid()})
}

/// 409 (exists, or another version) and 404 are answers, not errors.
pub(super) fn settle(answer: kube::Result<()>) -> kube::Result<Outcome> {
    match answer {
        Ok(()) => Ok(Outcome::Done),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Outcome::Lost),
        Err(error) => Err(error),
    }
}
