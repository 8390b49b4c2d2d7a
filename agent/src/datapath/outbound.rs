//! Packets from the tunnel device to their peers. Mirror image of `inbound.rs`.

use std::time::Instant;

use crypto::Discard;
use rustix::io::Errno;

use super::{
    clear,
    offload::{Super, VNET, VnetHeader},
    recorder::Direction,
    train::Departures,
    tun::Queue,
};

/// A header and the longest super packet.
const RAW: usize = VNET + 65_536;
/// Bytes that are sent without looking whether there are more: what stays in the cache.
const ENOUGH: usize = 48 << 10;
/// Packets read at one wake-up, at most, so that the other direction has its turn.
const MOST: usize = 64;

pub(super) struct Outbound {
    raw: Box<[u8]>,
}

impl Outbound {
    pub(super) fn new() -> Self {
        Self { raw: vec![0; RAW].into() }
    }

    /// Seals and sends what waits in the queue, up to a full train. Fails only if the device is
    /// gone.
    pub(super) fn turn(&mut self, queue: &Queue, out: &mut Departures<'_>) -> Result<(), Errno> {
        let read = self.read(queue, out);
        out.send();
        match read {
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            other => other,
        }
    }

    fn read(&mut self, queue: &Queue, out: &mut Departures<'_>) -> Result<(), Errno> {
        let mut length = queue.read(&mut self.raw)?;
        let now = Instant::now();
        for _ in 1..MOST {
            self.seal(length, out, now);
            if out.waiting() >= ENOUGH {
                return Ok(());
            }
            length = queue.read(&mut self.raw)?;
        }
        self.seal(length, out, now);
        Ok(())
    }

    fn seal(&mut self, length: usize, out: &mut Departures<'_>, now: Instant) {
        let shared = out.shared();
        let packet = self.raw.get(VNET..length).unwrap_or_default();
        shared.recorder.inner(Direction::Out, now, packet);
        match parse(&mut self.raw[..length]) {
            Ok(packet) => match shared.clear.endpoint(&packet) {
                None => shared.sessions.seal(packet, out, now),
                Some(to) => clear::send(packet, to, out),
            },
            Err(discard) => {
                tracing::trace!(discard = discard.name(), "packet not sent");
                shared.count(discard, 1);
            }
        }
    }
}

fn parse(raw: &mut [u8]) -> Result<Super<'_>, Discard> {
    let (header, packet) = raw.split_first_chunk_mut::<VNET>().ok_or(Discard::NotIp)?;
    Super::parse(&VnetHeader::parse(header)?, packet)
}
