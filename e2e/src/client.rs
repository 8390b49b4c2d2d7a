//! A Kubernetes client inside a namespace of a lab.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::lab::Namespace;

/// Speaks to the API that `kubeconfig` names from within `namespace`.
pub fn speak<T, F>(namespace: &Namespace, kubeconfig: &Path, work: F) -> anyhow::Result<T>
where
    T: Send + 'static,
    F: AsyncFnOnce(Client) -> anyhow::Result<T> + Send + 'static,
{
    let path = kubeconfig.to_owned();
    namespace.block_on(async move || {
        let file = Kubeconfig::read_from(&path).context("reading the kubeconfig")?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options).await;
        let mut config = config.context("understanding the kubeconfig")?;
        config.connect_timeout = Some(Duration::from_secs(2));
        work(Client::try_from(config).context("making a client")?).await
    })
}
