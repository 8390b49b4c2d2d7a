//! `hawser keys`: which keys are in use, and changing them.

use std::time::{Duration, Instant};

use api::{KeyRotation, KeyRotationSpec};
use jiff::Timestamp;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{
    args::{DryRun, Keys, Rotate},
    cluster::Cluster,
    exit::{Exit, Failure},
    settings::Settings,
    terminal::Terminal,
    view::{
        keys,
        rotation::{self, Mesh, Plan, Stand},
    },
};

/// Between two looks at a rotation.
const PAUSE: Duration = Duration::from_millis(300);

pub(super) async fn run(
    command: Keys,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let cluster = Cluster::connect(settings).await?;
    let change = Change { cluster: &cluster, dry_run: settings.dry_run, terminal };
    match command {
        Keys::Status => {
            let (nodes, rotations) = tokio::try_join!(cluster.nodes(), cluster.rotations())?;
            terminal.print(&keys::status(&nodes, &rotations))?;
            Ok(Exit::Ok)
        }
        Keys::History => {
            let rotations = cluster.rotations().await?;
            terminal.print(&rotation::history(&rotations, Timestamp::now()))?;
            Ok(Exit::Ok)
        }
        Keys::Rotate(args) => change.rotate(args).await,
        Keys::Pause { name } => change.set(name, json!({"paused": true}), "paused").await,
        Keys::Resume { name } => change.set(name, json!({"paused": false}), "resumed").await,
        Keys::Abort { name } => {
            let question = "Abort: nodes that have not switched keep their key";
            change.end(name, question, json!({"aborted": true, "paused": false}), "aborted").await
        }
        Keys::Forget { name } => change.forget(name).await,
        Keys::Rollback { name } => {
            let question = "Roll back: nodes that have switched go back to the key they still hold";
            let spec = json!({"rollBack": true, "paused": false});
            change.end(name, question, spec, "going back").await
        }
    }
}

/// A change of a rotation.
struct Change<'a> {
    cluster: &'a Cluster,
    dry_run: Option<DryRun>,
    terminal: &'a Terminal,
}

