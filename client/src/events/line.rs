//! An event as one line of text, whatever names are in it.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Event;
use crate::config::ServerAddr;

/// The longest line, in bytes: a path of the kernel's greatest length, a few bytes of it escaped, and a reason.
pub(super) const MAX_LINE_LEN: usize = 8 * 1024;
/// What stands at the end of a line that was cut.
const CUT: &str = "...";

/// The line with its newline.
pub(super) fn format(now: SystemTime, volume: &str, server: Option<&ServerAddr>, event: &Event) -> String {
    let mut line = rfc3339(now);
    line.push(' ');
    escape(&mut line, volume);
    line.push(' ');
    match server {
        Some(server) => escape(&mut line, &server.to_string()),
        None => line.push('-'),
    }
    line.push(' ');
    escape(&mut line, &event.to_string());
    if line.len() >= MAX_LINE_LEN {
        line.truncate(line.floor_char_boundary(MAX_LINE_LEN - CUT.len() - 1));
        line.push_str(CUT);
    }
    line.push('\n');
    line
}

/// Appends `text` so that it stays on its line and cannot steer a terminal; a backslash is doubled, so nothing is ambiguous.
fn escape(line: &mut String, text: &str) {
    for c in text.chars() {
        if c == '\\' || c.is_control() || is_invisible_steering(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
}

/// Line separators and marks that reorder what follows: no control characters to Unicode, but as good at faking a line.
fn is_invisible_steering(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// UTC with milliseconds; a time before 1970 counts as 1970.
fn rfc3339(time: SystemTime) -> String {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let mut text = String::with_capacity(128);
    // Writing to a String does not fail.
    let _ = write!(
        text,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        since_epoch.subsec_millis()
    );
    text
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`: years begin in March, so that the leap
/// day is the last one, and an era is 400 years of 146,097 days.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_rfc3339_in_utc() {
        // Each one is from `date -u -d @SECONDS +%FT%TZ`.
        let known = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_200, "2024-03-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000Z"),
        ];
        for (seconds, text) in known {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_micros(1_999)), "1970-01-01T00:00:00.001Z");
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(5)), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn every_day_of_eight_centuries_follows_the_one_before() {
        let mut last = civil_date(0);
        for days in 1..=800 * 366 {
            let date = civil_date(days);
            let (year, month, day) = last;
            let next = [(year, month, day + 1), (year, month + 1, 1), (year + 1, 1, 1)];
            assert!(next.contains(&date), "{date:?} after {last:?}");
            last = date;
        }
    }
}
