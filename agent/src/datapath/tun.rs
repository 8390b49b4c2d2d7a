//! The tunnel device, as a file.
//!
//! The device is persistent: when the agent dies it stays, with its addresses and routes, and
//! drops what is sent into it. A device that went away with its owner would hand the mesh's
//! packets to the default route.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with},
};

/// One tunnel device, open. Reads and writes are whole IP packets, and never block.
#[derive(Debug)]
pub(super) struct Tun {
    file: OwnedFd,
    name: String,
}

impl Tun {
    /// Opens the device `name`, creating it when it is missing.
    pub(super) fn open(name: &str, mtu: u16) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
        let existed = index(name).is_ok();
        request::attach(file.as_fd(), name)?;
        request::persist(file.as_fd())?;
        if !existed {
            request::set_mtu(any_socket()?.as_fd(), name, mtu)?;
        }
        Ok(Self { file, name: name.to_owned() })
    }

    /// The device's index, or an error when it was deleted or renamed since.
    pub(super) fn index(&self) -> io::Result<u32> {
        if request::attached_name(self.file.as_fd())? != self.name {
            return Err(Errno::NODEV.into());
        }
        index(&self.name)
    }

    pub(super) fn read(&self, into: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::read(&self.file, into)
    }

    pub(super) fn write(&self, packet: &[u8]) -> Result<(), Errno> {
        rustix::io::write(&self.file, packet).map(|_| ())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn index(name: &str) -> io::Result<u32> {
    Ok(netdevice::name_to_index(any_socket()?, name)?)
}

/// Questions about devices are put to a socket of whatever family there is.
fn any_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?)
}

/// The requests of `linux/if_tun.h` and `netdevice(7)`.
#[allow(unsafe_code, reason = "the kernel offers these as ioctls only")]
mod request {
    use std::os::fd::BorrowedFd;

    use rustix::{
        io::{Errno, Result},
        ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl},
    };

    const TUNSETIFF: Opcode = 0x4004_54ca;
    const TUNSETPERSIST: Opcode = 0x4004_54cb;
    const TUNGETIFF: Opcode = 0x8004_54d2;
    const SIOCSIFMTU: Opcode = 0x8922;
    const IFF_TUN: i16 = 0x0001;
    const IFF_NO_PI: i16 = 0x1000;
    const NAME: usize = 16;

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

    pub(super) fn attach(file: BorrowedFd<'_>, name: &str) -> Result<()> {
        let mut request = Ifreq::new(name)?;
        request.value[..2].copy_from_slice(&(IFF_TUN | IFF_NO_PI).to_ne_bytes());
        // SAFETY: TUNSETIFF reads one `struct ifreq`; ours has its size and alignment.
        unsafe { ioctl(file, Setter::<TUNSETIFF, Ifreq>::new(request)) }
    }

    pub(super) fn persist(file: BorrowedFd<'_>) -> Result<()> {
        // SAFETY: TUNSETPERSIST takes an integer in the place of a pointer.
        unsafe { ioctl(file, IntegerSetter::<TUNSETPERSIST>::new_usize(1)) }
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
}
