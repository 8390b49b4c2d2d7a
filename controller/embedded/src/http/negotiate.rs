//! `Accept` and `Content-Type`: the shape of the answer and of the body. Pure.

use crate::status::Status;

/// The shapes that an object or a list can be sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Table,
    /// `PartialObjectMetadata`, or the list of them.
    Partial,
    /// `APIGroupDiscoveryList`.
    Discovery,
}

pub(crate) const JSON: &str = "application/json";
pub(crate) const DISCOVERY: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The first shape in the client's order that `offered` has. Without a header: a plain object.
pub(crate) fn accept(header: Option<&str>, offered: &[Shape]) -> Result<Shape, Status> {
    let Some(header) = header else {
        return Ok(Shape::Object);
    };
    header
        .split(',')
        .filter_map(shape)
        .find(|shape| *shape == Shape::Object || offered.contains(shape))
        .ok_or_else(Status::not_acceptable)
}

/// What one entry of the list asks for; `None` if it is not for us (protobuf, another version).
fn shape(entry: &str) -> Option<Shape> {
    let mut parts = entry.split(';').map(str::trim);
    if !matches!(parts.next()?, "application/json" | "application/*" | "*/*") {
        return None;
    }
    let (mut wanted, mut group, mut version) = ("", "", "");
    for part in parts {
        match part.split_once('=') {
            Some(("as", value)) => wanted = value,
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            Some(_) | None => {}
        }
    }
    match (wanted, group, version) {
        ("", _, _) => Some(Shape::Object),
        ("Table", "meta.k8s.io", "v1") => Some(Shape::Table),
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => {
            Some(Shape::Partial)
        }
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Some(Shape::Discovery),
        _ => None,
    }
}

/// The kinds of patch that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchType {
    Merge,
    Json,
}

pub(crate) fn patch_type(header: Option<&str>) -> Result<PatchType, Status> {
    match media_type(header) {
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/apply-patch+yaml" | "application/apply-patch+cbor" => {
            Err(Status::unsupported_media(
                "server-side apply is not served here: use kubectl apply without --server-side",
            ))
        }
        other => Err(Status::unsupported_media(format!(
            "the media type {other:?} of the patch is not served: use \
             application/merge-patch+json or application/json-patch+json"
        ))),
    }
}

/// Bodies that are no patch are JSON. Many a client forgets to say so.
pub(crate) fn require_json(header: Option<&str>) -> Result<(), Status> {
    match media_type(header) {
        "" | JSON => Ok(()),
        other => Err(Status::unsupported_media(format!(
            "the body of the request was in an unknown format: {other}; use {JSON}"
        ))),
    }
}

fn media_type(header: Option<&str>) -> &str {
    header.and_then(|h| h.split(';').next()).map_or("", str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KUBECTL_GET: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,\
                               application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
    const KUBECTL_DESCRIBE: &str = "application/vnd.kubernetes.protobuf,application/json";

    #[test]
    fn the_first_shape_that_is_offered_wins() {
        let table = [Shape::Table, Shape::Partial];
        assert_eq!(accept(Some(KUBECTL_GET), &table), Ok(Shape::Table));
        assert_eq!(accept(Some(KUBECTL_GET), &[]), Ok(Shape::Object));
        assert_eq!(accept(Some(KUBECTL_DESCRIBE), &table), Ok(Shape::Object));
        assert_eq!(accept(Some("*/*"), &table), Ok(Shape::Object));
        assert_eq!(accept(None, &table), Ok(Shape::Object));
    }

    #[test]
    fn a_client_that_takes_protobuf_alone_is_refused() {
        let refused = accept(Some("application/vnd.kubernetes.protobuf"), &[]);
        assert_eq!(refused.map_err(|status| status.code), Err(406));
    }

    #[test]
    fn server_side_apply_says_what_to_do_instead() {
        let refused = patch_type(Some("application/apply-patch+yaml")).unwrap_err();
        assert_eq!(refused.code, 415);
        assert!(refused.message.contains("kubectl apply without --server-side"));
    }
}
