//! `sendmmsg` and `recvmmsg` with the control messages of trains and of congestion marks.

#![allow(unsafe_code, reason = "no safe crate offers these calls with a control message each")]

use std::{
    mem::{self, offset_of, size_of},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    ops::Range,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use nix::libc;
use rustix::io::Errno;

/// No datagram and no train is longer.
pub(in crate::datapath) const LONGEST: usize = 65_536;
/// Most messages in one call.
pub(in crate::datapath) const MOST: usize = 16;

/// Datagrams to one address, back to back in the bytes that go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::datapath) struct Train {
    pub(in crate::datapath) to: SocketAddr,
    pub(in crate::datapath) range: Range<usize>,
    /// Length of each datagram but the last.
    pub(in crate::datapath) stride: usize,
    /// The outer traffic class: code point and congestion bits.
    pub(in crate::datapath) class: u8,
}

impl Train {
    pub(super) fn is_single(&self) -> bool {
        self.range.len() <= self.stride
    }

    /// Each datagram as a train of one.
    pub(super) fn singles(&self) -> impl Iterator<Item = Self> + '_ {
        let starts = self.range.clone().step_by(self.stride.max(1));
        starts.map(|start| {
            let end = (start + self.stride).min(self.range.end);
            Self { to: self.to, range: start..end, stride: self.stride, class: self.class }
        })
    }
}

/// A datagram or a train that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::datapath) struct Arrival {
    pub(in crate::datapath) from: SocketAddr,
    /// Where in the slots it lies.
    pub(in crate::datapath) range: Range<usize>,
    /// Length of each datagram but the last.
    pub(in crate::datapath) stride: usize,
    /// The outer traffic class: code point and congestion bits.
    pub(in crate::datapath) class: u8,
}

/// Room for `struct sockaddr_in6`, the longer of the two.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Name([u8; size_of::<libc::sockaddr_in6>()]);

/// Two control messages, laid out as `cmsg(3)` wants them.
#[repr(C)]
struct Marks {
    tos_header: libc::cmsghdr,
    tos: libc::c_int,
    segment_header: libc::cmsghdr,
    segment: u16,
}

#[repr(C, align(8))]
struct Control([u8; 128]);

/// Sends the first of `trains`, at most [`MOST`], and says how many went. All are of the
/// socket's family.
pub(super) fn send(socket: BorrowedFd<'_>, trains: &[Train], bytes: &[u8]) -> Result<usize, Errno> {
    match trains.len() {
        // Room for more is cold memory when a packet comes alone.
        1 => send_up_to::<1>(socket, trains, bytes),
        _ => send_up_to::<MOST>(socket, trains, bytes),
    }
}

fn send_up_to<const N: usize>(
    socket: BorrowedFd<'_>,
    trains: &[Train],
    bytes: &[u8],
) -> Result<usize, Errno> {
    let count = trains.len().min(N);
    // SAFETY: these are plain C structures, for which zeroes are a valid value.
    let (mut headers, mut parts, mut marks): ([libc::mmsghdr; N], [libc::iovec; N], [Marks; N]) =
        unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
    let mut names = [Name([0; _]); N];
    for (place, train) in trains[..count].iter().enumerate() {
        let payload = &bytes[train.range.clone()];
        parts[place].iov_base = payload.as_ptr().cast_mut().cast();
        parts[place].iov_len = payload.len();
        let header = &mut headers[place].msg_hdr;
        header.msg_namelen = write_name(train.to, &mut names[place]);
        header.msg_name = (&raw mut names[place]).cast();
        header.msg_iov = &raw mut parts[place];
        header.msg_iovlen = 1;
        let control = mark(train, &mut marks[place]);
        header.msg_controllen = control.len() as _;
        if !control.is_empty() {
            let base: *mut u8 = (&raw mut marks[place]).cast();
            // SAFETY: `mark` returns a range inside of `Marks`.
            header.msg_control = unsafe { base.add(control.start) }.cast();
        }
    }
    let flags = libc::MSG_NOSIGNAL as _;
    // SAFETY: the first `count` headers point to names, parts and marks that live until the call
    // returns, with their lengths; the kernel only reads what they point to.
    let sent =
        unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as u32, flags) };
    usize::try_from(sent).map_err(|_| last_error())
}

/// Fills in what the train needs and says which bytes of `marks` to hand over.
fn mark(train: &Train, marks: &mut Marks) -> Range<usize> {
    let (level, kind) = match train.to {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    };
    marks.tos_header.cmsg_level = level;
    marks.tos_header.cmsg_type = kind;
    marks.tos_header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<libc::c_int>()) as _;
    marks.tos = train.class.into();
    marks.segment_header.cmsg_level = libc::SOL_UDP;
    marks.segment_header.cmsg_type = libc::UDP_SEGMENT;
    marks.segment_header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<u16>()) as _;
    marks.segment = train.stride as u16;
    let segment = offset_of!(Marks, segment_header);
    let start = if train.class == 0 { segment } else { 0 };
    let end = if train.is_single() { segment } else { size_of::<Marks>() };
    start..end
}

