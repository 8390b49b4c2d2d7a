//! What a machine must have before it can join, found before anything is asked or changed.

use std::{net::UdpSocket, path::Path, time::Duration};

use jiff::Timestamp;

use crate::{
    exit::{Exit, Failure},
    text,
};

/// Certificates and handshakes bear so much.
const CLOCKS_APART: Duration = Duration::from_secs(600);

/// Facts about a machine.
#[derive(Clone, Debug)]
pub struct Machine {
    pub root: bool,
    /// /dev/net/tun is there.
    pub tun: bool,
    /// `nft` is on PATH.
    pub nft: bool,
    /// The tunnels' port is free.
    pub port_free: bool,
    pub port: u16,
    /// Who this machine is in a mesh already.
    pub joined: bool,
}

impl Machine {
    /// Looks.
    pub fn look(state: &Path, port: u16) -> Machine {
        Machine {
            root: nix::unistd::geteuid().is_root(),
            tun: Path::new("/dev/net/tun").exists(),
            nft: on_path("nft"),
            port_free: ["::", "0.0.0.0"].iter().any(|any| UdpSocket::bind((*any, port)).is_ok()),
            port,
            joined: super::access_file(state).exists(),
        }
    }

    /// The first thing that is missing. Pure.
    pub fn judge(&self) -> Result<(), Failure> {
        let Machine { root, tun, nft, port_free, port, joined } = self;
        if !root {
            return Err(Failure::new(Exit::Forbidden, "joining takes root (CAP_NET_ADMIN)")
                .check("run it with sudo"));
        }
        if *joined {
            return Err(Failure::new(Exit::Refused, "this machine is in a mesh already")
                .check("hawser leave takes it out; hawser status shows where it is"));
        }
        if !tun {
            return Err(Failure::failed("there is no /dev/net/tun")
                .check("modprobe tun; in a container, give it the device"));
        }
        if !nft {
            return Err(Failure::failed(
                "there is no nft program, which guards the mesh's packets",
            )
            .check("install nftables"));
        }
        if !port_free {
            return Err(Failure::failed(format!("udp/{port} is taken by another program")).check(
                "is an agent or another WireGuard running? Choose a port: -- --listen-port N",
            ));
        }
        Ok(())
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian's sudo has them on its path, a plain root shell may not.
    let mut dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.any(|dir| dir.join(program).is_file())
}

/// Two clocks, or an error that names both: TLS alone would help nobody. Pure.
pub fn clocks(ours: Timestamp, theirs: Option<Timestamp>) -> Result<(), Failure> {
    let Some(theirs) = theirs else {
        return Ok(());
    };
    let (apart, word) = if ours < theirs {
        (theirs.duration_since(ours), "behind")
    } else {
        (ours.duration_since(theirs), "ahead of")
    };
    let apart = Duration::try_from(apart).unwrap_or_default();
    if apart <= CLOCKS_APART {
        return Ok(());
    }
    let apart = text::duration(apart);
    Err(Failure::failed(format!(
        "this machine's clock is {apart} {word} the gateway's: it is {ours} here, {theirs} there"
    ))
    .check("set the clock (timedatectl set-ntp true), here or there"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Machine {
        Machine { root: true, tun: true, nft: true, port_free: true, port: 51820, joined: false }
    }

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        assert!(good().judge().is_ok());
        for (machine, word) in [
            (Machine { root: false, ..good() }, "sudo"),
            (Machine { tun: false, ..good() }, "modprobe tun"),
            (Machine { nft: false, ..good() }, "install nftables"),
            (Machine { port_free: false, ..good() }, "--listen-port"),
            (Machine { joined: true, ..good() }, "hawser leave"),
        ] {
            let said = machine.judge().unwrap_err().to_string();
            assert!(said.contains(word), "{said}");
        }
    }

    #[test]
    fn a_clock_a_year_off_is_called_that() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let year = Duration::from_secs(365 * 86_400);

        let behind = clocks(now - year, Some(now)).unwrap_err().to_string();
        let ahead = clocks(now + year, Some(now)).unwrap_err().to_string();

        assert!(behind.contains("365d behind the gateway's"), "{behind}");
        assert!(ahead.contains("365d ahead of the gateway's"), "{ahead}");
        assert!(clocks(now + Duration::from_secs(60), Some(now)).is_ok());
        assert!(clocks(now, None).is_ok());
    }
}
