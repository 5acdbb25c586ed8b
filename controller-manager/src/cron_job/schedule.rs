//! A schedule in a time zone, and which of its times have passed. Pure; times are seconds since 1970.
//!
//! Sources: `pkg/controller/cronjob/utils.go`, `robfig/cron` v3 for what a change of the clocks means: a time that the
//! clocks skip does not come on that day, one that they show twice comes twice.

use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::TimeZone;
use proto::cron::{self, ParseError};

use super::zone;

/// When a CronJob's jobs begin.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    times: cron::Schedule,
    zone: TimeZone,
}

/// Why a schedule cannot be followed.
#[derive(thiserror::Error, PartialEq, Eq, Debug)]
#[error("time difference between two schedules is less than 1 second")]
pub(super) struct Never;

/// How many of a schedule's times have passed unused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missed {
    None,
    Few,
    /// More than a controller that was away for a weekend would find.
    Many,
}

/// More missed times than these are many.
const FEW: i64 = 100;

/// What a schedule says at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Recent {
    /// From when on times count.
    pub since: i64,
    /// The last time that has come.
    pub latest: Option<i64>,
    pub missed: Missed,
}

impl Schedule {
    /// Reads a schedule. A zone in its text (`TZ=...`), which new objects may not have, goes before `zone`.
    pub(super) fn parse(text: &str, zone: Option<&str>) -> Result<Self, ParseError> {
        let prefix = ["CRON_TZ=", "TZ="];
        let rest = prefix.iter().find_map(|p| text.strip_prefix(p));
        let (text, zone) = match rest.and_then(|rest| rest.split_once(' ')) {
            Some((zone, rest)) => (rest.trim(), Some(zone)),
            None => (text, zone),
        };
        let zone = match zone {
            None => zone::local(),
            Some(name) => zone::named(name).ok_or_else(|| ParseError::Zone(name.to_owned()))?,
        };
        let times = cron::Schedule::parse(text)?;
        Ok(Self { times, zone })
    }

    /// The first time after `after`; none if there is none within five years.
    pub(super) fn next(&self, after: i64) -> Option<i64> {
        let cron::Schedule::Calendar(_) = self.times else {
            return self.times.next(after);
        };
        let mut after = after;
        loop {
            // Between two changes of the clocks a zone's times are UTC's, moved.
            let first = Timestamp::from_second(after.checked_add(1)?).ok()?;
            let offset = i64::from(self.zone.to_offset(first).seconds());
            let found = self.times.next(after + offset)? - offset;
            let change = self.zone.following(first).next();
            match change.map(|c| c.timestamp().as_second()) {
                Some(change) if change <= found => after = change - 1,
                _ => return Some(found),
            }
        }
    }

