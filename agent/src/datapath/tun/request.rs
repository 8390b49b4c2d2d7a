//! The requests of `linux/if_tun.h` and `netdevice(7)`.

#![allow(unsafe_code, reason = "the kernel offers these as ioctls only")]

use std::os::fd::BorrowedFd;

use rustix::{
    io::{Errno, Result},
    ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl},
};

const TUNSETIFF: Opcode = 0x4004_54ca;
const TUNSETPERSIST: Opcode = 0x4004_54cb;
const TUNSETOFFLOAD: Opcode = 0x4004_54d0;
const TUNGETIFF: Opcode = 0x8004_54d2;
const TUNSETVNETHDRSZ: Opcode = 0x4004_54d8;
const SIOCGIFMTU: Opcode = 0x8921;
const SIOCSIFMTU: Opcode = 0x8922;
const SIOCGIFTXQLEN: Opcode = 0x8942;
const SIOCSIFTXQLEN: Opcode = 0x8943;

const IFF_TUN: u16 = 0x0001;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

const TUN_F_CSUM: usize = 0x01;
const TUN_F_TSO4: usize = 0x02;
const TUN_F_TSO6: usize = 0x04;
const TUN_F_USO4: usize = 0x20;
const TUN_F_USO6: usize = 0x40;

const NAME: usize = 16;
/// `struct virtio_net_hdr`, without the count of buffers.
const HEADER: i32 = 10;

/// What the kernel hands over and takes unsplit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offload {
    /// Since Linux 6.2.
    TcpAndUdp,
    Tcp,
    Nothing,
}

/// `struct ifreq`: a name and a union of 24 bytes, which begins with the flags or the MTU.
#[repr(C, align(8))]
struct Ifreq {
    name: [u8; NAME],
    value: [u8; 24],
}

impl Ifreq {
    fn new(name: &str) -> Result<Self> {
        let mut request = Self { name: [0; NAME], value: [0; 24] };
        if name.is_empty() || name.len() >= NAME || name.contains(['\0', '/', '%']) {
            return Err(Errno::INVAL);
        }
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(request)
    }
}

/// One queue more of the device `name`, which is made if it is missing.
pub(super) fn attach(file: BorrowedFd<'_>, name: &str, several: bool) -> Result<()> {
    let several = if several { IFF_MULTI_QUEUE } else { 0 };
    let flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | several;
    let mut request = Ifreq::new(name)?;
    request.value[..2].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: TUNSETIFF reads one `struct ifreq`; ours has its size and alignment.
    unsafe { ioctl(file, Setter::<TUNSETIFF, Ifreq>::new(request)) }
}

pub(super) fn persist(file: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: TUNSETPERSIST takes an integer in the place of a pointer.
    unsafe { ioctl(file, IntegerSetter::<TUNSETPERSIST>::new_usize(1)) }
}

pub(super) fn set_header_length(file: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one `int`.
    unsafe { ioctl(file, Setter::<TUNSETVNETHDRSZ, i32>::new(HEADER)) }
}

/// As much as this kernel knows.
pub(super) fn offload(file: BorrowedFd<'_>) -> Offload {
    let tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
    if set_offload(file, tcp | TUN_F_USO4 | TUN_F_USO6).is_ok() {
        Offload::TcpAndUdp
    } else if set_offload(file, tcp).is_ok() {
        Offload::Tcp
    } else {
        Offload::Nothing
    }
}

fn set_offload(file: BorrowedFd<'_>, features: usize) -> Result<()> {
    // SAFETY: TUNSETOFFLOAD takes an integer in the place of a pointer.
    unsafe { ioctl(file, IntegerSetter::<TUNSETOFFLOAD>::new_usize(features)) }
}

pub(super) fn attached_name(file: BorrowedFd<'_>) -> Result<String> {
    let mut request = Ifreq { name: [0; NAME], value: [0; 24] };
    // SAFETY: TUNGETIFF writes one `struct ifreq`; ours has its size and alignment, and every
    // bit pattern is a valid one.
    unsafe { ioctl(file, Updater::<TUNGETIFF, Ifreq>::new(&mut request)) }?;
    let length = request.name.iter().position(|&byte| byte == 0).unwrap_or(NAME);
    String::from_utf8(request.name[..length].to_vec()).map_err(|_| Errno::ILSEQ)
}

pub(super) fn set_mtu(socket: BorrowedFd<'_>, name: &str, mtu: u16) -> Result<()> {
    let mut request = Ifreq::new(name)?;
    request.value[..4].copy_from_slice(&i32::from(mtu).to_ne_bytes());
    // SAFETY: SIOCSIFMTU reads one `struct ifreq`; ours has its size and alignment.
    unsafe { ioctl(socket, Setter::<SIOCSIFMTU, Ifreq>::new(request)) }
}

/// How many packets each queue holds.
pub(super) fn queue_length(socket: BorrowedFd<'_>, name: &str) -> Result<i32> {
    let mut request = Ifreq::new(name)?;
    // SAFETY: SIOCGIFTXQLEN reads and writes one `struct ifreq`; ours has its size and alignment,
    // and every bit pattern is a valid one.
    unsafe { ioctl(socket, Updater::<SIOCGIFTXQLEN, Ifreq>::new(&mut request)) }?;
    let [a, b, c, d, ..] = request.value;
    Ok(i32::from_ne_bytes([a, b, c, d]))
}

/// Lets each queue hold so many packets; one that holds more stays as somebody made it.
pub(super) fn lengthen_queues(socket: BorrowedFd<'_>, name: &str, packets: i32) -> Result<()> {
    if queue_length(socket, name)? >= packets {
        return Ok(());
    }
    let mut request = Ifreq::new(name)?;
    request.value[..4].copy_from_slice(&packets.to_ne_bytes());
    // SAFETY: SIOCSIFTXQLEN reads one `struct ifreq`; ours has its size and alignment.
    unsafe { ioctl(socket, Setter::<SIOCSIFTXQLEN, Ifreq>::new(request)) }
}

pub(super) fn mtu(socket: BorrowedFd<'_>, name: &str) -> Result<i32> {
    let mut request = Ifreq::new(name)?;
    // SAFETY: SIOCGIFMTU reads and writes one `struct ifreq`; ours has its size and alignment, and
    // every bit pattern is a valid one.
    unsafe { ioctl(socket, Updater::<SIOCGIFMTU, Ifreq>::new(&mut request)) }?;
    let [a, b, c, d, ..] = request.value;
    Ok(i32::from_ne_bytes([a, b, c, d]))
}
