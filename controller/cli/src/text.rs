//! How values read in a table: ages, sizes, and other people's strings made harmless.
//!
//! Names and reasons come from the API, so from somebody else: a control character in one could
//! rewrite the operator's screen. Every cell goes through [`cell`].

use std::time::Duration;

use jiff::Timestamp;

pub const NONE: &str = "<none>";
pub const UNKNOWN: &str = "<unknown>";
pub const PENDING: &str = "<pending>";

/// One value of a table: no spaces, no control characters, never empty.
pub fn cell(text: &str) -> String {
    if text.is_empty() {
        return NONE.to_owned();
    }
    printable(text).chars().map(|c| if c.is_whitespace() { '_' } else { c }).collect()
}

/// Text from elsewhere with its control characters written out.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_invisible(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Direction marks and zero-width characters: they can make one name look like another.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// What was lost of what was sent, such as `2/3600`.
pub fn lost(lost: Option<u64>, sent: Option<u64>) -> String {
    sent.map_or_else(|| NONE.to_owned(), |sent| format!("{}/{sent}", lost.unwrap_or_default()))
}

/// A list as one cell: joined by commas, `<none>` if empty.
pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    cell(&items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(","))
}

/// `34s`, `6m12s`, `3h5m`, `3d4h`: two units at most, as kubectl prints ages.
pub fn duration(length: Duration) -> String {
    let s = length.as_secs();
    let (minute, hour, day) = (60, 3600, 86400);
    let two = |big: u64, a: &str, small: u64, b: &str| {
        if small == 0 { format!("{big}{a}") } else { format!("{big}{a}{small}{b}") }
    };
    match s {
        0..120 => format!("{s}s"),
        120..7200 => two(s / minute, "m", s % minute, "s"),
        7200..172_800 => two(s / hour, "h", s % hour / minute, "m"),
        _ => two(s / day, "d", s % day / hour, "h"),
    }
}

/// How long ago. A time in the future (somebody's clock is off) counts as now.
pub fn age(then: Option<Timestamp>, now: Timestamp) -> String {
    match then {
        Some(then) => duration(since(then, now)),
        None => UNKNOWN.to_owned(),
    }
}

pub fn since(then: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(then).try_into().unwrap_or(Duration::ZERO)
}

/// `0`, `512B`, `39MiB`, `1.2GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    if count == 0 {
        return "0".to_owned();
    }
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 10.0 {
        format!("{value:.0}{}", UNITS[unit])
    } else {
        format!("{value:.1}{}", UNITS[unit])
    }
}

/// A round trip: `0.4ms`, `12ms`, `1.2s`, `-` if none was measured.
pub fn round_trip(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(s) if s < 0.01 => format!("{:.1}ms", s * 1e3),
        Some(s) if s < 1.0 => format!("{:.0}ms", s * 1e3),
        Some(s) => format!("{s:.1}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_never_empty_and_has_no_spaces() {
        assert_eq!(cell(""), "<none>");
        assert_eq!(cell("rack 7"), "rack_7");
    }

    #[test]
    fn a_name_cannot_rewrite_the_screen() {
        assert_eq!(cell("edge\u{1b}[2J"), "edge\\u{1b}[2J");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn durations_read_like_kubectls() {
        let read = |s| duration(Duration::from_secs(s));

        assert_eq!(read(0), "0s");
        assert_eq!(read(119), "119s");
        assert_eq!(read(372), "6m12s");
        assert_eq!(read(7200), "2h");
        assert_eq!(read(76 * 3600), "3d4h");
    }

    #[test]
    fn a_clock_ahead_of_ours_is_now_and_not_an_overflow() {
        let now = Timestamp::UNIX_EPOCH;

        assert_eq!(age(Some(Timestamp::MAX), now), "0s");
        assert_eq!(age(None, now), "<unknown>");
    }

    #[test]
    fn sizes_have_two_digits() {
        assert_eq!(bytes(0), "0");
        assert_eq!(bytes(1023), "1023B");
        assert_eq!(bytes(1_288_490_189), "1.2GiB");
        assert_eq!(bytes(880 << 20), "880MiB");
        assert_eq!(bytes(u64::MAX), "16777216TiB");
    }

    #[test]
    fn a_round_trip_that_nobody_measured_is_a_dash() {
        assert_eq!(round_trip(None), "-");
        assert_eq!(round_trip(Some(0.0004)), "0.4ms");
        assert_eq!(round_trip(Some(0.012)), "12ms");
        assert_eq!(round_trip(Some(1.2)), "1.2s");
    }
}