    /// The last time after `since` that has come by `now`.
    pub(super) fn recent(&self, since: i64, now: i64) -> Result<Recent, Never> {
        let first = self.next(since).ok_or(Never)?;
        let mut recent = Recent {
            since,
            latest: None,
            missed: Missed::None,
        };
        if now < first {
            return Ok(recent);
        }
        let second = self.next(first).ok_or(Never)?;
        if now < second {
            recent.latest = Some(first);
            return Ok(recent);
        }
        // An estimate from the first two times says where to begin to look: a year of minutes is half a million.
        let apart = second - first;
        if apart < 1 {
            return Err(Never);
        }
        let count = (now - first) / apart + 1;
        recent.missed = if count > FEW {
            Missed::Many
        } else {
            Missed::Few
        };
        let mut next = self.next(first + (count - 2) * apart);
        while let Some(time) = next.filter(|time| *time <= now) {
            recent.latest = Some(time);
            next = self.next(time);
        }
        Ok(recent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn said(seconds: Option<i64>) -> String {
        seconds.map_or("never".to_owned(), |s| {
            Timestamp::from_second(s).unwrap().to_string()
        })
    }

    /// The next times after one.
    fn times(schedule: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(schedule, Some(zone)).unwrap();
        let mut next = at(after);
        let mut all = Vec::new();
        for _ in 0..count {
            let found = schedule.next(next);
            all.push(said(found));
            next = found.unwrap_or(next);
        }
        all
    }

    #[test]
    fn times_are_the_zones() {
        assert_eq!(
            times("30 8 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z", 1),
            ["2026-01-01T07:30:00Z"]
        );
        assert_eq!(
            times("30 8 * * *", "Asia/Kolkata", "2026-07-01T00:00:00Z", 1),
            ["2026-07-01T03:00:00Z"]
        );
        let prefixed = Schedule::parse("TZ=Asia/Tokyo 0 9 * * *", Some("UTC")).unwrap();
        assert_eq!(
            said(prefixed.next(at("2026-01-01T01:00:00Z"))),
            "2026-01-02T00:00:00Z"
        );
        assert!(Schedule::parse("0 9 * * *", Some("Mars/Olympus")).is_err());
    }

    #[test]
    fn a_time_that_the_clocks_skip_does_not_come_that_day() {
        // 8 March 2026, 02:00 -> 03:00.
        assert_eq!(
            times("30 2 * * *", "America/New_York", "2026-03-07T12:00:00Z", 2),
            ["2026-03-09T06:30:00Z", "2026-03-10T06:30:00Z"]
        );
    }

    #[test]
    fn a_time_that_the_clocks_show_twice_comes_twice() {
        // 1 November 2026, 02:00 -> 01:00.
        assert_eq!(
            times("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", 3),
            [
                "2026-11-01T05:30:00Z",
                "2026-11-01T06:30:00Z",
                "2026-11-02T06:30:00Z"
            ]
        );
    }

    #[test]
    fn an_interval_has_no_zone() {
        assert_eq!(
            times("@every 90m", "Asia/Tokyo", "2026-01-01T00:10:00Z", 2),
            ["2026-01-01T01:40:00Z", "2026-01-01T03:10:00Z"]
        );
    }

    #[test]
    fn the_last_time_that_has_come_counts_and_what_was_missed_is_told() {
        let recent = |text: &str, since: &str, now: &str| {
            let schedule = Schedule::parse(text, Some("UTC")).unwrap();
            let recent = schedule.recent(at(since), at(now)).unwrap();
            (said(recent.latest), recent.missed)
        };
        let none = ("never".to_owned(), Missed::None);
        let (ten, start) = ("2026-05-04T10:00:00Z", "2026-05-04T10:00:10Z");
        assert_eq!(recent("0 * * * *", ten, "2026-05-04T10:59:59Z"), none);
        assert_eq!(
            recent("0 * * * *", start, "2026-05-04T11:00:00Z"),
            ("2026-05-04T11:00:00Z".to_owned(), Missed::None)
        );
        assert_eq!(
            recent("0 * * * *", ten, "2026-05-04T16:20:00Z"),
            ("2026-05-04T16:00:00Z".to_owned(), Missed::Few)
        );
        assert_eq!(
            recent("* * * * *", ten, "2026-05-04T16:20:30Z"),
            ("2026-05-04T16:20:00Z".to_owned(), Missed::Many)
        );
        assert_eq!(
            recent("@every 1h", "2026-05-04T10:07:00Z", "2026-05-04T16:20:30Z"),
            ("2026-05-04T16:07:00Z".to_owned(), Missed::Few)
        );
        assert_eq!(
            recent(
                "30 6-16/4 * * 1-5",
                "2026-05-01T12:00:00Z",
                "2026-05-04T09:00:00Z"
            )
            .0,
            "2026-05-04T06:30:00Z"
        );
    }

    #[test]
    fn what_never_comes_is_an_error() {
        let schedule = Schedule::parse("59 23 31 2 *", Some("UTC")).unwrap();
        assert_eq!(schedule.recent(0, 86_400), Err(Never));
    }
}
