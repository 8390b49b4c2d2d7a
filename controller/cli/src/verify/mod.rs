//! `hawser verify`.
use crate::{
    args::Verify,
    exit::{Exit, Failure},
    settings::Settings,
    terminal::Terminal,
};
pub async fn run(_c: Option<Verify>, _s: &Settings, _t: &Terminal) -> Result<Exit, Failure> {
    Ok(Exit::Ok)
}
