//! The charts that are built into this program, and the `helm` that applies them.
//!
//! Helm keeps releases, runs hooks and waits: what it does well is not done again here. Its program
//! is called with arguments, never through a shell, and reads the charts from a directory of ours.

use std::{
    io,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use include_dir::{Dir, include_dir};

use crate::{
    args::{Place, Profile, Release},
    exit::{Exit, Failure},
    settings::Settings,
};

static ADD_ON: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../deploy/charts/hawser");
static DEFINITIONS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../deploy/charts/hawser-crds");

/// The two charts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chart {
    /// The custom resource definitions, a release of their own: they outlive the add-on.
    Definitions,
    AddOn,
}

impl Chart {
    fn name(self) -> &'static str {
        match self {
            Self::Definitions => "hawser-crds",
            Self::AddOn => "hawser",
        }
    }
}

/// What is asked of Helm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Install,
    Upgrade,
    /// Rendered here, nobody is asked.
    Template,
}

/// The charts on disk, for as long as this lives.
pub struct Helm {
    charts: tempfile::TempDir,
    /// `--kubeconfig` and the like.
    access: Vec<String>,
}

impl Helm {
    /// Unpacks the charts.
    pub fn new(settings: &Settings) -> Result<Self, Failure> {
        let unpacked = || {
            let charts = tempfile::tempdir()?;
            for (dir, chart) in [(&DEFINITIONS, Chart::Definitions), (&ADD_ON, Chart::AddOn)] {
                let path = charts.path().join(chart.name());
                std::fs::create_dir(&path)?;
                dir.extract(&path)?;
            }
            Ok::<_, io::Error>(charts)
        };
        let failed = |error| Failure::failed(format!("unpacking the charts: {error}"));
        Ok(Self { charts: unpacked().map_err(failed)?, access: access(settings) })
    }

    /// Installs, upgrades or renders one chart; what Helm prints.
    pub async fn apply(
        &self,
        chart: Chart,
        verb: Verb,
        release: &Release,
        dry: bool,
    ) -> Result<String, Failure> {
        let path = self.charts.path().join(chart.name());
        let mut words = match verb {
            Verb::Install => vec!["install".to_owned()],
            Verb::Upgrade => vec!["upgrade".to_owned()],
            Verb::Template => vec!["template".to_owned()],
        };
        words.extend([release_name(chart, &release.place), path.display().to_string()]);
        words.extend(["--namespace".to_owned(), release.place.namespace.clone()]);
        words.extend(flags(chart, verb, release, dry));
        if chart == Chart::AddOn {
            words.extend(self.values(release));
        }
        self.run(&words).await
    }

    /// True if there is such a release.
    pub async fn knows(&self, chart: Chart, place: &Place) -> Result<bool, Failure> {
        let name = release_name(chart, place);
        let filter = format!("^{name}$");
        let words = ["list", "--all", "--short", "--filter", &filter, "--namespace"];
        let words = words.map(str::to_owned).into_iter().chain([place.namespace.clone()]);
        let listed = self.run(&words.collect::<Vec<_>>()).await?;
        Ok(listed.lines().any(|line| line.trim() == name))
    }

    /// Deletes the add-on's release. The agents are out of the mesh already, so its hook has nothing
    /// to do.
    pub async fn uninstall(&self, place: &Place, wait: Duration) -> Result<String, Failure> {
        let words = ["uninstall", &place.release, "--namespace", &place.namespace, "--no-hooks"];
        let timeout = format!("{}s", wait.as_secs().max(1));
        let words = words.into_iter().chain(["--wait", "--timeout", &timeout]);
        self.run(&words.map(str::to_owned).collect::<Vec<_>>()).await
    }

    fn values(&self, release: &Release) -> Vec<String> {
        let profile = release.profile.map(|profile| {
            let file = match profile {
                Profile::Ha => "values-ha.yaml",
                Profile::Airgap => "values-airgap.yaml",
            };
            self.charts.path().join(Chart::AddOn.name()).join(file)
        });
        let files = profile.into_iter().chain(release.values.iter().cloned());
        let files = files.flat_map(|file: PathBuf| ["--values".into(), file.display().to_string()]);
        let single = release.set.iter().flat_map(|set| ["--set".to_owned(), set.clone()]);
        files.chain(single).collect()
    }

    async fn run(&self, words: &[String]) -> Result<String, Failure> {
        tracing::debug!(?words, "helm");
        let mut command = Command::new("helm");
        command.args(words).args(&self.access).stdin(Stdio::null());
        let ended = tokio::task::spawn_blocking(move || command.output()).await;
        let output = ended.map_err(io::Error::other).flatten().map_err(|error| {
            Failure::failed(format!("starting helm: {error}"))
                .check("is Helm 3.14 or newer installed, and in PATH?")
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(refusal(words.first().map_or("", String::as_str), &text(&output.stderr)))
    }
}

/// The definitions' release stands beside the add-on's.
fn release_name(chart: Chart, place: &Place) -> String {
    match chart {
        Chart::AddOn => place.release.clone(),
        Chart::Definitions => format!("{}-crds", place.release),
    }
}

fn flags(chart: Chart, verb: Verb, release: &Release, dry: bool) -> Vec<String> {
    let mut flags: Vec<&str> = match verb {
        Verb::Install => vec!["--create-namespace"],
        Verb::Upgrade => vec!["--install", "--create-namespace", "--reset-then-reuse-values"],
        Verb::Template => vec!["--include-crds"],
    };
    if dry {
        flags.push("--dry-run=server");
    }
    if chart == Chart::Definitions && verb != Verb::Template {
        // The schema that API servers before 1.25 publish of definitions knows no CEL rules.
        flags.push("--disable-openapi-validation");
    }
    let wait = format!("{}s", release.wait.as_secs());
    match chart {
        _ if verb == Verb::Template || dry => {}
        // Until the API serves them.
        Chart::Definitions => flags.extend(["--wait", "--timeout", "60s"]),
        Chart::AddOn if release.wait.is_zero() => {}
        Chart::AddOn => flags.extend(["--wait", "--timeout", &wait]),
    }
    flags.into_iter().map(str::to_owned).collect()
}

/// The cluster that the other commands would speak to.
fn access(settings: &Settings) -> Vec<String> {
    let kubeconfig = settings.kubeconfig.as_ref().map(|file| file.display().to_string());
    let given = [
        ("--kubeconfig", kubeconfig),
        ("--kube-context", settings.context.clone()),
        ("--kube-as-user", settings.impersonate.clone()),
    ];
    let given = given.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?]));
    given.flatten().collect()
}

/// What Helm said, without its prefix, and where to look.
fn refusal(verb: &str, said: &str) -> Failure {
    let exit = if said.contains("forbidden") {
        Exit::Forbidden
    } else if said.contains("cluster unreachable") || said.contains("connection refused") {
        Exit::Unreachable
    } else if said.contains("timed out waiting") || said.contains("context deadline exceeded") {
        Exit::TimedOut
    } else {
        Exit::Failed
    };
    let said = said.strip_prefix("Error: ").unwrap_or(said);
    let failure = Failure::new(exit, format!("helm {verb}: {said}"));
    match exit {
        Exit::TimedOut => failure.check("hawser check, and kubectl get pods -n with the namespace"),
        Exit::Unreachable => failure.check("the kubeconfig and its context; hawser version"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests;
