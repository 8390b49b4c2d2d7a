//! `format:`: the ones that API servers check and that our schemas may use. One that is not here
//! stops the server at its start: a check that is believed to exist must exist.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde_json::Number;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    DateTime,
    Date,
    Duration,
    Ipv4,
    Ipv6,
    Cidr,
    Byte,
    Uuid,
    Hostname,
    Mac,
    Password,
    Int32,
    Int64,
    Float,
    Double,
}

const ALL: [(&str, Format); 15] = [
    ("date-time", Format::DateTime),
    ("date", Format::Date),
    ("duration", Format::Duration),
    ("ipv4", Format::Ipv4),
    ("ipv6", Format::Ipv6),
    ("cidr", Format::Cidr),
    ("byte", Format::Byte),
    ("uuid", Format::Uuid),
    ("hostname", Format::Hostname),
    ("mac", Format::Mac),
    ("password", Format::Password),
    ("int32", Format::Int32),
    ("int64", Format::Int64),
    ("float", Format::Float),
    ("double", Format::Double),
];

/// What Rust's types are called in a schema, and no API server looks at (measured: `uint32` takes
/// -1): the bounds beside them are what counts.
pub(super) const UNCHECKED: &[&str] =
    &["uint8", "uint16", "uint32", "uint64", "uint", "int8", "int16", "int"];

/// jiff takes more than RFC 3339 does: a space for the T, a zone's name in brackets.
static RFC_3339: LazyLock<Regex> = LazyLock::new(|| {
    let shape = r"^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$";
    Regex::new(shape).expect("the pattern is a constant and a test runs it")
});

impl Format {
    pub(super) fn named(name: &str) -> Option<Format> {
        ALL.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }

    pub(super) fn name(self) -> &'static str {
        ALL.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }

    /// Whether text has this format; formats of numbers say nothing about text.
    pub(super) fn holds(self, text: &str) -> bool {
        match self {
            Format::DateTime => RFC_3339.is_match(text) && text.parse::<jiff::Timestamp>().is_ok(),
            Format::Date => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
            Format::Duration => is_duration(text),
            Format::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Format::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Format::Cidr => text.parse::<ipnet::IpNet>().is_ok(),
            Format::Byte => !text.is_empty() && STANDARD.decode(text).is_ok(),
            Format::Uuid => is_uuid(text),
            Format::Hostname => is_hostname(text),
            Format::Mac => is_mac(text),
            Format::Password | Format::Int32 | Format::Int64 | Format::Float | Format::Double => {
                true
            }
        }
    }

    /// Whether a whole number fits; formats of text say nothing about numbers.
    pub(super) fn fits(self, number: &Number) -> bool {
        match self {
            Format::Int32 => number.as_i64().is_none_or(|value| i32::try_from(value).is_ok()),
            _ => true,
        }
    }
}

/// `1h30m`, as Go reads it, or `3 days` as the API server's format also takes it.
fn is_duration(text: &str) -> bool {
    let text = text.trim_start_matches(['+', '-']);
    let is_unit = |unit: &str| {
        matches!(
            unit,
            "ns" | "us"
                | "µs"
                | "ms"
                | "s"
                | "m"
                | "h"
                | "d"
                | "w"
                | "day"
                | "days"
                | "week"
                | "weeks"
                | "hour"
                | "hours"
                | "minute"
                | "minutes"
                | "second"
                | "seconds"
        )
    };
    if text == "0" {
        return true;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let after = rest[digits..].trim_start();
        let unit = after.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(after.len());
        if rest[..digits].parse::<f64>().is_err() || !is_unit(&after[..unit]) {
            return false;
        }
        rest = after[unit..].trim_start();
    }
    !text.is_empty()
}

fn is_uuid(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok() && matches!(text.len(), 32 | 36)
}

fn is_hostname(text: &str) -> bool {
    let label = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 255 && text.split('.').all(label)
}

fn is_mac(text: &str) -> bool {
    let byte = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let separator = if text.contains('-') { '-' } else { ':' };
    matches!(text.split(separator).count(), 6 | 8 | 20) && text.split(separator).all(byte)
}
