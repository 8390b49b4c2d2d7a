//! A session's two keys, each usable by many threads: the one seals, the other opens.
//!
//! ```text
//!   SendKey     counter ─ reserve(n) ─▶ seal at counter, counter + 1, …      never twice
//!   ReceiveKey  open at counter ─▶ window: new? ─▶ packet
//! ```
//!
//! Raw keys are kept for [`crate::export`] and wiped when the session goes. ring keeps an expanded
//! copy of each in the same allocation (for ChaCha20-Poly1305 the key's words as they are), which
//! it offers no way to wipe; it is gone when the allocator gives the place to somebody else.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};

use crate::{
    Discard, HEADER, TAG, blake2s::Secret, moment::Moment, path::PeerPath, window::Window,
};

/// The WireGuard paper, section 6.1.
pub(crate) const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
pub(crate) const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// An initiator that only receives begins again so early (Linux: keep_key_fresh).
const STALE_AFTER_TIME: Duration = Duration::from_secs(165);
/// Who answered begins only if the initiator did not, in time for one retry. The paper leaves it to
/// the initiator alone; but when both begin at once and the link changes the order, an
/// implementation that keeps the role with the peer and not with the session (boringtun) has two
/// ends that both believe they answered, and the session ends under the packets.
const LATE_AFTER_TIME: Duration = Duration::from_secs(170);
const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
pub(crate) const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// 256 GiB. Two minutes at 18 Gbit/s: below that the clock comes first, above a key still covers
/// no more than 2^34 blocks of 16 bytes. ChaCha20 would bear more; a cipher with blocks of 128 bits
/// over this same core keeps a distinguisher's chance below 2^-60 with it. The paper has none.
pub(crate) const REKEY_AFTER_BYTES: u64 = 1 << 38;
pub(crate) const REJECT_AFTER_BYTES: u64 = 1 << 39;
/// Messages that are reserved at once, at most. A super packet has 64 KiB.
pub(crate) const TOGETHER: u32 = 1024;
/// The nonce's counter has eight bytes, behind four of zero.
const NONCE: usize = 12;
/// Packets are padded to a multiple of this.
const PADDING: usize = 16;

/// When a session is to be renewed, and when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Whoever sends after this asks for the next session: its initiator early, the other end late,
    /// so that one handshake comes of it.
    pub(crate) rekey_at: Moment,
    /// Whoever receives after this does.
    pub(crate) stale_at: Moment,
    pub(crate) reject_at: Moment,
    pub(crate) initiator: bool,
}

impl Span {
    pub(crate) fn new(created: Moment, initiator: bool) -> Self {
        Self::of_age(created, Duration::ZERO, initiator)
    }

    /// Of a session that was `age` old at that moment.
    pub(crate) fn of_age(at: Moment, age: Duration, initiator: bool) -> Self {
        let in_time = |limit: Duration| at.after(limit.saturating_sub(age));
        let asks = |limit| in_time(if initiator { limit } else { LATE_AFTER_TIME });
        Self {
            rekey_at: asks(REKEY_AFTER_TIME),
            stale_at: asks(STALE_AFTER_TIME),
            reject_at: in_time(REJECT_AFTER_TIME),
            initiator,
        }
    }

    pub(crate) fn age(self, at: Moment) -> Duration {
        REJECT_AFTER_TIME.saturating_sub(self.reject_at.since(at))
    }
}

/// Counters for one train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reserved {
    pub(crate) first: u64,
    /// The session is old in messages, bytes or time.
    pub(crate) rekey: bool,
    /// What an export reserved is half used.
    pub(crate) export: bool,
}

/// The half that seals.
pub(crate) struct SendKey {
    key: LessSafeKey,
    raw: Secret,
    /// Type 4, three of zero, the peer's receiver index: as it goes on the wire.
    header: [u8; 8],
    next: AtomicU64,
    /// No counter from here on is ours to use.
    limit: AtomicU64,
    /// From here on an export is due.
    remind: AtomicU64,
    bytes: AtomicU64,
    pub(crate) span: Span,
}

impl SendKey {
    /// `next` is 0 but for an imported session.
    pub(crate) fn new(raw: Secret, theirs: u32, next: u64, span: Span) -> Self {
        let mut header = [4, 0, 0, 0, 0, 0, 0, 0];
        header[4..].copy_from_slice(&theirs.to_le_bytes());
        Self {
            key: expand(&raw),
            raw,
            header,
            next: AtomicU64::new(next),
            limit: AtomicU64::new(REJECT_AFTER_MESSAGES),
            remind: AtomicU64::new(u64::MAX),
            bytes: AtomicU64::new(0),
            span,
        }
    }

