//! Packets that came out of one received train, merged back into super packets, so that the
//! tunnel device is written to once for each flow and not once for each packet.
//!
//! ```text
//!   push: packet → its flow's last group?  yes: does it follow?  yes: one part more
//!                          └ no, or no ──────────────┴─▶ a group of its own
//!   emit: each group → [offload header and headers | payload | payload | …], for one writev
//! ```
//!
//! The order within a flow is kept: groups come out in the order they began, and only the last
//! group of a flow grows. A packet whose flow cannot be told (a fragment, an option, ICMP) ends all
//! groups. What is merged has had its checksums verified: the merged packet carries only the
//! pseudo-header's sum, so that the kernel takes it for good.

use std::{array, io::IoSlice, ops::Range};

use super::{
    layout::{Layout, Transport},
    merge,
    vnet::{VNET, VnetHeader},
};

/// Parts of one group, at most: enough for 64 KiB, and what every kernel takes as one UDP super
/// packet.
pub const PARTS: usize = 64;
/// Flows looked at for each packet, at most; the one that grew longest ago gives way.
const OPEN: usize = 16;
/// IPv6 and TCP with all its options.
const HEADERS: usize = 40 + 60;

/// What the tunnel device takes in one piece (TUNSETOFFLOAD).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merging {
    pub tcp: bool,
    /// USO, Linux 6.2.
    pub udp: bool,
}

/// No room: what there is must be emitted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as many packets wait as there is room for")]
pub struct Full;

/// The groups under way. Holds ranges of the buffer that the packets lie in, never their bytes.
#[derive(Debug)]
pub struct Coalesce {
    merging: Merging,
    parts: Vec<Part>,
    groups: Vec<Group>,
    /// Those that may grow, the one that grew last first.
    open: [u16; OPEN],
    opened: usize,
}

/// One packet of a group.
#[derive(Debug, Clone, Copy)]
struct Part {
    packet: (u32, u32),
    /// Length of its headers, where it is merged.
    headers: u16,
    next: Option<u16>,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    first: u16,
    last: u16,
    parts: u16,
    /// Payload of each part but the last.
    size: u16,
    /// Of the super packet.
    length: u16,
    /// The first packet's checksums were found to be right.
    verified: bool,
}

impl Part {
    fn range(self) -> Range<usize> {
        self.packet.0 as usize..self.packet.1 as usize
    }

    fn payload(self) -> Range<usize> {
        self.packet.0 as usize + usize::from(self.headers)..self.packet.1 as usize
    }
}

impl Coalesce {
    /// With room for that many packets, 65,535 at most.
    pub fn new(packets: u16, merging: Merging) -> Self {
        let packets = usize::from(packets);
        let (parts, groups) = (Vec::with_capacity(packets), Vec::with_capacity(packets));
        Self { merging, parts, groups, open: [0; OPEN], opened: 0 }
    }

