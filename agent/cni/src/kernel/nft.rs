//! Is the guard's table in force? Asked of the kernel itself: a call lives for milliseconds, too
//! short for the nft program.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use rustix::io::Errno;

/// As the agent installs it.
const TABLE: &str = "hawser";
pub(crate) const GUARD: [&str; 2] = ["ingress", "egress"];
/// Gives pods' packets to the world the node's address; there only where pods are, since it has the
/// kernel track every connection of the node.
pub const SOURCE_NAT_CHAIN: &str = "source_nat";

/// linux/netfilter/nfnetlink.h and nf_tables.h
const GET_CHAIN: u16 = (10 << 8) | 4;
const NEW_CHAIN: u16 = (10 << 8) | 3;
const INET: u8 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_USE: u16 = 6;
/// linux/netlink.h
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;

/// Those of the table's `chains` that are missing, or have no rule.
pub(crate) fn missing_chains(chains: &[&'static str]) -> io::Result<Vec<&'static str>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut missing = Vec::new();
    for &chain in chains {
        socket.send(&question(chain), 0)?;
        let mut answer = Vec::with_capacity(8 << 10);
        socket.recv(&mut answer, 0)?;
        if rules(&answer)? == 0 {
            missing.push(chain);
        }
    }
    Ok(missing)
}

fn question(chain: &str) -> Vec<u8> {
    let mut message = vec![0; HEADER];
    message.extend([INET, 0, 0, 0]);
    for (kind, text) in [(CHAIN_TABLE, TABLE), (CHAIN_NAME, chain)] {
        let length = 4 + text.len() + 1;
        message.extend((length as u16).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(text.as_bytes());
        message.resize(message.len() + 1 + (length.next_multiple_of(4) - length), 0);
    }
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&GET_CHAIN.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
    message
}

/// How many rules the chain of an answer has; none, if there is no such chain.
fn rules(answer: &[u8]) -> io::Result<u32> {
    let garbled = || io::Error::new(io::ErrorKind::InvalidData, "a netlink answer garbled");
    let kind = u16::from_ne_bytes(take(answer, 4).ok_or_else(garbled)?);
    let rest = answer.get(HEADER..).ok_or_else(garbled)?;
    if kind == ERROR {
        let code = i32::from_ne_bytes(take(rest, 0).ok_or_else(garbled)?);
        let missing = code == -Errno::NOENT.raw_os_error();
        return if missing { Ok(0) } else { Err(io::Error::from_raw_os_error(-code)) };
    }
    if kind != NEW_CHAIN {
        return Err(garbled());
    }
    let mut attributes = rest.get(FAMILY_HEADER..).ok_or_else(garbled)?;
    while let (Some(length), Some(kind)) = (take(attributes, 0), take(attributes, 2)) {
        let (length, kind) = (usize::from(u16::from_ne_bytes(length)), u16::from_ne_bytes(kind));
        if kind == CHAIN_USE {
            return Ok(u32::from_be_bytes(take(attributes, 4).ok_or_else(garbled)?));
        }
        let next = length.max(4).next_multiple_of(4);
        attributes = attributes.get(next..).unwrap_or_default();
    }
    Err(garbled())
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let length = (HEADER + payload.len()) as u32;
        let head = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10]].concat();
        [&head, payload].concat()
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = 4 + value.len();
        let mut bytes = [&(length as u16).to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
        bytes.resize(length.next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn rules_are_counted_and_a_missing_chain_has_none() {
        let named = attribute(CHAIN_NAME, b"egress\0");
        let used = attribute(CHAIN_USE, &7u32.to_be_bytes());
        let chain = message(NEW_CHAIN, &[&[INET, 0, 0, 0][..], &named, &used].concat());
        let missing = message(ERROR, &(-2i32).to_ne_bytes());

        assert_eq!(rules(&chain).unwrap(), 7);
        assert_eq!(rules(&missing).unwrap(), 0);
    }

    #[test]
    fn a_refusal_and_garbage_are_errors_and_not_a_guard() {
        let refused = message(ERROR, &(-1i32).to_ne_bytes());

        assert_eq!(rules(&refused).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        let cut = message(NEW_CHAIN, &[INET, 0, 0, 0, 40, 0, 3]);
        for bytes in [&[][..], &[0; 7], &[0; 16], &cut, &message(ERROR, &[1, 2])] {
            assert!(rules(bytes).is_err(), "{bytes:?}");
        }
    }
}
