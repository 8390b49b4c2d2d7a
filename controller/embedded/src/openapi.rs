//! `/openapi/v3`: what kubectl reads for explain, for client-side apply, and to learn that the
//! server validates.
//!
//! kubectl finds a kind by `x-kubernetes-group-version-kind` on its schema, and looks at the query
//! parameters of its PATCH to decide whether dry-run and field validation exist.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One kind, as the document describes it.
#[derive(Debug, Clone)]
pub struct Resource {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub namespaced: bool,
    pub status_subresource: bool,
    /// `openAPIV3Schema`; `Null` for a kind that is taken as it comes.
    pub schema: Value,
}

/// The document of one group version, as text: the caller hashes it (see [`index`]).
pub fn document(group_version: &str, resources: &[Resource]) -> String {
    let mut schemas = Map::new();
    let mut paths = Map::new();
    for resource in resources {
        schemas.insert(resource.component(), resource.schema());
        paths.extend(resource.paths());
    }
    json!({
        "openapi": "3.0.0",
        "info": { "title": format!("Hawser {group_version}"), "version": "v0.1.0" },
        "paths": paths,
        "components": { "schemas": schemas },
    })
    .to_string()
}

/// The answer to `/openapi/v3`; `entries` are (`apis/hawser.dev/v1alpha1`, hash of its text).
pub fn index(entries: &[(String, String)]) -> Value {
    let paths: BTreeMap<&str, Value> = entries
        .iter()
        .map(|(path, hash)| {
            let url = format!("/openapi/v3/{path}?hash={hash}");
            (path.as_str(), json!({ "serverRelativeURL": url }))
        })
        .collect();
    json!({ "paths": paths })
}

impl Resource {
    /// `dev.hawser.v1alpha1.MeshNode`.
    fn component(&self) -> String {
        let mut parts: Vec<&str> = self.group.split('.').rev().collect();
        parts.extend([self.version.as_str(), self.kind.as_str()]);
        parts.join(".")
    }

    fn group_version_kind(&self) -> Value {
        json!({ "group": self.group, "version": self.version, "kind": self.kind })
    }

    /// The CRD's schema with what every object has.
    fn schema(&self) -> Value {
        let mut schema = match &self.schema {
            Value::Object(words) => words.clone(),
            _ => Map::from_iter([
                ("type".to_owned(), json!("object")),
                ("x-kubernetes-preserve-unknown-fields".to_owned(), json!(true)),
            ]),
        };
        let mut properties = match schema.remove("properties") {
            Some(Value::Object(properties)) => properties,
            _ => Map::new(),
        };
        for (name, text) in [
            ("apiVersion", "The group and version of this object, such as hawser.dev/v1alpha1."),
            ("kind", "What this object is."),
        ] {
            properties.insert(name.to_owned(), json!({ "type": "string", "description": text }));
        }
        properties.insert("metadata".to_owned(), object_meta());
        schema.insert("properties".to_owned(), properties.into());
        schema.insert(
            "x-kubernetes-group-version-kind".to_owned(),
            json!([self.group_version_kind()]),
        );
        schema.into()
    }

    fn paths(&self) -> Vec<(String, Value)> {
        let root =
            if self.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", self.group) };
        let namespace = if self.namespaced { "/namespaces/{namespace}" } else { "" };
        let list = format!("{root}/{}{namespace}/{}", self.version, self.plural);
        let mut paths = vec![
            (list.clone(), self.operations(&[("get", "list"), ("post", "post")])),
            (
                format!("{list}/{{name}}"),
                self.operations(&[
                    ("get", "get"),
                    ("put", "put"),
                    ("patch", "patch"),
                    ("delete", "delete"),
                ]),
            ),
        ];
        if self.status_subresource {
            let operations = self.operations(&[("get", "get"), ("put", "put"), ("patch", "patch")]);
            paths.push((format!("{list}/{{name}}/status"), operations));
        }
        paths
    }

    /// HTTP method and Kubernetes action of each.
    fn operations(&self, methods: &[(&str, &str)]) -> Value {
        let operations = methods.iter().map(|(method, action)| {
            let operation = json!({
                "x-kubernetes-action": action,
                "x-kubernetes-group-version-kind": self.group_version_kind(),
                "parameters": parameters(method),
                "responses": { "200": {
                    "description": "OK",
                    "content": { "application/json": {
                        "schema": { "$ref": format!("#/components/schemas/{}", self.component()) },
                    } },
                } },
            });
            ((*method).to_owned(), operation)
        });
        operations.collect::<Map<_, _>>().into()
    }
}

