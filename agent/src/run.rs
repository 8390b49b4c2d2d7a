//! The running agent: wakes when the view or the kernel changes, plans, applies, looks again.
//!
//! ```text
//!        ┌─▶ new view ── kernel event ── pods' files ── once in a while ─┐
//!        │                                                               ▼
//!      wait ◀── snapshot ◀── read again ◀── apply ◀── changes ◀── facts, plan, actual
//! ```
//! Nothing is taken down when it ends: guard, routes and addresses stay as they are.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use api::{Backend, Machine};
use arc_swap::ArcSwap;
use cni::DeviceRecords;
use futures::future::OptionFuture;
use keys::{KeyEpoch, PrivateKey};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use crate::{
    admin::{self, CanaryState, Live},
    canary, chained,
    datapath::{Config, Datapath, Recording},
    facts,
    failover::{Chosen, Mute, Watch, kept},
    first, identity,
    kernel::{Kernel, events, sysctl},
    keyring::{self, Keyring},
    live::Agent,
    options::{CniMode, EngineOption, Run, SourceOption},
    outside::Seen,
    plan::Refusal,
    probe::Prober,
    round::{self, Round},
    seat::advice,
    snapshot::Snapshot,
    source::{self, Publisher, Views, contact::Contact, kube::status},
    state,
    tls::{Caller, Certificate, Counts, Listen, Published},
    view,
};

/// Between two looks at everything, should an event ever be missed.
pub(crate) const LOOK: Duration = Duration::from_secs(10);
/// Events come in bursts; one round serves all that come within this.
const SETTLE: Duration = Duration::from_millis(20);
/// The same for views: when a hundred nodes start at once, each is news to all the others.
const VIEW_SETTLE: Duration = Duration::from_millis(150);
/// While they keep coming, unless one can't wait.
const LONGEST_SETTLE: Duration = Duration::from_millis(600);
const RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// How often the highest handshake timestamp is kept on disk.
const KEEP_CLOCK: Duration = Duration::from_secs(60);

