//! Figures of two implementations side by side.

use std::fmt::Write as _;

/// What was measured of one implementation, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    rows: Vec<Figure>,
    /// The largest share of the machine that something else took in any scenario.
    other: f64,
}

#[derive(Clone, Debug, PartialEq)]
struct Figure {
    name: String,
    unit: &'static str,
    value: f64,
}

impl Figures {
    /// Adds a figure, and tells it at once: tables come when all has been measured. One name is there once.
    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, value: f64) {
        let name = name.into();
        eprintln!("    {name}: {}", number(value, unit));
        self.rows.push(Figure { name, unit, value });
    }

    pub fn note_other(&mut self, share: f64) {
        self.other = self.other.max(share);
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.rows.iter().find(|f| f.name == name).map(|f| f.value)
    }
}

/// A Markdown table: ours, upstream's, and how many times smaller (or, for rates, larger) ours is.
pub fn table(ours: &Figures, upstream: &Figures) -> String {
    let mut text =
        String::from("| what | ours | upstream 1.37.1 | better by |\n|---|---:|---:|---:|\n");
    let names = ours.rows.iter().chain(
        upstream
            .rows
            .iter()
            .filter(|row| ours.get(&row.name).is_none()),
    );
    for Figure { name, unit, .. } in names {
        let (a, b) = (ours.get(name), upstream.get(name));
        let shown = |value: Option<f64>| value.map_or("-".to_owned(), |v| number(v, unit));
        let ratio = match (a, b) {
            (Some(a), Some(b)) if a > 0.0 && b > 0.0 => {
                let ratio = if *unit == "1/s" { a / b } else { b / a };
                format!("{ratio:.1}x")
            }
            _ => String::new(),
        };
        let _ = writeln!(text, "| {name} | {} | {} | {ratio} |", shown(a), shown(b));
    }
    let _ = writeln!(
        text,
        "\nAt most {:.0} % (ours) and {:.0} % (upstream) of the machine went to other work during a scenario.",
        ours.other * 100.0,
        upstream.other * 100.0
    );
    text
}

/// Three significant digits, with the unit.
fn number(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$} {unit}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_better_when_smaller_and_rates_when_larger() {
        let (mut ours, mut upstream) = (Figures::default(), Figures::default());
        for (figures, cpu, rate) in [(&mut ours, 0.1, 4000.0), (&mut upstream, 0.74, 1000.0)] {
            figures.add("create: server CPU", "ms", cpu);
            figures.add("create: rate", "1/s", rate);
        }
        upstream.add("apply: server CPU", "ms", 1.23);
        let text = table(&ours, &upstream);
        assert!(
            text.contains("| create: server CPU | 0.100 ms | 0.740 ms | 7.4x |"),
            "{text}"
        );
        assert!(
            text.contains("| create: rate | 4000 1/s | 1000 1/s | 4.0x |"),
            "{text}"
        );
        assert!(
            text.contains("| apply: server CPU | - | 1.23 ms |  |"),
            "{text}"
        );
    }
}
