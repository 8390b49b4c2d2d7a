//! `hawser leave`: the mesh forgets the machine, then the machine the mesh.

use api::join::LEAVE_PATH;
use kube::{Config, config::KubeConfigOptions, config::Kubeconfig};

use crate::{
    args::{Leave, Risk},
    exit::{Exit, Failure},
    join::{access_file, cni, machine, ssh, unit},
    node_file::NodeFile,
    settings::Settings,
    terminal::Terminal,
};

pub(super) async fn run(
    args: Leave,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let Leave { state, accept_risk } = args;
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new(Exit::Forbidden, "leaving takes root (CAP_NET_ADMIN)")
            .check("run it with sudo"));
    }
    let access = access_file(&state);
    let Ok(kubeconfig) = Kubeconfig::read_from(&access) else {
        return Err(Failure::failed(format!(
            "this machine has not joined: no {}",
            access.display()
        ))
        .check("is its state elsewhere (--state)? hawser-agent uninstall removes what is left"));
    };
    let pools = NodeFile::beside(&state.join("agent.sock")).pools;
    let session = std::env::var("SSH_CONNECTION").ok();
    if let Some(address) = ssh::through_mesh(session.as_deref(), &pools)
        && accept_risk != Some(Risk::LoseSsh)
    {
        return Err(Failure::new(
            Exit::Refused,
            format!("this SSH session runs through the mesh ({address}) and would end"),
        )
        .check("come over another address, or add --accept-risk=lose-ssh"));
    }
    let node = kubeconfig.auth_infos.first().map(|user| user.name.clone()).unwrap_or_default();
    if settings.dry_run.is_some() {
        terminal.raw(&format!("meshnode/{node} left (client dry run)\n"))?;
        return Ok(Exit::Ok);
    }
    terminal.confirm(&format!("Take this machine ({node}) out of the mesh")).await?;
    if unit::remove()? {
        terminal.say("ok    the systemd unit is gone");
    }
    match tell(kubeconfig, settings).await {
        Ok(()) => terminal.say("ok    the mesh has forgotten this machine"),
        // A machine that was thrown out, or whose gateway is gone, goes all the same.
        Err(why) => terminal.say(&format!(
            "skip  the gateway was not told: {why}\n      hawser revoke {node} does the same there"
        )),
    }
    let plugin = cni::installed(&state);
    machine::uninstall(&state, plugin.as_ref())?;
    if plugin.is_some() {
        terminal.say("ok    the CNI plugin and its configuration are gone");
    }
    terminal.say("ok    device, routes, guard and keys are gone");
    terminal.raw(&format!("meshnode/{node} left\n"))?;
    Ok(Exit::Ok)
}

async fn tell(kubeconfig: Kubeconfig, settings: &Settings) -> Result<(), String> {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.map_err(|error| error.to_string())?;
    config.connect_timeout = Some(settings.timeout);
    config.default_retry = false;
    let client = kube::Client::try_from(config).map_err(|error| error.to_string())?;
    let request = hyper::http::Request::post(LEAVE_PATH).body(Vec::new());
    let request = request.map_err(|error| error.to_string())?;
    match tokio::time::timeout(settings.timeout, client.request_text(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {:?}", settings.timeout)),
    }
}
