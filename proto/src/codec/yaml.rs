//! YAML, read and written as upstream does: by way of JSON, with the rules of YAML 1.1 for plain
//! scalars (`yes` is a boolean, `017` is 15, `1_000` is 1000).
//!
//! Of several documents the first counts. Aliases are followed as far as upstream's budget goes, which
//! keeps small texts from growing into large trees. Written text is what `sigs.k8s.io/yaml` writes:
//! keys in its natural order, strings quoted where another YAML reader might take them for something
//! else.

mod read;
mod resolve;
mod write;

use crate::catalogue::MsgId;
use crate::value::Value;

use super::DecodeError;
use super::json::{self, Decoded, Strictness};

/// Why a text is not YAML that JSON can express.
#[derive(thiserror::Error, Clone, PartialEq, Eq, Debug)]
pub enum Error {
    #[error("yaml: {}{problem}", place(*line))]
    Syntax { line: usize, problem: String },
    #[error("yaml: document contains excessive aliasing")]
    ExcessiveAliasing,
    #[error("yaml: anchor value contains itself")]
    SelfReference,
    #[error("yaml: line {line}: exceeded max depth of {}", super::MAX_DEPTH)]
    TooDeep { line: usize },
    #[error("yaml: cannot decode {found} `{text}` as a {tag}")]
    Tag {
        found: &'static str,
        text: String,
        tag: String,
    },
    #[error("yaml: !!binary value contains invalid base64 data")]
    Binary,
    #[error("yaml: map merge requires map or sequence of maps as the value")]
    Merge,
    #[error("yaml: line {line}: invalid map key")]
    Key { line: usize },
    #[error("json: unsupported value: {0}")]
    NotANumber(&'static str),
}

/// A line, unless it is the one that is not told.
fn place(line: usize) -> String {
    match line {
        0 => String::new(),
        line => format!("line {line}: "),
    }
}

/// Decodes a message into a conformed tree, like [`json::decode`].
///
/// # Errors
/// The text is not YAML, or the JSON that it stands for is not the message.
pub fn decode(
    bytes: &[u8],
    message: MsgId,
    strictness: Strictness,
) -> Result<Decoded, DecodeError> {
    let (json, duplicates) = to_json(bytes)?;
    let mut decoded = json::decode(&json, message, strictness)?;
    if strictness == Strictness::Strict {
        decoded.problems.splice(..0, duplicates);
    }
    Ok(decoded)
}

/// Reads YAML without a schema, like [`json::parse_strict`].
///
/// # Errors
/// As [`decode`].
pub fn parse(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    let (json, duplicates) = to_json(bytes)?;
    let value = json::parse(&json)?;
    Ok(Decoded {
        value,
        problems: duplicates.into_iter().collect(),
    })
}

/// The JSON of the first document, and upstream's complaint about keys given twice, if there are any
/// (the last one wins).
///
/// # Errors
/// The text is not YAML that JSON can express.
pub fn to_json(bytes: &[u8]) -> Result<(Vec<u8>, Option<String>), DecodeError> {
    let (value, duplicates) = read::read(&json::lossy(bytes))?;
    let mut json = Vec::with_capacity(bytes.len());
    json::write(&value, &mut json);
    let complaint = (!duplicates.is_empty())
        .then(|| format!("yaml: unmarshal errors:\n  {}", duplicates.join("\n  ")));
    Ok((json, complaint))
}

/// Appends a message as YAML.
pub fn encode(value: &Value, message: MsgId, out: &mut Vec<u8>) {
    let mut json = Vec::new();
    json::encode(value, message, &mut json);
    from_json(&json, out);
}

/// Appends JSON as YAML. JSON too deep for a tree, which raw fields may hold, stays as it is: it is
/// YAML, too.
pub fn from_json(json: &[u8], out: &mut Vec<u8>) {
    match json::parse(json) {
        Ok(value) => write::document(&value, out),
        Err(_) => {
            out.extend_from_slice(json);
            out.push(b'\n');
        }
    }
}

/// Appends a tree as it is.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    let mut json = Vec::new();
    json::write(value, &mut json);
    from_json(&json, out);
}

#[cfg(test)]
mod tests;
