use super::*;

fn said(text: &str, after: i64) -> String {
    match Schedule::parse(text) {
        Ok(schedule) => schedule
            .next(after)
            .map_or("none".to_owned(), |t| t.to_string()),
        Err(error) => format!("E{error}"),
    }
}

#[test]
fn next_times_and_errors_are_upstreams() {
    let mut n = 0;
    for line in include_str!("cases.txt")
        .lines()
        .filter(|l| !l.starts_with('#'))
    {
        n += 1;
        let row: Vec<&str> = line.split('\t').collect();
        assert_eq!(said(row[0], row[1].parse().unwrap()), row[2], "{line}");
    }
    assert!(n > 80);
}

#[test]
fn a_restricted_day_of_month_and_day_of_week_are_alternatives() {
    // 2026-01-01 is a Thursday.
    let start = Civil {
        year: 2026,
        month: 1,
        day: 1,
        hour: 0,
        minute: 0,
        second: 0,
    }
    .unix();
    let days = |text: &str| {
        let schedule = Schedule::parse(text).unwrap();
        let mut at = start - 1;
        let mut days = Vec::new();
        for _ in 0..3 {
            at = schedule.next(at).unwrap();
            days.push(Civil::of(at).day);
        }
        days
    };
    assert_eq!(days("0 0 3 * fri"), [2, 3, 9]);
    assert_eq!(days("0 0 * * fri"), [2, 9, 16]);
    assert_eq!(days("0 0 */2 * fri"), [1, 2, 3]);
}

#[test]
fn what_never_comes_is_none_and_what_is_every_counts_from_now() {
    assert_eq!(Schedule::parse("0 0 31 2 *").unwrap().next(0), None);
    assert_eq!(Schedule::parse("@every 90.5s").unwrap().next(7), Some(97));
    assert_eq!(Schedule::parse("* * * * *").unwrap().next(i64::MAX), None);
}

#[test]
fn the_search_goes_five_years_ahead() {
    let first = |year| {
        Civil {
            year,
            month: 3,
            day: 1,
            hour: 0,
            minute: 0,
            second: 0,
        }
        .unix()
    };
    let leap_day = Schedule::parse("0 0 29 2 *").unwrap();
    assert_eq!(
        leap_day.next(first(2020)).map(|t| Civil::of(t).year),
        Some(2024)
    );
    // 2100 is no leap year.
    assert_eq!(leap_day.next(first(2096)), None);
}

#[test]
fn only_utc_is_a_zone_here() {
    assert!(Schedule::parse("TZ=UTC 0 0 * * *").is_ok());
    assert_eq!(
        said("TZ=0", 0),
        "Eprovided bad location 0: unknown time zone 0"
    );
    assert!(Schedule::parse("CRON_TZ=Europe/Berlin 0 0 * * *").is_err());
}
