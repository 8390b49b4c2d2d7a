//! How a peer is reached, in one word: the one that `hawser peers` and `hawser path` print.
//!
//! ```text
//!   by another node ── relayed
//!   where its own interfaces are, or from where no NAT lies before this node ── direct
//!   where its NAT shows it, out of ours ── punched: both had to call
//! ```

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reached {
    Direct,
    Punched,
    Relayed,
}

/// What is known of one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// Another node passes on what is for it.
    pub(crate) relayed: bool,
    /// This node found a NAT before itself.
    pub(crate) behind_nat: bool,
    /// Where it is spoken to.
    pub(crate) endpoint: Option<SocketAddr>,
    /// What it publishes: the first of a family is its own, others are where it is seen.
    pub(crate) published: &'a [SocketAddr],
}

impl Known<'_> {
    /// None while nobody knows where it is.
    pub(crate) fn reached(self) -> Option<Reached> {
        if self.relayed {
            return Some(Reached::Relayed);
        }
        let at = self.endpoint?;
        let own = self.published.iter().find(|one| one.is_ipv4() == at.is_ipv4());
        let punched = self.behind_nat && !self.published.is_empty() && own != Some(&at);
        Some(if punched { Reached::Punched } else { Reached::Direct })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_says_how_a_peer_is_reached() {
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let own = ["192.168.1.2:51820", "[fd00::2]:51820"].map(at);
        let (seen, seen6) = (at("198.51.100.1:40001"), at("[2001:db8::1]:40001"));
        let published = [own[0], own[1], seen, seen6];
        let word = |relayed, behind_nat, endpoint| {
            Known { relayed, behind_nat, endpoint, published: &published }.reached()
        };

        for endpoint in [seen, seen6, at("198.51.100.1:7")] {
            assert_eq!(word(false, true, Some(endpoint)), Some(Reached::Punched), "{endpoint}");
            assert_eq!(word(false, false, Some(endpoint)), Some(Reached::Direct), "{endpoint}");
            assert_eq!(word(true, true, Some(endpoint)), Some(Reached::Relayed), "{endpoint}");
        }
        for endpoint in own {
            assert_eq!(word(false, true, Some(endpoint)), Some(Reached::Direct), "one inside");
        }
        assert_eq!(word(false, true, None), None);
        let laptop =
            Known { relayed: false, behind_nat: true, endpoint: Some(seen), published: &[] };
        assert_eq!(laptop.reached(), Some(Reached::Direct), "it publishes nothing");
    }
}
