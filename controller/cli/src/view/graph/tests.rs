use serde_json::json;

use super::*;
use crate::args::Format;

fn mesh(gateways: &[&str]) -> Mesh {
    let spec = json!({"pools": [{"cidr": "10.42.0.0/16", "nodePrefixLength": 24}],
        "siteEncryption": [{"sites": ["a", "b"], "encryption": "None"}],
        "siteGateways": [{"site": "b", "gateways": gateways}]});
    serde_json::from_value(json!({"apiVersion": "hawser.dev/v1alpha1", "kind": "Mesh",
        "metadata": {"name": "default"}, "spec": spec}))
    .unwrap()
}

fn node(name: &str, site: Option<&str>, ready: bool) -> MeshNode {
    let status = if ready { "True" } else { "False" };
    serde_json::from_value(json!({"apiVersion": "hawser.dev/v1alpha1", "kind": "MeshNode",
        "metadata": {"name": name},
        "spec": {"site": site, "subnets": ["10.42.7.0/24"], "keyEpoch": 1},
        "status": {"conditions": [{"type": "Ready", "status": status, "reason": "x", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
    .unwrap()
}

fn nodes() -> Vec<MeshNode> {
    vec![
        node("a1", Some("a"), true),
        node("a2", Some("a"), false),
        node("b1", Some("b"), true),
        node("b2", Some("b"), true),
        node("x<1>", None, true),
    ]
}

fn drawn(graph: &Graph, drawing: Drawing) -> String {
    graph.draw(drawing).render(Format::Table)
}

#[test]
fn a_terminal_shows_sites_gateways_and_what_is_between_them() {
    let graph = Graph::new(&mesh(&["b1", "a2"]), &nodes());

    assert_eq!(
        drawn(&graph, Drawing::Text),
        "\
(no site)  1 node, each speaks for itself
    x<1>  10.42.7.0/24
a  2 nodes, each speaks for itself
    a1  10.42.7.0/24
    a2  10.42.7.0/24  not ready
b  2 nodes, through b1
    b1  10.42.7.0/24  gateway
    b2  10.42.7.0/24
(no site) ── a  2 tunnels, encryption Required
(no site) ── b  1 tunnels, encryption Required
a ── b  2 tunnels, encryption None
! a2 is named as a gateway of b and is no node of it
"
    );
}

#[test]
fn graphviz_and_browsers_get_a_line_for_each_pair_that_speaks_and_no_markup_of_others() {
    let graph = Graph::new(&mesh(&["b1"]), &nodes());
    let (dot, svg) = (drawn(&graph, Drawing::Dot), drawn(&graph, Drawing::Svg));

    assert_eq!(dot.matches(" -- ").count(), 5);
    assert!(dot.contains("\"a1\" -- \"b1\" [color=red];") && !dot.contains("\"a1\" -- \"b2\""));
    assert_eq!((svg.matches("<line").count(), svg.matches("class=\"clear\"").count()), (5, 2));
    assert!(svg.contains("x&lt;1&gt;") && !svg.contains("x<1>"), "{svg}");
    assert_eq!(svg.matches("class=\"gateway\"").count(), 1);
}

#[test]
fn a_large_mesh_is_drawn_by_its_sites() {
    let many = (0..60).map(|n| node(&format!("n{n}"), Some(["a", "b", "c"][n % 3]), true));
    let graph = Graph::new(&mesh(&["n1"]), &many.collect::<Vec<_>>());

    let (dot, svg) = (drawn(&graph, Drawing::Dot), drawn(&graph, Drawing::Svg));

    assert_eq!((dot.matches(" -- ").count(), svg.matches("<line").count()), (3, 3));
    assert!(dot.contains("\"a, 20 nodes\"") && svg.contains("b, 20 nodes"), "{dot}");
}
