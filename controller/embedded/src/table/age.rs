//! How long ago, as kubectl writes it: `5s`, `3m4s`, `3d4h`, `2y30d`.

use jiff::Timestamp;

pub(super) fn since(date: &str, now: Timestamp) -> String {
    match date.parse::<Timestamp>() {
        Ok(then) => human(now.as_second() - then.as_second()),
        Err(_) => "<invalid>".to_owned(),
    }
}

/// The further away, the coarser.
fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match seconds {
        ..-1 => "<invalid>".to_owned(), // clocks may differ by a second
        -1 => "0s".to_owned(),
        _ if seconds < 120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 192 => two(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 2920 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        return format!("{large}{large_unit}");
    }
    format!("{large}{large_unit}{small}{small_unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_reads_as_kubectl_writes_it() {
        const H: i64 = 3600;
        const D: i64 = 24 * H;
        for (seconds, text) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (605, "10m"),
            (599, "9m59s"),
            (179 * 60, "179m"),
            (3 * H, "3h"),
            (3 * H + 60, "3h1m"),
            (8 * H + 60, "8h"),
            (47 * H, "47h"),
            (76 * H, "3d4h"),
            (48 * H, "2d"),
            (8 * D + 5, "8d"),
            (729 * D, "729d"),
            (730 * D, "2y"),
            (760 * D, "2y30d"),
            (2920 * D, "8y"),
        ] {
            assert_eq!(human(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn what_is_no_date_says_so() {
        assert_eq!(since("yesterday", Timestamp::UNIX_EPOCH), "<invalid>");
        assert_eq!(since("1970-01-01T00:00:00Z", Timestamp::UNIX_EPOCH), "0s");
    }
}
