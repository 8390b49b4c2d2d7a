//! When a rotation begins by itself.

use api::RotationSchedule;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// What a schedule says now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    Now,
    /// Not before this time.
    At(Timestamp),
    /// The schedule makes no sense; why.
    Never(String),
}

/// `last` is when the last rotation ended, else when the mesh was made. `dice` in 0..=1 is the same
/// for one interval, so that the time does not wander from look to look.
pub fn due(schedule: &RotationSchedule, last: Timestamp, dice: f64, now: Timestamp) -> Due {
    let RotationSchedule { interval, jitter, window_start, window_end } = schedule;
    let Some(interval) = duration(interval) else {
        return Due::Never(format!("interval {interval:?} is no time such as 720h"));
    };
    let jitter = match jitter.as_deref().map(|text| duration(text).ok_or(text)) {
        None => SignedDuration::ZERO,
        Some(Ok(jitter)) => jitter,
        Some(Err(text)) => return Due::Never(format!("jitter {text:?} is no time such as 12h")),
    };
    let window = match (window_start.as_deref().map(time), window_end.as_deref().map(time)) {
        (None, None) => None,
        (Some(Some(start)), Some(Some(end))) => Some((start, end)),
        _ => return Due::Never("a window is two times of the day such as 02:00".to_owned()),
    };
    let wanted = last.saturating_add(interval + jitter.mul_f64(dice.clamp(0.0, 1.0)));
    let wanted = wanted.unwrap_or(Timestamp::MAX).max(now);
    let at = window.map_or(wanted, |window| within(window, wanted));
    if at <= now { Due::Now } else { Due::At(at) }
}

fn duration(text: &str) -> Option<SignedDuration> {
    api::duration(text).and_then(|duration| duration.try_into().ok())
}

fn time(text: &str) -> Option<Time> {
    Time::strptime("%H:%M", text).ok()
}

/// The first moment from `at` on that lies in the window, which may go over midnight.
fn within((start, end): (Time, Time), at: Timestamp) -> Timestamp {
    let civil = at.to_zoned(TimeZone::UTC);
    let clock = civil.time();
    let inside =
        if start <= end { (start..end).contains(&clock) } else { clock >= start || clock < end };
    if inside || start == end {
        return at;
    }
    let day = civil.date();
    let day = if clock < start { day } else { day.tomorrow().unwrap_or(day) };
    let opens = day.to_datetime(start).to_zoned(TimeZone::UTC);
    opens.map_or(at, |opens| opens.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(window: Option<(&str, &str)>) -> RotationSchedule {
        RotationSchedule {
            interval: "24h".to_owned(),
            jitter: Some("60m".to_owned()),
            window_start: window.map(|(start, _)| start.to_owned()),
            window_end: window.map(|(_, end)| end.to_owned()),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn it_is_due_an_interval_and_its_jitter_after_the_last() {
        let last = at("2026-11-22T10:00:00Z");
        let due = |dice, now| due(&schedule(None), last, dice, at(now));

        assert_eq!(due(0.0, "2026-11-23T09:59:59Z"), Due::At(at("2026-11-23T10:00:00Z")));
        assert_eq!(due(0.0, "2026-11-23T10:00:00Z"), Due::Now);
        assert_eq!(due(0.5, "2026-11-23T10:00:00Z"), Due::At(at("2026-11-23T10:30:00Z")));
    }

    #[test]
    fn it_waits_for_its_window_also_over_midnight() {
        let last = at("2026-11-22T10:00:00Z");
        let due = |window, now| due(&schedule(Some(window)), last, 0.0, at(now));

        let morning = ("02:00", "04:00");
        assert_eq!(due(morning, "2026-11-23T10:00:00Z"), Due::At(at("2026-11-24T02:00:00Z")));
        assert_eq!(due(morning, "2026-11-24T03:59:59Z"), Due::Now);
        assert_eq!(due(morning, "2026-11-24T04:00:00Z"), Due::At(at("2026-11-25T02:00:00Z")));
        let night = ("23:00", "01:00");
        assert_eq!(due(night, "2026-11-24T00:30:00Z"), Due::Now);
        assert_eq!(due(night, "2026-11-24T01:00:00Z"), Due::At(at("2026-11-24T23:00:00Z")));
    }

    #[test]
    fn what_makes_no_sense_never_begins() {
        let mut odd = schedule(None);
        odd.interval = "often".to_owned();

        let due = due(&odd, Timestamp::UNIX_EPOCH, 0.0, Timestamp::MAX);
        assert!(matches!(due, Due::Never(_)));
    }
}
