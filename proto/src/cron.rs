//! Schedules of CronJobs: `*/5 0-6 1,15 * mon`, `@daily`, `@every 1h30m`.
//!
//! Five fields (minute, hour, day of month, month, day of week) as `robfig/cron` v3 reads them. If both
//! days are restricted, one of them matching is enough. There is no clock here and no time zone: times
//! are seconds since 1970 in UTC, and a schedule that begins with `TZ=` (which upstream no longer takes
//! for new objects) must name UTC.

use crate::path::quote;
use crate::time::civil::{Civil, days_in_month};
use crate::time::{Duration, DurationError};

/// Why a text is not a schedule, in the words of upstream's library.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum ParseError {
    #[error("empty spec string")]
    Empty,
    #[error("provided bad location {0}: unknown time zone {0}")]
    Zone(String),
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("failed to parse duration {text}: {cause}")]
    Duration { text: String, cause: DurationError },
    #[error("expected exactly 5 fields, found {}: [{}]", .0.len(), .0.join(" "))]
    Fields(Vec<String>),
    #[error(
        "failed to parse int from {text}: strconv.Atoi: parsing {}: {why}",
        quote(text)
    )]
    Number { text: String, why: &'static str },
    #[error("too many hyphens: {0}")]
    Hyphens(String),
    #[error("too many slashes: {0}")]
    Slashes(String),
    #[error("beginning of range ({start}) below minimum ({min}): {text}")]
    BelowMinimum { start: u64, min: u64, text: String },
    #[error("end of range ({end}) above maximum ({max}): {text}")]
    AboveMaximum { end: u64, max: u64, text: String },
    #[error("beginning of range ({start}) beyond end of range ({end}): {text}")]
    Backwards { start: u64, end: u64, text: String },
    #[error("step of range should be a positive number: {0}")]
    Step(String),
}

/// When to do something again and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Schedule {
    /// At the full minutes that match.
    Calendar(Calendar),
    /// Every so many seconds, counted from whatever time is asked about.
    Every(i64),
}

/// The values of each field, as sets of bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Calendar {
    minutes: u64,
    hours: u64,
    days: Days,
    months: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Days {
    of_month: u64,
    of_week: u64,
    /// Both fields have to match, because one of them says nothing (a star without a step).
    both: bool,
}

/// What a field may hold.
struct Bounds {
    min: u64,
    max: u64,
    /// From `min` on.
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds {
    min: 0,
    max: 59,
    names: &[],
};
const HOURS: Bounds = Bounds {
    min: 0,
    max: 23,
    names: &[],
};
const DAYS: Bounds = Bounds {
    min: 1,
    max: 31,
    names: &[],
};
const MONTHS: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const WEEKDAYS: Bounds = Bounds {
    min: 0,
    max: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Schedule {
    /// # Errors
    /// If the text is not a schedule.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() {
            return Err(ParseError::Empty);
        }
        let text = without_zone(text)?;
        if text.starts_with('@') {
            return descriptor(text);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(ParseError::Fields(
                fields.into_iter().map(str::to_owned).collect(),
            ));
        };
        let (minutes, _) = field(minute, &MINUTES)?;
        let (hours, _) = field(hour, &HOURS)?;
        let (of_month, any_day) = field(day, &DAYS)?;
        let (months, _) = field(month, &MONTHS)?;
        let (of_week, any_weekday) = field(weekday, &WEEKDAYS)?;
        let days = Days {
            of_month,
            of_week,
            both: any_day || any_weekday,
        };
        Ok(Self::Calendar(Calendar {
            minutes,
            hours,
            days,
            months,
        }))
    }

    /// The first time after `after` (both in seconds since 1970). None if there is none in the five
    /// years that follow, such as for 31 February.
    #[must_use]
    pub fn next(&self, after: i64) -> Option<i64> {
        match self {
            Self::Calendar(calendar) => calendar.next(after),
            Self::Every(seconds) => after.checked_add(*seconds),
        }
    }
}

fn without_zone(text: &str) -> Result<&str, ParseError> {
    let Some(rest) = text
        .strip_prefix("CRON_TZ=")
        .or_else(|| text.strip_prefix("TZ="))
    else {
        return Ok(text);
    };
    let (zone, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    match zone {
        "" | "UTC" | "Etc/UTC" if !rest.is_empty() => Ok(rest.trim()),
        _ => Err(ParseError::Zone(zone.to_owned())),
    }
}

fn descriptor(text: &str) -> Result<Schedule, ParseError> {
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let every = text
                .strip_prefix("@every ")
                .ok_or_else(|| ParseError::Descriptor(text.to_owned()))?;
            let delay: Duration = every.parse().map_err(|cause| ParseError::Duration {
                text: text.to_owned(),
                cause,
            })?;
            return Ok(Schedule::Every((delay.0 / 1_000_000_000).max(1)));
        }
    };
    Schedule::parse(fields)
}

