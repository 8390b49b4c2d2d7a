//! Counts the cookies that a node sends, where they leave it.

use anyhow::Context as _;
use serde_json::Value;

use crate::lab::Node;

const PORT: u16 = 51820;
/// With the UDP header.
const COOKIE_REPLY: usize = 8 + 64;
const TABLE: &str = "lab-cookies";

pub struct CookieReplies<'a>(&'a Node);

impl<'a> CookieReplies<'a> {
    /// Counts from now on.
    pub fn of(node: &'a Node) -> anyhow::Result<Self> {
        let rules = format!(
            "table inet {TABLE} {{
                counter sent {{ }}
                chain out {{
                    type filter hook output priority 0; policy accept;
                    udp sport {PORT} udp length {COOKIE_REPLY} counter name sent
                }}
            }}\n"
        );
        let nft = node.command("nft").args(["-f", "-"]).input(rules).stdout();
        nft.context("counting cookie replies")?;
        Ok(Self(node))
    }

    pub fn sent(&self) -> anyhow::Result<u64> {
        let nft = self.0.command("nft").args(["-j", "list", "counter", "inet", TABLE, "sent"]);
        let answer: Value = serde_json::from_str(&nft.stdout()?).context("reading nft's answer")?;
        let objects = answer["nftables"].as_array().context("no objects in nft's answer")?;
        let counter = objects.iter().find_map(|object| object["counter"]["packets"].as_u64());
        counter.context("no counter in nft's answer")
    }
}
