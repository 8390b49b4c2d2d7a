//! The picture: sites as boxes in a row, the nodes in them, and lines between those that speak.
//!
//! ```text
//!   ┌─ a ─────┐      ┌─ b ─────┐
//!   │ a1    ──┼──────┼── g1    │
//!   │ a2    ──┼──────┼──╯      │
//!   └─────────┘      │   b1    │
//!                    └─────────┘
//! ```

use std::{collections::BTreeMap, fmt::Write as _};

use api::Encryption;

use super::{Graph, Link, nodes};
use crate::text;

/// Pixels.
const WIDTH: usize = 220;
const GAP: usize = 120;
const LINE: usize = 26;
const HEAD: usize = 40;
const MARGIN: usize = 20;

const STYLE: &str = "text{font:13px sans-serif;fill:#222}.site{fill:#f4f6f8;stroke:#8a97a5}\
.node{fill:#fff;stroke:#8a97a5}.gateway{fill:#dcefe0;stroke:#2e7d46;stroke-width:2}\
.away{stroke-dasharray:4 3}.sealed{stroke:#2e7d46;stroke-opacity:.55}\
.clear{stroke:#c62828;stroke-width:2}.head{font-weight:bold}";

/// A point on the picture.
type At = (usize, usize);

pub(super) fn draw(graph: &Graph) -> String {
    let small = graph.is_small();
    let rows = graph.sites.iter().map(|site| if small { site.nodes.len() } else { 1 });
    let height = 2 * MARGIN + HEAD + LINE * rows.max().unwrap_or(0);
    let width = 2 * MARGIN + graph.sites.len() * (WIDTH + GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\"><style>{STYLE}</style>\n"
    );
    let mut places = BTreeMap::new();
    let mut boxes = String::new();
    for place in 0..graph.sites.len() {
        site(graph, place, &mut boxes, &mut places);
    }
    out.push_str(&lines(graph, &places));
    out + &boxes + "</svg>\n"
}

fn site<'a>(graph: &'a Graph, place: usize, out: &mut String, places: &mut BTreeMap<&'a str, At>) {
    let (site, small) = (&graph.sites[place], graph.is_small());
    let (x, y) = (MARGIN + place * (WIDTH + GAP), MARGIN);
    let rows = if small { site.nodes.len() } else { 0 };
    let height = HEAD + LINE * rows;
    writeln!(out, "<rect class=\"site\" x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\" fill-opacity=\".6\"/>").ok();
    let title = format!("{}, {}", site.name, nodes(site.nodes.len()));
    label(out, "head", (x + 10, y + 22), &title);
    places.insert(&site.name, (x + WIDTH / 2, y + HEAD / 2));
    for (row, node) in site.nodes.iter().enumerate().take(rows) {
        let top = y + HEAD - 6 + row * LINE;
        let gateway = site.gateways.contains(&node.name);
        let class = format!(
            "{}{}",
            if gateway { "gateway" } else { "node" },
            if node.ready { "" } else { " away" }
        );
        let (left, wide, high) = (x + 10, WIDTH - 20, LINE - 5);
        writeln!(out, "<rect class=\"{class}\" x=\"{left}\" y=\"{top}\" width=\"{wide}\" height=\"{high}\" rx=\"4\"/>").ok();
        let subnet = node.subnet.as_deref().unwrap_or_default();
        label(out, "name", (x + 18, top + 15), &format!("{}  {subnet}", node.name));
        places.insert(&node.name, (x + WIDTH / 2, top + LINE / 2));
    }
}

/// From edge to edge, behind the boxes.
fn lines(graph: &Graph, places: &BTreeMap<&str, At>) -> String {
    let mut out = String::new();
    for Link { from, to, pairs, encryption } in &graph.links {
        let class = if *encryption == Encryption::None { "clear" } else { "sealed" };
        let ends: Vec<(&String, &String)> = if graph.is_small() {
            pairs.iter().map(|(a, b)| (a, b)).collect()
        } else {
            vec![(from, to)]
        };
        for (a, b) in ends {
            let [a, b] = [a, b].map(|name| places.get(name.as_str()));
            let (Some((x1, y1)), Some((x2, y2))) = (a, b) else { continue };
            let (x1, x2) = (x1 + WIDTH / 2 - 10, x2 - WIDTH / 2 + 10);
            writeln!(
                out,
                "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>"
            )
            .ok();
        }
    }
    out
}

fn label(out: &mut String, class: &str, (x, y): At, words: &str) {
    let words = text::printable(words);
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    writeln!(out, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{words}</text>").ok();
}
