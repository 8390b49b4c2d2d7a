//! What the flags, the environment, the file and the defaults come to.
//!
//! ```text
//! flag > HAWSER_* > $HAWSER_CONFIG or $XDG_CONFIG_HOME/hawser/config.yaml > default
//! ```

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use crate::{
    args::{self, Color, DryRun, Format, Global},
    exit::Failure,
};

const AGENT: &str = "/var/lib/hawser/agent.sock";
const TIMEOUT: Duration = Duration::from_secs(10);

/// The global options, decided.
#[derive(Clone, Debug)]
pub struct Settings {
    pub output: Format,
    pub color: Color,
    pub context: Option<String>,
    pub kubeconfig: Option<PathBuf>,
    pub impersonate: Option<String>,
    pub agent: PathBuf,
    /// True if somebody named the agent: then its silence is an error and not just a gap.
    pub agent_named: bool,
    pub timeout: Duration,
    /// True if somebody named the timeout.
    pub timeout_named: bool,
    pub yes: bool,
    pub dry_run: Option<DryRun>,
    pub verbose: u8,
    pub quiet: bool,
}

/// The settings file. A typo in it is an error.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    output: Option<Format>,
    color: Option<Color>,
    context: Option<String>,
    kubeconfig: Option<PathBuf>,
    agent: Option<PathBuf>,
    timeout: Option<String>,
}

impl Settings {
    /// Puts the file behind the flags, and the defaults behind both.
    pub fn decide(flags: Global, file: File) -> Result<Self, Failure> {
        let Global {
            output,
            context,
            kubeconfig,
            impersonate,
            agent,
            color,
            timeout,
            yes,
            dry_run,
            verbose,
            quiet,
        } = flags;
        let agent = agent.or(file.agent);
        let timeout_named = timeout.is_some() || file.timeout.is_some();
        Ok(Self {
            output: output.or(file.output).unwrap_or_default(),
            color: color.or(file.color).unwrap_or_default(),
            context: context.or(file.context),
            kubeconfig: kubeconfig.or(file.kubeconfig),
            impersonate,
            agent_named: agent.is_some(),
            agent: agent.unwrap_or_else(|| AGENT.into()),
            timeout_named,
            timeout: timeout.map_or_else(|| timeout_of(file.timeout.as_deref()), Ok)?,
            yes,
            dry_run,
            verbose,
            quiet,
        })
    }
}

fn timeout_of(written: Option<&str>) -> Result<Duration, Failure> {
    match written {
        None => Ok(TIMEOUT),
        Some(text) => args::duration(text)
            .map_err(|why| Failure::usage(format!("settings: timeout {text:?}: {why}"))),
    }
}

/// Where the settings file is, if the environment says so at all.
pub fn path(env: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    if let Some(named) = set("HAWSER_CONFIG") {
        return Some(named.into());
    }
    let home = set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&set("HOME")?).join(".config")))?;
    Some(home.join("hawser/config.yaml"))
}

/// Reads the settings file. None at all is an empty one.
pub fn read(path: &Path) -> Result<File, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(File::default()),
        Err(error) => {
            return Err(Failure::usage(format!("reading {}: {error}", path.display())));
        }
    };
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    serde_saphyr::from_str(&text)
        .map_err(|error| Failure::usage(format!("reading {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Args;

    fn flags(line: &[&str]) -> Global {
        Args::try_parse_from([&["hawser"], line, &["version"]].concat()).unwrap().global
    }

    fn file(text: &str) -> File {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let written = || file("output: yaml\ntimeout: 3s\nagent: /run/a.sock\n");

        let by_file = Settings::decide(flags(&[]), written()).unwrap();
        let by_flag = Settings::decide(flags(&["-o", "json", "--timeout=1m"]), written()).unwrap();
        let by_default = Settings::decide(flags(&[]), File::default()).unwrap();

        assert_eq!((by_file.output, by_file.timeout), (Format::Yaml, Duration::from_secs(3)));
        assert!(by_file.agent_named);
        assert_eq!((by_flag.output, by_flag.timeout), (Format::Json, Duration::from_secs(60)));
        assert_eq!((by_default.output, by_default.timeout), (Format::Table, TIMEOUT));
        assert!(by_file.timeout_named && by_flag.timeout_named && !by_default.timeout_named);
        assert_eq!(by_default.agent, Path::new(AGENT));
        assert!(!by_default.agent_named);
    }

    #[test]
    fn a_typo_in_the_file_is_an_error() {
        assert!(serde_saphyr::from_str::<File>("outptu: yaml\n").is_err());
        assert!(Settings::decide(flags(&[]), file("timeout: soon\n")).is_err());
    }

    #[test]
    fn the_file_is_found_by_the_environment() {
        let at = |pairs: &'static [(&str, &str)]| {
            path(move |name| pairs.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned()))
        };

        assert_eq!(at(&[("HOME", "/h")]), Some("/h/.config/hawser/config.yaml".into()));
        assert_eq!(at(&[("XDG_CONFIG_HOME", "/x")]), Some("/x/hawser/config.yaml".into()));
        assert_eq!(at(&[("HAWSER_CONFIG", "/c")]), Some("/c".into()));
        assert_eq!(at(&[("HOME", "")]), None);
    }
}
