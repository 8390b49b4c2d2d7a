//! The variables by which a runtime says what to do with whom.

use std::{ffi::OsString, path::PathBuf};

use super::{Code, Failure};
use crate::Attachment;

/// Linux: IFNAMSIZ less the closing zero.
const LONGEST_IFNAME: usize = 15;
const LONGEST_CONTAINER_ID: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

/// A command with all that it needs, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Add { who: Attachment, netns: PathBuf },
    Del { who: Attachment },
    Check { who: Attachment, netns: PathBuf },
    Gc,
    Status,
    Version,
}

/// Where variables come from.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Call {
    /// Reads and checks the variables; one failure names every variable that is wrong.
    pub(crate) fn from_environment(lookup: Lookup<'_>) -> Result<Self, Failure> {
        let mut wrong = Vec::new();
        let command = one(lookup, "CNI_COMMAND", command, &mut wrong);
        let Some(command) = command else {
            return Err(invalid(&wrong));
        };
        match command {
            Command::Gc => return Ok(Self::Gc),
            Command::Status => return Ok(Self::Status),
            Command::Version => return Ok(Self::Version),
            Command::Add | Command::Del | Command::Check => (),
        }
        let container_id = one(lookup, "CNI_CONTAINERID", container_id, &mut wrong);
        let ifname = one(lookup, "CNI_IFNAME", ifname, &mut wrong);
        // DEL works without the namespace, and whatever may stand there.
        let netns = match command {
            Command::Del => Some(PathBuf::new()),
            _ => one(lookup, "CNI_NETNS", netns, &mut wrong),
        };
        let (Some(container_id), Some(ifname), Some(netns)) = (container_id, ifname, netns) else {
            return Err(invalid(&wrong));
        };
        let who = Attachment { container_id, ifname };
        Ok(match command {
            Command::Add => Self::Add { who, netns },
            Command::Check => Self::Check { who, netns },
            Command::Del | Command::Gc | Command::Status | Command::Version => Self::Del { who },
        })
    }
}

fn one<T>(
    lookup: Lookup<'_>,
    name: &str,
    parse: fn(&str) -> Result<T, &'static str>,
    wrong: &mut Vec<String>,
) -> Option<T> {
    let text = lookup(name).filter(|text| !text.is_empty());
    let outcome = match text.as_ref().map(|text| text.to_str()) {
        None => Err("is missing"),
        Some(None) => Err("is not UTF-8"),
        Some(Some(text)) => parse(text),
    };
    outcome.map_err(|why| wrong.push(format!("{name} {why}"))).ok()
}

fn invalid(wrong: &[String]) -> Failure {
    Failure::new(Code::InvalidEnvironment, wrong.join(", "))
}

fn command(text: &str) -> Result<Command, &'static str> {
    Ok(match text {
        "ADD" => Command::Add,
        "DEL" => Command::Del,
        "CHECK" => Command::Check,
        "GC" => Command::Gc,
        "STATUS" => Command::Status,
        "VERSION" => Command::Version,
        _ => return Err("is none of ADD, DEL, CHECK, GC, STATUS, VERSION"),
    })
}

fn container_id(text: &str) -> Result<String, &'static str> {
    if text.len() > LONGEST_CONTAINER_ID {
        return Err("is longer than 1024 characters");
    }
    if is_identifier(text) {
        Ok(text.to_owned())
    } else {
        Err("must start with a letter or digit and go on with these, '_', '.' and '-'")
    }
}

/// The specification's form of container ids and network names.
pub(super) fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn ifname(text: &str) -> Result<String, &'static str> {
    if text.len() > LONGEST_IFNAME {
        return Err("is longer than 15 characters");
    }
    // `%` makes Linux choose a number, `all` and `default` are no devices to sysctl.
    let reserved = [".", "..", "all", "default", "lo"].contains(&text);
    let bad = |c: char| "/:%".contains(c) || c.is_whitespace() || c.is_control();
    if reserved || text.contains(bad) {
        return Err("is no name for a network interface");
    }
    Ok(text.to_owned())
}

fn netns(text: &str) -> Result<PathBuf, &'static str> {
    if text.starts_with('/') { Ok(text.into()) } else { Err("is not an absolute path") }
}
