//! YAML as API servers write it and as seeds are written: plain scalars as JSON has them, no tags, no aliases.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("line {line}: {problem}")]
    Syntax { line: usize, problem: String },
    #[error("line {0}: only text may be a key, and aliases are not known")]
    Unknown(usize),
}

/// A list or a map that is not at its end yet.
enum Open {
    List(Vec<Value>),
    /// With the key that waits for its value.
    Map(Map<String, Value>, Option<String>),
}

/// All documents of a text.
///
/// # Errors
/// The text is not YAML, or of a kind that is not known here.
pub fn parse(text: &str) -> Result<Vec<Value>, Error> {
    let mut documents = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| Error::Syntax {
            line: error.marker().line(),
            problem: error.info().to_owned(),
        })?;
        let unknown = || Error::Unknown(span.start.line());
        let value = match event {
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop().ok_or_else(unknown)? {
                Open::List(list) => list.into(),
                Open::Map(map, _) => map.into(),
            },
            Event::Scalar(text, ScalarStyle::Plain, ..) => plain(&text),
            Event::Scalar(text, ..) => Value::from(&*text),
            Event::Alias(_) => return Err(unknown()),
            _ => continue,
        };
        match open.last_mut() {
            None => documents.push(value),
            Some(Open::List(list)) => list.push(value),
            Some(Open::Map(map, key)) => match key.take() {
                Some(key) => {
                    map.insert(key, value);
                }
                None => *key = Some(name(value).ok_or_else(unknown)?),
            },
        }
    }
    Ok(documents)
}

fn name(value: Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        other => Some(other.to_string()),
    }
}

/// What a scalar without quotes means.
fn plain(text: &str) -> Value {
    let number = text.starts_with(|first: char| first.is_ascii_digit() || first == '-');
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => true.into(),
        "false" => false.into(),
        _ if number => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_become_values() {
        let one = parse("a: 1\nb:\n- x: \"2\"\n- null\n- -1.5\nc: {d: [], 2: yes}\n").unwrap();
        let wanted = json!({"a": 1, "b": [{"x": "2"}, null, -1.5], "c": {"d": [], "2": "yes"}});
        assert_eq!(one, [wanted]);
        let two = parse("a: 10.0.0.1\n---\nb: |\n  line\n  more\n").unwrap();
        assert_eq!(
            two,
            [json!({"a": "10.0.0.1"}), json!({"b": "line\nmore\n"})]
        );
    }

    #[test]
    fn what_is_not_yaml_is_refused() {
        assert!(parse("a: [").is_err());
        assert!(parse("a: *b").is_err());
    }
}
