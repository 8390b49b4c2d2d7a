//! `hawser mesh`: what an operator changes of the Mesh itself.

use api::{Backend, Encryption};
use clap::{
    Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};

#[derive(Debug, Subcommand)]
pub enum MeshCommand {
    /// Change encryption and backend, and say first what will be in clear between whom
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
    /// What may go wrong: plaintext, where packets may go out in clear that could not before
    #[arg(long, value_enum, value_name = "RISK")]
    pub accept_risk: Option<MeshRisk>,
}

impl MeshSet {
    pub fn is_empty(&self) -> bool {
        let Self { encryption, backend, fallback, allow_downgrade, accept_risk: _ } = self;
        (encryption.is_none() && backend.is_none())
            && (fallback.is_none() && allow_downgrade.is_none())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MeshRisk {
    Plaintext,
}

fn encryption() -> impl TypedValueParser<Value = Encryption> {
    PossibleValuesParser::new(["Required", "Preferred", "None"]).map(|word| {
        match word.to_ascii_lowercase().as_str() {
            "preferred" => Encryption::Preferred,
            "none" => Encryption::None,
            _ => Encryption::Required,
        }
    })
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
