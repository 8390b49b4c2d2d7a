//! Which path means what. Pure.

use crate::kind::{Kind, Kinds};
use std::sync::Arc;

/// A path, understood.
#[derive(Debug)]
pub(crate) enum Route {
    Health,
    Version,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/G`
    Group(String),
    /// `/apis/G/V` or `/api/v1`
    Resources {
        group: String,
        version: String,
    },
    OpenApi,
    /// `/openapi/v3/apis/G/V`: the part after `v3/`.
    OpenApiDocument(String),
    Resource(Target),
    /// The whole store, for a backup.
    Backup,
}

/// A kind, and which of its objects.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) kind: Arc<Kind>,
    /// Empty: cluster-scoped, or all of them.
    pub(crate) namespace: String,
    /// Empty: the collection.
    pub(crate) name: String,
    /// `status`, `token`, or empty.
    pub(crate) subresource: String,
}

/// `None` is a 404.
pub(crate) fn route(kinds: &Kinds, path: &str) -> Option<Route> {
    let parts: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["livez" | "readyz" | "healthz"] => Some(Route::Health),
        ["version"] => Some(Route::Version),
        ["hawser", "backup"] => Some(Route::Backup),
        ["api"] => Some(Route::CoreVersions),
        ["apis"] => Some(Route::Groups),
        ["openapi", "v3"] => Some(Route::OpenApi),
        ["openapi", "v3", rest @ ..] => Some(Route::OpenApiDocument(rest.join("/"))),
        ["api", version, rest @ ..] => resource(kinds, "", version, rest),
        ["apis", group] => {
            kinds.iter().any(|k| k.group == *group).then(|| Route::Group((*group).to_owned()))
        }
        ["apis", group, version, rest @ ..] => resource(kinds, group, version, rest),
        _ => None,
    }
}

fn resource(kinds: &Kinds, group: &str, version: &str, rest: &[&str]) -> Option<Route> {
    let (namespace, rest) = match rest {
        [] => {
            let served = kinds.of(group, version).next().is_some();
            let (group, version) = (group.to_owned(), version.to_owned());
            return served.then_some(Route::Resources { group, version });
        }
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (plural, "", ""),
        [plural, name] => (plural, *name, ""),
        [plural, name, subresource] => (plural, *name, *subresource),
        _ => return None,
    };
    let kind = kinds.find(group, version, plural)?.clone();
    let scoped = kind.namespaced != namespace.is_empty();
    let everywhere = kind.namespaced && namespace.is_empty() && name.is_empty();
    if !scoped && !everywhere {
        return None;
    }
    let served = match subresource {
        "" => true,
        "status" => kind.has_status,
        "token" => kind.group == crate::auth::GROUP && kind.plural == "meshnodes",
        _ => false,
    };
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    let target = Target { kind, namespace, name, subresource: subresource.to_owned() };
    served.then_some(Route::Resource(target))
}

/// Percent-decoding; what is not valid UTF-8 then matches no name.
pub(crate) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            bytes.push(high << 4 | low);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str) -> String {
        let kinds = Kinds::new(&api::crds()).unwrap();
        match route(&kinds, path) {
            Some(Route::Resource(target)) => format!(
                "{} {:?} {:?} {:?}",
                target.kind.plural, target.namespace, target.name, target.subresource
            ),
            Some(other) => format!("{other:?}"),
            None => "404".to_owned(),
        }
    }

    #[test]
    fn each_path_means_one_thing() {
        for (path, meaning) in [
            ("/readyz", "Health"),
            ("/api", "CoreVersions"),
            ("/apis/", "Groups"),
            ("/apis/hawser.dev", "Group(\"hawser.dev\")"),
            (
                "/openapi/v3/apis/hawser.dev/v1alpha1",
                "OpenApiDocument(\"apis/hawser.dev/v1alpha1\")",
            ),
            ("/apis/hawser.dev/v1alpha1/meshnodes", r#"meshnodes "" "" """#),
            ("/apis/hawser.dev/v1alpha1/meshnodes/a%2Eb", r#"meshnodes "" "a.b" """#),
            ("/apis/hawser.dev/v1alpha1/meshnodes/a/status", r#"meshnodes "" "a" "status""#),
            ("/apis/hawser.dev/v1alpha1/meshnodes/a/token", r#"meshnodes "" "a" "token""#),
            ("/apis/coordination.k8s.io/v1/namespaces/x/leases/l", r#"leases "x" "l" """#),
            ("/api/v1/events", r#"events "" "" """#),
        ] {
            assert_eq!(shown(path), meaning, "{path}");
        }
    }

    #[test]
    fn what_is_not_served_is_404() {
        for path in [
            "/",
            "/nonsense",
            "/apis/apps/v1",
            "/apis/hawser.dev/v2/meshnodes",
            "/apis/hawser.dev/v1alpha1/secrets",
            "/apis/hawser.dev/v1alpha1/namespaces/x/meshnodes",
            "/apis/hawser.dev/v1alpha1/meshnodes/a/scale",
            "/apis/hawser.dev/v1alpha1/meshpeers/a/token",
            "/apis/hawser.dev/v1alpha1/meshnodes/a/status/b",
            "/apis/coordination.k8s.io/v1/leases/l",
            "/tokens",
        ] {
            assert_eq!(shown(path), "404", "{path}");
        }
    }
}