/// Takes what is there, at most `most` messages, each into its slot of [`LONGEST`] bytes.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    slots: &mut [u8],
    most: usize,
    into: &mut Vec<Arrival>,
) -> Result<(), Errno> {
    match most {
        1 => receive_up_to::<1>(socket, slots, most, into),
        _ => receive_up_to::<MOST>(socket, slots, most, into),
    }
}

fn receive_up_to<const N: usize>(
    socket: BorrowedFd<'_>,
    slots: &mut [u8],
    most: usize,
    into: &mut Vec<Arrival>,
) -> Result<(), Errno> {
    // SAFETY: these are plain C structures, for which zeroes are a valid value.
    let (mut headers, mut parts): ([libc::mmsghdr; N], [libc::iovec; N]) =
        unsafe { (mem::zeroed(), mem::zeroed()) };
    let mut names = [Name([0; _]); N];
    let mut controls = [const { Control([0; 128]) }; N];
    let mut count = 0;
    for slot in slots.chunks_exact_mut(LONGEST).take(most.min(N)) {
        parts[count].iov_base = slot.as_mut_ptr().cast();
        parts[count].iov_len = slot.len();
        let header = &mut headers[count].msg_hdr;
        header.msg_name = (&raw mut names[count]).cast();
        header.msg_namelen = size_of::<Name>() as _;
        header.msg_iov = &raw mut parts[count];
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut controls[count]).cast();
        header.msg_controllen = size_of::<Control>() as _;
        count += 1;
    }
    // SAFETY: the first `count` headers point to names, controls and slots that live until the
    // call returns, with their lengths; the slots do not overlap.
    let came = unsafe {
        let wait = ptr::null_mut();
        let flags = libc::MSG_DONTWAIT as _;
        libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as u32, flags, wait)
    };
    let came = usize::try_from(came).map_err(|_| last_error())?;
    for (place, (header, name)) in headers.iter().zip(&names).take(came).enumerate() {
        let Some(from) = read_name(name) else {
            continue;
        };
        let length = header.msg_len as usize;
        let (stride, class) = read_marks(&header.msg_hdr);
        let stride = stride.unwrap_or(length).clamp(1, length.max(1));
        let start = place * LONGEST;
        into.push(Arrival { from, range: start..start + length, stride, class });
    }
    Ok(())
}

/// The length of a train's datagrams, and the traffic class.
fn read_marks(header: &libc::msghdr) -> (Option<usize>, u8) {
    let (mut stride, mut class) = (None, 0);
    // SAFETY: the kernel wrote well-formed control messages and their length; the header still
    // points to them.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(one) = message.as_ref() {
            let data = libc::CMSG_DATA(message);
            match (one.cmsg_level, one.cmsg_type) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let length = data.cast::<libc::c_int>().read_unaligned();
                    stride = usize::try_from(length).ok().filter(|&length| length > 0);
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => class = data.read(),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    [class, ..] = data.cast::<libc::c_int>().read_unaligned().to_le_bytes();
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    (stride, class)
}

/// `struct sockaddr_in` or `sockaddr_in6`; returns its length.
fn write_name(address: SocketAddr, name: &mut Name) -> libc::socklen_t {
    let bytes = &mut name.0;
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) => {
            bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            bytes[4..8].copy_from_slice(&v4.ip().octets());
            size_of::<libc::sockaddr_in>() as _
        }
        SocketAddr::V6(v6) => {
            bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            bytes[8..24].copy_from_slice(&v6.ip().octets());
            bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            size_of::<libc::sockaddr_in6>() as _
        }
    }
}

fn read_name(name: &Name) -> Option<SocketAddr> {
    let bytes = &name.0;
    let family = u16::from_ne_bytes([bytes[0], bytes[1]]);
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    match i32::from(family) {
        libc::AF_INET => {
            let address: [u8; 4] = bytes[4..8].try_into().ok()?;
            Some((Ipv4Addr::from(address), port).into())
        }
        libc::AF_INET6 => {
            let address: [u8; 16] = bytes[8..24].try_into().ok()?;
            let scope = u32::from_ne_bytes(bytes[24..28].try_into().ok()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(address), port, 0, scope).into())
        }
        _ => None,
    }
}

fn last_error() -> Errno {
    let error = std::io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
