//! The arguments of `install` and `upgrade`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum, ValueHint};

use super::duration;

/// Where the release is in the cluster.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// Name of the Helm release
    #[arg(long, default_value = "hawser", value_name = "NAME")]
    pub release: String,
    /// The namespace that controller and agents run in
    #[arg(short, long, default_value = "hawser", value_name = "NAME")]
    pub namespace: String,
}

#[derive(Args, Clone, Debug)]
pub struct Release {
    #[command(flatten)]
    pub place: Place,
    /// Values of the chart; may be given again, and the last one counts
    #[arg(short = 'f', long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub values: Vec<PathBuf>,
    /// One value, such as mtu=1400; counts more than files
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Values that come with the chart; files count more
    #[arg(long, value_enum)]
    pub profile: Option<Profile>,
    /// Leave the custom resource definitions as they are
    #[arg(long)]
    pub skip_crds: bool,
    /// How long to wait until controller and agents run; 0s: not at all
    #[arg(long, value_parser = duration, default_value = "5m", value_name = "DURATION")]
    pub wait: Duration,
}

/// Values that come with the chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Spread over zones, larger reserves
    Ha,
    /// Images from a mirror
    Airgap,
}