/// The values of a field, and whether it says nothing.
fn field(text: &str, bounds: &Bounds) -> Result<(u64, bool), ParseError> {
    let mut all = (0, false);
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (bits, any) = range(part, bounds)?;
        all = (all.0 | bits, all.1 || any);
    }
    Ok(all)
}

fn range(text: &str, bounds: &Bounds) -> Result<(u64, bool), ParseError> {
    let mut parts = text.split('/');
    let (ends, step, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let mut ends = ends.split('-');
    let (low, high, too_many) = (ends.next().unwrap_or_default(), ends.next(), ends.next());
    let star = matches!(low, "*" | "?");
    let (start, mut end) = if star {
        (bounds.min, bounds.max)
    } else {
        let start = value(low, bounds)?;
        if too_many.is_some() {
            return Err(ParseError::Hyphens(text.to_owned()));
        }
        (start, high.map_or(Ok(start), |high| value(high, bounds))?)
    };
    if more.is_some() {
        return Err(ParseError::Slashes(text.to_owned()));
    }
    let step = match step {
        None => 1,
        Some(step) => {
            let step = number(step)?;
            if high.is_none() {
                end = bounds.max;
            }
            step
        }
    };
    let (min, max, text) = (bounds.min, bounds.max, text.to_owned());
    match () {
        () if start < min => Err(ParseError::BelowMinimum { start, min, text }),
        () if end > max => Err(ParseError::AboveMaximum { end, max, text }),
        () if start > end => Err(ParseError::Backwards { start, end, text }),
        () if step == 0 => Err(ParseError::Step(text)),
        () => {
            let bits = (start..=end)
                .filter(|v| (v - start) % step == 0)
                .fold(0, |bits, v| bits | 1 << v);
            Ok((bits, star && step == 1))
        }
    }
}

fn value(text: &str, bounds: &Bounds) -> Result<u64, ParseError> {
    let named = bounds
        .names
        .iter()
        .zip(bounds.min..)
        .find(|(name, _)| text.to_lowercase() == **name);
    named.map_or_else(|| number(text), |(_, value)| Ok(value))
}

fn number(text: &str) -> Result<u64, ParseError> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let parsed = text.parse::<i64>().map_err(|e| ParseError::Number {
        text: text.to_owned(),
        why: if matches!(e.kind(), PosOverflow | NegOverflow) {
            "value out of range"
        } else {
            "invalid syntax"
        },
    })?;
    // There is no minus sign: it would have parted a range.
    Ok(parsed.unsigned_abs())
}

impl Calendar {
    fn next(&self, after: i64) -> Option<i64> {
        let start = Civil::of(after.checked_add(1)?);
        let (mut year, mut month, mut day) = (start.year, start.month, start.day);
        // The time of day from which on the first day counts, in full minutes.
        let mut from =
            i64::from(start.hour) * 60 + i64::from(start.minute) + i64::from(start.second > 0);
        while year <= start.year + 5 {
            if self.months >> month & 1 == 0 {
                (year, month, day) = if month < 12 {
                    (year, month + 1, 1)
                } else {
                    (year + 1, 1, 1)
                };
                from = 0;
                continue;
            }
            let midnight = Civil {
                year,
                month,
                day,
                hour: 0,
                minute: 0,
                second: 0,
            };
            if self.days.contain(midnight)
                && let Some(minute) = self.minute_from(from)
            {
                return Some(midnight.unix() + minute * 60);
            }
            from = 0;
            (year, month, day) = match (month, day < days_in_month(year, month)) {
                (_, true) => (year, month, day + 1),
                (12, false) => (year + 1, 1, 1),
                (_, false) => (year, month + 1, 1),
            };
        }
        None
    }

    /// The first minute of a day at or after `from` that matches.
    fn minute_from(&self, from: i64) -> Option<i64> {
        let matches =
            |m: &i64| self.hours >> (m / 60) & 1 == 1 && self.minutes >> (m % 60) & 1 == 1;
        (from..24 * 60).find(matches)
    }
}

impl Days {
    fn contain(self, date: Civil) -> bool {
        let of_month = self.of_month >> date.day & 1 == 1;
        let of_week = self.of_week >> date.weekday() & 1 == 1;
        if self.both {
            of_month && of_week
        } else {
            of_month || of_week
        }
    }
}

#[cfg(test)]
mod tests;
