//! Times as text, in UTC, out of nanoseconds since 1970.

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    nanos: i64,
}

const DAY: i64 = 86_400;

/// The calendar of a proleptic Gregorian day count, computed in years that begin in March, so that
/// the leap day is the last of its year.
fn civil(at: i64) -> Civil {
    let (seconds, nanos) = (at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let days = days + 719_468; // from 1 March of the year 0
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    Civil {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day: day_of_year - (153 * march_month + 2) / 5 + 1,
        hour: second / 3600,
        minute: second / 60 % 60,
        second: second % 60,
        nanos,
    }
}

/// `2006-01-02T15:04:05.000000000Z`: always nine digits, so that log lines align and sort.
pub(crate) fn rfc3339(at: i64) -> String {
    let Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
        nanos,
    } = civil(at);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// `20060102-150405`
pub(crate) fn file_suffix(at: i64) -> String {
    let Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
        ..
    } = civil(at);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let at = |seconds: i64| rfc3339(seconds * 1_000_000_000);
        assert_eq!(at(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59.000000000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000000000Z");
        assert_eq!(
            rfc3339(1_136_214_245_000_000_007),
            "2006-01-02T15:04:05.000000007Z"
        );
        assert_eq!(file_suffix(1_136_214_245_000_000_007), "20060102-150405");
    }
}
