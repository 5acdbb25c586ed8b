//! A run as JUnit XML, for programs that show test results.

use std::fmt::Write;

use super::verdict::{Outcome, Verdict};

pub(super) fn render<'a>(verdicts: impl Iterator<Item = &'a Verdict> + Clone) -> String {
    let count = |outcome| {
        verdicts
            .clone()
            .filter(|verdict| verdict.outcome == outcome)
            .count()
    };
    let seconds: f64 = verdicts.clone().map(|verdict| verdict.seconds).sum();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuite name=\"Kubernetes e2e suite\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{seconds:.3}\">\n",
        verdicts.clone().count(),
        count(Outcome::Failed),
        count(Outcome::Skipped),
    );
    for verdict in verdicts {
        let inside = match verdict.outcome {
            Outcome::Passed => String::new(),
            Outcome::Failed => format!(
                "<failure message=\"{}\">{}</failure>",
                escape(verdict.reason()),
                escape(&verdict.failure)
            ),
            Outcome::Skipped => format!("<skipped message=\"{}\"/>", escape(verdict.reason())),
        };
        let _ = writeln!(
            xml,
            "<testcase name=\"{}\" classname=\"Kubernetes e2e suite\" time=\"{:.3}\">{inside}</testcase>",
            escape(&verdict.name),
            verdict.seconds,
        );
    }
    xml.push_str("</testsuite>\n");
    xml
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            // XML 1.0 has no way to write other control characters.
            letter if letter.is_control() && letter != '\t' => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_and_nothing_breaks_the_markup() {
        let verdict = |outcome, failure: &str| Verdict {
            name: "a <b> & \"c\"".to_owned(),
            outcome,
            seconds: 2.0,
            started: String::new(),
            ended: String::new(),
            failure: failure.to_owned(),
        };
        let verdicts = [
            verdict(Outcome::Passed, ""),
            verdict(Outcome::Failed, "\nno\x1b[0m\nmore"),
        ];
        let xml = render(verdicts.iter());
        assert!(
            xml.contains("tests=\"2\" failures=\"1\" skipped=\"0\" time=\"4.000\""),
            "{xml}"
        );
        assert!(
            xml.contains("name=\"a &lt;b&gt; &amp; &quot;c&quot;\""),
            "{xml}"
        );
        assert!(
            xml.contains("message=\"no\u{fffd}[0m\">&#10;no\u{fffd}[0m&#10;more</failure>"),
            "{xml}"
        );
    }
}
