//! One turn of the agent: facts, plan, changes, and what came of them.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime},
};

use anyhow::Context;
use arc_swap::ArcSwap;
use cni::{DeviceRecords, NodeFile, Reservations};
use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
};

use crate::{
    apply::{ApplyError, apply},
    chained::{Directory, Ours},
    datapath::Datapath,
    facts,
    failover::Chosen,
    install,
    kernel::Kernel,
    keyring::Keyring,
    options::{CniMode, Run, SourceOption},
    plan::{Actual, Change, Facts, Peers, Plan},
    rotation::Told,
    run::LOOK,
    snapshot::Snapshot,
    source::contact::Contact,
    view::{View, store},
};

/// What a turn works on, and what it remembers from the last.
pub(crate) struct Round {
    options: Run,
    kernel: Kernel,
    pub(crate) datapath: Arc<Datapath>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    keyring: Arc<Keyring>,
    changed: Arc<Notify>,
    pub(crate) contact: Contact,
    /// What answers, where there is a choice of carriers.
    pub(crate) chosen: watch::Receiver<Chosen>,
    pub(crate) silent: watch::Receiver<BTreeSet<String>>,
    told: Peers,
    /// The view that the last run left.
    from_disk: Option<Arc<View>>,
    /// The view on disk.
    kept: Option<Arc<View>>,
    seen: Option<Arc<View>>,
    view_since: Option<SystemTime>,
    written: Option<NodeFile>,
    /// Where another plugin's configuration is followed.
    configurations: Option<Directory>,
    /// What the last turn found on this machine; none if it has to be looked at again.
    found: Option<Found>,
    /// The mesh was removed, and nothing of it is left here.
    left: bool,
}

/// The machine as it was, and until when it counts as being so: whoever touches what is ours wakes
/// the agent, and then it is looked at anew.
struct Found {
    facts: Facts,
    actual: Actual,
    until: Instant,
}

/// What a turn reads, and acts on.
pub(crate) struct Machine {
    pub(crate) kernel: Kernel,
    pub(crate) datapath: Arc<Datapath>,
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) keyring: Arc<Keyring>,
    /// Rung after each turn.
    pub(crate) changed: Arc<Notify>,
    pub(crate) contact: Contact,
    pub(crate) chosen: watch::Receiver<Chosen>,
    pub(crate) silent: watch::Receiver<BTreeSet<String>>,
}

impl Round {
    /// `kept` is the view on disk.
    pub(crate) fn new(machine: Machine, options: Run, kept: Option<Arc<View>>) -> Self {
        let Machine { kernel, datapath, snapshot, keyring, changed, contact, chosen, silent } =
            machine;
        let chained = options.cni_mode == CniMode::Chained;
        let configurations = options.plugin.conf_dir.clone().filter(|_| chained);
        Self {
            configurations: configurations.map(Directory::new),
            options,
            kernel,
            datapath,
            snapshot,
            keyring,
            changed,
            contact,
            chosen,
            silent,
            told: Peers::default(),
            from_disk: kept.clone(),
            kept,
            seen: None,
            view_since: None,
            written: None,
            found: None,
            left: false,
        }
    }

    pub(crate) fn state(&self) -> &Path {
        &self.options.state.directory
    }

    /// The kernel has changed, or may have: the next turn reads it again.
    pub(crate) fn look_again(&mut self) {
        self.found = None;
    }

    /// True if `view` holds more than what can be gathered for a while.
    pub(crate) fn is_urgent(&self, view: &View) -> bool {
        self.seen.as_ref().is_none_or(|seen| view.is_urgent_after(seen, &self.options.node))
    }

    /// True if all is as it should be, or as good as this node can make it. Ready is reported when
    /// the view is on disk too: from then on a restart needs nobody.
    pub(crate) async fn turn(&mut self, view: &Arc<View>) -> bool {
        if view.removing {
            self.look_again();
            return self.leave().await;
        }
        self.left = false;
        // It stays only if this turn ends well.
        let found = self.found.take();
        let outcome = self.plan_and_apply(view, found).await;
        self.keep(view).await;
        let snapshot = outcome.unwrap_or_else(|error| Snapshot {
            errors: vec![format!("{error:#}")],
            ready: false,
            ..Snapshot::clone(&self.snapshot.load())
        });
        let settled = snapshot.errors.is_empty();
        self.report(snapshot);
        settled
    }

    /// Takes this node out of the mesh, and looks again whether something came back.
    async fn leave(&mut self) -> bool {
        if self.left && self.kernel.is_bare().await.unwrap_or(false) {
            return true;
        }
        let outcome = self.take_down().await;
        self.left = outcome.is_ok();
        let errors = outcome.err().map(|error| format!("{error:#}")).into_iter().collect();
        self.report(Snapshot::clone(&self.snapshot.load()).of_removal(errors));
        self.left
    }

    /// The node's keys stay: installed again, it is the same node.
    async fn take_down(&mut self) -> anyhow::Result<()> {
        let state = self.state().to_owned();
        install::remove(&self.options.plugin)?;
        // From here on no pod is added.
        NodeFile::remove(&state).context("removing node.json")?;
        (self.written, self.kept) = (None, None);
        self.kernel.remove_everything().await.context("removing devices, routes and guard")?;
        self.told = Peers::default();
        self.datapath.set_own_prefixes(Vec::new());
        self.datapath.set_clear(&[]);
        self.datapath.set_shaped(None);
        self.datapath.set_peers(Vec::new());
        Reservations::remove_all(&state).context("removing the pods' reservations")?;
        DeviceRecords::forget_all(&state).context("removing the records of devices")?;
        store::remove(&state).context("removing the last view")?;
        tracing::info!("this node is out of the mesh");
        Ok(())
    }

