//! `hawser token`: made here, shown once, stored as a hash; the mesh never sees the token itself.

mod decide;

use std::{path::PathBuf, time::Duration};

use api::{Decision, JoinToken, JoinTokenSpec, Mesh, conditions, join::Token};
use jiff::Timestamp;
use kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions},
};

use crate::{
    args::{CreateToken, DryRun, Format, Tokens},
    cluster::Cluster,
    exit::{Exit, Failure},
    kubeconfig::{self, Existing},
    settings::Settings,
    terminal::Terminal,
    text,
    view::tokens,
};

pub(super) async fn run(
    command: Tokens,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let cluster = Cluster::connect(settings).await?;
    match command {
        Tokens::List => {
            terminal.print(&tokens::list(&cluster.tokens().await?, Timestamp::now()))?;
        }
        Tokens::Create(wanted) => create(wanted, &cluster, settings, terminal).await?,
        Tokens::Approve(which) => {
            decide::run(which, Decision::Approved, &cluster, (settings, terminal)).await?;
        }
        Tokens::Deny(which) => {
            decide::run(which, Decision::Denied, &cluster, (settings, terminal)).await?;
        }
        Tokens::Revoke { name } => revoke(&name, &cluster, settings, terminal).await?,
    }
    Ok(Exit::Ok)
}

async fn create(
    wanted: CreateToken,
    cluster: &Cluster,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let CreateToken { ttl, uses, site, pool, name_prefix, announce, approve, name, out, .. } =
        wanted;
    if out.is_none() && !matches!(terminal.format(), Format::Table | Format::Wide) {
        return Err(Failure::usage("a token is printed as text only")
            .check("write it to a file with --out FILE, or leave --output away"));
    }
    let mesh = cluster.mesh().await?;
    let gateway = gateway(mesh.as_ref())?;
    known_pool(mesh.as_ref(), pool.as_deref())?;
    let token = Token {
        name: match name {
            Some(name) => name,
            None => format!("join-{}", word()?),
        },
        secret: random()?,
        authority: bytes(&gateway.authority)?,
    };
    let spec = JoinTokenSpec {
        hash: token.hash(),
        expires_at: end(ttl)?,
        uses,
        site,
        pool,
        name_prefix,
        prefixes: announce,
        approve,
        created_by: operator(),
    };
    // What one machine may announce, it is meant to; of several, each has its own.
    let flags = match spec.prefixes.as_slice() {
        [] => String::new(),
        _ if uses > 1 => " --announce CIDR".to_owned(),
        prefixes => format!(" --announce {}", prefixes.join(",")),
    };
    let object = JoinToken::new(&token.name, spec);
    let said = |how: &str| format!("jointoken/{} created{how}", token.name);
    if settings.dry_run == Some(DryRun::Client) {
        return terminal.raw(&format!("{}\n", said(" (client dry run)")));
    }
    let dry_run = settings.dry_run.is_some();
    let parameters = PostParams { dry_run, field_manager: Some("hawser".into()) };
    let api = Api::<JoinToken>::all(cluster.client.clone());
    cluster.ask("create jointokens", api.create(&parameters, &object)).await?;
    if dry_run {
        return terminal.raw(&format!("{}\n", said(" (server dry run)")));
    }
    terminal.say(&said(""));
    let url = gateway.urls.first().map_or("URL", String::as_str);
    hand_over(&token, (url, &flags), (out, wanted.print_join_command), terminal)
}

/// The only moment at which the token is whole.
fn hand_over(
    token: &Token,
    (url, flags): (&str, &str),
    (out, command): (Option<PathBuf>, bool),
    terminal: &Terminal,
) -> Result<(), Failure> {
    let text = token.to_text();
    if let Some(path) = out {
        kubeconfig::write_secret(&path, &format!("{text}\n"), Existing::Keep)?;
        let file = path.display();
        let join = format!("hawser join {url} --token-file {file}{flags}");
        terminal.say(&format!("{file} holds the token; on the machine: {join}"));
        return if command { terminal.raw(&format!("{join}\n")) } else { Ok(()) };
    }
    if command {
        // From standard input: arguments are everybody's to read.
        let join = format!("hawser join {url} --token-file -{flags} <<'END'\n{text}\nEND\n");
        return terminal.raw(&join);
    }
    terminal.raw(&format!("{text}\n"))
}

async fn revoke(
    name: &str,
    cluster: &Cluster,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let all = cluster.tokens().await?;
    let Some(token) = all.iter().find(|token| tokens::name_of(token) == name) else {
        let known = text::list(all.iter().take(20).map(tokens::name_of));
        return Err(Failure::failed(format!("no token is named {name:?}"))
            .check(format!("the tokens are {known}")));
    };
    let machines = token.status.as_ref().map_or(0, |status| status.used);
    if machines > 0 {
        terminal.say(&format!(
            "{machines} machines that joined with it stay; throw one out with hawser revoke NODE"
        ));
    }
    let verb = match settings.dry_run {
        Some(DryRun::Client) => "revoked (client dry run)",
        how => {
            let preconditions =
                Preconditions { uid: token.metadata.uid.clone(), resource_version: None };
            let parameters = DeleteParams {
                dry_run: how.is_some(),
                preconditions: Some(preconditions),
                ..DeleteParams::default()
            };
            let api = Api::<JoinToken>::all(cluster.client.clone());
            cluster.ask("delete jointokens", api.delete(name, &parameters)).await?;
            if how.is_some() { "revoked (server dry run)" } else { "revoked" }
        }
    };
    terminal.raw(&format!("jointoken/{name} {verb}\n"))
}

/// Who sits here, as far as the machine knows.
fn operator() -> Option<String> {
    std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).ok()
}

/// A machine would join and get nothing.
fn known_pool(mesh: Option<&Mesh>, wanted: Option<&str>) -> Result<(), Failure> {
    let Some(wanted) = wanted else { return Ok(()) };
    let named = mesh.iter().flat_map(|mesh| &mesh.spec.pools);
    let mut names: Vec<&str> = named.filter_map(|pool| pool.name.as_deref()).collect();
    names.dedup();
    if names.contains(&wanted) {
        return Ok(());
    }
    let check = match names.as_slice() {
        [] => "no pool has a name; give one to a pool: kubectl edit mesh default".to_owned(),
        names => format!("the pools with a name are {}", text::list(names)),
    };
    Err(Failure::failed(format!("no pool of the mesh is named {wanted:?}")).check(check))
}

fn gateway(mesh: Option<&Mesh>) -> Result<api::Gateway, Failure> {
    let gateway = mesh.and_then(|mesh| mesh.status.as_ref()?.gateway.clone());
    gateway.ok_or_else(|| {
        Failure::failed("the mesh has no gateway that machines could join through")
            .check("does hawser-controller run with --gateway ADDRESS?")
    })
}

fn end(ttl: Duration) -> Result<String, Failure> {
    let end = Timestamp::now().checked_add(ttl);
    let end = end.map_err(|_| Failure::usage("--ttl reaches beyond the year 9999"))?;
    Ok(conditions::rfc3339(end))
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::failed(format!("the system has no randomness: {error}")))?;
    Ok(bytes)
}

/// Five letters that no two of which look alike.
fn word() -> Result<String, Failure> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let pick = |byte: u8| char::from(LETTERS[usize::from(byte) % LETTERS.len()]);
    Ok(random::<5>()?.into_iter().map(pick).collect())
}

fn bytes(hex: &str) -> Result<[u8; 32], Failure> {
    let pair = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..64).step_by(2).map(pair).collect();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| Failure::failed("the mesh names no authority of its gateway"))
}
