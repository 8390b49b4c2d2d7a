//! The half of a mesh that workers share: seal and open established sessions with `&self`.
#![allow(clippy::todo, dead_code, unused_variables, reason = "signatures first")]

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    time::Instant,
};

use crate::{Discard, Discards};

/// What a data message adds before its packet, and after it.
pub const HEADER: usize = 16;
pub const TAG: usize = 16;

/// Why a packet cannot be sealed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It dies; it has been counted.
    Discard(Discard),
    /// There is no session that may send: hand it to [`crate::Mesh::seal`], which queues it.
    Control,
}

/// Where [`Paths::open`] puts what it finds in a train, in order.
pub trait Inbox {
    /// A packet, whose source is its sender's: this part of the train.
    fn packet(&mut self, place: Range<usize>);
    /// A handshake message for [`crate::Mesh::open`]: this part of the train.
    fn handshake(&mut self, place: Range<usize>);
    /// A datagram that died. It has been counted.
    fn discard(&mut self, discard: Discard);
}

/// All established sessions of a mesh, for any number of threads.
pub struct Paths;

impl Paths {
    /// Reserves `packets` messages to the owner of `to`: one lookup, one reservation.
    pub fn train(&self, to: IpAddr, packets: u32, now: Instant) -> Result<Train, Refused> {
        todo!()
    }

    /// Opens `train`, datagrams of `stride` bytes (the last may be shorter) from one source, each
    /// in place.
    pub fn open(
        &self,
        train: &mut [u8],
        stride: usize,
        from: SocketAddr,
        now: Instant,
        into: &mut impl Inbox,
    ) {
        todo!()
    }

    /// True once when [`crate::Mesh::tick`] should be called though no timer is due.
    pub fn wants_control(&self) -> bool {
        todo!()
    }

    /// What died in here; [`crate::Mesh::discards`] holds these as well.
    pub fn discards(&self) -> Discards {
        todo!()
    }
}

/// Messages reserved on one session, to be sealed one after the other.
pub struct Train;

impl Train {
    /// The length of the datagram that carries a packet through a tunnel of that MTU: padded to 16
    /// bytes, but never above the MTU.
    pub fn length(packet: usize, mtu: usize) -> usize {
        todo!()
    }

    /// Where the datagrams go.
    pub fn endpoint(&self) -> SocketAddr {
        todo!()
    }

    /// Seals `record` = `[16 free | packet | at least 16 free]` in place and returns the length of
    /// the datagram at its beginning. The packet is padded to 16 bytes as far as the record has
    /// room: a record as long as [`Train::length`] says is filled exactly. 0 if the record is too
    /// short or the train has no message left.
    pub fn seal(&mut self, record: &mut [u8], packet: usize) -> usize {
        todo!()
    }
}
