//! `hawser join`: from a token to the first ping.

use std::{
    io::Read,
    net::IpAddr,
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use api::join::{Access, Token};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use crate::{
    agent,
    args::Join,
    exit::{Exit, Failure},
    join::{
        access_file, cni,
        entrance::Entrance,
        gateway::Url,
        key_file,
        machine::{self, Agent},
        ping,
        preflight::Machine,
        unit,
    },
    kubeconfig::{self, Existing},
    node_file::NodeFile,
    settings::Settings,
    terminal::Terminal,
    text,
};

/// What is read of a token's file: more than any token has.
const MOST: u64 = 4096;
/// How long the agent may take to be ready and to reach somebody.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a gateway that is away or busy is asked again, unless `--timeout` says: 150 machines
/// behind one address are let in within a minute.
const GATEWAY: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);

pub(super) async fn run(
    args: Join,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let begun = Instant::now();
    Machine::look(&args.state, port(&args.flags)).judge()?;
    terminal.say("ok    this machine: root, /dev/net/tun, nft, a free port");
    let agent = enter(&args, settings, terminal).await?;
    terminal.say(&format!("ok    joined as {}", text::printable(&agent.node)));
    if args.install_service {
        unit::install(&agent, port(&agent.flags))?;
        terminal.say(&format!("ok    systemd unit {} runs", unit::UNIT));
        ready(&args, None, terminal).await?;
        return finish(&agent, begun, terminal);
    }
    foreground(&agent, &args, begun, terminal).await
}

/// Gets the machine in; its agent is to be started.
async fn enter(args: &Join, settings: &Settings, terminal: &Terminal) -> Result<Agent, Failure> {
    let Join { url, token_file, name, state, announce, flags, .. } = args;
    let url = Url::parse(url)?;
    let token = read_token(token_file)?;
    let entrance = Entrance {
        url: &url,
        token: &token,
        name: &name.clone().unwrap_or_else(hostname),
        announce,
        state,
        answer: settings.timeout,
        gateway: if settings.timeout_named { settings.timeout } else { GATEWAY },
    };
    let answer = entrance.enter(terminal).await?;
    let key = machine::certificate_key(&key_file(state))?;
    let access = Access {
        node: &answer.node,
        server: &url.to_text(),
        authority: &answer.authority,
        certificate: &answer.certificate,
        key: &key.serialize_pem(),
    };
    let file = access_file(state);
    kubeconfig::write_secret(&file, &access.to_kubeconfig(), Existing::Keep)?;
    // In: from now on the key is the access's.
    let _ = std::fs::remove_file(key_file(state));
    Ok(Agent {
        program: machine::agent_program(),
        node: answer.node,
        state: state.clone(),
        access: file,
        flags: flags.clone(),
    })
}

/// Once somebody has answered, containers may come.
async fn ready(args: &Join, child: Option<&mut Child>, terminal: &Terminal) -> Result<(), Failure> {
    let Join { state, cni: when, cni_bin_dir, cni_conf_dir, .. } = args;
    first_ping(state, child, terminal).await?;
    let dirs = cni::Dirs { bin: cni_bin_dir.clone(), conf: cni_conf_dir.clone() };
    let subnets = !NodeFile::beside(&state.join("agent.sock")).subnets.is_empty();
    match cni::judge(*when, &cni::Found { subnets, ..cni::look(&dirs) }) {
        Ok(()) => {
            cni::install(state, &dirs)?;
            let conf = dirs.conf.display();
            terminal.say(&format!("ok    containers get addresses of the mesh ({conf})"));
        }
        Err(Some(why)) => terminal.say(&format!("skip  {why}")),
        Err(None) => {}
    }
    Ok(())
}

