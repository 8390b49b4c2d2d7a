//! `hawser peer`: a laptop or phone with any WireGuard. Its private key is made here, shown once,
//! and stored nowhere.

mod claims;

use std::{
    fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use api::{Mesh, MeshNode, MeshPeer, MeshPeerSpec, Pool};
use ipnet::IpNet;
use keys::PrivateKey;
use kube::{
    Api,
    api::{DeleteParams, PostParams, Preconditions},
};
use zeroize::Zeroizing;

use crate::{
    args::{CreatePeer, DryRun, Format, PlainPeers},
    cluster::Cluster,
    exit::{Exit, Failure},
    kubeconfig::{self, Existing},
    member::prefixes,
    peer::{
        addresses, config,
        entries::{self, Entry},
    },
    settings::Settings,
    terminal::Terminal,
    text,
    view::{nodes, plain_peers},
};

use self::claims::{claims, give_back, take_addresses};

pub(super) async fn run(
    command: PlainPeers,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let cluster = Cluster::connect(settings).await?;
    match command {
        PlainPeers::List => {
            let (peers, nodes) = tokio::try_join!(cluster.peers(), cluster.nodes())?;
            terminal.print(&plain_peers::list(&peers, &nodes, jiff::Timestamp::now()))?;
        }
        PlainPeers::Create(wanted) => create(wanted, &cluster, settings, terminal).await?,
        PlainPeers::Delete { name } => delete(&name, &cluster, settings, terminal).await?,
    }
    Ok(Exit::Ok)
}

/// What has to be known before a peer can be made.
struct Seen {
    mesh: Mesh,
    nodes: Vec<MeshNode>,
    peers: Vec<MeshPeer>,
}

impl Seen {
    async fn read(cluster: &Cluster) -> Result<Seen, Failure> {
        let (mesh, nodes, peers) =
            tokio::try_join!(cluster.mesh(), cluster.nodes(), cluster.peers())?;
        let mesh = mesh.ok_or_else(|| {
            Failure::failed("there is no Mesh named default").check("hawser status")
        })?;
        Ok(Seen { mesh, nodes, peers })
    }

    /// What nodes and peers have, claim or not.
    fn taken(&self) -> Vec<IpNet> {
        let nodes = self.nodes.iter().flat_map(|node| prefixes(&node.spec.subnets));
        nodes.chain(self.peers.iter().flat_map(|peer| prefixes(&peer.spec.addresses))).collect()
    }

    fn refuse_a_name_that_is_taken(&self, name: &str) -> Result<(), Failure> {
        if self.peers.iter().any(|peer| plain_peers::name_of(peer) == name) {
            return Err(Failure::failed(format!("a peer is named {name:?} already"))
                .check(format!("hawser peer delete {name} makes room")));
        }
        if self.nodes.iter().any(|node| nodes::name_of(node) == name) {
            return Err(Failure::failed(format!("a node is named {name:?}: choose another name")));
        }
        Ok(())
    }

    fn pools(&self, v4: bool) -> Vec<&Pool> {
        let family = |pool: &&Pool| prefixes(std::slice::from_ref(&pool.cidr)).iter().any(is(v4));
        let pools = self.mesh.spec.pools.iter().filter(|pool| pool.name.is_none());
        pools.filter(family).collect()
    }

    /// The largest packet that everybody takes.
    fn mtu(&self, entries: &[Entry]) -> u16 {
        let nodes = self.nodes.iter().filter(|node| !node.spec.revoked);
        let known = nodes.filter_map(|node| node.status.as_ref()?.mtu);
        config::mtu(known.chain(entries.iter().filter_map(|e| e.mtu)).chain(self.mesh.spec.mtu))
    }
}

fn is(v4: bool) -> impl Fn(&IpNet) -> bool {
    move |net| net.addr().is_ipv4() == v4
}

async fn create(
    wanted: CreatePeer,
    cluster: &Cluster,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let CreatePeer { name, via, out, force } = wanted;
    let nobody_reads = out.is_none() && settings.dry_run.is_none();
    if nobody_reads && !(io::stdout().is_terminal() && is_for_people(terminal)) {
        return Err(Failure::usage(
            "the configuration holds a private key: it is printed on a terminal and nowhere else",
        )
        .check("write it to a file of mode 0600 with --out FILE"));
    }
    let seen = Seen::read(cluster).await?;
    seen.refuse_a_name_that_is_taken(&name)?;
    let entries = entries::choose(&via, &seen.mesh, &seen.nodes)?;
    let files = out.map(|first| files(&first, entries.len())).unwrap_or_default();
    let existing = if force { Existing::Replace } else { Existing::Keep };
    may_write(&files, existing)?;
    let created = |how: &str| format!("meshpeer/{name} created ({how} dry run)\n");
    match settings.dry_run {
        Some(DryRun::Client) => return terminal.raw(&created("client")),
        Some(DryRun::Server) => {
            let spec = MeshPeerSpec { addresses: vec!["192.0.2.1/32".into()], ..of(&entries) };
            make(&name, spec, true, cluster).await?;
            return terminal.raw(&created("server"));
        }
        None => {}
    }
    let key = PrivateKey::generate()
        .map_err(|error| Failure::failed(format!("the system has no randomness: {error}")))?;
    let made = register(&name, &key, &entries, cluster).await?;
    let addresses = prefixes(&made.spec.addresses);
    let pools: Vec<String> = seen.mesh.spec.pools.iter().map(|pool| pool.cidr.clone()).collect();
    let peer = config::Peer {
        name: &name,
        key: &key,
        addresses: &addresses,
        allowed: &prefixes(&pools),
        mtu: seen.mtu(&entries),
    };
    let texts: Vec<_> = entries.iter().map(|entry| peer.through(entry)).collect();
    let names = text::list(entries.iter().map(|entry| &entry.name));
    terminal.say(&format!("meshpeer/{name} created, {}, through {names}", text::list(&addresses)));
    if let Err(failure) = hand_over(&texts, &files, existing, terminal) {
        // Nobody has its key.
        remove(&name, Some(&made), cluster).await?;
        return Err(failure);
    }
    Ok(())
}

fn is_for_people(terminal: &Terminal) -> bool {
    matches!(terminal.format(), Format::Table | Format::Wide)
}

/// `laptop.conf`, `laptop-2.conf`, … : one for each entry.
fn files(first: &Path, count: usize) -> Vec<PathBuf> {
    let stem = first.file_stem().unwrap_or_default().to_string_lossy();
    let extension = first.extension().map(|e| format!(".{}", e.to_string_lossy()));
    let numbered = |number: usize| match number {
        1 => first.to_owned(),
        _ => first.with_file_name(format!("{stem}-{number}{}", extension.as_deref().unwrap_or(""))),
    };
    (1..=count).map(numbered).collect()
}

/// Found out before anything is made.
fn may_write(files: &[PathBuf], existing: Existing) -> Result<(), Failure> {
    let there = files.iter().find(|file| fs::symlink_metadata(file).is_ok());
    match there.filter(|_| existing == Existing::Keep) {
        Some(file) => Err(Failure::failed(format!("{} is there already", file.display()))
            .check("name another file, or replace it with --force")),
        None => Ok(()),
    }
}

/// The only moment at which the key is to be seen.
fn hand_over(
    texts: &[Zeroizing<String>],
    files: &[PathBuf],
    existing: Existing,
    terminal: &Terminal,
) -> Result<(), Failure> {
    for (text, file) in texts.iter().zip(files) {
        kubeconfig::write_secret(file, text, existing)?;
        terminal.say(&format!("{} holds the private key, stored nowhere else", file.display()));
    }
    if files.is_empty() {
        for text in texts {
            terminal.raw(text)?;
            if let Some(picture) = terminal.is_screen().then(|| picture(text)).flatten() {
                terminal.raw(&picture)?;
            }
        }
        terminal.say("this is shown once: the private key is stored nowhere");
    }
    if texts.len() > 1 {
        terminal.say("use one of them at a time: the mesh follows to the node that is called");
    }
    Ok(())
}

/// As a QR code, black on white whatever the terminal's colours are. None if it is too long for
/// one.
fn picture(text: &str) -> Option<Zeroizing<String>> {
    const ON: &str = "\u{1b}[30;107m";
    const OFF: &str = "\u{1b}[0m";
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L).ok()?;
    let drawn = Zeroizing::new(code.render::<qrcode::render::unicode::Dense1x2>().build());
    let mut out = Zeroizing::new(String::with_capacity(4 * drawn.len()));
    for line in drawn.lines() {
        for part in [ON, line, OFF, "\n"] {
            out.push_str(part);
        }
    }
    Some(out)
}

