//! The error object of CNI: a code for the runtime, a text for the operator.

use serde::Serialize;

use super::Version;

/// The specification's codes, and from 100 on our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Code {
    IncompatibleVersion = 1,
    UnsupportedField = 2,
    UnknownContainer = 3,
    InvalidEnvironment = 4,
    Io = 5,
    Decode = 6,
    InvalidConfig = 7,
    TryAgainLater = 11,
    NotAvailable = 50,
    LimitedConnectivity = 51,
    /// The attachment exists already.
    Attached = 100,
    /// No address is left.
    Exhausted = 101,
    /// A state file can't be understood.
    DamagedState = 102,
    /// The kernel refused.
    Kernel = 103,
    /// CHECK found something missing or changed.
    Drift = 104,
}

/// Why a call has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{msg}{}{details}", if details.is_empty() { "" } else { ": " })]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) msg: String,
    pub(crate) details: String,
}

impl Failure {
    pub(crate) fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// `msg` says what was done, the error and its sources say why it failed.
    pub(crate) fn because(
        code: Code,
        msg: impl Into<String>,
        error: &dyn std::error::Error,
    ) -> Self {
        let mut details = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            details = format!("{details}: {cause}");
            source = cause.source();
        }
        Self { code, msg: msg.into(), details }
    }

    /// What goes to standard output.
    pub(crate) fn to_json(&self, version: Version) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            cni_version: &'a str,
            code: u32,
            msg: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            details: &'a str,
        }
        let wire = Wire {
            cni_version: version.as_str(),
            code: self.code as u32,
            msg: &self.msg,
            details: &self.details,
        };
        serde_json::to_string(&wire).expect("strings and numbers are always JSON")
    }
}
