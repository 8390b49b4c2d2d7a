//! The keys in use, when they change next, and how old a view may become.

use api::{Mesh, MeshNode, RotationPhase};
use jiff::Timestamp;
use serde::Serialize;

use super::Known;
use crate::{
    state::State,
    text::{self, NONE},
    view::rotation,
};

/// The epochs in use; one, unless a rotation is under way.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Keys {
    epochs: Vec<u32>,
    /// Where the rotation that is under way stands.
    rotation: Option<String>,
    /// When the last one completed.
    rotated: Option<String>,
    /// When the next begins by itself, or why it waits.
    next: Option<String>,
    #[serde(skip)]
    now: Timestamp,
}

impl Keys {
    pub(super) fn new(known: &Known, live: &[&MeshNode], now: Timestamp) -> Self {
        let mut epochs: Vec<u32> = live.iter().map(|node| node.spec.key_epoch).collect();
        epochs.sort_unstable();
        epochs.dedup();
        let running = rotation::running(&known.rotations);
        let ended =
            known.rotations.iter().filter(|one| rotation::phase(one) == RotationPhase::Completed);
        let ended = ended.filter_map(|one| one.status.as_ref()?.ended_at.clone());
        let status = known.mesh.as_ref().and_then(|mesh| mesh.status.as_ref());
        Self {
            epochs,
            rotation: running.map(|one| {
                format!(
                    "{} is {}",
                    rotation::id(one),
                    rotation::phase(one).to_string().to_lowercase()
                )
            }),
            rotated: ended.max(),
            next: status.and_then(|status| status.next_rotation.clone()),
            now,
        }
    }

    pub(super) fn cells(&self) -> [String; 2] {
        let first = match self.epochs.as_slice() {
            [] => NONE.to_owned(),
            [one] => format!("epoch {one}"),
            [first, .., last] => format!("epochs {first} to {last}"),
        };
        [first, self.times().join(", ")]
    }

    fn times(&self) -> Vec<String> {
        if let Some(rotation) = &self.rotation {
            return vec![rotation.clone()];
        }
        if self.epochs.len() > 1 {
            return vec!["a rotation has left nodes behind; hawser keys status".to_owned()];
        }
        let time = |text: &String| text.parse::<Timestamp>().ok();
        let last = self.rotated.as_ref().and_then(time);
        let last = last.map(|at| format!("rotated {} ago", text::age(Some(at), self.now)));
        let next = self.next.as_ref().map(|text| match time(text) {
            Some(at) if at > self.now => {
                format!("next in {}", text::duration(text::since(self.now, at)))
            }
            Some(_) => "next is due".to_owned(),
            None => format!("next {text}"),
        });
        last.into_iter().chain(next).collect()
    }
}

/// For how long an agent acts on what it knows while the API does not answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ViewAge {
    /// None: for ever.
    max_age: Option<String>,
    /// When the asked agent last heard the API.
    heard_seconds: Option<f64>,
}

impl ViewAge {
    pub(super) fn new(mesh: Option<&Mesh>, agent: Option<&State>) -> Self {
        Self {
            max_age: mesh.and_then(|mesh| mesh.spec.max_view_age.clone()),
            heard_seconds: agent.and_then(|state| state.view.heard_seconds),
        }
    }

    pub(super) fn cells(&self) -> [String; 2] {
        let heard = self.heard_seconds.map(|seconds| {
            let age = std::time::Duration::from_secs_f64(seconds.clamp(0.0, 1e9));
            format!("; it answered this node {} ago", text::duration(age))
        });
        let heard = heard.unwrap_or_default();
        match &self.max_age {
            None => {
                ["unlimited".to_owned(), format!("agents go on for ever without the API{heard}")]
            }
            Some(most) => {
                [format!("max {most}"), format!("then agents stop without the API{heard}")]
            }
        }
    }
}
