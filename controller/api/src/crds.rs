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
            mend(schema);
        }
    }
    crds
}

/// Makes what the derive wrote acceptable to every server since 1.20, of this field and all below.
fn mend(schema: &mut JSONSchemaProps) {
    // OpenAPI knows no unsigned formats, and the server warns of each; the bounds say it anyway.
    schema.format.take_if(|format| format.starts_with("uint"));
    // 1.20 reads "" as null, and refuses it; our clients leave it out, and read what is absent so.
    schema.default.take_if(|default| default.0 == "");
    // 1.20 finds a schema with null among an enum's words different from itself. None of our
    // clients writes null: what is unset is absent.
    if let Some(words) = &mut schema.enum_
        && words.iter().any(|word| word.0.is_null())
    {
        words.retain(|word| !word.0.is_null());
        schema.nullable = None;
    }
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        mend(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        mend(items);
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
