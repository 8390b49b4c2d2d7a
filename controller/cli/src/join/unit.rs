//! The systemd unit that runs the agent of a machine that has joined.
//!
//! The agent runs as root with the one capability that it needs. What it is kept from costs it
//! nothing: it reads the machine, writes its own directory and the kernel's network.

use std::{fs, path::Path, process::Command};

use super::machine::Agent;
use crate::exit::Failure;

/// The unit that `--install-service` writes.
pub const UNIT: &str = "hawser-agent.service";
const UNIT_FILE: &str = "/etc/systemd/system/hawser-agent.service";

/// Of which each line was seen not to hinder the tunnel device, netlink, nft and /proc/sys/net.
const KEPT_FROM: &str = "\
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
DevicePolicy=closed
DeviceAllow=/dev/net/tun rw
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
";

/// The unit's text. Pure; it names files with secrets and holds none.
pub fn text(agent: &Agent, port: u16) -> String {
    let words: Vec<String> = std::iter::once(agent.program.display().to_string())
        .chain(agent.arguments())
        .map(|word| quoted(&word))
        .collect();
    format!(
        "[Unit]\nDescription=Hawser: this machine's part in the mesh\n\
         After=network-online.target\nWants=network-online.target\n\
         # However often it ends: without it nothing is reached.\nStartLimitIntervalSec=0\n\n\
         [Service]\nExecStart={}\nRestart=always\nRestartSec=1\n\
         CapabilityBoundingSet={}\nReadWritePaths={}\n{KEPT_FROM}\n\
         [Install]\nWantedBy=multi-user.target\n",
        words.join(" "),
        capabilities(&agent.flags, port),
        quoted(&agent.state.display().to_string()),
    )
}

/// Devices, addresses, routes, rules, nftables; more only where a flag needs it.
fn capabilities(flags: &[String], port: u16) -> String {
    let mut all = vec!["CAP_NET_ADMIN"];
    if flags.iter().any(|flag| flag == "--canary" || flag.starts_with("--canary=")) {
        all.push("CAP_NET_RAW");
    }
    if port < 1024 {
        all.push("CAP_NET_BIND_SERVICE");
    }
    all.join(" ")
}

/// Writes the unit and starts it.
pub fn install(agent: &Agent, port: u16) -> Result<(), Failure> {
    fs::write(UNIT_FILE, text(agent, port))
        .map_err(|error| Failure::failed(format!("writing {UNIT_FILE}: {error}")))?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", "--now", UNIT])
}

/// Stops and removes the unit, if there is one. True if there was.
pub fn remove() -> Result<bool, Failure> {
    if !Path::new(UNIT_FILE).exists() {
        return Ok(false);
    }
    systemctl(&["disable", "--now", UNIT])?;
    fs::remove_file(UNIT_FILE)
        .map_err(|error| Failure::failed(format!("removing {UNIT_FILE}: {error}")))?;
    systemctl(&["daemon-reload"])?;
    Ok(true)
}

fn systemctl(arguments: &[&str]) -> Result<(), Failure> {
    let output = Command::new("systemctl").args(arguments).output();
    let output = output.map_err(|error| {
        Failure::failed(format!("starting systemctl: {error}"))
            .check("without systemd, run hawser join in the foreground, under your own supervisor")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::failed(format!("systemctl {}: {said}", arguments.join(" "))))
}

/// As systemd reads a word: in quotes, with its own signs doubled.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let escaped =
        word.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use std::process::Output;

    use super::*;

    fn agent() -> Agent {
        Agent {
            program: "/usr/bin/hawser-agent".into(),
            node: "edge-1".to_owned(),
            state: "/var/lib/my hawser".into(),
            access: "/var/lib/my hawser/gateway.kubeconfig".into(),
            flags: vec!["--listen-port".to_owned(), "7777".to_owned()],
        }
    }

    fn lines<'a>(unit: &'a str, start: &str) -> Vec<&'a str> {
        unit.lines().filter(|line| line.starts_with(start)).collect()
    }

    #[test]
    fn a_unit_runs_the_agent_with_what_was_asked_for() {
        let unit = text(&agent(), 7777);

        assert_eq!(
            lines(&unit, "ExecStart="),
            ["ExecStart=/usr/bin/hawser-agent run --node edge-1 --state \"/var/lib/my hawser\" \
              --source \"kube:/var/lib/my hawser/gateway.kubeconfig\" --listen-port 7777"]
        );
        assert_eq!(lines(&unit, "ReadWrite"), ["ReadWritePaths=\"/var/lib/my hawser\""]);
        assert_eq!(quoted("a%h$b\"c"), r#""a%%h$$b\"c""#);
    }

    #[test]
    fn a_capability_more_comes_with_the_flag_that_needs_it_alone() {
        let of = |flag: &str, port| {
            let flags = vec![flag.to_owned()];
            text(&Agent { flags, ..agent() }, port)
        };

        let plain = of("--pin-workers", 51820);
        let more = of("--canary=5", 443);

        assert_eq!(lines(&plain, "Capab"), ["CapabilityBoundingSet=CAP_NET_ADMIN"]);
        let all = "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE";
        assert_eq!(lines(&more, "Capab"), [all]);
    }

    /// None where systemd is not installed; said aloud.
    fn analyze(unit: &str, words: &[&str]) -> Option<Output> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(UNIT);
        fs::write(&file, unit).unwrap();
        let command = Command::new("systemd-analyze").args(words).arg(&file).output();
        if command.is_err() {
            eprintln!("skipped: there is no systemd-analyze");
        }
        command.ok()
    }

    #[test]
    fn systemd_understands_every_line_of_it() {
        // verify looks for the program.
        let program = std::env::current_exe().unwrap();
        let unit = text(&Agent { program, ..agent() }, 443);
        let complaints = |unit: &str| {
            let output = analyze(unit, &["verify", "--man=no"])?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Some((output.status.success(), said))
        };

        let Some(said) = complaints(&unit) else { return };
        let control = complaints(&unit.replace("Restart=", "Restrat=")).unwrap();

        assert_eq!(said, (true, String::new()));
        assert!(control.1.contains("Restrat"), "{}", control.1);
    }

    #[test]
    fn what_it_is_kept_from_leaves_little_exposed() {
        let exposed = |unit: &str| {
            let words = ["security", "--offline=true", "--no-pager", "--threshold=33"];
            Some(analyze(unit, &words)?.status.success())
        };
        let unit = text(&agent(), 51820);

        assert!(exposed(&unit).unwrap_or(true));
        assert!(!exposed(&unit.replace(KEPT_FROM, "")).unwrap_or(false));
    }
}