impl Change<'_> {
    async fn rotate(&self, args: Rotate) -> Result<Exit, Failure> {
        let now = Timestamp::now();
        let (name, no_wait) = (args.name.clone(), args.no_wait);
        let spec = spec(args, now)?;
        let plan = self.plan(&spec, now).await?;
        let name = name.unwrap_or_else(|| format!("manual-{}", now.strftime("%Y%m%d-%H%M%S")));
        if let Some(how) = self.dry_run {
            if how == DryRun::Server {
                self.create(&name, spec, true).await?;
            }
            self.terminal.print(&plan.output())?;
            self.terminal.say(&format!("keyrotation/{name} created ({} dry run)", word(how)));
            return Ok(Exit::Ok);
        }
        self.terminal.say(plan.text().trim_end());
        self.terminal.confirm(&plan.question()).await?;
        let created = self.create(&name, spec, false).await?;
        self.terminal.say(&format!("keyrotation/{name} created"));
        if no_wait {
            self.terminal
                .print(&rotation::one(&created, &format!("keyrotation/{name} created")))?;
            return Ok(Exit::Ok);
        }
        self.wait(&name).await
    }

    async fn plan(&self, spec: &KeyRotationSpec, now: Timestamp) -> Result<Plan, Failure> {
        let cluster = self.cluster;
        let (nodes, peers, rotations, mesh) = tokio::try_join!(
            cluster.nodes(),
            cluster.peers(),
            cluster.rotations(),
            cluster.mesh()
        )?;
        let newest = mesh.and_then(|mesh| mesh.status?.newest_epoch);
        let mesh = Mesh { nodes: &nodes, peers: &peers, rotations: &rotations, newest };
        Plan::new(&mesh, spec, now)
    }

    async fn create(
        &self,
        name: &str,
        spec: KeyRotationSpec,
        dry_run: bool,
    ) -> Result<KeyRotation, Failure> {
        let parameters = PostParams { dry_run, field_manager: Some("hawser".into()) };
        let all = self.rotations();
        let rotation = KeyRotation::new(name, spec);
        self.cluster.ask("create keyrotations", all.create(&parameters, &rotation)).await
    }

    /// Follows a rotation to its end; a line a change, or a bar on a screen.
    async fn wait(&self, name: &str) -> Result<Exit, Failure> {
        let left = format!(
            "keyrotation/{name} goes on without this program: hawser keys status shows it, \
             hawser keys abort ends it"
        );
        self.terminal.now_half_done(Some(left));
        let (started, mut told) = (Instant::now(), String::new());
        loop {
            let Some(object) = self.get(name).await? else {
                return Err(Failure::failed(format!("keyrotation/{name} was deleted")));
            };
            match rotation::stand(&object) {
                Stand::Going(text) => {
                    self.terminal.progress(
                        &rotation::bar(&object),
                        &text,
                        started.elapsed(),
                        &mut told,
                    );
                }
                Stand::Done(text) => {
                    self.terminal.progress_ends();
                    self.terminal.now_half_done(None);
                    let line = format!("keyrotation/{name} {text}");
                    self.terminal.print(&rotation::one(&object, &line))?;
                    return Ok(Exit::Ok);
                }
                Stand::Failed(text) => {
                    self.terminal.progress_ends();
                    self.terminal.now_half_done(None);
                    return Err(rotation::failure(&object, &text));
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn set(
        &self,
        name: Option<String>,
        spec: serde_json::Value,
        verb: &str,
    ) -> Result<Exit, Failure> {
        let object = self.find(name).await?;
        self.patch(&object, spec, verb).await
    }

    /// A change that cannot be taken back is asked about.
    async fn end(
        &self,
        name: Option<String>,
        question: &str,
        spec: serde_json::Value,
        verb: &str,
    ) -> Result<Exit, Failure> {
        let object = self.find(name).await?;
        if self.dry_run.is_none() {
            self.terminal.confirm(&format!("{}: {question}", rotation::id(&object))).await?;
        }
        self.patch(&object, spec, verb).await
    }

    /// Only while nobody who is there is waited for: else it would end as aborted.
    async fn forget(&self, name: Option<String>) -> Result<Exit, Failure> {
        let object = self.find(name).await?;
        let pending = rotation::awaited(&object).ok_or_else(|| {
            let (id, phase) = (rotation::id(&object), rotation::phase(&object));
            Failure::failed(format!("{id} is {phase}: nodes that are there are not done yet"))
                .check("hawser keys status")
        })?;
        let question =
            format!("the old keys go now, and these are out until they follow: {pending}");
        if self.dry_run.is_none() {
            self.terminal.confirm(&format!("{}: {question}", rotation::id(&object))).await?;
        }
        let now = api::conditions::rfc3339(Timestamp::now());
        self.patch(&object, json!({"deadline": now}), "forgets the old keys").await
    }

    /// The rotation of that name, else the one that is under way.
    async fn find(&self, name: Option<String>) -> Result<KeyRotation, Failure> {
        let rotations = self.cluster.rotations().await?;
        let found = match &name {
            Some(name) => rotations.iter().find(|r| r.metadata.name.as_ref() == Some(name)),
            None => rotation::running(&rotations),
        };
        let Some(found) = found else {
            let what = name.map_or("no rotation is under way".to_owned(), |name| {
                format!("there is no keyrotation {name}")
            });
            return Err(Failure::failed(what).check("hawser keys history"));
        };
        if rotation::phase(found).is_over() {
            let (id, phase) = (rotation::id(found), rotation::phase(found));
            return Err(Failure::failed(format!("{id} is over: {phase}"))
                .check("to change keys again: hawser keys rotate"));
        }
        Ok(found.clone())
    }

    async fn patch(
        &self,
        object: &KeyRotation,
        spec: serde_json::Value,
        verb: &str,
    ) -> Result<Exit, Failure> {
        let id = rotation::id(object);
        if self.dry_run == Some(DryRun::Client) {
            self.terminal.raw(&format!("{id} {verb} (client dry run)\n"))?;
            return Ok(Exit::Ok);
        }
        let dry_run = self.dry_run.is_some();
        let parameters = PatchParams { dry_run, ..PatchParams::default() };
        let name = object.metadata.name.clone().unwrap_or_default();
        let patch = Patch::Merge(json!({"spec": spec}));
        let (all, verb_asked) = (self.rotations(), "patch keyrotations");
        let after = self.cluster.ask(verb_asked, all.patch(&name, &parameters, &patch)).await?;
        let how = if dry_run { " (server dry run)" } else { "" };
        self.terminal.print(&rotation::one(&after, &format!("{id} {verb}{how}")))?;
        Ok(Exit::Ok)
    }

    async fn get(&self, name: &str) -> Result<Option<KeyRotation>, Failure> {
        let all = self.rotations();
        self.cluster.ask("get keyrotations", all.get_opt(name)).await
    }

    fn rotations(&self) -> Api<KeyRotation> {
        Api::all(self.cluster.client.clone())
    }
}

fn word(how: DryRun) -> &'static str {
    match how {
        DryRun::Client => "client",
        DryRun::Server => "server",
    }
}

/// A deadline may be a time or a duration from now.
fn spec(args: Rotate, now: Timestamp) -> Result<KeyRotationSpec, Failure> {
    let Rotate {
        node,
        site,
        canary,
        canary_site,
        wave_size,
        max_unavailable,
        deadline,
        force,
        lost,
        name: _,
        no_wait: _,
    } = args;
    let deadline = deadline.map(|text| match crate::args::duration(&text) {
        Ok(length) => now
            .checked_add(length)
            .map(api::conditions::rfc3339)
            .map_err(|_| Failure::usage(format!("deadline {text} is too far away"))),
        Err(_) => Ok(text),
    });
    Ok(KeyRotationSpec {
        nodes: node,
        sites: site,
        canaries: canary,
        canary_sites: canary_site,
        wave_size,
        max_unavailable,
        deadline: deadline.transpose()?,
        force,
        lost,
        ..KeyRotationSpec::default()
    })
}
