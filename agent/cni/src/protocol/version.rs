//! The versions of the specification that we speak.

use super::{Code, Failure};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    pub(crate) const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    pub(crate) const NEWEST: Self = Self::V1_1_0;

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// A configuration without a version is one of 0.1.0, as the first specification has it.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, Failure> {
        let text = text.unwrap_or("0.1.0");
        Self::ALL.into_iter().find(|version| version.as_str() == text).ok_or_else(|| {
            let ours = Self::ALL.map(Self::as_str).join(", ");
            let msg = format!("cniVersion {text:?} is not supported; supported are {ours}");
            Failure::new(Code::IncompatibleVersion, msg)
        })
    }

    /// Refuses a command that this version of the specification does not have yet.
    pub(crate) fn at_least(self, first: Self, command: &str) -> Result<(), Failure> {
        if self >= first {
            return Ok(());
        }
        let (first, own) = (first.as_str(), self.as_str());
        let msg = format!("{command} came with cniVersion {first}, the configuration has {own}");
        Err(Failure::new(Code::IncompatibleVersion, msg))
    }
}
