//! Lists in pages: what a continue token means.
//!
//! All pages of a list show one moment. The first page keeps the whole list; the token names it
//! and says where to go on. A list that is no longer kept is 410, and the client starts over.

use super::{Listing, Object};
use crate::status::Status;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const KEPT: usize = 64;
const KEPT_FOR: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Kept {
    id: u64,
    version: u64,
    /// The request that made it: another one may not read on in it.
    query: String,
    objects: Arc<[Arc<Object>]>,
    until: Instant,
}

#[derive(Debug, Default)]
struct Inner {
    kept: Vec<Kept>,
    last_id: u64,
}

/// The lists that somebody is in the middle of.
#[derive(Debug, Default)]
pub(crate) struct Pages(Mutex<Inner>);

/// A part of a list.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) version: u64,
    pub(crate) objects: Vec<Arc<Object>>,
    /// Where to go on, and how much is left.
    pub(crate) rest: Option<(String, usize)>,
}

impl Pages {
    /// The first `limit` of a list (0: all of it).
    pub(crate) fn first(&self, query: &str, listing: Listing, limit: usize, now: Instant) -> Page {
        let Listing { version, mut objects } = listing;
        if limit == 0 || objects.len() <= limit {
            return Page { version, objects, rest: None };
        }
        let left = objects.len() - limit;
        let id = self.keep(query, version, &objects, now);
        objects.truncate(limit);
        Page { version, objects, rest: Some((token(id, version, limit), left)) }
    }

    /// The part after a token.
    pub(crate) fn next(
        &self,
        query: &str,
        continue_token: &str,
        limit: usize,
        now: Instant,
    ) -> Result<Page, Status> {
        let Some((id, version, start)) = parse(continue_token) else {
            return Err(Status::bad_request("continue key is not valid"));
        };
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.kept.retain(|kept| kept.until > now);
        let found = inner.kept.iter_mut().find(|kept| kept.id == id && kept.version == version);
        let Some(kept) = found else {
            let why = "The provided continue parameter is too old to display a consistent list \
                       result. You must start a new list without the continue parameter.";
            return Err(Status::expired(why));
        };
        if kept.query != query {
            return Err(Status::bad_request("continue key belongs to another list"));
        }
        kept.until = now + KEPT_FOR;
        let end = if limit == 0 { usize::MAX } else { start.saturating_add(limit) };
        let end = end.min(kept.objects.len());
        let objects = kept.objects.get(start..end).unwrap_or_default().to_vec();
        let left = kept.objects.len() - end;
        Ok(Page { version, objects, rest: (left > 0).then(|| (token(id, version, end), left)) })
    }

    fn keep(&self, query: &str, version: u64, objects: &[Arc<Object>], now: Instant) -> u64 {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.kept.retain(|kept| kept.until > now);
        let same = inner.kept.iter_mut().find(|k| k.version == version && k.query == query);
        if let Some(kept) = same {
            kept.until = now + KEPT_FOR;
            return kept.id;
        }
        if inner.kept.len() >= KEPT {
            inner.kept.remove(0);
        }
        inner.last_id += 1;
        let id = inner.last_id;
        let (query, objects, until) = (query.to_owned(), objects.into(), now + KEPT_FOR);
        inner.kept.push(Kept { id, version, query, objects, until });
        id
    }
}

fn token(id: u64, version: u64, start: usize) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{id}.{version}.{start}"))
}

fn parse(token: &str) -> Option<(u64, u64, usize)> {
    let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let mut parts = text.split('.');
    let id = parts.next()?.parse().ok()?;
    let version = parts.next()?.parse().ok()?;
    let start = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some((id, version, start))
}
