//! `hawser mesh`: what an operator changes of the Mesh itself.

use api::{Backend, Encryption, Relay, SiteGateways};
use clap::{
    Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};

#[derive(Debug, Subcommand)]
pub enum MeshCommand {
    /// Change encryption, backend, relays and gateways, and say first what will be in clear between whom
    ///
    /// By way of Preferred no packet is lost: hawser peers shows CLEAR under PATH until all agents
    /// have followed.
    Set(MeshSet),
}

#[derive(Debug, clap::Args)]
pub struct MeshSet {
    /// Required: sealed or not at all. Preferred: in clear only to nodes that never had a key. None:
    /// as the backend does
    #[arg(long, value_name = "MODE", ignore_case = true, value_parser = encryption())]
    pub encryption: Option<Encryption>,
    /// What holds within one site, or between two, such as aws=None or aws,onprem=Required; mesh takes
    /// it away again. May be repeated
    #[arg(long, value_name = "SITES=MODE", value_parser = site_mode)]
    pub site_encryption: Vec<SiteMode>,
    /// What carries packets between nodes; udp, vxlan and direct do so in clear
    #[arg(long, value_name = "BACKEND", value_parser = backend())]
    pub backend: Option<Backend>,
    /// What carries where the backend does not get through, best first, such as udp,wireguard; none
    /// takes the list away
    #[arg(long, value_name = "BACKENDS", value_parser = fallback)]
    pub fallback: Option<Fallback>,
    /// With Preferred: in clear also to nodes whose key is gone
    #[arg(long, value_name = "BOOL")]
    pub allow_downgrade: Option<bool>,
    /// Where the tunnels' UDP port is blocked, sealed datagrams travel in the shape of VXLAN to this
    /// one: 4789 or 8472; none: not at all
    #[arg(long, value_name = "PORT", value_parser = shaped_port)]
    pub vxlan_shaped_port: Option<ShapedPort>,
    /// Auto: where two nodes don't reach each other, a third passes on what they seal, and cannot read
    /// it. Never: they stay apart
    #[arg(long, value_name = "MODE", ignore_case = true, value_parser = relay())]
    pub relay: Option<Relay>,
    /// Nodes of a site, best first, through which it speaks with other sites, such as edge=edge-1,edge-2;
    /// edge=none: each of its nodes speaks for itself. May be repeated
    #[arg(long, value_name = "SITE=NODES", value_parser = site_gateways)]
    pub site_gateways: Vec<SiteGateways>,
    /// What may go wrong: plaintext, where packets may go out in clear that could not before
    #[arg(long, value_enum, value_name = "RISK")]
    pub accept_risk: Option<MeshRisk>,
}

impl MeshSet {
    pub fn is_empty(&self) -> bool {
        let Self {
            encryption,
            site_encryption,
            backend,
            fallback,
            allow_downgrade,
            vxlan_shaped_port,
            relay,
            site_gateways,
            accept_risk: _,
        } = self;
        (encryption.is_none() && site_encryption.is_empty())
            && (backend.is_none() && fallback.is_none())
            && (allow_downgrade.is_none() && vxlan_shaped_port.is_none())
            && (relay.is_none() && site_gateways.is_empty())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MeshRisk {
    Plaintext,
}

fn encryption() -> impl TypedValueParser<Value = Encryption> {
    PossibleValuesParser::new(["Required", "Preferred", "None"])
        .map(|word| mode(&word).unwrap_or_default())
}

fn mode(word: &str) -> Option<Encryption> {
    match word.to_ascii_lowercase().as_str() {
        "required" => Some(Encryption::Required),
        "preferred" => Some(Encryption::Preferred),
        "none" => Some(Encryption::None),
        _ => None,
    }
}

/// What is to hold for one or two sites; none: as for the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteMode {
    pub sites: Vec<String>,
    pub encryption: Option<Encryption>,
}

fn site_mode(text: &str) -> Result<SiteMode, String> {
    let (sites, word) = text.split_once('=').ok_or("write it as aws=None or aws,onprem=None")?;
    let sites: Vec<String> = sites.split(',').map(str::to_owned).collect();
    if sites.len() > 2 {
        return Err("one or two sites, such as aws or aws,onprem".to_owned());
    }
    if let Some(odd) = sites.iter().find(|site| !is_site(site)) {
        return Err(format!("{odd:?} is no site: a-z, 0-9 and - inside, up to 63 of them"));
    }
    let encryption = match word {
        "mesh" => None,
        _ => Some(mode(word).ok_or("the mode is one of Required, Preferred, None, mesh")?),
    };
    Ok(SiteMode { sites, encryption })
}

/// None of them: the site has no gateways any more.
fn site_gateways(text: &str) -> Result<SiteGateways, String> {
    let (site, nodes) =
        text.split_once('=').ok_or("write it as edge=edge-1,edge-2 or edge=none")?;
    if !is_site(site) {
        return Err(format!("{site:?} is no site: a-z, 0-9 and - inside, up to 63 of them"));
    }
    let nodes: Vec<String> = match nodes {
        "none" => Vec::new(),
        _ => nodes.split(',').map(str::to_owned).collect(),
    };
    if let Some(odd) = nodes.iter().find(|node| !is_node(node)) {
        return Err(format!("{odd:?} is no node's name"));
    }
    let twice = |(at, node): (usize, &String)| nodes[..at].contains(node);
    if nodes.len() > 8 || nodes.iter().enumerate().any(twice) {
        return Err("up to eight nodes, each once".to_owned());
    }
    Ok(SiteGateways { site: site.to_owned(), gateways: nodes })
}

fn is_node(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.split('.').all(is_site)
}

fn relay() -> impl TypedValueParser<Value = Relay> {
    PossibleValuesParser::new(["Never", "Auto"])
        .map(|word| if word.eq_ignore_ascii_case("auto") { Relay::Auto } else { Relay::Never })
}

fn is_site(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// None: the shape is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapedPort(pub Option<u16>);

fn shaped_port(text: &str) -> Result<ShapedPort, String> {
    match text {
        "none" => Ok(ShapedPort(None)),
        "4789" => Ok(ShapedPort(Some(4789))),
        "8472" => Ok(ShapedPort(Some(8472))),
        _ => Err("VXLAN's ports are 4789 and 8472".to_owned()),
    }
}

/// A list of carriers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback(pub Vec<Backend>);

fn fallback(text: &str) -> Result<Fallback, String> {
    let known = |word: &str| match word {
        "wireguard" => Ok(Backend::Wireguard),
        "udp" => Ok(Backend::Udp),
        "vxlan" => Ok(Backend::Vxlan),
        "direct" => Ok(Backend::Direct),
        _ => Err(format!("{word:?} is none of wireguard, udp, vxlan, direct")),
    };
    if text == "none" {
        return Ok(Fallback(Vec::new()));
    }
    text.split(',').map(known).collect::<Result<_, _>>().map(Fallback)
}

/// Those that this version has.
fn backend() -> impl TypedValueParser<Value = Backend> {
    PossibleValuesParser::new(["wireguard", "udp", "vxlan", "direct"]).map(|word| {
        match word.as_str() {
            "udp" => Backend::Udp,
            "vxlan" => Backend::Vxlan,
            "direct" => Backend::Direct,
            _ => Backend::Wireguard,
        }
    })
}
