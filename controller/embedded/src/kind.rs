//! The kinds that are served: what routing, discovery, schemas and tables know of each.

use crate::openapi::Resource;
use crate::schema::{Structural, invalid_message};
use crate::status::{About, Status};
use crate::store::Key;
use crate::table::Columns;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// One kind at one version.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) has_status: bool,
    /// Whether `metadata.generation` counts the changes of what is asked for.
    pub(crate) has_generation: bool,
    pub(crate) schema: Value,
    pub(crate) structural: Structural,
    pub(crate) columns: Columns,
    /// What may be asked in a field selector besides name and namespace.
    pub(crate) fields: &'static [&'static str],
    /// The first half of the key: views of one store share it.
    pub(crate) stored_as: String,
    /// Stored in another shape; such a kind is read only.
    pub(crate) view: Option<fn(&Value) -> Value>,
}

/// Why a CRD cannot be served; found when the server opens.
#[derive(Debug, thiserror::Error)]
pub enum KindError {
    #[error("the CRD {0} has no served version")]
    NoVersion(String),
    #[error("the schema of {name}: {source}")]
    Schema { name: String, source: crate::schema::SchemaError },
    #[error("the printer columns of {name}: {source}")]
    Columns { name: String, source: crate::jsonpath::JsonPathError },
}

impl Kind {
    pub(crate) fn from_crd(crd: &CustomResourceDefinition) -> Result<Kind, KindError> {
        let spec = &crd.spec;
        let names = &spec.names;
        let name = format!("{}.{}", names.plural, spec.group);
        let Some(version) = spec.versions.iter().find(|v| v.served && v.storage) else {
            return Err(KindError::NoVersion(name));
        };
        let encoded = serde_json::to_value(version).expect("a CRD is JSON");
        let schema = encoded["schema"]["openAPIV3Schema"].clone();
        let structural = Structural::compile(&schema)
            .map_err(|source| KindError::Schema { name: name.clone(), source })?;
        let columns = Columns::compile(&encoded["additionalPrinterColumns"])
            .map_err(|source| KindError::Columns { name: name.clone(), source })?;
        let singular = names.singular.clone().unwrap_or_else(|| names.kind.to_lowercase());
        Ok(Kind {
            group: spec.group.clone(),
            version: version.name.clone(),
            kind: names.kind.clone(),
            list_kind: names.list_kind.clone().unwrap_or_else(|| format!("{}List", names.kind)),
            plural: names.plural.clone(),
            singular,
            short_names: names.short_names.clone().unwrap_or_default(),
            categories: names.categories.clone().unwrap_or_default(),
            namespaced: spec.scope == "Namespaced",
            has_status: version.subresources.as_ref().is_some_and(|s| s.status.is_some()),
            has_generation: true,
            schema,
            structural,
            columns,
            fields: &[],
            stored_as: name,
            view: None,
        })
    }

    /// `hawser.dev/v1alpha1`, or `v1` in the group without a name.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// How an API server begins to say that it cannot decode a body.
    pub(crate) fn not_handled(&self) -> String {
        let Kind { kind, version, .. } = self;
        format!("{kind} in version {version:?} cannot be handled as a {kind}")
    }

    pub(crate) fn key(&self, namespace: &str, name: &str) -> Key {
        Key::new(&self.stored_as, namespace, name)
    }

    pub(crate) fn about(&self, name: &str) -> About {
        About { group: self.group.clone(), plural: self.plural.clone(), name: name.to_owned() }
    }

    pub(crate) fn not_found(&self, name: &str) -> Status {
        Status::not_found(self.about(name))
    }

    /// A 422 that names each field.
    pub(crate) fn invalid(&self, name: &str, causes: Vec<crate::schema::Cause>) -> Status {
        let what = if self.group.is_empty() {
            self.kind.clone()
        } else {
            format!("{}.{}", self.kind, self.group)
        };
        let about = About { plural: self.kind.clone(), ..self.about(name) };
        Status::invalid(invalid_message(&what, name, &causes)).about(about).with_causes(causes)
    }

    /// The object as this kind shows it.
    pub(crate) fn present<'a>(&self, stored: &'a Value) -> Cow<'a, Value> {
        match self.view {
            Some(view) => Cow::Owned(view(stored)),
            None => Cow::Borrowed(stored),
        }
    }

    pub(crate) fn resource(&self) -> Resource {
        Resource {
            group: self.group.clone(),
            version: self.version.clone(),
            kind: self.kind.clone(),
            plural: self.plural.clone(),
            namespaced: self.namespaced,
            status_subresource: self.has_status,
            schema: self.schema.clone(),
        }
    }
}

/// Every kind that is served.
#[derive(Debug)]
pub(crate) struct Kinds(Vec<Arc<Kind>>);

impl Kinds {
    pub(crate) fn new(crds: &[CustomResourceDefinition]) -> Result<Kinds, KindError> {
        let mut kinds = crds.iter().map(Kind::from_crd).collect::<Result<Vec<_>, _>>()?;
        kinds.extend(crate::builtin::kinds()?);
        Ok(Kinds(kinds.into_iter().map(Arc::new).collect()))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.0.iter()
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.iter().find(|k| k.group == group && k.version == version && k.plural == plural)
    }

    /// The (group, version) pairs in the order of the kinds.
    pub(crate) fn group_versions(&self) -> Vec<(&str, &str)> {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for kind in self.iter() {
            let pair = (kind.group.as_str(), kind.version.as_str());
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
        pairs
    }

    pub(crate) fn of<'a>(
        &'a self,
        group: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Kind>> {
        self.iter().filter(move |k| k.group == group && k.version == version)
    }
}
