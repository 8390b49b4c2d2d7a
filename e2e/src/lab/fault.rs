//! Faults of the underlay, without netem: rules on the ingress of a machine's device.

use anyhow::Context as _;

use super::Node;
use super::node::DEVICE;

impl Node {
    /// From now on loses so many of a hundred frames that arrive, by chance; 0 ends it.
    pub fn lose(&self, percent: u8) -> anyhow::Result<()> {
        let mut rules = "table netdev lab-loss\ndelete table netdev lab-loss\n".to_owned();
        if percent > 0 {
            let hook = format!("type filter hook ingress device \"{DEVICE}\" priority 0");
            let chain = format!("{hook}; policy accept; numgen random mod 100 < {percent} drop");
            rules.extend(["table netdev lab-loss {\nchain in {\n", &chain, "\n}\n}\n"]);
        }
        self.nft(rules).with_context(|| format!("losing {percent} % on {}", self.name()))
    }

    /// From now on loses the frames that arrive and match any of these conditions, as nft writes them
    /// (`udp dport 4789`); none ends it.
    pub fn block(&self, conditions: &[&str]) -> anyhow::Result<()> {
        self.block_at("ingress", conditions)
    }

    /// The same for frames that would leave: they reach no wire.
    pub fn block_outgoing(&self, conditions: &[&str]) -> anyhow::Result<()> {
        self.block_at("egress", conditions)
    }

    fn block_at(&self, place: &str, conditions: &[&str]) -> anyhow::Result<()> {
        let mut rules = "table netdev lab-block\ndelete table netdev lab-block\n".to_owned();
        if !conditions.is_empty() {
            let hook = format!("type filter hook {place} device \"{DEVICE}\" priority 0");
            let drops: String = conditions.iter().map(|which| format!("{which} drop\n")).collect();
            let chain = format!("{hook}; policy accept;\n{drops}");
            rules.extend(["table netdev lab-block {\nchain in {\n", &chain, "}\n}\n"]);
        }
        self.nft(rules).with_context(|| format!("blocking {conditions:?} on {}", self.name()))
    }

    fn nft(&self, rules: String) -> anyhow::Result<()> {
        self.command("nft").args(["-f", "-"]).input(rules).stdout().map(drop)
    }
}
