//! Functions on strings: cel-go's `ext/strings.go`. Positions count code points.

use super::{Functions, LONGEST_TEXT, int, list, overloads, text};
use crate::error::Error;
use crate::value::{Outcome, Value, brief};

pub(super) fn add(f: &mut Functions) {
    add_characters(f);
    add_parts(f);
}

/// What looks at characters, or changes them one by one.
fn add_characters(f: &mut Functions) {
    overloads!(f;
        method "charAt" "string_char_at_int" "string, int -> string"
            |a| char_at(text(a, 0)?, int(a, 1)?);
        method "indexOf" "string_index_of_string" "string, string -> int"
            |a| index_of(text(a, 0)?, text(a, 1)?, 0);
        method "indexOf" "string_index_of_string_int" "string, string, int -> int"
            |a| index_of(text(a, 0)?, text(a, 1)?, int(a, 2)?);
        method "lastIndexOf" "string_last_index_of_string" "string, string -> int"
            |a| last_index_of(text(a, 0)?, text(a, 1)?, None);
        method "lastIndexOf" "string_last_index_of_string_int" "string, string, int -> int"
            |a| last_index_of(text(a, 0)?, text(a, 1)?, Some(int(a, 2)?));
        method "lowerAscii" "string_lower_ascii" "string -> string"
            |a| Ok(Value::owned(text(a, 0)?.to_ascii_lowercase()));
        method "upperAscii" "string_upper_ascii" "string -> string"
            |a| Ok(Value::owned(text(a, 0)?.to_ascii_uppercase()));
        method "trim" "string_trim" "string -> string"
            |a| Ok(Value::owned(text(a, 0)?.trim_matches(is_space)));
    );
}

/// What replaces, takes or joins parts.
fn add_parts(f: &mut Functions) {
    overloads!(f;
        method "replace" "string_replace_string_string" "string, string, string -> string"
            |a| replace(text(a, 0)?, text(a, 1)?, text(a, 2)?, -1);
        method "replace" "string_replace_string_string_int" "string, string, string, int -> string"
            |a| replace(text(a, 0)?, text(a, 1)?, text(a, 2)?, int(a, 3)?);
        method "split" "string_split_string" "string, string -> list(string)"
            |a| Ok(Value::texts(split(text(a, 0)?, text(a, 1)?, -1)));
        method "split" "string_split_string_int" "string, string, int -> list(string)"
            |a| Ok(Value::texts(split(text(a, 0)?, text(a, 1)?, int(a, 2)?)));
        method "substring" "string_substring_int" "string, int -> string"
            |a| substring(text(a, 0)?, int(a, 1)?, None);
        method "substring" "string_substring_int_int" "string, int, int -> string"
            |a| substring(text(a, 0)?, int(a, 1)?, Some(int(a, 2)?));
        method "join" "list_join" "list(string) -> string" |a| join(a, "");
        method "join" "list_join_string" "list(string), string -> string" |a| join(a, text(a, 1)?);
    );
}

/// What Go's `unicode.IsSpace` calls space.
fn is_space(c: char) -> bool {
    c.is_whitespace()
}

fn out_of_range<'a>(index: i64) -> Outcome<'a> {
    Err(Error::new(format!("index out of range: {index}")))
}

fn count(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}

/// The byte at which a code point begins; the end for the position behind the last.
fn byte(text: &str, index: i64) -> usize {
    let index = usize::try_from(index).unwrap_or(0);
    text.char_indices()
        .nth(index)
        .map_or(text.len(), |(i, _)| i)
}

fn char_at<'a>(text: &str, index: i64) -> Outcome<'a> {
    if index < 0 || index > count(text) {
        return out_of_range(index);
    }
    let c = text[byte(text, index)..].chars().next();
    Ok(Value::owned(c.map(String::from).unwrap_or_default()))
}

fn index_of<'a>(text: &str, part: &str, from: i64) -> Outcome<'a> {
    if from < 0 {
        return out_of_range(from);
    }
    let length = count(text);
    if part.is_empty() {
        return Ok(Value::Int(from.min(length)));
    }
    if from >= length {
        return Ok(Value::Int(-1));
    }
    let start = byte(text, from);
    let found = text[start..].find(part);
    Ok(Value::Int(
        found.map_or(-1, |at| from + count(&text[start..start + at])),
    ))
}

