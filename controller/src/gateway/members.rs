//! The machines that are in: what each may still ask, and the word that one is thrown out.
//!
//! A certificate lives for hours; whether its node is there and not revoked is asked at each
//! request, and rings in every watch that is open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::limits::{Buckets, Rate};
use super::tls::Member;

/// What a machine may ask: lists, patches, beginnings of watches.
const REQUESTS: Rate = Rate { burst: 60, each: Duration::from_millis(100) };
/// Four kinds, and twice as many while it changes its certificate.
const WATCHES: usize = 16;

/// All nodes by name.
#[derive(Debug)]
pub(super) struct Members(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    nodes: HashMap<String, Node>,
    buckets: Buckets<String>,
}

#[derive(Debug)]
struct Node {
    uid: String,
    revoked: bool,
    watches: usize,
    /// Turns true when it is out.
    out: watch::Sender<bool>,
}

/// Why a machine gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// Revoked, gone, or another node of that name.
    Out,
    TooOften,
    TooManyWatches,
}

/// An open watch; dropping it makes room for another.
#[derive(Debug)]
pub(super) struct OpenWatch {
    members: Arc<Members>,
    member: Member,
    /// Turns true when the machine is out.
    pub(super) out: watch::Receiver<bool>,
}

impl Members {
    pub(super) fn new() -> Members {
        let inner = Inner { nodes: HashMap::new(), buckets: Buckets::new(REQUESTS) };
        Members(Mutex::new(inner))
    }

    /// Whether it may ask now.
    pub(super) fn admit(&self, member: &Member, now: Instant) -> Result<(), Denied> {
        let mut inner = self.lock();
        inner.find(member)?;
        let allowed = inner.buckets.allows(member.node.clone(), now);
        if allowed { Ok(()) } else { Err(Denied::TooOften) }
    }

    /// True if it is in.
    pub(super) fn knows(&self, member: &Member) -> bool {
        self.lock().find(member).is_ok()
    }

    pub(super) fn watch(self: &Arc<Self>, member: &Member) -> Result<OpenWatch, Denied> {
        let mut inner = self.lock();
        let node = inner.find(member)?;
        if node.watches >= WATCHES {
            return Err(Denied::TooManyWatches);
        }
        node.watches += 1;
        let out = node.out.subscribe();
        drop(inner);
        Ok(OpenWatch { members: Arc::clone(self), member: member.clone(), out })
    }

    pub(super) fn replace(&self, objects: &[Value]) {
        let mut inner = self.lock();
        let names: Vec<&str> = objects.iter().map(|object| text(object, "name")).collect();
        let mut before = std::mem::take(&mut inner.nodes);
        for (object, name) in objects.iter().zip(names) {
            if let Some(node) = before.remove(name) {
                inner.nodes.insert(name.to_owned(), node);
            }
            inner.put(object);
        }
        before.values().for_each(Node::throw_out);
    }

    pub(super) fn take(&self, deleted: bool, object: &Value) {
        let mut inner = self.lock();
        if !deleted {
            inner.put(object);
        } else if let Some(node) = inner.nodes.remove(text(object, "name")) {
            node.throw_out();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn find(&mut self, member: &Member) -> Result<&mut Node, Denied> {
        let node = self.nodes.get_mut(&member.node);
        node.filter(|node| node.uid == member.uid && !node.revoked).ok_or(Denied::Out)
    }

    fn put(&mut self, object: &Value) {
        let (name, uid) = (text(object, "name"), text(object, "uid"));
        let revoked = object["spec"]["revoked"] == true;
        let known = self.nodes.get(name).is_some_and(|node| node.uid == uid);
        if !known {
            let out = watch::Sender::new(false);
            let node = Node { uid: uid.to_owned(), revoked, watches: 0, out };
            if let Some(earlier) = self.nodes.insert(name.to_owned(), node) {
                earlier.throw_out();
            }
        }
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.revoked = revoked;
        if revoked {
            node.throw_out();
        }
    }
}

impl Node {
    fn throw_out(&self) {
        self.out.send_replace(true);
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        let mut inner = self.members.lock();
        let node = inner.nodes.get_mut(&self.member.node);
        if let Some(node) = node.filter(|node| node.uid == self.member.uid) {
            node.watches = node.watches.saturating_sub(1);
        }
    }
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(name: &str, uid: &str, revoked: bool) -> Value {
        json!({"metadata": {"name": name, "uid": uid}, "spec": {"revoked": revoked}})
    }

    fn member(uid: &str) -> Member {
        Member { node: "a".to_owned(), uid: uid.to_owned() }
    }

    fn members() -> Arc<Members> {
        let members = Arc::new(Members::new());
        members.replace(&[object("a", "1", false), object("b", "2", false)]);
        members
    }

    #[test]
    fn a_certificate_is_worth_as_much_as_its_very_node() {
        let members = members();
        let now = Instant::now();

        assert_eq!(members.admit(&member("1"), now), Ok(()));
        assert_eq!(members.admit(&member("2"), now), Err(Denied::Out));
        members.take(true, &object("a", "1", false));
        assert_eq!(members.admit(&member("1"), now), Err(Denied::Out));
        members.take(false, &object("a", "3", false));
        assert_eq!(members.admit(&member("1"), now), Err(Denied::Out));
        assert_eq!(members.admit(&member("3"), now), Ok(()));
    }

    #[test]
    fn a_revocation_rings_in_every_open_watch() {
        for out in [object("a", "1", true), object("a", "9", false)] {
            let members = members();
            let open = members.watch(&member("1")).unwrap();
            members.take(false, &object("a", "1", false));
            assert!(!*open.out.borrow());

            members.take(false, &out);

            assert!(*open.out.borrow());
            assert_eq!(members.watch(&member("1")).unwrap_err(), Denied::Out);
        }
        let members = members();
        let open = members.watch(&member("1")).unwrap();
        members.replace(&[object("b", "2", false)]);
        assert!(*open.out.borrow());
    }

    #[test]
    fn a_machine_has_so_many_watches_and_requests_and_no_more() {
        let members = members();
        let mut open: Vec<_> = (0..WATCHES).map(|_| members.watch(&member("1")).unwrap()).collect();

        assert_eq!(members.watch(&member("1")).unwrap_err(), Denied::TooManyWatches);
        open.pop();
        assert!(members.watch(&member("1")).is_ok());

        let now = Instant::now();
        let answers = (0..1000).filter(|_| members.admit(&member("1"), now).is_ok()).count();
        assert_eq!(answers, 60);
        let other = Member { node: "b".to_owned(), uid: "2".to_owned() };
        assert_eq!(members.admit(&other, now), Ok(()));
    }
}
