//! The table form of objects: what `kubectl get` prints.
//!
//! Columns are facts of the catalogue; cells are code, one function a resource, in the strategies.

use proto::catalogue::{Column, Resource, names as n};
use proto::{Map, Value, meta, time};

/// The cells of an object's row, one per column of the catalogue, in their order. The second argument
/// is now, in Unix seconds, for ages.
pub type Cells = fn(&Value, i64) -> Vec<Value>;

/// The columns of a resource without a printer of its own.
const DEFAULT_COLUMNS: &[Column] = &[
    Column {
        name: "Name",
        kind: "string",
        format: "name",
        priority: 0,
    },
    Column {
        name: "Created At",
        kind: "date",
        format: "",
        priority: 0,
    },
];

#[must_use]
pub fn columns(resource: &Resource) -> &'static [Column] {
    if resource.columns.is_empty() {
        DEFAULT_COLUMNS
    } else {
        resource.columns
    }
}

/// Whether it is upstream's default table: that of kinds without a printer.
#[must_use]
pub fn is_plain(resource: &Resource) -> bool {
    let mut columns = columns(resource).iter();
    columns.any(|column| column.name == "Created At")
}

/// The row of a resource without cells of its own: name, and age or creation time where there is such
/// a column.
#[must_use]
pub fn plain_cells(resource: &Resource, object: &Value, now: i64) -> Vec<Value> {
    let created = meta::creation_timestamp(object);
    let cell = |column: &Column| match column.name {
        "Name" => meta::name(object).into(),
        "Created At" => created.into(),
        "Age" => age(created, now).into(),
        _ => "".into(),
    };
    columns(resource).iter().map(cell).collect()
}

/// The row of most resources: the name, the cells between, and the age.
#[must_use]
pub fn row<const N: usize>(object: &Value, now: i64, between: [Value; N]) -> Vec<Value> {
    let mut cells = Vec::with_capacity(N + 2);
    cells.push(meta::name(object).into());
    cells.extend(between);
    cells.push(age(meta::creation_timestamp(object), now).into());
    cells
}

/// Labels as `key=value,...`.
#[must_use]
pub fn labels(of: &Map) -> String {
    let pairs = of
        .iter()
        .map(|(key, value)| format!("{}={}", key.as_str(), value.as_str().unwrap_or_default()));
    let text = pairs.collect::<Vec<_>>().join(",");
    if text.is_empty() {
        "<none>".into()
    } else {
        text
    }
}

/// Where balancers are reached, given address and host name of each: upstream's set, by name.
pub fn balancers<'a>(ingress: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<&'a str> {
    let named = ingress.map(|(ip, host)| if ip.is_empty() { host } else { ip });
    let mut all: Vec<&str> = named.filter(|name| !name.is_empty()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// `columnDefinitions` of a table.
#[must_use]
pub fn definitions(columns: &[Column]) -> Value {
    let one = |c: &Column| {
        let mut v = Value::object();
        v.set(&[n::NAME], c.name);
        v.set(&[n::TYPE], c.kind);
        v.set(&[n::FORMAT], c.format);
        v.set(&[n::DESCRIPTION], "");
        v.set(&[n::PRIORITY], i64::from(c.priority));
        v
    };
    Value::List(columns.iter().map(one).collect())
}

/// The age of a timestamp as kubectl shows it; `<unknown>` if there is none.
#[must_use]
pub fn age(timestamp: &str, now: i64) -> String {
    match time::unix_of(timestamp) {
        Some((seconds, _)) => human_duration(now - seconds),
        None => "<unknown>".into(),
    }
}

/// Upstream's `duration.HumanDuration`, from whole seconds.
#[must_use]
pub fn human_duration(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    // A clock that is up to two seconds behind shows as now, one further behind as invalid.
    if seconds < -1 {
        return "<invalid>".into();
    }
    let s = seconds.max(0);
    let (minutes, hours, days) = (s / MINUTE, s / HOUR, s / DAY);
    let two = |whole: i64, unit: char, rest: i64, small: char| {
        if rest == 0 {
            format!("{whole}{unit}")
        } else {
            format!("{whole}{unit}{rest}{small}")
        }
    };
    if s < 2 * MINUTE {
        format!("{s}s")
    } else if minutes < 10 {
        two(minutes, 'm', s % MINUTE, 's')
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        two(hours, 'h', minutes % 60, 'm')
    } else if hours < 48 {
        format!("{hours}h")
    } else if days < 8 {
        two(days, 'd', hours % 24, 'h')
    } else if days < 365 * 2 {
        format!("{days}d")
    } else if days < 365 * 8 {
        let years = days / 365;
        two(years, 'y', days % 365, 'd')
    } else {
        format!("{}y", days / 365)
    }
}

#[cfg(test)]
mod tests {
    use super::human_duration;

    #[test]
    fn durations_are_as_short_as_kubectl_shows_them() {
        let cases = [
            (-3, "<invalid>"),
            (-1, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600 + 60, "9h"),
            (48 * 3600, "2d"),
            (50 * 3600, "2d2h"),
            (9 * 86400, "9d"),
            (3 * 365 * 86400 + 86400, "3y1d"),
            (9 * 365 * 86400, "9y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }
}
