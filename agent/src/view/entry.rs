//! Through which node the others reach a plain peer.
//!
//! A peer with entries speaks to one of them at a time, and says which by calling it. The entry
//! that hears it writes a turn into its own status, one more than the others have; so all nodes
//! read the same owner of the peer's addresses, and no clocks are compared.
//!
//! ```text
//!   laptop ──▶ entry a (turn 1)        a is called: a's status has turn 1
//!          ──▶ entry b (turn 2)        then b is: everybody's packets to the laptop go to b
//! ```

use super::{PlainPeer, View};

impl View {
    /// The entry that has `peer` now: the one with the highest turn, in the order of the list. None
    /// where no entry is a member.
    pub fn entry_of<'a>(&self, name: &str, peer: &'a PlainPeer) -> Option<&'a str> {
        let members = peer.entries.iter().filter(|entry| self.is_member(entry));
        // Of equals the last is the greatest.
        members.rev().max_by_key(|entry| self.turn(entry, name)).map(String::as_str)
    }

    /// The highest turn of the peer's other entries; none where `me` is not one of them.
    pub fn others_turn(&self, name: &str, peer: &PlainPeer, me: &str) -> Option<i64> {
        let others = peer.entries.iter().filter(|entry| *entry != me && self.is_member(entry));
        let highest = others.map(|entry| self.turn(entry, name)).max().unwrap_or(0);
        peer.entries.iter().any(|entry| entry == me).then_some(highest)
    }

    fn is_member(&self, node: &str) -> bool {
        self.nodes.get(node).is_some_and(|node| !node.revoked)
    }

    fn turn(&self, node: &str, peer: &str) -> i64 {
        self.nodes.get(node).and_then(|node| node.serves.get(peer)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::view::{Resources, View};

    /// Nodes a, b and c with these turns, and a laptop whose entries are b, a and one that is gone.
    fn view(turns: [Option<i64>; 3], revoked: &str) -> View {
        let mesh = json!({"kind": "Mesh", "spec": {"pools": [
            {"cidr": "10.42.0.0/16", "nodePrefixLength": 24}]}});
        let laptop = json!({"kind": "MeshPeer", "metadata": {"name": "laptop"}, "spec": {
            "publicKey": keys::PrivateKey::from_bytes([9; 32]).public().to_string(),
            "addresses": ["10.42.200.7/32"], "entries": ["b", "a", "gone"]}});
        let nodes = ["a", "b", "c"].into_iter().zip(turns).map(|(name, turn)| {
            let serves: Vec<_> =
                turn.iter().map(|turn| json!({"peer": "laptop", "turn": turn})).collect();
            json!({"kind": "MeshNode", "metadata": {"name": name},
                   "spec": {"revoked": name == revoked}, "status": {"serves": serves}})
        });
        let (resources, complaints) = Resources::decode([mesh, laptop].into_iter().chain(nodes));
        assert_eq!(complaints, []);
        View::judge(&resources, None).view.unwrap()
    }

    fn entry(turns: [Option<i64>; 3], revoked: &str) -> Option<String> {
        let view = view(turns, revoked);
        view.entry_of("laptop", &view.peers["laptop"]).map(str::to_owned)
    }

    #[test]
    fn the_entry_with_the_highest_turn_has_the_peer_and_the_first_until_then() {
        let has = |turns| entry(turns, "").unwrap();

        assert_eq!(has([None, None, None]), "b");
        assert_eq!(has([Some(1), None, None]), "a");
        assert_eq!(has([Some(1), Some(2), None]), "b");
        assert_eq!(has([Some(3), Some(3), None]), "b", "of equals the first in the list");
    }

    #[test]
    fn who_is_no_entry_or_was_thrown_out_never_has_it() {
        assert_eq!(entry([None, None, Some(9)], "").as_deref(), Some("b"));
        assert_eq!(entry([None, Some(9), None], "b").as_deref(), Some("a"));
    }

    #[test]
    fn an_entry_knows_the_turn_that_it_has_to_beat() {
        let view = view([Some(4), Some(6), Some(9)], "");
        let laptop = &view.peers["laptop"];

        assert_eq!(view.others_turn("laptop", laptop, "a"), Some(6));
        assert_eq!(view.others_turn("laptop", laptop, "b"), Some(4));
        assert_eq!(view.others_turn("laptop", laptop, "c"), None);
    }
}
