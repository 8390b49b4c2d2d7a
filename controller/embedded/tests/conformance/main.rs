//! One suite of raw HTTP cases, two kinds of servers: real ones say what is right, the embedded
//! one must say the same.
//!
//! ```text
//! cases/*.yaml ──→ a real server ──→ answers/*.json (recorded, and checked where one is at hand)
//!             └──→ embedded server ──→ compared with the answers; each difference stands in
//!                                      differences.yaml with its reason, or the suite fails
//! ```
//!
//! `HAWSER_KUBE_SCRIPTS` names the folder with `crd.sh` and `cp.sh`, which start the real servers;
//! `HAWSER_RECORD=1` writes their answers down anew.

#![allow(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

#[path = "../common/mod.rs"]
mod common;

mod case;
mod compare;
mod differences;
mod real;

use case::{Answers, File, run};
use common::Embedded;
use differences::{Differences, Found};
use real::Real;

#[test]
fn the_embedded_server_answers_as_a_cluster_does() {
    let server = Embedded::start();
    let endpoint = server.endpoint();
    let mut found = Vec::new();

    for file in File::all() {
        let answers = run(&file, &endpoint);
        found.extend(Found::between("embedded", &file, &Answers::recorded(&file), &answers));
    }

    Differences::load().settle("embedded", &found);
}

#[test]
fn the_recorded_answers_are_those_of_a_1_36_server() {
    check_recorded("crd");
}

#[test]
fn the_recorded_answers_are_those_of_a_1_20_server() {
    check_recorded("cp");
}

fn check_recorded(server: &str) {
    let Some(real) = Real::start(server) else {
        return;
    };
    let endpoint = real.endpoint();
    Real::install(&endpoint);
    let mut found = Vec::new();
    for file in File::all().into_iter().filter(|file| file.server == server) {
        let answers = run(&file, &endpoint);
        if std::env::var_os("HAWSER_RECORD").is_some() {
            answers.write(&file);
        }
        found.extend(Found::between(server, &file, &Answers::recorded(&file), &answers));
    }
    Differences::load().settle(server, &found);
}