fn of(entries: &[Entry]) -> MeshPeerSpec {
    MeshPeerSpec {
        public_key: PrivateKey::from_bytes([1; 32]).public().to_string(),
        entries: entries.iter().map(|entry| entry.name.clone()).collect(),
        ..MeshPeerSpec::default()
    }
}

/// Takes addresses and creates the peer with them; or nothing of both stays.
async fn register(
    name: &str,
    key: &PrivateKey,
    entries: &[Entry],
    cluster: &Cluster,
) -> Result<MeshPeer, Failure> {
    let mut got = Vec::new();
    if let Err(failure) = take_addresses(name, cluster, &mut got).await {
        give_back(name, |address| got.contains(&address), cluster).await?;
        return Err(failure);
    }
    let addresses: Vec<IpNet> = got.iter().copied().map(IpNet::from).collect();
    let spec = MeshPeerSpec {
        public_key: key.public().to_string(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ..of(entries)
    };
    let made = match make(name, spec, false, cluster).await {
        Ok(made) => made,
        // Without an answer it may have been made.
        Err(failure) if failure.exit == Exit::Unreachable => {
            return Err(failure.check(format!("when it answers again: hawser peer delete {name}")));
        }
        Err(failure) => {
            give_back(name, |address| got.contains(&address), cluster).await?;
            return Err(failure);
        }
    };
    // Somebody may have given them back meanwhile, as those of a peer that is not there.
    let claims = claims(cluster).await?;
    if !got.iter().all(|address| addresses::is_held(&claims, name, *address)) {
        remove(name, Some(&made), cluster).await?;
        return Err(
            Failure::failed(format!("{name} was deleted while it was made")).check("run it again")
        );
    }
    Ok(made)
}

async fn make(
    name: &str,
    spec: MeshPeerSpec,
    dry_run: bool,
    cluster: &Cluster,
) -> Result<MeshPeer, Failure> {
    let api = Api::<MeshPeer>::all(cluster.client.clone());
    let object = MeshPeer::new(name, spec);
    let parameters = PostParams { dry_run, field_manager: Some("hawser".into()) };
    cluster.ask("create meshpeers", api.create(&parameters, &object)).await
}

async fn delete(
    name: &str,
    cluster: &Cluster,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let peers = cluster.peers().await?;
    let peer = peers.iter().find(|peer| plain_peers::name_of(peer) == name);
    if let Some(how) = settings.dry_run.filter(|_| peer.is_some()) {
        let how = if how == DryRun::Client { "client" } else { "server" };
        return terminal.raw(&format!("meshpeer/{name} deleted ({how} dry run)\n"));
    }
    if peer.is_some() {
        terminal.confirm(&format!("Delete {name}: every node refuses it at once")).await?;
    }
    // Also what is left of one that was interrupted while it was made.
    if !remove(name, peer, cluster).await? {
        let known = text::list(peers.iter().take(20).map(plain_peers::name_of));
        return Err(Failure::failed(format!("no peer is named {name:?}"))
            .check(format!("the peers are {known}")));
    }
    terminal.raw(&format!("meshpeer/{name} deleted\n"))
}

/// First the peer, then its addresses: nobody gets them while it has them. True if there was any
/// of it. `peer`: only this one, not a later one of its name.
async fn remove(name: &str, peer: Option<&MeshPeer>, cluster: &Cluster) -> Result<bool, Failure> {
    let uid = peer.and_then(|peer| peer.metadata.uid.clone());
    let preconditions = Preconditions { uid, resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..Default::default() };
    let api = Api::<MeshPeer>::all(cluster.client.clone());
    let deleted = cluster.settle("delete meshpeers", api.delete(name, &parameters)).await?;
    let now = cluster.peers().await?;
    let later = now.iter().filter(|peer| plain_peers::name_of(peer) == name);
    let kept: Vec<IpNet> = later.flat_map(|peer| prefixes(&peer.spec.addresses)).collect();
    let gone = |address| !kept.contains(&IpNet::from(address));
    Ok(give_back(name, gone, cluster).await? || deleted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_has_a_file_beside_the_first() {
        let names = |first: &str| {
            let files = files(Path::new(first), 3);
            files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>()
        };

        assert_eq!(names("a/laptop.conf"), ["a/laptop.conf", "a/laptop-2.conf", "a/laptop-3.conf"]);
        assert_eq!(names("laptop"), ["laptop", "laptop-2", "laptop-3"]);
    }

    #[test]
    fn a_picture_is_black_on_white_with_its_margin_and_fits_a_screen() {
        let picture = picture(&"x".repeat(400)).unwrap();

        let lines: Vec<&str> = picture.lines().collect();
        assert!(lines.len() < 45, "{}", lines.len());
        assert!(lines.iter().all(|l| l.starts_with("\u{1b}[30;107m") && l.ends_with("\u{1b}[0m")));
        let blank = lines[0].trim_start_matches("\u{1b}[30;107m").trim_end_matches("\u{1b}[0m");
        assert!(blank.trim().is_empty() && blank.len() < 80, "no margin: {blank:?}");
        assert!(lines[5].contains('█'));
    }
}