/// The last place at or before `from`.
fn last_index_of<'a>(text: &str, part: &str, from: Option<i64>) -> Outcome<'a> {
    let length = count(text);
    if part.is_empty() && from.is_none() {
        return Ok(Value::Int(length));
    }
    let from = match from {
        None if text.len() < part.len() => return Ok(Value::Int(-1)),
        None => length - 1,
        Some(from) => from,
    };
    if from < 0 {
        return out_of_range(from);
    }
    if part.is_empty() {
        return Ok(Value::Int(from.min(length)));
    }
    if from >= length {
        return Ok(Value::Int(-1));
    }
    // What begins at `from` at the latest ends so much later at the latest.
    let end = byte(text, from.saturating_add(count(part)));
    let found = text[..end].rfind(part);
    Ok(Value::Int(found.map_or(-1, |at| count(&text[..at]))))
}

/// Replaces the first `limit` places, all if it is negative. Nothing stands before each code point
/// and at the end.
fn replace<'a>(text: &str, old: &str, new: &str, limit: i64) -> Outcome<'a> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let places = text.matches(old).take(limit).count();
    if text.len().saturating_add(places.saturating_mul(new.len())) > LONGEST_TEXT {
        return Err(Error::OverBudget);
    }
    Ok(Value::owned(text.replacen(old, new, limit)))
}

/// Go's `strings.SplitN`: at most `limit` parts, all if it is negative; by nothing, each code point.
fn split(text: &str, separator: &str, limit: i64) -> Vec<String> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if limit == 0 {
        return Vec::new();
    }
    if !separator.is_empty() {
        return text.splitn(limit, separator).map(str::to_owned).collect();
    }
    let mut parts = Vec::new();
    let mut rest = text.chars();
    while parts.len() + 1 < limit {
        let Some(c) = rest.next() else {
            return parts;
        };
        parts.push(c.to_string());
    }
    if !rest.as_str().is_empty() {
        parts.push(rest.as_str().to_owned());
    }
    parts
}

fn substring<'a>(text: &str, start: i64, end: Option<i64>) -> Outcome<'a> {
    let length = count(text);
    if let Some(end) = end
        && start > end
    {
        return Err(Error::new(format!(
            "invalid substring range. start: {start}, end: {end}"
        )));
    }
    if start < 0 || start > length {
        return out_of_range(start);
    }
    let end = end.unwrap_or(length);
    if end < 0 || end > length {
        return out_of_range(end);
    }
    Ok(Value::owned(&text[byte(text, start)..byte(text, end)]))
}

fn join<'a>(args: &[Value<'a>], separator: &str) -> Outcome<'a> {
    let mut out = String::new();
    for (i, value) in list(args, 0)?.iter().enumerate() {
        if i > 0 {
            out.push_str(separator);
        }
        let value = value?;
        let text = value
            .as_str()
            .ok_or_else(|| Error::new(format!("join: invalid input: {}", brief(&value))))?;
        out.push_str(text);
        if out.len() > LONGEST_TEXT {
            return Err(Error::OverBudget);
        }
    }
    Ok(Value::owned(out))
}

/// `jsonpatch.escapeKey`: a key as a part of a JSON pointer.
pub(super) fn add_json_patch(f: &mut Functions) {
    overloads!(f;
        function "jsonpatch.escapeKey" "string_jsonpatch_escapeKey_string" "string -> string" |a| {
            let escaped = text(a, 0)?.replace('~', "~0").replace('/', "~1");
            Ok(Value::owned(escaped))
        };
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `lastIndexOfOffset` of `ext/strings.go`.
    #[test]
    fn what_is_looked_for_from_behind_the_end_is_not_found() {
        let found = |from| match last_index_of("abc", "c", Some(from)) {
            Ok(Value::Int(at)) => Some(at),
            _ => None,
        };
        assert_eq!(
            [-1, 1, 2, 3, 9].map(found),
            [None, Some(-1), Some(2), Some(-1), Some(-1)]
        );
    }
}
