//! The first key on an empty disk: made only where the node never had one.
//!
//! A disk that was lost or swapped must not give the node another key in silence: who it was until
//! yesterday is refused from then on, and somebody decided that.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use api::MeshNode;
use keys::KeyEpoch;
use kube::{Api, Client};
use tokio::time::{sleep, timeout};

use crate::{
    identity::Identity,
    options::{Run, SourceOption},
    source::kube::connect,
};

const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The node's keys; if there are none, the API is asked whether there should be, as long as it takes.
pub(crate) async fn identity(options: &Run) -> anyhow::Result<Identity> {
    let state = &options.state.directory;
    let there = Identity::is_there(state).context("reading the node key")?;
    let SourceOption::Kube(kubeconfig) = &options.source else {
        return Identity::load_or_create(state).context("reading the node key");
    };
    if there {
        return Identity::load_or_create(state).context("reading the node key");
    }
    let node = ask(kubeconfig.clone(), &options.node).await;
    let Some(first) = first_epoch(node.as_ref()) else {
        bail!(
            "{0} has published a key before, and this disk holds none: it was lost, or it is another \
             machine's. Restore {1}, or make a new identity for the same node with \
             `hawser keys rotate --node {0} --lost` and start this agent again",
            options.node,
            state.display(),
        );
    };
    Identity::create(state, first).context("making the node key")
}

/// None: the node had a key, and nobody asked for a new one.
fn first_epoch(node: Option<&MeshNode>) -> Option<KeyEpoch> {
    let Some(node) = node else { return Some(KeyEpoch::FIRST) };
    let wanted = KeyEpoch(node.spec.key_epoch.max(1));
    let status = node.status.as_ref();
    let published = status.into_iter().flat_map(|s| s.public_keys.iter().map(|key| key.epoch));
    let had = published.chain(status.and_then(|status| status.newest_epoch)).max();
    had.is_none_or(|had| wanted.0 > had).then_some(wanted)
}

async fn ask(kubeconfig: Option<PathBuf>, node: &str) -> Option<MeshNode> {
    let mut pause = PAUSE;
    loop {
        match timeout(PATIENCE, look(kubeconfig.clone(), node)).await {
            Ok(Ok(node)) => return node,
            Ok(Err(error)) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "no key yet, and the API does not say whether there was one");
            }
            Err(_) => tracing::warn!("no key yet, and the API does not answer"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn look(kubeconfig: Option<PathBuf>, node: &str) -> anyhow::Result<Option<MeshNode>> {
    let (client, _): (Client, _) = connect(kubeconfig).await?;
    Api::<MeshNode>::all(client).get_opt(node).await.context("reading the own MeshNode")
}

#[cfg(test)]
mod tests {
    use api::{MeshNodeSpec, MeshNodeStatus, PublishedKey};

    use super::*;

    fn node(key_epoch: u32, published: &[u32], newest: Option<u32>) -> MeshNode {
        let spec = MeshNodeSpec { key_epoch, ..MeshNodeSpec::default() };
        let key = |epoch: &u32| PublishedKey { epoch: *epoch, public_key: String::new() };
        let public_keys = published.iter().map(key).collect();
        let mut node = MeshNode::new("n1", spec);
        node.status =
            Some(MeshNodeStatus { public_keys, newest_epoch: newest, ..Default::default() });
        node
    }

    #[test]
    fn a_disk_without_a_key_gets_one_only_where_there_never_was_one() {
        assert_eq!(first_epoch(None), Some(KeyEpoch(1)));
        assert_eq!(first_epoch(Some(&node(1, &[], None))), Some(KeyEpoch(1)));
        assert_eq!(first_epoch(Some(&node(1, &[1], None))), None);
        assert_eq!(first_epoch(Some(&node(2, &[2], Some(3)))), None);
        assert_eq!(first_epoch(Some(&node(4, &[2], Some(3)))), Some(KeyEpoch(4)));
    }
}
