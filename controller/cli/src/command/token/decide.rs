//! `hawser token approve` and `deny`: what becomes of a machine that waits.

use api::{Decision, JoinToken, Waiting};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    args::{Decide, DryRun},
    cluster::Cluster,
    exit::Failure,
    settings::Settings,
    terminal::Terminal,
    text,
    view::tokens::name_of,
};

/// The gateway writes to the same tokens: a lost race is looked at anew.
const TRIES: usize = 5;

pub(super) async fn run(
    which: Decide,
    decision: Decision,
    cluster: &Cluster,
    (settings, terminal): (&Settings, &Terminal),
) -> Result<(), Failure> {
    for _ in 0..TRIES {
        let all = cluster.tokens().await?;
        let (token, waiting) = find(&all, &which)?;
        let announces = match waiting.prefixes.as_slice() {
            [] => String::new(),
            prefixes => format!(", which announces {}", text::list(prefixes)),
        };
        let who = format!(
            "{} with the key {} from {}{announces}",
            text::printable(&waiting.node),
            text::printable(&waiting.fingerprint),
            text::printable(&waiting.from)
        );
        if settings.dry_run != Some(DryRun::Client)
            && !write(token, waiting, decision, (cluster, settings)).await?
        {
            continue;
        }
        let verb = match decision {
            Decision::Approved => "approved",
            Decision::Denied => "denied",
        };
        let how = match settings.dry_run {
            Some(DryRun::Client) => " (client dry run)",
            Some(DryRun::Server) => " (server dry run)",
            None => "",
        };
        terminal.say(&who);
        return terminal.raw(&format!(
            "jointoken/{} {} {verb}{how}\n",
            name_of(token),
            which.machine
        ));
    }
    Err(Failure::failed("others write to this token all the time").check("run it again"))
}

/// The one that waits under this name, and its token. Pure.
fn find<'a>(all: &'a [JoinToken], which: &Decide) -> Result<(&'a JoinToken, &'a Waiting), Failure> {
    let of = |token: &'a JoinToken| {
        token.status.iter().flat_map(|status| &status.waiting).map(move |one| (token, one))
    };
    let waiting: Vec<_> = all.iter().flat_map(of).collect();
    let fits = |(token, one): &&(&JoinToken, &Waiting)| {
        one.node == which.machine && which.token.as_ref().is_none_or(|name| name == name_of(token))
    };
    let found: Vec<_> = waiting.iter().filter(fits).collect();
    match found[..] {
        [one] => Ok(*one),
        [] => {
            let names = text::list(waiting.iter().take(20).map(|(_, one)| &one.node));
            let said = format!("no machine {:?} waits for an approval", which.machine);
            Err(Failure::failed(said).check(format!("those that wait are {names}")))
        }
        _ => {
            let tokens = text::list(found.iter().map(|(token, _)| name_of(token)));
            let said = format!("{:?} waits more than once", which.machine);
            Err(Failure::usage(said).check(format!("say which with --token: {tokens}")))
        }
    }
}

/// One conditional write. False if somebody else was faster.
async fn write(
    token: &JoinToken,
    machine: &Waiting,
    decision: Decision,
    (cluster, settings): (&Cluster, &Settings),
) -> Result<bool, Failure> {
    let mut waiting = token.status.clone().unwrap_or_default().waiting;
    for one in waiting.iter_mut().filter(|one| *one == machine) {
        one.decision = Some(decision);
        one.decided_by = super::operator();
    }
    let version =
        json!({"resourceVersion": token.metadata.resource_version, "uid": token.metadata.uid});
    let patch = json!({"metadata": version, "status": {"waiting": waiting}});
    let parameters = PatchParams { dry_run: settings.dry_run.is_some(), ..PatchParams::default() };
    let api = Api::<JoinToken>::all(cluster.client.clone());
    let patch = Patch::Merge(&patch);
    let answer = async {
        match api.patch_status(name_of(token), &parameters, &patch).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    };
    cluster.ask("patch jointokens/status", answer).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, machines: &[&str]) -> JoinToken {
        let waiting: Vec<_> = machines
            .iter()
            .map(|node| json!({"node": node, "key": "a", "fingerprint": "b", "from": "c", "at": "d"}))
            .collect();
        let spec = json!({"hash": "", "expiresAt": ""});
        let status = json!({"waiting": waiting});
        let metadata = json!({"name": name});
        let token = json!({"apiVersion": "hawser.dev/v1alpha1", "kind": "JoinToken",
            "metadata": metadata, "spec": spec, "status": status});
        serde_json::from_value(token).unwrap()
    }

    #[test]
    fn a_machine_is_found_by_its_name_and_told_apart_by_its_token() {
        let all = [token("a", &["edge-1", "edge-2"]), token("b", &["edge-2"])];
        let find = |machine: &str, token: Option<&str>| {
            let which = Decide { machine: machine.to_owned(), token: token.map(str::to_owned) };
            let found = find(&all, &which);
            found.map(|(token, _)| name_of(token).to_owned()).map_err(|failure| failure.to_string())
        };

        assert_eq!(find("edge-1", None).unwrap(), "a");
        assert_eq!(find("edge-2", Some("b")).unwrap(), "b");
        assert!(find("edge-2", None).unwrap_err().contains("more than once"));
        assert!(find("edge-3", None).unwrap_err().contains("edge-3"));
    }
}
