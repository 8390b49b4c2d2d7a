//! Numbered packets between pods while something happens, and where those went that were lost.

use e2e::lab::{Drops, Flow, FlowReport, Namespace};
use e2e::mesh::{Mesh, Pod};

/// Flows between pods, by the numbers of their nodes.
pub(super) struct Traffic {
    flows: Vec<(usize, usize, Flow)>,
    before: Drops,
}

/// What became of them.
pub(super) struct Outcome {
    reports: Vec<(usize, usize, FlowReport)>,
    drops: Vec<String>,
}

/// Each node with the next, both ways.
pub(super) fn ring(nodes: usize) -> Vec<(usize, usize)> {
    (0..nodes).map(|node| (node, (node + 1) % nodes)).collect()
}

impl Traffic {
    /// So many packets a second in all, between the first pods of these pairs of nodes: one way
    /// over IPv4, the other over IPv6.
    pub(super) fn start(mesh: &Mesh, pairs: &[(usize, usize)], pps: u32, marker: &[u8]) -> Self {
        let each = pps / u32::try_from(2 * pairs.len()).unwrap();
        let pod = |node: usize| &mesh.members[node].pods[0];
        let flow = |from: usize, to: usize, v4: bool| {
            let (sender, receiver): (&Pod, &Pod) = (pod(from), pod(to));
            let target = (&receiver.namespace, receiver.address(v4).unwrap());
            (from, to, Flow::start(&sender.namespace, target, each, marker).unwrap())
        };
        let before = Drops::count(namespaces(mesh)).unwrap();
        let flows = pairs.iter().flat_map(|(a, b)| [flow(*a, *b, true), flow(*b, *a, false)]);
        Self { flows: flows.collect(), before }
    }

    pub(super) fn finish(self, mesh: &Mesh) -> Outcome {
        let flows = self.flows.into_iter();
        let reports = flows.map(|(from, to, flow)| (from, to, flow.finish())).collect();
        let drops = Drops::count(namespaces(mesh)).unwrap().since(&self.before);
        Outcome { reports, drops }
    }
}

impl Outcome {
    /// Sent and lost between nodes other than `apart`.
    pub(super) fn without(&self, apart: Option<usize>) -> (u64, u64) {
        self.sum(|node| Some(node) != apart)
    }

    /// Sent and lost to or from that node.
    pub(super) fn of(&self, node: usize) -> (u64, u64) {
        let ((sent, lost), (others, lost_of_others)) =
            (self.without(None), self.without(Some(node)));
        (sent - others, lost - lost_of_others)
    }

    fn sum(&self, counts: impl Fn(usize) -> bool) -> (u64, u64) {
        let counted = self.reports.iter().filter(|(from, to, _)| counts(*from) && counts(*to));
        counted.fold((0, 0), |(sent, lost), (_, _, r)| (sent + r.sent, lost + r.lost))
    }

    /// A line a flow, then a line a place where the kernel dropped packets.
    pub(super) fn text(&self) -> String {
        let line = |(from, to, report): &(usize, usize, FlowReport)| {
            format!("  node {} -> node {}: {report:?}", from + 1, to + 1)
        };
        let lines: Vec<String> = self.reports.iter().map(line).collect();
        format!("{}\nkernel drops: {:?}", lines.join("\n"), self.drops)
    }
}

fn namespaces(mesh: &Mesh) -> Vec<&Namespace> {
    let nodes = mesh.members.iter().map(|member| member.node.namespace());
    nodes.chain(mesh.pods().into_iter().map(|pod| &pod.namespace)).collect()
}
