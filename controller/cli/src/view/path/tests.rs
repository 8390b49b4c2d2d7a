//! Each way in which a path can be missing, and the words for it.

use super::*;
use crate::{args::Format, fixture};

struct World {
    mesh: Mesh,
    nodes: Vec<api::MeshNode>,
    claims: Vec<SubnetClaim>,
    state: State,
}

impl World {
    fn new() -> Self {
        Self {
            mesh: fixture::mesh(),
            nodes: fixture::nodes(),
            claims: fixture::claims(),
            state: fixture::state(),
        }
    }

    fn find(&self, from: &str, to: &str) -> Result<Answer, Failure> {
        let known = Known {
            members: Members::from_resources(&self.nodes, &[fixture::laptop()]),
            pools: crate::member::prefixes(&["10.42.0.0/16".into(), "fd42::/48".into()]),
            mesh: Some(&self.mesh),
            claims: Some(&self.claims),
            state: Some(&self.state),
        };
        Answer::find(from, to, &known)
    }

    fn why_not(&self, from: &str, to: &str) -> String {
        let answer = self.find(from, to).unwrap();
        assert!(!answer.is_whole());
        answer.paths.into_iter().find_map(|leg| leg.blocked).unwrap()
    }
}

#[test]
fn the_carrier_says_how_the_peer_is_reached() {
    for (reached, path, said) in [
        ("direct", None, "wireguard direct"),
        ("punched", None, "wireguard punched"),
        ("relayed", Some("relay node-9"), "wireguard relayed:node-9"),
    ] {
        let mut world = World::new();
        world.state.peers[0].reached = Some(reached.to_owned());
        world.state.peers[0].path = path.map(str::to_owned);

        let leg = world.find("10.42.1.7", "10.42.2.7").unwrap().paths.remove(0);

        assert_eq!(leg.carrier.as_deref(), Some(said));
        assert_eq!(leg.reached.as_deref(), Some(reached));
    }
}

#[test]
fn a_whole_path_names_every_step() {
    let answer = World::new().find("10.42.1.7", "10.42.2.7").unwrap();

    assert!(answer.is_whole());
    insta::assert_snapshot!(answer.print(fixture::now()).render(Format::Table), @r"
    From       10.42.1.7 of node-1 by 10.42.1.0/24
    To         10.42.2.7 of node-2 by 10.42.2.0/24
    Route      10.42.2.0/24 via node-2
    Claim      10-42-2-0-24 generation 3
    Key        epoch 1 7587:7bb4:1d39:3b5f
    Carrier    wireguard 10.0.0.2:51820
    Handshake  34s ago
    MTU        1420
    Last drop  NoRoute (3 on this node, any peer)
    Path       ok
    ");
}

#[test]
fn two_names_are_answered_for_both_families() {
    let answer = World::new().find("node-1", "node-2").unwrap();

    let families: Vec<bool> = answer.paths.iter().map(|leg| leg.source.address.is_ipv6()).collect();
    assert_eq!(families, [false, true]);
    assert!(answer.is_whole());
}

#[test]
fn one_node_needs_no_tunnel() {
    let answer = World::new().find("10.42.1.7", "10.42.1.8").unwrap();

    assert!(answer.is_whole());
    assert_eq!(answer.paths[0].carrier.as_deref(), Some("local, no tunnel"));
}

#[test]
fn a_peers_single_address_beats_the_nodes_subnet_around_it() {
    let answer = World::new().find("10.42.1.7", "10.42.1.200").unwrap();

    assert_eq!(answer.paths[0].destination.owner.as_deref(), Some("laptop"));
    assert!(answer.paths[0].notes.iter().any(|note| note.contains("must call first")));
}

#[test]
fn an_address_of_nobody_has_no_path() {
    let world = World::new();

    assert!(world.why_not("node-1", "10.42.99.1").contains("in pool 10.42.0.0/16"));
    assert!(world.why_not("node-1", "192.0.2.1").contains("outside the mesh's pools"));
    assert!(world.why_not("192.0.2.1", "node-1").contains("nobody in the mesh owns 192.0.2.1"));
}

#[test]
fn a_claim_of_somebody_else_ends_the_path() {
    let mut world = World::new();
    for claim in &mut world.claims {
        claim.spec.node = Some("node-9".into());
    }

    assert_eq!(
        world.why_not("node-1", "node-2"),
        "10.42.2.0/24 is claimed by node-9, not by node-2"
    );
}

#[test]
fn a_missing_or_revoked_key_ends_the_path() {
    let mut world = World::new();
    world.nodes[1].spec.key_epoch = 2;
    assert_eq!(world.why_not("node-1", "node-2"), "node-2 has not published its key of epoch 2");

    world.nodes[1].spec.revoked = true;
    assert_eq!(world.why_not("node-1", "node-2"), "node-2 is revoked");
}

#[test]
fn a_clear_backend_is_refused_where_encryption_is_required() {
    let mut world = World::new();
    world.mesh.spec.backend = Backend::Vxlan;
    assert_eq!(
        world.why_not("node-1", "node-2"),
        "backend vxlan is in clear, and encryption is Required"
    );

    world.mesh.spec.encryption = Encryption::None;
    assert!(world.find("node-1", "node-2").unwrap().is_whole());
}

#[test]
fn a_pair_of_sites_is_carried_by_what_holds_for_it() {
    let mut world = World::new();
    world.mesh.spec.backend = Backend::Vxlan;
    world.nodes[1].spec.site = Some("onprem".to_owned());
    let sites = ["aws", "onprem"].map(str::to_owned).to_vec();
    world.mesh.spec.site_encryption =
        vec![api::SiteEncryption { sites, encryption: Encryption::None }];
    let carrier = |world: &World| {
        let leg = world.find("node-1", "node-2").unwrap().paths.remove(0);
        assert_eq!(leg.blocked, None);
        (leg.carrier.unwrap(), leg.notes.join("; "))
    };

    let (plain, note) = carrier(&world);
    assert_eq!((plain.as_str(), note.contains("encryption is None")), ("vxlan", true), "{note}");
    world.nodes[1].spec.site = None;
    let (sealed, note) = carrier(&world);
    assert_eq!((sealed.as_str(), note.as_str()), ("wireguard", ""));
}

#[test]
fn a_route_that_the_agent_lost_ends_the_path() {
    let mut world = World::new();
    world.state.routes.retain(|route| route.peer.as_deref() != Some("node-2"));

    assert_eq!(world.why_not("node-1", "10.42.2.7"), "node-1 has no route to 10.42.2.7");
}

#[test]
fn a_peer_that_the_agent_does_not_know_ends_the_path() {
    let mut world = World::new();
    world.state.peers.clear();

    assert_eq!(world.why_not("node-1", "node-2"), "the agent of node-1 does not know node-2");
}

#[test]
fn a_name_of_nobody_says_which_names_there_are() {
    let failure = World::new().find("node-1", "node-7").unwrap_err();

    assert!(failure.to_string().contains("node-1,node-2,node-3,laptop"));
}

#[test]
fn a_node_without_a_subnet_has_no_path() {
    let failure = World::new().find("node-1", "node-3").unwrap_err();

    assert_eq!(failure.what, "no path: node-3 has no subnet yet");
}

#[test]
fn an_agent_alone_can_answer() {
    let state = fixture::state();
    let own = crate::member::prefixes(&["10.42.1.0/24".into()]);
    let known = Known {
        members: Members::from_agent(&state, &own),
        state: Some(&state),
        ..Known::default()
    };

    let answer = Answer::find("node-1", "10.42.2.7", &known).unwrap();

    assert!(answer.is_whole());
}