    /// Takes `messages` counters (at most [`TOGETHER`]) that nobody else gets. `None` when the
    /// session is used up, in messages, bytes or time.
    pub(crate) fn reserve(&self, messages: u32, at: Moment) -> Option<Reserved> {
        let bytes = self.bytes.load(Ordering::Relaxed);
        if at >= self.span.reject_at || bytes >= REJECT_AFTER_BYTES || messages > TOGETHER {
            return None;
        }
        // No fetch_add: a counter that goes on counting behind its limit wraps in the end.
        let first = self
            .next
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |next| {
                let end = next.checked_add(u64::from(messages))?;
                (end <= self.limit.load(Ordering::SeqCst)).then_some(end)
            })
            .ok()?;
        let old = first >= REKEY_AFTER_MESSAGES || bytes >= REKEY_AFTER_BYTES;
        Some(Reserved {
            first,
            rekey: old || at >= self.span.rekey_at,
            export: first >= self.remind.load(Ordering::Relaxed),
        })
    }

    /// Seals `record` = `[16 free | packet, padded | 16 free]` in place, as long as it is.
    /// `counter` must be reserved and used once.
    #[inline]
    pub(crate) fn seal(&self, counter: u64, record: &mut [u8]) {
        let (head, rest) = record.split_at_mut(HEADER);
        let (body, tag) = rest.split_at_mut(rest.len() - TAG);
        head[..8].copy_from_slice(&self.header);
        head[8..].copy_from_slice(&counter.to_le_bytes());
        let made = self
            .key
            .seal_in_place_separate_tag(nonce(counter), Aad::empty(), body)
            .expect("a datagram is shorter than 256 GiB");
        tag.copy_from_slice(made.as_ref());
    }

    pub(crate) fn count_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives the first counter that somebody else may use. With `block` 0 all from here on, else
    /// about so many are ours before (not fewer than twice a train's).
    pub(crate) fn export(&self, block: u64) -> u64 {
        if block == 0 {
            return self.next.swap(REJECT_AFTER_MESSAGES, Ordering::SeqCst);
        }
        loop {
            let next = self.next.load(Ordering::SeqCst);
            let block = block.max(2 * u64::from(TOGETHER));
            let limit = next.saturating_add(block).min(REJECT_AFTER_MESSAGES);
            self.remind.store(next.saturating_add(block / 2), Ordering::Relaxed);
            self.limit.store(limit, Ordering::SeqCst);
            // Whoever read the old limit meanwhile had read a counter before that. If now there is
            // still room for a whole train, there was for his.
            let room = limit.saturating_sub(self.next.load(Ordering::SeqCst));
            if room >= u64::from(TOGETHER) || limit == REJECT_AFTER_MESSAGES {
                return limit;
            }
        }
    }

    pub(crate) fn raw(&self) -> &Secret {
        &self.raw
    }

    /// What the peer calls the session.
    pub(crate) fn theirs(&self) -> u32 {
        let [.., a, b, c, d] = self.header;
        u32::from_le_bytes([a, b, c, d])
    }
}

/// The half that opens.
pub(crate) struct ReceiveKey {
    key: LessSafeKey,
    raw: Secret,
    /// Our receiver index.
    index: u32,
    pub(crate) peer: Arc<PeerPath>,
    seen: Mutex<Seen>,
    /// From here on an export is due.
    remind: AtomicU64,
    /// We answered, and nothing came on it yet: the peer may not have our response.
    pub(crate) unconfirmed: AtomicBool,
    pub(crate) span: Span,
}

struct Seen {
    window: Window,
    /// No counter from here on is ours to accept.
    limit: u64,
}

/// What came of a look at the window: a bit for each counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Marked {
    pub(crate) fresh: u64,
    /// Not replayed, but beyond what an export left us.
    pub(crate) beyond: u64,
}

impl ReceiveKey {
    /// `window` is a new one but for an imported session.
    pub(crate) fn new(
        raw: Secret,
        index: u32,
        peer: Arc<PeerPath>,
        window: Window,
        span: Span,
    ) -> Self {
        Self {
            key: expand(&raw),
            raw,
            index,
            peer,
            seen: Mutex::new(Seen { window, limit: REJECT_AFTER_MESSAGES }),
            remind: AtomicU64::new(u64::MAX),
            unconfirmed: AtomicBool::new(false),
            span,
        }
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    pub(crate) fn raw(&self) -> &Secret {
        &self.raw
    }

    /// Opens `[packet | tag]` in place; the length of the packet, padding and all.
    #[inline]
    pub(crate) fn open(&self, counter: u64, sealed: &mut [u8]) -> Result<usize, Discard> {
        let length = sealed.len().checked_sub(TAG).ok_or(Discard::NotWireGuard)?;
        let (body, tag) = sealed.split_at_mut(length);
        let tag = Tag::from(*tag.first_chunk().ok_or(Discard::NotWireGuard)?);
        self.key
            .open_in_place_separate_tag(nonce(counter), Aad::empty(), tag, body, 0..)
            .map_err(|_| Discard::NotAuthentic)?;
        Ok(length)
    }

    /// Which of up to 64 authentic counters are new. The one lock on the path.
    pub(crate) fn mark(&self, counters: impl Iterator<Item = u64>) -> Marked {
        let mut seen = self.seen();
        let mut marked = Marked::default();
        for (place, counter) in counters.enumerate() {
            if counter >= seen.limit {
                marked.beyond |= 1 << place;
            } else if seen.window.mark(counter) {
                marked.fresh |= 1 << place;
            }
        }
        marked
    }

    /// True if an export is due at this counter.
    pub(crate) fn export_due(&self, counter: u64) -> bool {
        counter >= self.remind.load(Ordering::Relaxed)
    }

    /// Gives the window to somebody else. With `block` 0 as it is, and nothing is accepted here any
    /// more; else about so many counters are still ours, and are in it as if they had been seen.
    pub(crate) fn export(&self, block: u64) -> Window {
        let mut seen = self.seen();
        if block == 0 {
            seen.limit = 0;
            return seen.window.clone();
        }
        let next = seen.window.next();
        seen.limit = next.saturating_add(block).min(REJECT_AFTER_MESSAGES);
        self.remind.store(next.saturating_add(block / 2), Ordering::Relaxed);
        Window::all_below(seen.limit)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The length of a packet with its padding.
pub(crate) fn padded(packet: usize) -> usize {
    packet.next_multiple_of(PADDING)
}

fn expand(raw: &Secret) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, raw.as_slice()).expect("a key has 32 bytes");
    LessSafeKey::new(key)
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests;
