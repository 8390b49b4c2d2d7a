//! Longest prefix → owner: the one place that answers "whose address is this".
//!
//! One hash table per prefix length that occurs, longest first. A mesh has two to four lengths a
//! family, so a lookup is two to four probes, however many peers there are.
//!
//! ```text
//!   10.42.3.7 → /32 table? no → /24 table: 10.42.3.0 → node-3
//! ```
//! The hash is two multiplications, not SipHash: only the control plane says which prefixes there
//! are, and a network that could choose them would choose itself all addresses.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
    net::IpAddr,
};

use ipnet::IpNet;

/// Prefixes of both families and who owns each.
#[derive(Debug, Clone)]
pub struct Routes<T> {
    v4: Family<u32, T>,
    v6: Family<u128, T>,
}

/// The tables of one family, longest prefix first.
#[derive(Debug, Clone)]
struct Family<K, T>(Vec<Table<K, T>>);

#[derive(Debug, Clone)]
struct Table<K, T> {
    length: u8,
    owners: HashMap<K, T, BuildHasherDefault<Folded>>,
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self { v4: Family(Vec::new()), v6: Family(Vec::new()) }
    }
}

impl<T: Copy> Routes<T> {
    /// The owner of the most specific prefix that holds `address`.
    pub fn owner_of(&self, address: IpAddr) -> Option<T> {
        match address {
            IpAddr::V4(v4) => self.v4.longest(|length| network_v4(v4.to_bits(), length)),
            IpAddr::V6(v6) => self.v6.longest(|length| network_v6(v6.to_bits(), length)),
        }
    }

    /// Gives `prefix` to `owner`; returns who had exactly this prefix before. Host bits do not
    /// matter.
    pub fn insert(&mut self, prefix: IpNet, owner: T) -> Option<T> {
        let length = prefix.prefix_len();
        match prefix.network() {
            IpAddr::V4(v4) => self.v4.table(length).insert(v4.to_bits(), owner),
            IpAddr::V6(v6) => self.v6.table(length).insert(v6.to_bits(), owner),
        }
    }

    /// Takes `prefix` away from whoever has it.
    pub fn remove(&mut self, prefix: IpNet) {
        let length = prefix.prefix_len();
        match prefix.network() {
            IpAddr::V4(v4) => self.v4.remove(length, &v4.to_bits()),
            IpAddr::V6(v6) => self.v6.remove(length, &v6.to_bits()),
        }
    }

    /// The owner of exactly this prefix.
    pub fn get(&self, prefix: IpNet) -> Option<T> {
        let length = prefix.prefix_len();
        match prefix.network() {
            IpAddr::V4(v4) => self.v4.exact(length, v4.to_bits()),
            IpAddr::V6(v6) => self.v6.exact(length, v6.to_bits()),
        }
    }
}

impl<K: Hash + Eq + Copy, T: Copy> Family<K, T> {
    fn longest(&self, network: impl Fn(u8) -> K) -> Option<T> {
        self.0.iter().find_map(|table| table.owners.get(&network(table.length)).copied())
    }

    fn exact(&self, length: u8, network: K) -> Option<T> {
        let table = self.0.iter().find(|table| table.length == length)?;
        table.owners.get(&network).copied()
    }

    fn remove(&mut self, length: u8, network: &K) {
        let Some(place) = self.0.iter().position(|table| table.length == length) else {
            return;
        };
        self.0[place].owners.remove(network);
        if self.0[place].owners.is_empty() {
            self.0.remove(place);
        }
    }

    fn table(&mut self, length: u8) -> &mut HashMap<K, T, BuildHasherDefault<Folded>> {
        let place = self.0.partition_point(|table| table.length > length);
        if self.0.get(place).is_none_or(|table| table.length != length) {
            self.0.insert(place, Table { length, owners: HashMap::default() });
        }
        &mut self.0[place].owners
    }
}

/// Multiplies what it gets and folds the product, as wyhash and foldhash do.
#[derive(Default)]
struct Folded(u64);

impl Folded {
    fn fold(&mut self, word: u64) {
        // Two odd numbers without pattern: the golden ratio, and the square root of 3.
        let product = u128::from(word ^ self.0 ^ 0x9e37_79b9_7f4a_7c15) * 0xbb67_ae85_84ca_a73b;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.fold(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.fold(word.into());
    }

    fn write_u128(&mut self, word: u128) {
        self.fold(word as u64);
        self.fold((word >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn network_v4(bits: u32, length: u8) -> u32 {
    bits & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

fn network_v6(bits: u128, length: u8) -> u128 {
    bits & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
