//! Who is in the mesh, from wherever that is written: a file or the Kubernetes API.
//!
//! A source publishes whole views and only when they differ. What it can't read or accept leaves
//! the last good view in force.

pub mod contact;
pub mod file;
pub mod kube;
pub mod resume;

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::watch;

use crate::view::{Complaint, Judgement, Resources, View};

/// The latest good view; none until there has been one.
pub type Views = watch::Receiver<Option<Arc<View>>>;

/// Publishes views and remembers what was complained of, so that each complaint is logged once.
pub struct Publisher {
    views: watch::Sender<Option<Arc<View>>>,
    complained: BTreeSet<Complaint>,
}

impl Publisher {
    /// Starts from the view of the last run.
    pub fn new(last: Option<View>) -> (Self, Views) {
        let (views, receiver) = watch::channel(last.map(Arc::new));
        (Self { views, complained: BTreeSet::new() }, receiver)
    }

    pub fn last(&self) -> Option<Arc<View>> {
        self.views.borrow().clone()
    }

    /// Judges resources against the last view.
    pub fn judge(&self, resources: &Resources) -> Judgement {
        View::judge(resources, self.last().as_deref())
    }

    pub fn publish(&self, view: View) {
        self.views.send_if_modified(|last| {
            let differs = last.as_deref() != Some(&view);
            if differs {
                *last = Some(Arc::new(view));
            }
            differs
        });
    }

    /// Logs what is newly wrong, and forgets what is right again.
    pub fn complain(&mut self, complaints: impl IntoIterator<Item = Complaint>) {
        let complaints: BTreeSet<_> = complaints.into_iter().collect();
        for new in complaints.difference(&self.complained) {
            tracing::warn!(kind = new.kind, name = ?new.name, problem = ?new.problem, "left out");
        }
        self.complained = complaints;
    }
}
