//! Whatever the bytes are, the parser returns a packet that is within them, or none.

#![no_main]

use crypto::{IpPacket, is_martian};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(packet) = IpPacket::parse(bytes) {
        assert!(bytes.starts_with(packet.bytes()));
        assert!(packet.bytes().len() >= 20);
        assert_eq!(IpPacket::parse(packet.bytes()), Some(packet));
        let _ = (
            is_martian(packet.source()),
            is_martian(packet.destination()),
        );
    }
});
