//! `hawser nodes`: reading them, and making one with a kubeconfig for its machine.

use std::path::{Path, PathBuf};

use api::{MeshNode, MeshNodeSpec};
use jiff::Timestamp;
use kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    args::{DryRun, Nodes},
    cluster::{self, Cluster},
    exit::{Exit, Failure},
    kubeconfig::{self, Existing, NodeAccess},
    settings::Settings,
    terminal::Terminal,
    view::nodes,
};

pub(super) async fn run(
    command: Option<Nodes>,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let cluster = Cluster::connect(settings).await?;
    match command.unwrap_or(Nodes::List) {
        Nodes::List => {
            terminal.print(&nodes::list(&cluster.nodes().await?, Timestamp::now()))?;
        }
        Nodes::Show { name } => show(&name, &cluster, terminal).await?,
        Nodes::Add { name, out, site, server } => {
            let wanted = New { name, out, site, server };
            wanted.add(&cluster, settings.dry_run, terminal).await?;
        }
    }
    Ok(Exit::Ok)
}

async fn show(name: &str, cluster: &Cluster, terminal: &Terminal) -> Result<(), Failure> {
    let Some(node) = cluster.node(name).await? else {
        return Err(nodes::not_found(name, &cluster.nodes().await?));
    };
    let claims = cluster.claims().await?;
    terminal.print(&nodes::show(&node, claims.as_deref(), Timestamp::now()))
}

/// The answer of the `token` subresource, in the form of a Kubernetes TokenRequest.
#[derive(Deserialize)]
struct TokenRequest {
    status: TokenStatus,
}

#[derive(Deserialize)]
struct TokenStatus {
    token: String,
}

/// A node that somebody wants.
struct New {
    name: String,
    out: PathBuf,
    site: Option<String>,
    server: Option<String>,
}

impl New {
    /// Creates the node, asks for its token and writes its kubeconfig.
    async fn add(
        &self,
        cluster: &Cluster,
        dry_run: Option<DryRun>,
        terminal: &Terminal,
    ) -> Result<(), Failure> {
        let server = self.server.as_deref().unwrap_or(&cluster.url);
        refuse_clear_text(server)?;
        let existing = self.may_write(dry_run, terminal).await?;
        let name = &self.name;
        let created = match (dry_run, cluster.node(name).await?) {
            (_, Some(_)) if dry_run.is_some() => None,
            (_, Some(_)) => {
                let question =
                    format!("meshnode/{name} exists: a new token makes another machine this node");
                terminal.confirm(&question).await?;
                None
            }
            (Some(DryRun::Client), None) => None,
            (how, None) => Some(self.create(cluster, how.is_some()).await?),
        };
        if let Some(how) = dry_run {
            let how = if how == DryRun::Client { "client" } else { "server" };
            return terminal.raw(&format!("meshnode/{name} created ({how} dry run)\n"));
        }
        terminal.now_half_done(Some(format!(
            "meshnode/{name} exists, its kubeconfig was not written: run it again with --yes"
        )));
        let token = match self.token(cluster).await {
            Ok(token) => token,
            Err(failure) => return Err(self.undo(created, cluster, failure).await),
        };
        let access = NodeAccess {
            node: name,
            server,
            server_name: cluster.server_name.as_deref(),
            authorities: &cluster.authorities,
            token: &token,
        };
        kubeconfig::write_secret(&self.out, &access.to_yaml(), existing)?;
        terminal.now_half_done(None);
        let verb = if created_now(created.as_ref()) { "created" } else { "unchanged" };
        terminal.raw(&format!("meshnode/{name} {verb}\n"))?;
        self.next_step(terminal);
        Ok(())
    }

    /// Asks before a file is replaced; looks before anything is created.
    async fn may_write(
        &self,
        dry_run: Option<DryRun>,
        terminal: &Terminal,
    ) -> Result<Existing, Failure> {
        if dry_run.is_some() || std::fs::symlink_metadata(&self.out).is_err() {
            return Ok(Existing::Keep);
        }
        terminal.confirm(&format!("{} exists and would be replaced", self.out.display())).await?;
        Ok(Existing::Replace)
    }

    async fn create(&self, cluster: &Cluster, dry_run: bool) -> Result<MeshNode, Failure> {
        let spec = MeshNodeSpec { site: self.site.clone(), ..MeshNodeSpec::default() };
        let node = MeshNode::new(&self.name, spec);
        let parameters = PostParams { dry_run, field_manager: Some("hawser".into()) };
        let nodes = Api::<MeshNode>::all(cluster.client.clone());
        cluster.ask("create meshnodes", nodes.create(&parameters, &node)).await
    }

    async fn token(&self, cluster: &Cluster) -> Result<String, Failure> {
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "metadata": {"name": self.name}, "spec": {},
        });
        let nodes = Api::<MeshNode>::all(cluster.client.clone());
        let parameters = PostParams::default();
        let answer =
            nodes.create_subresource::<_, TokenRequest>("token", &self.name, &parameters, &body);
        match tokio::time::timeout(cluster.timeout, answer).await {
            Ok(Ok(request)) => Ok(request.status.token),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 405) => {
                Err(no_tokens(cluster))
            }
            Ok(Err(error)) => Err(cluster::explain("create meshnodes/token", &cluster.url, &error)),
            Err(_) => Err(cluster.silent()),
        }
    }

    /// Takes back the node that this very run created, and nobody else's.
    async fn undo(&self, created: Option<MeshNode>, cluster: &Cluster, why: Failure) -> Failure {
        let Some(node) = created else { return why };
        let preconditions = Preconditions { uid: node.metadata.uid, resource_version: None };
        let parameters =
            DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let nodes = Api::<MeshNode>::all(cluster.client.clone());
        let deleted = cluster.ask("delete meshnodes", nodes.delete(&self.name, &parameters)).await;
        let left = match deleted {
            Ok(_) => format!("meshnode/{} was deleted again", self.name),
            Err(_) => format!("meshnode/{} was created and is still there", self.name),
        };
        Failure { what: format!("{}; {left}", why.what), ..why }
    }

    fn next_step(&self, terminal: &Terminal) {
        let (name, out) = (&self.name, absolute(&self.out));
        terminal.say(&format!(
            "{out} holds the node's token; on its machine:\n  \
             hawser-agent run --node {name} --source kube:{out}"
        ));
    }
}

fn created_now(created: Option<&MeshNode>) -> bool {
    created.is_some()
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn no_tokens(cluster: &Cluster) -> Failure {
    Failure::failed(format!("{} issues no node tokens", cluster.url)).check(
        "only hawser-controller --embedded does; in a cluster the agents use their service account",
    )
}

/// A token over plain HTTP is everybody's token. Loopback is nobody's wire.
fn refuse_clear_text(server: &str) -> Result<(), Failure> {
    let Some(rest) = server.strip_prefix("http://") else {
        return Ok(());
    };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let local = ["127.", "localhost", "[::1]"].iter().any(|name| host.starts_with(name));
    if local {
        return Ok(());
    }
    Err(Failure::usage(format!("the node would send its token in clear to {server}"))
        .check("use the server's https:// address"))
}
