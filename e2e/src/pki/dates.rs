//! Moments and durations as `kubeadm certs check-expiration` tells them. All are seconds.

use x509_parser::time::ASN1Time;

/// `Jan 02, 2006 15:04 UTC`.
pub(super) fn words(seconds: i64) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let Ok(when) = ASN1Time::from_timestamp(seconds).map(|when| when.to_datetime()) else {
        return format!("second {seconds}");
    };
    let month = MONTHS[usize::from(u8::from(when.month())) - 1];
    let (year, day, hour, minute) = (when.year(), when.day(), when.hour(), when.minute());
    format!("{month} {day:02}, {year} {hour:02}:{minute:02} UTC")
}

/// RFC 3339, as in JSON.
pub(super) fn rfc3339(seconds: i64) -> String {
    let Ok(when) = ASN1Time::from_timestamp(seconds).map(|when| when.to_datetime()) else {
        return format!("second {seconds}");
    };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        when.year(),
        u8::from(when.month()),
        when.day(),
        when.hour(),
        when.minute(),
        when.second()
    )
}

/// How much time is left, in its largest unit.
pub(super) fn left(seconds: i64) -> String {
    const UNITS: [(i64, char); 5] = [
        (365 * 86_400, 'y'),
        (86_400, 'd'),
        (3_600, 'h'),
        (60, 'm'),
        (1, 's'),
    ];
    if seconds < 0 {
        return "<invalid>".to_owned();
    }
    let largest = UNITS.into_iter().find(|(unit, _)| seconds >= *unit);
    largest.map_or_else(
        || "0s".to_owned(),
        |(unit, letter)| format!("{}{letter}", seconds / unit),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_kubeadm_writes_them() {
        assert_eq!(words(1_709_210_580), "Feb 29, 2024 12:43 UTC");
        assert_eq!(rfc3339(1_709_210_580), "2024-02-29T12:43:00Z");
        let left = [-1, 0, 59, 60, 3_599, 86_400, 364 * 86_400, 3650 * 86_400].map(left);
        assert_eq!(
            left,
            ["<invalid>", "0s", "59s", "1m", "59m", "1d", "364d", "10y"]
        );
    }
}
