//! The resources as Kubernetes is told of them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;

use crate::{JoinToken, KeyRotation, Mesh, MeshNode, MeshPeer, SubnetClaim};

/// Every resource's definition, in the order in which people meet them.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        Mesh::crd(),
        MeshNode::crd(),
        MeshPeer::crd(),
        SubnetClaim::crd(),
        JoinToken::crd(),
        KeyRotation::crd(),
    ];
    for version in crds.iter_mut().flat_map(|crd| &mut crd.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) {
            drop_unsigned_formats(schema);
        }
    }
    crds
}

/// OpenAPI knows no unsigned formats, and the API server warns of each; the bounds say it anyway.
fn drop_unsigned_formats(schema: &mut JSONSchemaProps) {
    schema.format.take_if(|format| format.starts_with("uint"));
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        drop_unsigned_formats(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        drop_unsigned_formats(items);
    }
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
