use proptest::prelude::*;

use super::*;

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| l.split('\t').collect())
}

#[test]
fn reading_and_its_errors_are_gos() {
    let said = |result: Result<Box<str>, ParseError>| {
        result.map_or_else(|e| format!("E{e}"), String::from)
    };
    let mut n = 0;
    for row in lines(include_str!("cases.txt")) {
        n += 1;
        assert_eq!(said(canonical_time(row[0])), row[1], "{row:?}");
        assert_eq!(said(canonical_micro_time(row[0])), row[2], "{row:?}");
    }
    assert!(n > 50);
}

#[test]
fn durations_and_their_errors_are_gos() {
    let mut n = 0;
    for row in lines(include_str!("durations.txt")) {
        n += 1;
        match row[0].parse::<Duration>() {
            Ok(d) => assert_eq!([d.0.to_string(), d.to_string()], row[1..], "{row:?}"),
            Err(e) => assert_eq!(format!("E{e}"), row[1], "{row:?}"),
        }
    }
    assert!(n > 50);
}

#[test]
fn durations_change_their_unit_at_a_thousand() {
    for (nanos, text) in [
        (999, "999ns"),
        (1_000, "1µs"),
        (999_999, "999.999µs"),
        (1_000_000, "1ms"),
        (999_999_999, "999.999999ms"),
        (3_600_000_000_000, "1h0m0s"),
    ] {
        assert_eq!(Duration(nanos).to_string(), text);
    }
}

#[test]
fn zero_is_gos_zero_time() {
    assert_eq!(print_time(GO_ZERO), "0001-01-01T00:00:00Z");
}

#[test]
fn a_micro_time_needs_six_digits_and_a_time_drops_any() {
    assert_eq!(
        canonical_time("2026-02-28T23:59:59.999999999+00:00")
            .unwrap()
            .as_ref(),
        "2026-02-28T23:59:59Z"
    );
    assert_eq!(
        canonical_micro_time("2026-02-28T23:59:59.999999-01:00")
            .unwrap()
            .as_ref(),
        "2026-03-01T00:59:59.999999Z"
    );
    assert!(canonical_micro_time("2026-02-28T23:59:59Z").is_err());
    assert!(canonical_micro_time("2026-02-28T23:59:59.12345Z").is_err());
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(secs in any::<i64>(), micros in 0..1_000_000_i32) {
        prop_assert_eq!(unix_of(&print_time(secs)), Some((secs, 0)));
        prop_assert_eq!(unix_of(&print_micro_time(secs, micros * 1000)), Some((secs, micros * 1000)));
    }

    #[test]
    fn any_duration_reads_back(nanos in any::<i64>()) {
        prop_assert_eq!(Duration(nanos).to_string().parse::<Duration>(), Ok(Duration(nanos)));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}|[-0-9T:.,Z+]{0,40}") {
        let _ = (canonical_time(&text), canonical_micro_time(&text), unix_of(&text), text.parse::<Duration>());
    }
}
