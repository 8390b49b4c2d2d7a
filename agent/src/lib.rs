//! The node's part: keys, sessions, TUN, routes, guard.
//!
//! ```text
//! source ─▶ View ─┐
//!                 ├─▶ Plan ─▶ changes_from(Actual) ─▶ apply ─▶ kernel, data path
//! machine ─▶ Facts┘                  ▲
//!                                    └── kernel (events wake it)
//! ```

pub mod admin;
pub mod apply;
pub mod boot;
mod canary;
mod capture;
mod chained;
pub mod datapath;
pub mod facts;
mod failover;
mod first;
mod freebind;
pub mod identity;
pub mod install;
pub mod kernel;
pub mod keyring;
mod live;
pub mod metrics;
pub mod options;
mod outside;
pub mod plan;
mod probe;
pub mod reached;
pub mod rotation;
mod round;
pub mod run;
pub mod seat;
pub mod snapshot;
pub mod source;
pub mod state;
pub mod tls;
pub mod uninstall;
pub mod view;

use std::path::Path;

use anyhow::Context;

/// Creates the node's key if there is none and prints the public half.
pub fn keygen(state: &Path) -> anyhow::Result<()> {
    let identity = identity::Identity::load_or_create(state).context("creating the node key")?;
    let newest = identity.public_keys().pop().context("reading the node key")?;
    println!("{}", newest.1);
    Ok(())
}

/// Answers a gateway's challenge with the newest key and prints the proof.
pub fn prove(asked: &options::Prove) -> anyhow::Result<()> {
    let identity = identity::Identity::load(&asked.state.directory).context("reading the key")?;
    let key = identity.private_key(identity.current_epoch()).context("reading the node key")?;
    let proof = key.prove(&asked.challenge, asked.context.as_bytes()).context("the challenge")?;
    println!("{proof}");
    Ok(())
}
