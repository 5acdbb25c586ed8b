//! Prometheus' text format, sorted as upstream's.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::SystemTime;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

/// Metrics by name.
#[derive(Default)]
pub(super) struct Families {
    families: BTreeMap<String, Family>,
}

struct Family {
    help: String,
    kind: Kind,
    lines: Vec<String>,
}

impl Families {
    /// Adds one value. Labels are written in the order of their names.
    pub(super) fn put(
        &mut self,
        name: &str,
        help: &str,
        kind: Kind,
        labels: &[(&str, &str)],
        value: f64,
        at: Option<SystemTime>,
    ) {
        if !self.families.contains_key(name) {
            let family = Family {
                help: help.to_owned(),
                kind,
                lines: Vec::new(),
            };
            self.families.insert(name.to_owned(), family);
        }
        let Some(family) = self.families.get_mut(name) else {
            return;
        };
        let mut labels = labels.to_vec();
        labels.sort_unstable();
        let mut line = name.to_owned();
        for (i, (label, value)) in labels.iter().enumerate() {
            line.push(if i == 0 { '{' } else { ',' });
            let _ = write!(line, "{label}=\"{}\"", escaped(value));
        }
        line.push_str(if labels.is_empty() { " " } else { "} " });
        line.push_str(&float(value));
        if let Some(at) = at {
            let millis = at
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default()
                .as_millis();
            let _ = write!(line, " {millis}");
        }
        family.lines.push(line);
    }

    pub(super) fn text(mut self) -> String {
        let mut text = String::new();
        for (name, family) in &mut self.families {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            family.lines.sort_unstable();
            for line in &family.lines {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// As Go writes floats with `g`: with an exponent from a million on, and below four zeros.
fn float(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-4..1e6).contains(&size) || !size.is_finite() {
        return value.to_string();
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.strip_prefix('-') {
        Some(exponent) => format!("{digits}e-{exponent:0>2}"),
        None => format!("{digits}e+{exponent:0>2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn families_and_lines_are_sorted_and_values_escaped() {
        let mut all = Families::default();
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1500);
        all.put(
            "b",
            "Help.",
            Kind::Counter,
            &[("y", "2"), ("x", "a\"\\\n")],
            0.5,
            Some(at),
        );
        all.put(
            "b",
            "Help.",
            Kind::Counter,
            &[("x", "1"), ("y", "1")],
            2.0,
            None,
        );
        all.put("a", "First.", Kind::Gauge, &[], 16_777_216.0, None);
        let expected = "# HELP a First.\n# TYPE a gauge\na 1.6777216e+07\n\
            # HELP b Help.\n# TYPE b counter\nb{x=\"1\",y=\"1\"} 2\nb{x=\"a\\\"\\\\\\n\",y=\"2\"} 0.5 1500\n";
        assert_eq!(all.text(), expected);
    }

    #[test]
    fn floats_are_as_go_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (1e-5, "1e-05"),
            (123_456.0, "123456"),
            (1e21, "1e+21"),
            (1_234_567.25, "1.23456725e+06"),
            (0.000_12, "0.00012"),
        ] {
            assert_eq!(float(value), text);
        }
    }
}
