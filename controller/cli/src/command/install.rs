//! `hawser install` and `hawser upgrade`: the definitions, then the add-on, through Helm.

use crate::{
    args::{DryRun, Release},
    exit::{Exit, Failure},
    helm::{Chart, Helm, Verb},
    settings::Settings,
    terminal::Terminal,
};

pub(super) async fn install(
    release: &Release,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let helm = Helm::new(settings)?;
    if settings.dry_run != Some(DryRun::Client) && helm.knows(Chart::AddOn, &release.place).await? {
        let name = &release.place.release;
        return Err(Failure::failed(format!("release {name} is there already")).check(
            "hawser upgrade brings it to this program's version; hawser uninstall removes it",
        ));
    }
    apply(&helm, Verb::Install, release, settings.dry_run, terminal).await
}

pub(super) async fn upgrade(
    release: &Release,
    settings: &Settings,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let helm = Helm::new(settings)?;
    if settings.dry_run != Some(DryRun::Client) && !helm.knows(Chart::AddOn, &release.place).await?
    {
        let (name, namespace) = (&release.place.release, &release.place.namespace);
        return Err(Failure::failed(format!(
            "there is no release {name} in namespace {namespace}"
        ))
        .check("--release and --namespace; hawser install makes a new one"));
    }
    apply(&helm, Verb::Upgrade, release, settings.dry_run, terminal).await
}

/// The definitions come first: without them the API refuses the add-on's Mesh. They may be there
/// from an earlier release, which kept them.
async fn apply(
    helm: &Helm,
    verb: Verb,
    release: &Release,
    dry_run: Option<DryRun>,
    terminal: &Terminal,
) -> Result<Exit, Failure> {
    let dry = dry_run == Some(DryRun::Server);
    let rendered = dry_run == Some(DryRun::Client);
    if verb == Verb::Install {
        // A wrong value is found before anything is made.
        helm.apply(Chart::AddOn, Verb::Template, release, false).await?;
    }
    if !release.skip_crds {
        let verb = if rendered { Verb::Template } else { Verb::Upgrade };
        let printed = helm.apply(Chart::Definitions, verb, release, dry).await?;
        if dry_run.is_some() {
            terminal.raw(&(printed + "\n"))?;
        }
        terminal.say(&told(&format!("{}-crds", release.place.release), verb, dry_run));
    }
    if dry_run.is_none() && !release.wait.is_zero() {
        terminal.say("waiting until controller and agents run");
    }
    let asked = if rendered { Verb::Template } else { verb };
    let printed = helm.apply(Chart::AddOn, asked, release, dry).await?;
    terminal.raw(&(printed + "\n"))?;
    terminal.say(&told(&release.place.release, verb, dry_run));
    Ok(Exit::Ok)
}

fn told(release: &str, verb: Verb, dry_run: Option<DryRun>) -> String {
    let done = match verb {
        Verb::Install => "installed",
        Verb::Upgrade => "upgraded",
        Verb::Template => "rendered",
    };
    match dry_run {
        None => format!("release/{release} {done}"),
        Some(DryRun::Client) => format!("release/{release} {done} (client dry run)"),
        Some(DryRun::Server) => format!("release/{release} {done} (server dry run)"),
    }
}