pub async fn run(options: Run) -> anyhow::Result<()> {
    refuse_what_is_missing(&options)?;
    sysctl::are_below(&options.proc_sys);
    let directory = &options.state.directory;
    state::tighten_if_empty(directory).context("preparing the state directory")?;
    let identity = first::identity(&options).await?;
    let _lock = state::lock(directory).await?;
    state::remember_device(directory, &options.tun).context("writing the state directory")?;
    let kernel = Kernel::open(&options.tun)?;
    let (changed, events) = mpsc::channel(1);
    let moved = events::watch(&options.tun, kernel.tables_changed(), changed.clone())?;
    if let Some(directories) = watched(&options)? {
        chained::watch(&directories, changed)?;
    }
    let last = view::store::load(directory);
    let told = last.as_ref().and_then(|view| Some(view.nodes.get(&options.node)?.epoch));
    let (keys, sending) = keyring::at_start(&identity, told);
    let floor = identity.timestamp_floor();
    let datapath = Arc::new(start_datapath(&options, (keys, sending), floor)?);
    let engine = options.engine.into();
    let keys = (identity, sending);
    let keyring = Arc::new(Keyring::new(directory, Arc::clone(&datapath), engine, keys));
    let changed = Arc::new(Notify::new());
    let contact = match &options.source {
        SourceOption::File(_) => Contact::needless(),
        SourceOption::Kube(_) => Contact::begin(directory),
    };
    let (publisher, views) = Publisher::new(last);
    // Before the source may publish another, which is not on disk.
    let kept = views.borrow().clone();
    let source = options.source.to_string();
    let pods = facts::devices(&kernel, directory).await?;
    let underlay = kernel.underlay(&facts::choice(&options), &pods).await?;
    let empty = Snapshot { underlay, ..Snapshot::empty(&options.node, &source) };
    let snapshot = Arc::new(ArcSwap::from_pointee(empty));
    tokio::spawn(announce_moves(Arc::clone(&datapath), moved));
    let (muting, mute) = watch::channel(Mute::new());
    let streams = carry_streams(&options, &snapshot, &datapath, mute)?;
    let agent = Arc::new(Agent {
        canary: watch_by_canary(&options, &snapshot),
        listen_port: options.listen_port,
        streams: streams.counts,
        tun: options.tun.clone(),
        engine: options.engine.into(),
        keyring: Arc::clone(&keyring),
        datapath: Arc::clone(&datapath),
        snapshot: Arc::clone(&snapshot),
        contact: contact.clone(),
    });
    serve(Arc::clone(&agent) as Arc<dyn Live>, &options);
    let (clone, mut found) = oneshot::channel();
    match &options.source {
        SourceOption::File(path) => {
            tokio::spawn(source::file::follow(path.clone(), publisher));
        }
        SourceOption::Kube(path) => {
            let (node, state) = (options.node.clone(), directory.clone());
            tokio::spawn(source::resume::watch(contact.clone()));
            tokio::spawn(source::kube::listen(contact.clone(), views.clone(), path.clone()));
            let (identity, changed) = (public_face(&options), Arc::clone(&changed));
            let (listens, relays) = (streams.listens, streams.relays);
            let reporting = Reporting { identity, agent, changed, clone, listens, relays };
            tokio::spawn(follow_api(path.clone(), (node, state), publisher, reporting));
        }
    }
    let node = options.node.clone();
    let (chosen, silent) = watch_ways(directory, &snapshot, &datapath, muting);
    let machine =
        round::Machine { kernel, datapath, snapshot, keyring, changed, contact, chosen, silent };
    let round = Round::new(machine, options, kept);
    let mut stop = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
    tokio::select! {
        result = follow(round, views, events) => result,
        Ok(holder) = &mut found => bail!(advice(&node, &holder)),
        _ = stop.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Which carriers answer, and which gateways do not.
fn watch_ways(
    directory: &Path,
    snapshot: &Arc<ArcSwap<Snapshot>>,
    datapath: &Arc<Datapath>,
    mute: watch::Sender<Mute>,
) -> (watch::Receiver<Chosen>, watch::Receiver<BTreeSet<String>>) {
    let (choosing, chosen) = watch::channel(kept::load(directory));
    let (telling, silent) = watch::channel(BTreeSet::new());
    let (snapshot, datapath) = (Arc::clone(snapshot), Arc::clone(datapath));
    let state = directory.to_owned();
    let watch = Watch { snapshot, datapath, chosen: choosing, silent: telling, mute, state };
    tokio::spawn(watch.follow());
    (chosen, silent)
}

/// What there is to know of streams in TLS.
struct Streams {
    counts: Arc<Counts>,
    listens: watch::Receiver<Option<Published>>,
    relays: watch::Receiver<Vec<String>>,
}

/// Takes them where the operator says so, and begins them where no datagram gets through.
fn carry_streams(
    options: &Run,
    snapshot: &Arc<ArcSwap<Snapshot>>,
    datapath: &Arc<Datapath>,
    mute: watch::Receiver<Mute>,
) -> anyhow::Result<Streams> {
    let counts = Arc::new(Counts::default());
    let (published, listens) = watch::channel(None);
    let (relaying, relays) = watch::channel(Vec::new());
    if let Some(address) = options.tls_listen {
        let certificate = Certificate::load_or_create(&options.state.directory)?;
        let (datapath, counts) = (Arc::clone(datapath), Arc::clone(&counts));
        let listen = Listen { address, certificate, datapath, counts, published };
        tokio::spawn(async move {
            if let Err(error) = listen.follow().await {
                tracing::error!(error = %format!("{error:#}"), "no TLS listener");
            }
        });
    }
    let caller = Caller {
        snapshot: Arc::clone(snapshot),
        datapath: Arc::clone(datapath),
        counts: Arc::clone(&counts),
        mark: options.fwmark,
        mute,
        relays: relaying,
    };
    tokio::spawn(caller.follow());
    Ok(Streams { counts, listens, relays })
}

/// What the standing canary reports, where one is wanted.
fn watch_by_canary(
    options: &Run,
    snapshot: &Arc<ArcSwap<Snapshot>>,
) -> watch::Receiver<Option<CanaryState>> {
    let (report, canary) = watch::channel(None);
    if let Some(seconds) = options.canary {
        let every = Duration::from_secs(seconds.into());
        let (tun, snapshot) = (options.tun.clone(), Arc::clone(snapshot));
        tokio::spawn(canary::Watch { tun, every, snapshot, report }.follow());
    }
    canary
}

/// Where another plugin's files, and ours about its pods, change.
fn watched(options: &Run) -> anyhow::Result<Option<[PathBuf; 2]>> {
    let chained = options.cni_mode == CniMode::Chained;
    let Some(configurations) = options.plugin.conf_dir.clone().filter(|_| chained) else {
        return Ok(None);
    };
    let state = &options.state.directory;
    DeviceRecords::create(state).context("preparing the state directory")?;
    Ok(Some([configurations, DeviceRecords::directory(state)]))
}

/// The local API. Without it packets flow all the same.
fn serve(agent: Arc<dyn Live>, options: &Run) {
    let socket = options.state.directory.join("agent.sock");
    let local = Arc::clone(&agent);
    tokio::spawn(async move {
        let Err(error) = admin::serve_unix(&socket, local).await else {
            return;
        };
        tracing::error!(%error, socket = %socket.display(), "local API not served");
    });
    if let Some(address) = options.admin {
        tokio::spawn(async move {
            let Err(error) = admin::serve_tcp(address, agent).await else {
                return;
            };
            tracing::error!(%error, %address, "local API not served");
        });
    }
}

fn refuse_what_is_missing(options: &Run) -> anyhow::Result<()> {
    if options.tls_listen.is_some() && options.engine == EngineOption::Boringtun {
        bail!("--tls-listen needs the engine native: boringtun knows no streams");
    }
    match options.backend {
        Some(Backend::Esp) => bail!("{}", Refusal::Backend(Backend::Esp)),
        None | Some(Backend::Wireguard | Backend::Udp | Backend::Vxlan | Backend::Direct) => Ok(()),
    }
}

fn start_datapath(
    options: &Run,
    (identities, sending): (Vec<(KeyEpoch, PrivateKey)>, KeyEpoch),
    timestamp_floor: Option<Duration>,
) -> anyhow::Result<Datapath> {
    let config = Config {
        engine: options.engine.into(),
        identities,
        sending,
        listen_port: options.listen_port,
        tun_name: options.tun.clone(),
        mtu: 1420,
        fwmark: options.fwmark,
        timestamp_floor: timestamp_floor.map(|floor| UNIX_EPOCH + floor),
        workers: options.workers,
        pinned: options.pin_workers,
        dscp: options.dscp,
        recording: Recording {
            packets: options.recent_packets as usize,
            payload: options.recent_payload.into(),
        },
    };
    Ok(Datapath::start(config)?)
}

/// What the status in the API is made of.
struct Reporting {
    identity: status::Identity,
    agent: Arc<Agent>,
    changed: Arc<Notify>,
    /// Hears of the machine that runs with our key, if one does.
    clone: oneshot::Sender<Machine>,
    /// Where this node is called over TLS, and whom it is spoken with so.
    listens: watch::Receiver<Option<Published>>,
    relays: watch::Receiver<Vec<String>>,
}

fn public_face(options: &Run) -> status::Identity {
    let read = |path: PathBuf| std::fs::read_to_string(path).ok();
    let text = |path: PathBuf| Some(read(path)?.trim().to_owned()).filter(|text| !text.is_empty());
    let boot = |sys: &Path| text(sys.join("kernel/random/boot_id"));
    // Clones of a virtual machine often share the first, and never the second.
    let ids = [text(options.machine_id.clone()), text("/sys/class/dmi/id/product_uuid".into())];
    let ids: Vec<&str> = ids.iter().flatten().map(String::as_str).collect();
    status::Identity {
        listen_port: options.listen_port,
        endpoints: options.endpoint.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: boot(&options.proc_sys).or_else(|| boot(Path::new("/proc/sys"))),
        machine_id: (!ids.is_empty()).then(|| Machine::digest(&ids)),
    }
}

/// Reads the mesh from the API and writes this node's status, for ever. A kubeconfig that isn't
/// there yet is waited for.
async fn follow_api(
    kubeconfig: Option<PathBuf>,
    (node, state): (String, PathBuf),
    publisher: Publisher,
    Reporting { identity, agent, changed: bell, clone, listens, relays }: Reporting,
) {
    let mut pause = RETRY;
    let (client, renewal) = loop {
        match source::kube::connect(kubeconfig.clone()).await {
            Ok(connected) => break connected,
            Err(error) => tracing::warn!(error = %format!("{error:#}"), "API not reached"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_RETRY);
    };
    let (own, changed) = watch::channel(None);
    let (datapath, snapshot) = (Arc::clone(&agent.datapath), Arc::clone(&agent.snapshot));
    let keyring = Arc::clone(&agent.keyring);
    let (counting, counted) = watch::channel(None);
    let (seeing, seen) = watch::channel(Seen::default());
    let changes = Arc::clone(&bell);
    let reporter = status::Reporter {
        client: client.clone(),
        identity,
        counted,
        seen,
        listens,
        relays,
        datapath,
        snapshot,
        keyring,
        changed: bell,
        contact: agent.contact.clone(),
    };
    let contact = agent.contact.clone();
    let follower = source::kube::Follower { node, state, own, contact };
    let (rotation, rotations) = watch::channel(None);
    let own_node = changed.clone();
    let prober = Prober {
        snapshot: Arc::clone(&agent.snapshot),
        own: changed.clone(),
        rotation: rotations.clone(),
        counted: counting,
        datapath: Arc::clone(&agent.datapath),
        seen: seeing,
        changed: changes,
    };
    let report = async {
        if let Some(holder) = reporter.follow(changed, rotations).await {
            clone.send(holder).ok();
        }
    };
    let telling = source::kube::Telling {
        snapshot: Arc::clone(&agent.snapshot),
        own: own_node,
        canary: agent.canary.clone(),
    };
    tokio::join!(
        source::kube::tell(client.clone(), telling),
        source::kube::follow(client.clone(), follower, publisher),
        source::kube::follow_rotations(client, rotation),
        report,
        prober.follow(),
        OptionFuture::from(renewal.map(source::kube::Renewal::follow))
    );
}

/// Others speak to where they heard this node last, so they hear at once that it is elsewhere.
async fn announce_moves(datapath: Arc<Datapath>, mut moved: mpsc::Receiver<()>) {
    while moved.recv().await.is_some() {
        datapath.announce();
        // Whoever adds a hundred addresses moves once or twice.
        sleep(SETTLE).await;
    }
}

/// Rounds for ever, each at its cause. Fails only if the kernel can't be watched any more.
async fn follow(
    mut round: Round,
    mut views: Views,
    mut events: mpsc::Receiver<()>,
) -> anyhow::Result<()> {
    let mut retry = RETRY;
    let mut keep_clock = Instant::now();
    let contact = round.contact.clone();
    let (mut chosen, mut silent) = (round.chosen.clone(), round.silent.clone());
    loop {
        let view = views.borrow_and_update().clone();
        let settled = match view {
            Some(view) => round.turn(&view).await,
            None => true,
        };
        retry = if settled { RETRY } else { (retry * 2).min(LONGEST_RETRY) };
        let pause = if settled { LOOK } else { retry };
        if keep_clock <= Instant::now() {
            keep_handshake_clock(&round);
            keep_clock = Instant::now() + KEEP_CLOCK;
        }
        let wake = (Instant::now() + pause).min(keep_clock);
        let (settle, look) = tokio::select! {
            changed = views.changed() => {
                changed.context("following the source")?;
                settle_views(&mut views, &round).await;
                (Duration::ZERO, false)
            }
            changed = chosen.changed() => {
                changed.context("watching the carriers")?;
                (Duration::ZERO, false)
            }
            changed = silent.changed() => {
                changed.context("watching the gateways")?;
                (Duration::ZERO, false)
            }
            event = events.recv() => (event.map(|()| SETTLE).context("watching the kernel")?, true),
            () = contact.changed() => (SETTLE, true),
            () = sleep_until(wake) => (SETTLE, true),
        };
        sleep(settle).await;
        if events.try_recv().is_ok() || look {
            round.look_again();
        }
    }
}

/// Waits until no more news has come for a while: a hundred nodes that publish their keys one by one
/// are one change.
async fn settle_views(views: &mut Views, round: &Round) {
    let begun = Instant::now();
    let mut end = begun + LONGEST_SETTLE;
    loop {
        if views.borrow().as_ref().is_some_and(|view| round.is_urgent(view)) {
            end = begun + VIEW_SETTLE;
        }
        let quiet = (Instant::now() + VIEW_SETTLE).min(end);
        if !matches!(timeout_at(quiet, views.changed()).await, Ok(Ok(()))) {
            return;
        }
    }
}

fn keep_handshake_clock(round: &Round) {
    let clock = round.datapath.handshake_clock();
    let Ok(clock) = clock.duration_since(UNIX_EPOCH) else {
        return;
    };
    let directory = round.state().to_owned();
    spawn_blocking(move || {
        if let Err(error) = identity::raise_timestamp_floor(&directory, clock) {
            tracing::warn!(%error, "handshake clock not kept");
        }
    });
}
