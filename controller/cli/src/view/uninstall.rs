//! Who is out of a mesh that is being removed, and who is not and why.

use api::{
    MeshNode,
    conditions::{self, REMOVED},
};
use serde::Serialize;

use crate::{
    output::{Item, Output, Table},
    text,
    view::nodes::name_of,
};

/// How far the removal is.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Removal {
    /// Nodes that say that nothing of the mesh is left on them.
    pub out: Vec<String>,
    /// Nodes that do not.
    pub stragglers: Vec<Straggler>,
}

/// A node on which something of the mesh may be left.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Straggler {
    pub name: String,
    /// In a sentence.
    pub why: String,
}

impl Removal {
    /// A node that no agent ever spoke for has nothing to take away.
    pub fn of(nodes: &[MeshNode]) -> Self {
        let mut removal = Self { out: Vec::new(), stragglers: Vec::new() };
        for node in nodes {
            let name = name_of(node).to_owned();
            match why_not_out(node) {
                None => removal.out.push(name),
                Some(why) => removal.stragglers.push(Straggler { name, why }),
            }
        }
        removal
    }

    pub fn is_complete(&self) -> bool {
        self.stragglers.is_empty()
    }

    /// One line of progress.
    pub fn line(&self) -> String {
        let all = self.out.len() + self.stragglers.len();
        if self.is_complete() {
            return format!("{all}/{all} nodes are out of the mesh");
        }
        let waiting = self.stragglers.iter().map(|straggler| text::cell(&straggler.name));
        format!("out {}/{all}   waiting for {}", self.out.len(), text::list(waiting))
    }

    pub fn question(&self) -> String {
        let all = self.out.len() + self.stragglers.len();
        format!("Take {all} nodes out of the mesh; every pod on them loses its network")
    }

    /// Who is not out, and why, a line each.
    pub fn complaint(&self) -> String {
        let lines = self.stragglers.iter().map(|Straggler { name, why }| {
            format!("\n  {}: {}", text::printable(name), text::printable(why))
        });
        format!(
            "{} nodes are not out of the mesh:{}",
            self.stragglers.len(),
            lines.collect::<String>()
        )
    }

    /// A row for each node, stragglers last.
    pub fn output(&self) -> Output {
        let mut table = Table::new(&["NODE", "OUT"], 2, "no nodes: nothing to take down");
        let mut items = Vec::new();
        let out = self.out.iter().map(|name| (name, "yes", ""));
        let waiting = self.stragglers.iter().map(|one| (&one.name, "no", one.why.as_str()));
        for (name, is_out, why) in out.chain(waiting) {
            table.push(vec![text::cell(name), is_out.to_owned()]);
            let object = serde_json::json!({"name": name, "out": is_out == "yes", "why": why});
            items.push(Item::new(format!("meshnode/{name}"), &object));
        }
        Output::list("RemovalList", table, items)
    }
}

fn why_not_out(node: &MeshNode) -> Option<String> {
    let status = node.status.as_ref().filter(|status| status.version.is_some())?;
    let Some(removed) = conditions::get(&status.conditions, REMOVED) else {
        return Some("its agent has not answered; is it running?".to_owned());
    };
    (!removed.is_true()).then(|| removed.message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn told(holds: bool, message: &str) -> api::Condition {
        api::Condition::new(REMOVED, holds, ("Reason", message), fixture::now())
    }

    #[test]
    fn a_node_is_out_when_its_agent_says_so_or_none_ever_ran_there() {
        let mut nodes = fixture::nodes();
        let mut tell = |at: usize, condition: Option<api::Condition>| {
            let status = nodes[at].status.as_mut().unwrap();
            status.version = Some("0.1.0".to_owned());
            status.conditions.extend(condition);
        };
        tell(0, Some(told(true, "")));
        tell(1, Some(told(false, "removing node.json: read-only file system")));
        nodes[2].status = None;

        let removal = Removal::of(&nodes);

        assert_eq!(removal.out.len(), 2);
        assert!(removal.stragglers[0].why.contains("read-only"));
        assert!(!removal.is_complete());
        assert!(removal.line().starts_with("out 2/3"), "{}", removal.line());
    }

    #[test]
    fn an_agent_that_says_nothing_is_a_straggler() {
        let node = &mut fixture::nodes()[0];
        node.status.as_mut().unwrap().version = Some("0.1.0".to_owned());

        let removal = Removal::of(std::slice::from_ref(node));

        assert!(removal.stragglers[0].why.contains("not answered"));
    }
}
