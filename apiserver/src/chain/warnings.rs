//! `Warning` headers (RFC 7234, section 5.5): what a client is told besides its answer.
//!
//! Each text is sent once. If all of them are too long together, each is cut. Upstream: `endpoints/filters/warning.go`,
//! `NewWarningHeader` in `apimachinery/pkg/util/net/http.go`.

use std::collections::HashSet;

use http::header::WARNING;
use http::{HeaderValue, Response};

use crate::body::Body;

/// Characters of all texts, and of each once these are too many.
const MOST: usize = 4 * 1024;
const MOST_OF_ONE: usize = 256;

/// Adds the headers.
pub(super) fn add(response: &mut Response<Body>, warnings: &[String]) {
    for value in values(warnings) {
        response.headers_mut().append(WARNING, value);
    }
}

fn values(warnings: &[String]) -> Vec<HeaderValue> {
    let mut seen = HashSet::new();
    let texts: Vec<&str> = warnings
        .iter()
        .map(String::as_str)
        // A text that a header cannot hold is not sent.
        .filter(|text| !text.is_empty() && !text.contains(char::is_control))
        .filter(|text| seen.insert(*text))
        .collect();
    let all: usize = texts.iter().map(|text| text.chars().count()).sum();
    let most_of_one = if all > MOST { MOST_OF_ONE } else { MOST };
    let mut written = 0;
    let mut values = Vec::with_capacity(texts.len());
    for text in texts {
        if written >= MOST {
            break;
        }
        let cut: String = text.chars().take(most_of_one).collect();
        let quoted = cut.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::try_from(format!("299 - \"{quoted}\"").into_bytes()) {
            written += cut.chars().count();
            values.push(value);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(texts: &[&str]) -> Vec<String> {
        let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
        let text = |value: &HeaderValue| String::from_utf8(value.as_bytes().to_vec()).unwrap();
        values(&texts).iter().map(text).collect()
    }

    #[test]
    fn each_text_is_quoted_and_sent_once() {
        assert_eq!(
            sent(&["a \"b\" \\c", "é", "", "a\nb", "é"]),
            ["299 - \"a \\\"b\\\" \\\\c\"", "299 - \"é\""]
        );
    }

    #[test]
    fn texts_that_are_too_long_together_are_cut() {
        let (long, other) = ("x".repeat(4000), "é".repeat(300));
        assert_eq!(
            sent(&[&long]),
            [format!("299 - \"{long}\"")],
            "alone it has room"
        );
        let cut = |c: &str| format!("299 - \"{}\"", c.repeat(256));
        assert_eq!(sent(&[&long, &other]), [cut("x"), cut("é")]);
        let many: Vec<String> = (0..40).map(|i| format!("{i:0>300}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(sent(&many).len(), 16, "4096 characters in pieces of 256");
    }
}
