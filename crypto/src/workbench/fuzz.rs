//! What is fuzzed: one function for each way into the crate.
//!
//! `fuzz/` gives them to libFuzzer; the tests here run the same functions over the same corpus and
//! over mutations of it for a bounded time, with the stable toolchain. Each says more than "does
//! not panic": it compares with another implementation, or states what must never come true.

mod doorman;
mod engine;
mod handshake;
mod input;
mod mesh;
mod native;
mod packets;
mod peers;
mod times;
mod window;

/// A function that takes any bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name of its corpus and of its binary in `fuzz/`.
    pub name: &'static str,
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($name:literal => $run:path,)+) => {
        pub const TARGETS: &[Target] = &[$(Target { name: $name, run: $run },)+];
    };
}

targets! {
    "message" => engine::message,
    "boringtun_seam" => engine::seam,
    "mesh" => native::mesh,
    "train" => native::train,
    "import" => native::import,
    "boringtun_mesh" => mesh::boringtun,
    "initiation" => handshake::initiation,
    "response" => handshake::response,
    "cookie_reply" => handshake::cookie_reply,
    "doorman" => doorman::doorman,
    "timestamps" => times::timestamps,
    "ip_packet" => packets::ip_packet,
    "source" => packets::source,
    "routes" => peers::routes,
    "peers" => peers::peers,
    "key_text" => peers::key_text,
    "window" => window::window,
}

/// Runs the target of that name.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of that name is in the list").run)(data);
}

#[cfg(test)]
mod tests;
