//! The resources as Kubernetes is told of them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::{JoinToken, KeyRotation, Mesh, MeshNode, MeshPeer, SubnetClaim};

/// Every resource's definition, in the order in which people meet them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        Mesh::crd(),
        MeshNode::crd(),
        MeshPeer::crd(),
        SubnetClaim::crd(),
        JoinToken::crd(),
        KeyRotation::crd(),
    ]
}

/// File name and text of each definition, as `deploy/crds` holds them.
pub fn manifests() -> Vec<(String, String)> {
    crds()
        .iter()
        .map(|crd| {
            let name = format!("{}.yaml", crd.spec.names.plural);
            (name, serde_saphyr::to_string(crd).expect("a definition is plain data"))
        })
        .collect()
}

/// All definitions as one multi-document YAML text, as `hawser crds` prints it.
pub fn crds_yaml() -> String {
    manifests().into_iter().map(|(_, text)| format!("---\n{text}")).collect()
}