fn parameters(method: &str) -> Value {
    let names: &[&str] = match method {
        "patch" => &["dryRun", "fieldManager", "fieldValidation", "force"],
        "post" | "put" => &["dryRun", "fieldManager", "fieldValidation"],
        "delete" => &["dryRun"],
        _ => &[],
    };
    let parameter = |name: &&str| {
        let kind = if *name == "force" { "boolean" } else { "string" };
        json!({ "name": name, "in": "query", "schema": { "type": kind, "uniqueItems": true } })
    };
    names.iter().map(parameter).collect()
}

fn object_meta() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let time = |description: &str| json!({ "type": "string", "format": "date-time", "description": description });
    let texts = |description: &str| {
        json!({ "type": "object", "additionalProperties": { "type": "string" },
                "description": description })
    };
    json!({
        "type": "object",
        "description": "What every object has: its name, its labels, and what the server notes.",
        "properties": {
            "name": text("Unique among objects of its kind; cannot be changed."),
            "generateName": text("A prefix; the server adds five characters and makes a name."),
            "namespace": text("Empty: these kinds have no namespaces."),
            "labels": texts("Words to select objects by."),
            "annotations": texts("Notes of other programs."),
            "uid": text("Unique for ever; set by the server."),
            "resourceVersion": text("Changes with every write; a write may name the one it expects."),
            "generation": { "type": "integer", "format": "int64",
                            "description": "Counts the changes of the spec." },
            "creationTimestamp": time("When the object was made."),
            "deletionTimestamp": time("When its deletion was asked for."),
            "deletionGracePeriodSeconds": { "type": "integer", "format": "int64" },
            "finalizers": {
                "type": "array", "items": { "type": "string" },
                "x-kubernetes-list-type": "set",
                "description": "Who must finish before the object is gone.",
            },
            "ownerReferences": {
                "type": "array",
                "description": "Whose part this object is; noted, never acted upon.",
                "items": {
                    "type": "object",
                    "properties": {
                        "apiVersion": text("Of the owner."),
                        "kind": text("Of the owner."),
                        "name": text("Of the owner."),
                        "uid": text("Of the owner."),
                        "controller": { "type": "boolean" },
                        "blockOwnerDeletion": { "type": "boolean" },
                    },
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing() -> Resource {
        Resource {
            group: "hawser.dev".to_owned(),
            version: "v1".to_owned(),
            kind: "Thing".to_owned(),
            plural: "things".to_owned(),
            namespaced: false,
            status_subresource: true,
            schema: json!({
                "type": "object", "description": "A thing.",
                "properties": { "spec": { "type": "object", "description": "What it should be." } },
            }),
        }
    }

    #[test]
    fn kubectl_finds_the_kind_and_what_its_patch_can_do() {
        let text = document("hawser.dev/v1", &[thing()]);

        let document: Value = serde_json::from_str(&text).unwrap();
        let schema = &document["components"]["schemas"]["dev.hawser.v1.Thing"];
        assert_eq!(
            schema["x-kubernetes-group-version-kind"],
            json!([{"group": "hawser.dev", "version": "v1", "kind": "Thing"}])
        );
        assert_eq!(schema["properties"]["spec"]["description"], "What it should be.");
        assert!(schema["properties"]["metadata"]["properties"]["labels"].is_object());
        let patch = &document["paths"]["/apis/hawser.dev/v1/things/{name}"]["patch"];
        let names: Vec<&str> = patch["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
        assert_eq!(patch["x-kubernetes-action"], "patch");
        assert!(document["paths"]["/apis/hawser.dev/v1/things/{name}/status"]["patch"].is_object());
    }

    #[test]
    fn a_namespaced_kind_of_the_core_group_has_its_own_paths() {
        let event = Resource {
            group: String::new(),
            plural: "events".to_owned(),
            namespaced: true,
            status_subresource: false,
            schema: Value::Null,
            ..thing()
        };

        let document: Value = serde_json::from_str(&document("v1", &[event])).unwrap();

        let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        let list = "/api/v1/namespaces/{namespace}/events";
        assert_eq!(paths, [list, &format!("{list}/{{name}}")]);
    }

    #[test]
    fn the_index_names_each_document_with_its_hash() {
        let index = index(&[("apis/hawser.dev/v1".to_owned(), "ABC".to_owned())]);

        let url = "/openapi/v3/apis/hawser.dev/v1?hash=ABC";
        assert_eq!(index["paths"]["apis/hawser.dev/v1"]["serverRelativeURL"], url);
    }
}