/// Token texts are secrets: neither an argument nor an error ever holds one.
fn read_token(file: &str) -> Result<Token, Failure> {
    if file.starts_with("hawser1:") {
        return Err(Failure::usage("a token does not belong on the command line")
            .check("everybody sees arguments: write it to a file, or --token-file - and type it"));
    }
    let mut bytes = Vec::new();
    let read = match file {
        "-" => std::io::stdin().lock().take(MOST).read_to_end(&mut bytes),
        path => std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes)),
    };
    read.map_err(|error| Failure::usage(format!("reading the token from {file}: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::usage("the token is no text"))?;
    Token::parse(&text).map_err(|bad| {
        Failure::usage(bad.to_string()).check("hawser token create prints one, whole, in one line")
    })
}

/// The agent lives as long as this does, and this as long as the agent.
async fn foreground(
    agent: &Agent,
    args: &Join,
    begun: Instant,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let failed = |error| Failure::failed(format!("watching for signals: {error}"));
    let mut stop = signal(SignalKind::terminate()).map_err(failed)?;
    let mut child = agent.start()?;
    let ready = tokio::select! {
        ready = ready(args, Some(&mut child), terminal) => ready,
        _ = stop.recv() => return ended(end(child).await),
    };
    if let Err(failure) = ready {
        drop(end(child).await);
        return Err(failure);
    }
    finish(agent, begun, terminal)?;
    loop {
        tokio::select! {
            _ = stop.recv() => return ended(end(child).await),
            () = sleep(LOOK * 10) => {}
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(Failure::failed(format!("the agent ended: {status}"))
                .check("its log is above; the machine is still in the mesh: hawser leave"));
        }
    }
}

fn ended(result: std::io::Result<()>) -> Result<Exit, Failure> {
    result.map_err(|error| Failure::failed(format!("ending the agent: {error}")))?;
    Ok(Exit::Ok)
}

/// SIGTERM, and its end; what it leaves fails closed.
async fn end(mut child: Child) -> std::io::Result<()> {
    let pid = i32::try_from(child.id()).unwrap_or_default();
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    for _ in 0..100 {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        sleep(LOOK).await;
    }
    child.kill()
}

/// Until somebody in the mesh has answered; an agent that ends is an error.
async fn first_ping(
    state: &Path,
    mut child: Option<&mut Child>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let socket = state.join("agent.sock");
    let begun = Instant::now();
    let mut alone = None;
    while begun.elapsed() < PATIENCE {
        if let Some(child) = child.as_mut()
            && let Ok(Some(status)) = child.try_wait()
        {
            return Err(Failure::failed(format!("the agent ended: {status}"))
                .check("its log is above; hawser leave takes the machine out again"));
        }
        if let Ok(mesh) = agent::state(&socket, Duration::from_secs(1)).await {
            let up = mesh.peers.iter().filter(|peer| peer.up == Some(true));
            for peer in up {
                let address = peer.subnets.first().map(|subnet| api::first_host(*subnet));
                let Some((address, took)) = address.and_then(answers) else { continue };
                let (peer, took) = (text::printable(&peer.name), text::round_trip(Some(took)));
                terminal.say(&format!("ok    {peer} answers at {address} in {took}"));
                return Ok(());
            }
            let view = mesh.view.age_seconds.is_some() && mesh.peers.is_empty();
            let since = *alone.get_or_insert(Instant::now());
            if view && since.elapsed() > Duration::from_secs(3) {
                terminal.say("ok    the agent is ready; there is nobody else in the mesh yet");
                return Ok(());
            }
        }
        sleep(LOOK).await;
    }
    Err(Failure::new(Exit::TimedOut, format!("nobody in the mesh answers within {PATIENCE:?}"))
        .check(
            "may this machine send UDP to the nodes' port 51820? hawser peers shows what it tries",
        ))
}

fn answers(address: IpAddr) -> Option<(IpAddr, f64)> {
    let took = ping::once(address, Duration::from_millis(500)).ok()?;
    Some((address, took.as_secs_f64()))
}

fn finish(agent: &Agent, begun: Instant, terminal: &Terminal) -> Result<Exit, Failure> {
    let seconds = begun.elapsed().as_secs_f64();
    terminal
        .raw(&format!("meshnode/{} joined in {seconds:.1}s\n", text::printable(&agent.node)))?;
    Ok(Exit::Ok)
}

/// The port that the agent will listen on.
fn port(flags: &[String]) -> u16 {
    let value = flags.iter().enumerate().find_map(|(at, flag)| match flag.as_str() {
        "--listen-port" => flags.get(at + 1).cloned(),
        other => other.strip_prefix("--listen-port=").map(str::to_owned),
    });
    value.and_then(|value| value.parse().ok()).unwrap_or(51820)
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_the_one_that_the_agent_is_given() {
        let flags = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();

        assert_eq!(port(&[]), 51820);
        assert_eq!(port(&flags("--listen-port 7")), 7);
        assert_eq!(port(&flags("--tun x --listen-port=9")), 9);
    }

    #[test]
    fn a_token_on_the_command_line_is_refused_and_not_repeated() {
        let said = read_token("hawser1:secret").unwrap_err().to_string();

        assert!(said.contains("command line") && !said.contains("secret"), "{said}");
    }

    #[test]
    fn a_file_that_is_no_token_says_so_without_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        for content in ["", "hawser1:sesame", &"sesame".repeat(200_000)] {
            std::fs::write(&file, content).unwrap();
            let said = read_token(&file.display().to_string()).unwrap_err().to_string();
            assert!(said.contains("token") && !said.contains("sesame"), "{said}");
        }
    }
}