    /// From the next packet on: what a kernel that refused a super packet (EINVAL) takes.
    pub fn set_merging(&mut self, merging: Merging) {
        self.merging = merging;
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Takes the whole IP packet at `packet` in `arena`, the same buffer each time until
    /// [`Self::emit`].
    pub fn push(&mut self, arena: &[u8], packet: Range<usize>) -> Result<(), Full> {
        if self.parts.len() == self.parts.capacity() {
            return Err(Full);
        }
        let bytes = &arena[packet.clone()];
        let part =
            Part { packet: (packet.start as u32, packet.end as u32), headers: 0, next: None };
        match Layout::parse(bytes) {
            Ok(layout) if layout.is_plain() && layout.length == bytes.len() => {
                self.push_flow(arena, Part { headers: layout.payload as u16, ..part }, &layout);
            }
            Ok(_) | Err(_) => {
                self.opened = 0;
                self.begin(part, 0);
            }
        }
        Ok(())
    }

    /// Hands over every group in order and is empty again. `arena` is the one pushed from.
    pub fn emit(&mut self, arena: &[u8], mut write: impl FnMut(&Merged<'_>)) {
        for group in &self.groups {
            write(&Merged::new(arena, &self.parts, group));
        }
        self.groups.clear();
        self.parts.clear();
        self.opened = 0;
    }

    /// A packet whose flow is known: into the flow's last group if it follows, else alone.
    fn push_flow(&mut self, arena: &[u8], part: Part, layout: &Layout) {
        let bytes = &arena[part.range()];
        let place = self.place_of(arena, bytes);
        if !self.takes(layout) || !merge::may_merge(bytes, layout) {
            place.inspect(|&place| self.close(place));
            self.begin(part, 0);
            return;
        }
        if let Some(place) = place {
            self.open[..=place].rotate_right(1);
            if self.join(arena, part, layout) {
                return;
            }
            self.close(0);
        }
        self.begin(part, layout.payload_length() as u16);
        if !merge::ends(bytes, layout) {
            self.opened = OPEN.min(self.opened + 1);
            self.open[..self.opened].rotate_right(1);
            self.open[0] = (self.groups.len() - 1) as u16;
        }
    }

    fn takes(&self, layout: &Layout) -> bool {
        match layout.kind {
            Transport::Tcp => self.merging.tcp,
            Transport::Udp => self.merging.udp,
        }
    }

    /// Where in `open` the group of the same flow is.
    fn place_of(&self, arena: &[u8], bytes: &[u8]) -> Option<usize> {
        self.open[..self.opened].iter().position(|&group| {
            let first = self.groups[usize::from(group)].first;
            merge::same_flow(&arena[self.parts[usize::from(first)].range()], bytes)
        })
    }

    /// Ends the group at that place in `open`.
    fn close(&mut self, place: usize) {
        self.open[place..self.opened].rotate_left(1);
        self.opened -= 1;
    }

    /// Adds to the group that grew last, if the packet follows.
    fn join(&mut self, arena: &[u8], part: Part, layout: &Layout) -> bool {
        let group = &mut self.groups[usize::from(self.open[0])];
        let payload = layout.payload_length();
        let length = usize::from(group.length) + payload;
        let fits = payload <= usize::from(group.size)
            && usize::from(group.parts) < PARTS
            && length <= merge::LONGEST;
        if !fits {
            return false;
        }
        let bytes = &arena[part.range()];
        let first = &arena[self.parts[usize::from(group.first)].range()];
        let before = usize::from(group.parts) * usize::from(group.size);
        if !merge::follows(first, bytes, layout, before, group.parts) {
            return false;
        }
        group.verified =
            group.verified || merge::is_valid(first, &Layout { length: first.len(), ..*layout });
        if !group.verified || !merge::is_valid(bytes, layout) {
            return false;
        }
        let number = self.parts.len() as u16;
        self.parts[usize::from(group.last)].next = Some(number);
        self.parts.push(part);
        (group.last, group.parts, group.length) = (number, group.parts + 1, length as u16);
        if payload < usize::from(group.size) || merge::ends(bytes, layout) {
            self.close(0);
        }
        true
    }

    fn begin(&mut self, part: Part, size: u16) {
        let number = self.parts.len() as u16;
        let length = part.range().len() as u16;
        self.parts.push(part);
        let (first, last) = (number, number);
        self.groups.push(Group { first, last, parts: 1, size, length, verified: false });
    }
}

/// One write to the tunnel device: a packet as it came, or several of one flow as one.
#[derive(Debug)]
pub struct Merged<'a> {
    arena: &'a [u8],
    parts: &'a [Part],
    group: Group,
    /// The offload header and, if merged, the headers in front of all payloads.
    head: [u8; VNET + HEADERS],
    head_length: usize,
}

impl<'a> Merged<'a> {
    fn new(arena: &'a [u8], parts: &'a [Part], group: &Group) -> Self {
        let mut merged =
            Self { arena, parts, group: *group, head: [0; VNET + HEADERS], head_length: VNET };
        if group.parts > 1 {
            merged.rewrite();
        }
        merged
    }

    /// How many packets it carries.
    pub fn count(&self) -> usize {
        usize::from(self.group.parts)
    }

    /// The packets one by one, as they were pushed: for a device that refuses the whole.
    pub fn packets(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.chain().map(Part::range)
    }

    /// Calls `write` with what one writev takes: the offload header first, then the packet.
    pub fn with_slices<R>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let head = IoSlice::new(&self.head[..self.head_length]);
        if self.group.parts == 1 {
            let packet = self.parts[usize::from(self.group.first)].range();
            return write(&[head, IoSlice::new(&self.arena[packet])]);
        }
        let mut slices: [IoSlice<'_>; 1 + PARTS] = array::from_fn(|_| head);
        for (slice, part) in slices[1..].iter_mut().zip(self.chain()) {
            *slice = IoSlice::new(&self.arena[part.payload()]);
        }
        write(&slices[..=self.count()])
    }

    fn chain(&self) -> impl Iterator<Item = Part> + '_ {
        let first = Some(self.parts[usize::from(self.group.first)]);
        std::iter::successors(first, |part| Some(self.parts[usize::from(part.next?)]))
    }

    fn rewrite(&mut self) {
        let first = self.parts[usize::from(self.group.first)];
        let last = self.parts[usize::from(self.group.last)];
        let length = usize::from(first.headers);
        self.head_length = VNET + length;
        let headers = &mut self.head[VNET..VNET + length];
        headers.copy_from_slice(&self.arena[first.range()][..length]);
        let header: VnetHeader = merge::rewrite(
            headers,
            &self.arena[last.range()],
            usize::from(self.group.length),
            self.group.size,
        );
        self.head[..VNET].copy_from_slice(&header.to_bytes());
    }
}
