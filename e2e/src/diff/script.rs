//! Cases written by hand, in the form that editors know as `.http` files.
//!
//! ```text
//! ### a name                       begins a case; `[alone]`, `[first]` and `[shared]` after it say how it is run,
//!                                  `[refused]` that nothing of it succeeds
//! # a remark                       right before a request it says what is special about that
//! @made POST /api/v1/namespaces/${ns}/configmaps       `@made` is a label, and may be left out
//! Accept: application/yaml
//! {"metadata": {"name": "a"}}      the body: all lines up to an empty one
//!
//! PUT /api/v1/namespaces/${ns}/configmaps/a
//! < made {"data": {"a": "b"}}      the body: the answer to `made`, merged with this
//! ```
//!
//! A body is JSON unless a `Content-Type` says otherwise; `Content-Type: none` leaves the header out. `As: anonymous` sends no
//! certificate. `<filler:N>` in a body stands for so many letters.

use serde_json::Value;

use super::case::{Body, Case, JSON, Namespace, Phase, Step};

#[derive(thiserror::Error, Debug)]
#[error("line {line}: {problem}")]
pub struct Error {
    line: usize,
    problem: &'static str,
}

/// Takes an object away, whatever holds it: several requests (`corpus::each`).
pub const REMOVE: &str = "REMOVE";
const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", REMOVE,
];

/// The cases of a file, which is called `file`.
///
/// # Errors
/// A line that is none of those above.
pub fn parse(file: &str, text: &str) -> Result<Vec<Case>, Error> {
    let mut cases: Vec<Case> = Vec::new();
    let mut state = State::Between;
    let mut remark = None;
    for (index, line) in text.lines().enumerate() {
        let failed = |problem| Error {
            line: index + 1,
            problem,
        };
        if let Some(title) = line.strip_prefix("###") {
            cases.push(case(file, title.trim()));
            state = State::Between;
            remark = None;
            continue;
        }
        if line.trim().is_empty() {
            state = State::Between;
            continue;
        }
        if let Some(said) = line.strip_prefix('#').filter(|_| state != State::Body) {
            remark = Some(said.trim().to_owned());
            continue;
        }
        let steps = cases.last_mut().map(|case| &mut case.steps);
        let steps = steps.ok_or_else(|| failed("a request before the first case"))?;
        match (&state, steps.last_mut()) {
            (State::Between, _) => {
                let mut step =
                    request(line).ok_or_else(|| failed("neither a request nor a case"))?;
                step.about = remark.take().unwrap_or(step.about);
                steps.push(step);
                state = State::Head;
            }
            (State::Head, Some(step)) => match header(line) {
                Some((name, value)) => step.headers.push((name, value)),
                None => {
                    step.body = body(line).ok_or_else(|| failed("not a body"))?;
                    state = State::Body;
                }
            },
            (
                State::Body,
                Some(Step {
                    body: Body::Text(body),
                    ..
                }),
            ) => {
                body.push('\n');
                body.push_str(line);
            }
            _ => return Err(failed("more after a body that is complete")),
        }
    }
    for step in cases.iter_mut().flat_map(|case| &mut case.steps) {
        finish(step);
    }
    Ok(cases)
}

#[derive(PartialEq)]
enum State {
    Between,
    Head,
    Body,
}

fn case(file: &str, title: &str) -> Case {
    let (name, words) = title.split_once('[').unwrap_or((title, ""));
    let says = |word| words.contains(word);
    Case {
        name: format!("{file}: {}", name.trim()),
        area: file.to_owned(),
        by_hand: true,
        refused: says("refused"),
        phase: match (says("alone"), says("first")) {
            (true, _) => Phase::Alone,
            (_, true) => Phase::First,
            _ => Phase::Beside,
        },
        namespace: if says("shared") || says("first") {
            Namespace::Shared
        } else {
            Namespace::Own
        },
        ..Case::default()
    }
}

fn request(line: &str) -> Option<Step> {
    let (label, line) = match line.strip_prefix('@') {
        Some(rest) => rest
            .split_once(' ')
            .map(|(label, rest)| (Some(label), rest))?,
        None => (None, line),
    };
    let (method, path) = line.split_once(' ')?;
    let known = METHODS.contains(&method) && (path.starts_with('/') || path.starts_with("${"));
    let step = Step::new(method, path.trim(), line.trim());
    known.then(|| match label {
        Some(label) => step.label(label),
        None => step,
    })
}

/// `Name: value`, which no body looks like: JSON begins with a brace, and YAML is written in braces here, too.
fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(": ")?;
    let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let is_name =
        name.starts_with(|first: char| first.is_ascii_uppercase()) && name.chars().all(word);
    is_name.then(|| (name.to_lowercase(), value.trim().to_owned()))
}

fn body(line: &str) -> Option<Body> {
    let Some(answer) = line.strip_prefix("< ") else {
        return Some(Body::Text(line.to_owned()));
    };
    let (label, change) = answer.split_once(' ').unwrap_or((answer, ""));
    let change: Option<Value> = match change {
        "" => None,
        json => Some(serde_json::from_str(json).ok()?),
    };
    Some(Body::Answer(label.to_owned(), change))
}

/// Adds the media type that goes without saying, and the filler.
fn finish(step: &mut Step) {
    let said = step.headers.iter().any(|(name, _)| name == "content-type");
    if !said && !matches!(step.body, Body::None) {
        step.headers
            .push(("content-type".to_owned(), JSON.to_owned()));
    }
    step.headers
        .retain(|(name, value)| !(name == "content-type" && value == "none"));
    if let Body::Text(body) = &mut step.body
        && let Some((before, rest)) = body.split_once("<filler:")
        && let Some((count, after)) = rest.split_once('>')
    {
        let filler = "x".repeat(count.parse().unwrap_or(0));
        *body = format!("{before}{filler}{after}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
# what this file is about
### one thing
# make it
@made POST /a/${ns}
Accept: application/yaml
{"a": "<filler:3>",
 "b": 2}

PUT /a/b?c=d
< made {"x": 1}
### another [alone]
PATCH /c
Content-Type: none
text
"#;

    #[test]
    fn a_file_becomes_cases() {
        let cases = parse("file", FILE).unwrap();
        let [one, other] = &cases[..] else {
            panic!("{cases:?}");
        };
        assert_eq!(
            (&*one.name, one.phase, one.namespace),
            ("file: one thing", Phase::Beside, Namespace::Own)
        );
        let [made, put] = &one.steps[..] else {
            panic!("{one:?}");
        };
        assert_eq!(
            (made.label.as_deref(), &*made.path, &*made.about),
            (Some("made"), "/a/${ns}", "make it")
        );
        assert_eq!(put.about, "PUT /a/b?c=d");
        let json = ("content-type".to_owned(), JSON.to_owned());
        assert_eq!(
            made.headers,
            [("accept".to_owned(), "application/yaml".to_owned()), json]
        );
        assert!(matches!(&made.body, Body::Text(text) if text == "{\"a\": \"xxx\",\n \"b\": 2}"));
        assert!(matches!(&put.body, Body::Answer(of, Some(_)) if of == "made"));
        assert_eq!(other.phase, Phase::Alone);
        assert!(other.steps[0].headers.is_empty());
    }

    #[test]
    fn what_is_no_request_is_an_error() {
        for text in ["GET /a\n", "### a\nnothing\n", "### a\nPUT /a\n< b {\n"] {
            assert!(parse("file", text).is_err(), "{text}");
        }
    }
}
