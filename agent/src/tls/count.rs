//! What became of streams, as plain figures: `/state` and the metrics read them.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use serde::{Deserialize, Serialize};

use super::guests::Full;

/// Why a stream was not taken, or was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There are as many as may be: in all, from one place, of strangers.
    Full(Full),
    /// The TLS handshake failed, or took too long.
    Handshake,
    /// Nothing authentic came in time.
    Stranger,
    /// A frame that is no datagram.
    Frame,
}

impl Refused {
    const ALL: [(&'static str, Self); 6] = [
        ("all_full", Self::Full(Full::All)),
        ("place_full", Self::Full(Full::Place)),
        ("strangers_full", Self::Full(Full::Strangers)),
        ("handshake", Self::Handshake),
        ("stranger", Self::Stranger),
        ("frame", Self::Frame),
    ];

    fn place(self) -> usize {
        Self::ALL.iter().position(|(_, one)| *one == self).unwrap_or_default()
    }

    pub(super) fn name(self) -> &'static str {
        Self::ALL[self.place()].0
    }
}

/// Counted since the agent began.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Streams that others began and that this node began, open now.
    pub(super) accepted: AtomicU64,
    pub(super) called: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) rx_bytes: AtomicU64,
    pub(super) tx_bytes: AtomicU64,
    refused: [AtomicU64; Refused::ALL.len()],
}

/// Streams of sealed datagrams in TLS, as `/state` tells of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsState {
    /// Open now: those that others began, and those that this node began.
    pub accepted: u64,
    pub called: u64,
    /// Calls that failed or ended, since the agent began.
    pub failed_calls: u64,
    /// Streams that were refused or ended, by the reason.
    pub refused: BTreeMap<String, u64>,
    /// Sealed bytes that came and went in streams.
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}

impl Counts {
    pub(super) fn refuse(&self, why: Refused) {
        self.refused[why.place()].fetch_add(1, Relaxed);
    }

    pub(crate) fn state(&self) -> TlsState {
        let refused = Refused::ALL.iter().zip(&self.refused);
        TlsState {
            accepted: self.accepted.load(Relaxed),
            called: self.called.load(Relaxed),
            failed_calls: self.failed.load(Relaxed),
            refused: refused.map(|((name, _), n)| ((*name).to_owned(), n.load(Relaxed))).collect(),
            rx_bytes: self.rx_bytes.load(Relaxed),
            tx_bytes: self.tx_bytes.load(Relaxed),
        }
    }
}

/// One more as long as it lives.
pub(super) struct One<'a>(&'a AtomicU64);

impl<'a> One<'a> {
    pub(super) fn more(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
