//! Get, list and watch.

use super::body::{self, Answer};
use super::query::Match;
use super::resource::Call;
use super::route::Target;
use super::selection::Selection;
use super::watch::{self, Ask};
use crate::status::Status;
use crate::store::{Listing, Page};
use std::time::{Duration, Instant};

impl Call<'_> {
    pub(super) fn get(&self) -> Result<Answer, Status> {
        let Target { kind, namespace, name, .. } = &self.target;
        let found = self.app.store.get(&kind.key(namespace, name));
        let object = found.ok_or_else(|| kind.not_found(name))?;
        self.check_not_from_the_future()?;
        Ok(body::json_text(self.encoding.object(kind, &object, self.now)))
    }

    pub(super) fn list(&self) -> Result<Answer, Status> {
        let selection = Selection::new(&self.target, &self.query)?;
        let page = self.page(&selection)?;
        Ok(body::json_text(self.encoding.list(&self.target.kind, &page, self.now)))
    }

    fn page(&self, selection: &Selection) -> Result<Page, Status> {
        let (kind, query, now) = (&self.target.kind, &self.query, Instant::now());
        let what = format!(
            "{}?{}&{}&{}",
            kind.plural, selection.namespace, query.label_selector, query.field_selector
        );
        if let Some(token) = &query.continue_token {
            if query.version()?.is_some() || query.version_match.is_some() {
                let why = "specifying resource version is not allowed when using continue";
                return Err(Status::bad_request(why));
            }
            return self.app.pages.next(&what, token, query.limit, now);
        }
        self.check_not_from_the_future()?;
        let Listing { version, mut objects } =
            self.app.store.list(&kind.stored_as, &selection.namespace);
        self.check_exact(version)?;
        if !selection.is_everything() {
            objects.retain(|object| selection.matches(&object.value));
        }
        Ok(self.app.pages.first(&what, Listing { version, objects }, query.limit, now))
    }

    /// A version that was never given out belongs to another history.
    fn check_not_from_the_future(&self) -> Result<(), Status> {
        match self.query.version()? {
            Some(version) if version > self.app.store.version() => Err(Status::expired(format!(
                "resource version {version} is not of this history; list again"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn check_exact(&self, current: u64) -> Result<(), Status> {
        let query = &self.query;
        match (query.version_match, query.resource_version.as_deref()) {
            (None | Some(Match::NotOlderThan), Some(_)) | (None, None) => Ok(()),
            (Some(_), None) => Err(Status::invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless \
                 resourceVersion is provided",
            )),
            (Some(Match::Exact), Some("0")) => Err(Status::bad_request(
                "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
            )),
            (Some(Match::Exact), Some(_)) if query.version()? == Some(current) => Ok(()),
            (Some(Match::Exact), Some(version)) => {
                Err(Status::expired(format!("the exact resource version {version} is not kept")))
            }
        }
    }

    pub(super) fn watch(self) -> Result<Answer, Status> {
        let query = &self.query;
        let selection = Selection::new(&self.target, query)?;
        let initial = query.send_initial_events;
        if initial.is_some() {
            let served = query.version_match == Some(Match::NotOlderThan);
            if !served || (initial == Some(true) && !query.bookmarks) {
                return Err(Status::invalid(
                    "sendInitialEvents: Forbidden: it needs \
                     resourceVersionMatch=NotOlderThan and allowWatchBookmarks=true",
                ));
            }
        } else if query.version_match.is_some() {
            return Err(Status::invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch \
                 unless sendInitialEvents is provided",
            ));
        }
        let after = match (initial, query.version()?) {
            (Some(true) | None, None) => None,
            (Some(true), Some(version)) if version <= self.app.store.version() => None,
            (Some(false), None) => Some(self.app.store.version()),
            (Some(_) | None, Some(version)) => Some(version),
        };
        let ask = Ask {
            selection,
            encoding: self.encoding,
            after,
            bookmarks: query.bookmarks,
            mark_initial_end: initial == Some(true),
            timeout: query.timeout.unwrap_or_else(half_an_hour_or_more),
        };
        Ok(body::stream(watch::stream(self.app.clone(), self.session, ask)))
    }
}

/// Watches without a time of their own end spread out, so that they do not all return at once.
fn half_an_hour_or_more() -> Duration {
    let mut random = [0; 2];
    // Without randomness they end together, which is no harm but load.
    let _ = getrandom::fill(&mut random);
    Duration::from_secs(1800 + u64::from(u16::from_le_bytes(random)) % 1800)
}