    async fn plan_and_apply(
        &mut self,
        view: &Arc<View>,
        found: Option<Found>,
    ) -> anyhow::Result<Snapshot> {
        if !self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, view)) {
            self.view_since = Some(SystemTime::now());
            self.seen = Some(Arc::clone(view));
        }
        let mut errors = self.turn_keys(view);
        let heard = self.contact.told();
        let found = found.filter(|found| Instant::now() < found.until);
        let found = found.filter(|_| !facts::asks_for_links(&self.options, view));
        let until = found.as_ref().map_or_else(|| Instant::now() + LOOK, |found| found.until);
        let (facts, found) = match found {
            Some(Found { facts, actual, .. }) => (facts.told_of(view, heard), Some(actual)),
            None => (facts::gather(&self.kernel, &self.options, view, heard).await?, None),
        };
        let (chosen, silent) = (self.chosen.borrow().clone(), self.silent.borrow().clone());
        let facts = Facts { silent, chosen, ..facts };
        let view = &*view.seen_by(&facts.node, &facts.silent);
        let plan = Plan::new(view, &facts);
        let mut actual = match found {
            Some(actual) => self.complete(actual),
            None => self.read(&plan).await?,
        };
        let changes = plan.changes_from(&actual);
        if !changes.is_empty() {
            let keys_alone = changes.iter().all(|change| matches!(change, Change::Peers(_)));
            let outcome = apply(changes, &mut self.kernel, &self.datapath).await;
            tracing::info!(done = outcome.done, errors = outcome.errors.len(), "applied");
            errors.extend(outcome.errors.iter().map(ApplyError::to_string));
            self.told = plan.peers.clone();
            // The data path's peers are not the kernel's business.
            actual = if keys_alone { self.complete(actual) } else { self.read(&plan).await? };
        }
        let before = Snapshot::clone(&self.snapshot.load());
        let snapshot = before.of_round(view, &facts, &plan, &actual);
        if let Err(error) = self.tell_the_plugin(&plan, &facts, &snapshot) {
            errors.push(format!("{error:#}"));
        }
        if errors.is_empty() {
            self.found = Some(Found { facts, actual, until });
        }
        let (blocked, view_since) = (self.kernel.blocked(), self.view_since);
        Ok(Snapshot { view_since, blocked, errors, ..snapshot })
    }

    /// Keys are made and wiped on the API's word alone: a view of yesterday may know less than the
    /// disk, and a file has no place to publish a key in.
    fn turn_keys(&self, view: &Arc<View>) -> Vec<String> {
        let stale = self.from_disk.as_ref().is_some_and(|old| Arc::ptr_eq(old, view));
        let Some(me) = view.nodes.get(&self.options.node).filter(|me| !me.revoked) else {
            return Vec::new();
        };
        let live = !stale && matches!(self.options.source, SourceOption::Kube(_));
        let epochs = if live { me.epochs.clone() } else { BTreeSet::new() };
        let told = Told { key_epoch: me.epoch, epochs };
        match self.keyring.turn(&told, me.newest) {
            Ok(_) => Vec::new(),
            Err(error) => vec![format!("changing keys: {error}")],
        }
    }

    async fn read(&mut self, plan: &Plan) -> anyhow::Result<Actual> {
        let actual = self.kernel.read(&plan.sysctls).await?;
        Ok(self.complete(actual))
    }

    /// With what the data path knows.
    fn complete(&self, mut actual: Actual) -> Actual {
        if let Some(device) = &mut actual.device {
            device.attached = self.datapath.tun_attached();
        }
        Actual { peers: self.told.clone(), ..actual }
    }

    /// Keeps a new view on disk, once it is in force: a slow disk delays no packet, and a full one
    /// stops none.
    async fn keep(&mut self, view: &Arc<View>) {
        if self.kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, view)) {
            return;
        }
        self.kept = Some(Arc::clone(view));
        let (directory, view) = (self.state().to_owned(), Arc::clone(view));
        let saved = spawn_blocking(move || store::save(&directory, &view)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%error, "view not kept on disk");
        }
    }

    /// Pods get addresses only behind a guard that holds.
    fn tell_the_plugin(
        &mut self,
        plan: &Plan,
        facts: &Facts,
        snapshot: &Snapshot,
    ) -> anyhow::Result<()> {
        if !snapshot.guard.routes || !snapshot.guard.nft || !plan.takes_part() {
            return Ok(());
        }
        let file = NodeFile {
            version: NodeFile::VERSION,
            node: facts.node.clone(),
            subnets: plan.peers.own.clone(),
            mtu: plan.pod_mtu,
            pools: plan.guard.ranges.iter().copied().collect(),
            devices: plan.guard.devices.clone(),
        };
        if self.written.as_ref() != Some(&file) {
            file.write(&self.options.state.directory).context("writing node.json")?;
            self.written = Some(file);
        }
        let state = self.options.state.directory.as_path();
        let ours = Ours { state, mtu: plan.pod_mtu };
        self.configurations.as_mut().map_or(Ok(()), |directory| directory.follow(ours))
    }

    fn report(&self, snapshot: Snapshot) {
        let before = self.snapshot.load();
        for new in snapshot.errors.iter().filter(|error| !before.errors.contains(error)) {
            tracing::error!(error = %new, "not as planned");
        }
        for new in snapshot.refusals.iter().filter(|refusal| !before.refusals.contains(refusal)) {
            tracing::warn!(reason = new.reason(), "{new}");
        }
        if snapshot.ready != before.ready {
            tracing::info!(ready = snapshot.ready, "readiness changed");
        }
        self.snapshot.store(Arc::new(snapshot));
        self.changed.notify_one();
    }
}
