//! How strictly packets are sealed: for the whole mesh, and between two sites in its place. One
//! function answers for a pair, and everybody asks it: agents, the controller and the CLI.

use std::fmt;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How strictly the mesh encrypts, the strictest first.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum Encryption {
    /// Nothing leaves in clear; plain backends are refused.
    #[default]
    Required,
    /// In clear only with a node that never had a key; what comes in clear is taken. Go through it from
    /// None to Required and back, and no packet is lost.
    Preferred,
    /// As the backend does: plain ones send in clear.
    None,
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Required => "Required",
            Self::Preferred => "Preferred",
            Self::None => "None",
        })
    }
}

/// What holds between the nodes of two sites, or inside of one, in the place of spec.encryption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteEncryption {
    /// Two sites, in either order; or one: between its own nodes. A site is what MeshNode.spec.site
    /// says; nodes without one follow spec.encryption.
    #[schemars(
        length(min = 1, max = 2),
        inner(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    pub sites: Vec<String>,
    /// Required, Preferred or None, as spec.encryption.
    pub encryption: Encryption,
}

impl SiteEncryption {
    /// Both ends, the lesser first; none if it names no or too many sites.
    pub fn pair(&self) -> Option<[&str; 2]> {
        match self.sites.as_slice() {
            [one] => Some([one, one]),
            [one, other] => Some([one.min(other), one.max(other)]),
            _ => None,
        }
    }
}

impl fmt::Display for SiteEncryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { encryption, .. } = self;
        match self.pair() {
            Some([one, other]) if one == other => write!(f, "{encryption} within {one}"),
            Some([one, other]) => write!(f, "{encryption} between {one} and {other}"),
            None => write!(f, "{encryption} between {} sites", self.sites.len()),
        }
    }
}

/// What holds between machines of these sites: what is said of them, else what is of the mesh. Where
/// two say it, the stricter does.
pub fn encryption_between(
    mesh: Encryption,
    of_sites: &[SiteEncryption],
    (a, b): (Option<&str>, Option<&str>),
) -> Encryption {
    let (Some(a), Some(b)) = (a, b) else {
        return mesh;
    };
    let pair = [a.min(b), a.max(b)];
    let told = of_sites.iter().filter(|of| of.pair() == Some(pair));
    told.map(|of| of.encryption).min().unwrap_or(mesh)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sites: &[&str], encryption: Encryption) -> SiteEncryption {
        SiteEncryption { sites: sites.iter().map(|&site| site.to_owned()).collect(), encryption }
    }

    #[test]
    fn a_pair_of_sites_is_judged_by_what_is_said_of_it_in_either_order_and_else_as_the_mesh() {
        use Encryption::{None as Plain, Preferred, Required};
        let sites = [of(&["a"], Plain), of(&["c", "b"], Preferred), of(&["d", "d"], Preferred)];

        for (a, b, holds) in [
            (Some("a"), Some("a"), Plain),
            (Some("b"), Some("c"), Preferred),
            (Some("c"), Some("b"), Preferred),
            (Some("d"), Some("d"), Preferred),
            (Some("a"), Some("b"), Required),
            (Some("b"), Some("b"), Required),
            (Some("a"), None, Required),
            (None, None, Required),
        ] {
            assert_eq!(encryption_between(Required, &sites, (a, b)), holds, "{a:?} {b:?}");
        }
        assert_eq!(encryption_between(Plain, &sites, (Some("a"), Some("z"))), Plain);
    }

    #[test]
    fn of_two_that_speak_of_one_pair_the_stricter_holds_and_what_names_no_pair_says_nothing() {
        use Encryption::{None as Plain, Preferred, Required};
        let sites = [of(&["a", "b"], Plain), of(&["b", "a"], Required), of(&["a"], Plain)];
        assert_eq!(encryption_between(Preferred, &sites, (Some("a"), Some("b"))), Required);

        let odd = [of(&[], Plain), of(&["a", "b", "c"], Plain)];
        assert_eq!(encryption_between(Required, &odd, (Some("a"), Some("b"))), Required);
    }
}
