//! Dates of the proleptic Gregorian calendar, in UTC.
//!
//! The arithmetic counts days in eras of 400 years that begin on 1 March, so that the leap day comes
//! last (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").

/// A date and time of day in UTC. Invariant: a date that exists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Civil {
    /// 0 is the year before 1, as astronomers count.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
}

const DAY: i64 = 86_400;
const ERA_DAYS: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;

impl Civil {
    /// The date at `secs` seconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn of(secs: i64) -> Self {
        let (year, month, day) = date(secs.div_euclid(DAY));
        let (minutes, second) = split(secs.rem_euclid(DAY), 60);
        let (hours, minute) = split(minutes, 60);
        let (_, hour) = split(hours, 24);
        Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
        }
    }

    /// Seconds since 1970-01-01T00:00:00Z. Saturates beyond what 64 bits hold.
    #[must_use]
    pub fn unix(self) -> i64 {
        let time =
            (i64::from(self.hour) * 60 + i64::from(self.minute)) * 60 + i64::from(self.second);
        days(self.year, self.month, self.day)
            .saturating_mul(DAY)
            .saturating_add(time)
    }

    /// 0 is Sunday.
    #[must_use]
    pub fn weekday(self) -> u8 {
        // 1970-01-01 was a Thursday.
        split(days(self.year, self.month, self.day) + 4, 7).1
    }
}

/// Quotient and remainder; the divisor is a small constant, so the remainder fits.
fn split(n: i64, by: u8) -> (i64, u8) {
    let remainder = n.rem_euclid(by.into());
    (
        n.div_euclid(by.into()),
        u8::try_from(remainder).unwrap_or(0),
    )
}

#[must_use]
pub fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// The number of days in a month; `month` counts from 1.
#[must_use]
pub fn days_in_month(year: i64, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date.
fn days(year: i64, month: u8, day: u8) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_era = year.rem_euclid(400);
    let month = (i64::from(month) + 9) % 12;
    let of_year = (153 * month + 2) / 5 + i64::from(day) - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    year.div_euclid(400)
        .saturating_mul(ERA_DAYS)
        .saturating_add(day_of_era - EPOCH)
}

/// The date `days` after 1970-01-01; `days` comes from seconds, so nothing here can overflow.
fn date(days: i64) -> (i64, u8, u8) {
    let days = days + EPOCH;
    let of_era = days.rem_euclid(ERA_DAYS);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + days.div_euclid(ERA_DAYS) * 400 + i64::from(month <= 2);
    let small = |n: i64| u8::try_from(n).expect("months and days of a month are below 32");
    (year, small(month), small(day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_a_thousand_years_follows_the_one_before() {
        let start = Civil {
            year: 1599,
            month: 12,
            day: 31,
            hour: 23,
            minute: 59,
            second: 59,
        };
        let mut was = start;
        for day in 1..=366_000 {
            let now = Civil::of(start.unix() + day * DAY);
            let expected = if was.day < days_in_month(was.year, was.month) {
                Civil {
                    day: was.day + 1,
                    ..was
                }
            } else if was.month < 12 {
                Civil {
                    day: 1,
                    month: was.month + 1,
                    ..was
                }
            } else {
                Civil {
                    day: 1,
                    month: 1,
                    year: was.year + 1,
                    ..was
                }
            };
            assert_eq!(now, expected);
            assert_eq!(now.weekday(), (was.weekday() + 1) % 7);
            assert_eq!(now.unix(), start.unix() + day * DAY);
            was = now;
        }
    }

    #[test]
    fn the_ends_of_64_bits_of_seconds_have_dates() {
        for secs in [i64::MIN, i64::MAX] {
            let civil = Civil::of(secs);
            assert_eq!(civil.year.signum(), secs.signum());
            assert_eq!(civil.year.abs() / 1_000_000_000, 292);
        }
    }
}
