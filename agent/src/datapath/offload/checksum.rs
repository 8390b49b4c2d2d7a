//! The internet checksum (RFC 1071), over four bytes at a time in 64-bit lanes, which compilers
//! turn into vector instructions.
//!
//! The sum does not depend on the byte order (RFC 1071, 2 B), so everything is added up as the
//! machine reads it and only the result is written back byte by byte.

/// A ones' complement sum under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum(u64);

/// Bytes a round: eight lanes.
const BLOCK: usize = 64;
const LANES: usize = BLOCK / 8;

impl Sum {
    /// Of `bytes`, the last one padded with a zero if it has no partner.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        let mut lanes = [0; LANES];
        for block in blocks {
            add(&mut lanes, block);
        }
        Self::total(&lanes, rest)
    }

    /// Of `from`, while it is copied to `into`, which is exactly as long.
    pub(super) fn of_copy(into: &mut [u8], from: &[u8]) -> Self {
        let (targets, target_rest) = into.as_chunks_mut::<BLOCK>();
        let (blocks, rest) = from.as_chunks::<BLOCK>();
        let mut lanes = [0; LANES];
        for (target, block) in targets.iter_mut().zip(blocks) {
            *target = *block;
            add(&mut lanes, block);
        }
        target_rest.copy_from_slice(rest);
        Self::total(&lanes, rest)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(u64::from(self.folded()) + u64::from(other.folded()))
    }

    /// With a 16-bit field of that value.
    pub(super) fn and_word(self, value: u16) -> Self {
        Self(self.0 + u64::from(value.to_be()))
    }

    /// With a 32-bit field of that value.
    pub(super) fn and_long(self, value: u32) -> Self {
        Self(self.0 + u64::from(value.to_be()))
    }

    /// What an IPv4 header's checksum field has to hold.
    pub(super) fn header_checksum(self) -> [u8; 2] {
        (!self.folded()).to_ne_bytes()
    }

    /// What a TCP or UDP checksum field has to hold: never zero, which UDP reads as "none"
    /// (RFC 768) and which is the same number as 0xffff everywhere else.
    pub(super) fn checksum(self) -> [u8; 2] {
        match !self.folded() {
            0 => [0xff; 2],
            checksum => checksum.to_ne_bytes(),
        }
    }

    /// The sum itself, as it stands in a packet whose checksum somebody else completes.
    pub(super) fn partial(self) -> [u8; 2] {
        self.folded().to_ne_bytes()
    }

    /// True of bytes that hold their own checksum.
    pub(super) fn is_valid(self) -> bool {
        self.folded() == 0xffff
    }

    fn folded(self) -> u16 {
        let fold = |sum: u64| (sum >> 16) + (sum & 0xffff);
        // 33 bits, then 18, then 17, then 16.
        fold(fold(fold((self.0 >> 32) + (self.0 & 0xffff_ffff)))) as u16
    }

    fn total(lanes: &[u64; LANES], rest: &[u8]) -> Self {
        let (longs, rest) = rest.as_chunks::<8>();
        let longs = longs.iter().map(|&long| halves(u64::from_ne_bytes(long)));
        let (pairs, odd) = rest.as_chunks::<2>();
        let pairs = pairs.iter().map(|&pair| u64::from(u16::from_ne_bytes(pair)));
        let last = odd.first().map_or(0, |&byte| u64::from(u16::from_ne_bytes([byte, 0])));
        Self(lanes.iter().sum::<u64>() + longs.sum::<u64>() + pairs.sum::<u64>() + last)
    }
}

fn halves(long: u64) -> u64 {
    (long >> 32) + (long & 0xffff_ffff)
}

/// A lane takes up to 2^32 blocks before it can wrap; no packet has more than 1,024.
#[inline]
fn add(lanes: &mut [u64; LANES], block: &[u8; BLOCK]) {
    let (longs, _) = block.as_chunks::<8>();
    for (lane, &long) in lanes.iter_mut().zip(longs) {
        *lane = lane.wrapping_add(halves(u64::from_ne_bytes(long)));
    }
}

/// Adjusts the checksum in `field` for a word that was `old` and is now `new`: a wrong checksum
/// stays wrong (RFC 1624, equation 3).
pub(super) fn adjust(field: &mut [u8; 2], old: [u8; 2], new: [u8; 2]) {
    let sum = u64::from(!u16::from_ne_bytes(*field))
        + u64::from(!u16::from_ne_bytes(old))
        + u64::from(u16::from_ne_bytes(new));
    *field = (!Sum(sum).folded()).to_ne_bytes();
}
