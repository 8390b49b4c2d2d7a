//! How a command ends: the documented exit codes, and an error that says what to check.
//!
//! Scripts act on the code, a tired operator on the two lines: what happened, and where to look.
//! So an error without a code cannot be written here.

use std::{fmt, process::ExitCode};

/// The documented exit codes. `hawser --help` prints the same list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It worked; warnings are allowed.
    Ok = 0,
    /// A check failed, or a difference was found.
    Failed = 1,
    /// The command line or the settings make no sense.
    Usage = 2,
    /// Neither the API nor the agent answers.
    Unreachable = 3,
    /// Waited, and it did not happen.
    TimedOut = 4,
    /// Needs `--yes`, and there is nobody to ask.
    Refused = 5,
    /// The API or the kernel does not permit it.
    Forbidden = 6,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command stopped: a code for scripts, a line what happened, a line what to check.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub what: String,
    pub check: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), check: None }
    }

    /// Adds what the operator should look at.
    pub fn check(self, check: impl Into<String>) -> Self {
        Self { check: Some(check.into()), ..self }
    }

    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    pub fn failed(what: impl Into<String>) -> Self {
        Self::new(Exit::Failed, what)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.check {
            Some(check) => write!(f, "\ncheck: {check}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
